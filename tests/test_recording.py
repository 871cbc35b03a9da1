"""`tools/record`: which rows a release is asked, and what counts as moved; the engines' own code is not run here."""

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import recording
from each import each
from golden import cases

ENGINES = sorted(recording.RECORDER)
LIGHT = ("transformers", "vllm", "lmdeploy")  # files that are read in no time


@pytest.mark.parametrize("engine", LIGHT)
def test_a_release_that_nobody_recorded_is_asked_what_the_newest_recorded_one_was(engine: str) -> None:
    rows = recording.asked(engine, "99.1.0")
    assert len(rows) > 200, engine
    assert {row["engine"] for row in rows} == {engine}
    questions = [json.dumps([row["config"], row["workload"], row["options"]], sort_keys=True) for row in rows]
    assert len(set(questions)) == len(questions)
    assert all("99.1.0" in row["engine_version"] for row in rows)


def test_a_recorded_release_is_asked_its_own_rows() -> None:
    rows = recording.asked("transformers", "5.24.0")
    assert rows == cases("transformers_524")


def test_the_release_is_read_from_a_record_s_words() -> None:
    text = "mlx-lm 0.32.2 / mlx 0.32.4 (linux cpu)"
    assert recording._release(text, "mlx-lm") == (0, 32, 2)
    row = {"engine_version": text, "id": "mlx-lm-0.32.2/a/b"}
    assert recording._as_of(row, "0.33.0", "mlx-lm") == {
        "engine_version": text.replace("0.32.2", "0.33.0"),
        "id": "mlx-lm-0.33.0/a/b",
    }


def test_the_release_of_llama_cpp_is_that_of_the_package_that_carries_its_source() -> None:
    rows = recording.asked("llama.cpp", "0.3.36")
    assert rows == [row for row in cases("llama_cpp") if not row["model_key"].startswith("py:")]
    newer = recording.asked("llama.cpp", "0.3.99")
    assert len(newer) == len(rows)
    assert all("llama-cpp-python 0.3.99)" in row["engine_version"] and "libllama 0.5.0" in row["engine_version"] for row in newer)


@each("engine", ENGINES)
def test_every_program_is_there(engine: str) -> None:
    recorder = recording.RECORDER[engine]
    for step in (*recorder.setup, *recorder.steps, recorder.types, recorder.newcomers):
        assert not step or (recording.RECORDERS / step[0]).is_file()


def test_new_is_what_neither_a_record_nor_kvplan_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **more: Any) -> Any:
        asked.append(command)
        return SimpleNamespace(stdout="gpt2 GPT2\nzorb Zorb\ntiny\ngemma3 Gemma3\n")

    monkeypatch.setattr(recording.subprocess, "run", run)
    assert recording.newcomers(recording.RECORDER["transformers"], Path("python"), tmp_path, "9.9") == []
    assert asked[1][asked[1].index("--only") + 1] == "zorb,tiny"
    assert recording.newcomers(recording.RECORDER["vllm"], Path("python"), tmp_path, "9.9") == []
    assert len(asked) == 2


def test_a_release_that_is_not_there_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **more: Any) -> Any:
        raise recording.subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(recording.subprocess, "run", run)
    monkeypatch.setattr(recording.venv, "create", lambda folder, with_pip: None)
    assert recording.main(["mlx-lm@0.0.1", "--first", "1", "--environment", str(tmp_path)]) == 3
    assert capsys.readouterr().err == "mlx-lm 0.0.1 is not installed: pip ended with 1, as said above\n"


def _rows() -> list[dict[str, Any]]:
    return [copy.deepcopy(row) for row in cases("transformers_524") if "/tiny:dory:loops" in row["id"]][:4]


def test_what_is_equal_changed_unrecorded_and_new_is_told_apart() -> None:
    rows, found, fresh = _rows(), _rows()[:3], [{**_rows()[3], "id": "fresh"}]
    rows[0]["expected"]["note"] = "a person's words, which no release repeats"
    found[1]["expected"]["cache_class"] = "AnotherCache"  # a fact that nobody predicts
    found[2]["expected"] |= {"untold": ["cache_class"]}  # the release has no word for it
    del found[2]["expected"]["cache_class"]
    result = recording.moved(rows, found, fresh)
    assert result.equal == [rows[0]["id"], rows[2]["id"]]
    assert list(result.changed) == [rows[1]["id"]]
    assert result.unrecorded == [rows[3]["id"]]
    assert (result.fresh, result.broken) == (["fresh"], {})
    said = "\n".join(recording.told("transformers 99.0", result))
    assert "2 equal, 1 changed, 1 not recorded; 1 new" in said
    assert "every rule that held still does" in said


def test_a_rule_that_no_longer_holds_is_named_with_its_fact() -> None:
    rows, found = _rows(), _rows()
    found[2]["expected"]["total_bytes"] += 64
    result = recording.moved(rows, found, [])
    assert list(result.broken) == [rows[2]["id"]]
    assert result.broken[rows[2]["id"]][0].startswith("total_bytes: predicted ")
    assert "no longer holds in 1 rows" in "\n".join(recording.told("x", result))


def test_a_row_that_was_not_recorded_says_why(tmp_path: Path) -> None:
    (tmp_path / "said0.txt").write_text("equal   a\ndiffers b/c\n    not recorded: TypeError: no such argument\n1 equal\n")
    why = recording.reasons(tmp_path)
    assert why == {"b/c": "TypeError: no such argument"}
    result = recording.Moved(["a"], {}, ["b/c"], [], {})
    assert "not recorded: b/c\n      TypeError: no such argument" in "\n".join(recording.told("x 1.0", result, why))


def test_a_recorder_that_ends_before_its_last_row_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "dies.py"
    program.write_text("import os\nprint('equal   a', flush=True)\nos.kill(os.getpid(), 9)\n")
    monkeypatch.setattr(recording, "RECORDERS", tmp_path)
    recorder = recording.Recorder(files=(), packages=(), steps=(("dies.py", "{rows}"),))
    assert recording.recorded(recorder, Path(sys.executable), _rows(), tmp_path, 1, {}) == []
    assert list(recording.unfinished(tmp_path)) == ["equal   a / ended by signal 9"]
    (tmp_path / "said0.txt").write_text("equal   a\n1 equal, 0 changed or not recorded\n")
    assert list(recording.unfinished(tmp_path)) == []


def test_rows_are_shared_out_by_model() -> None:
    rows = [{"id": f"{model}{i}", "model": model} for model in "abcde" for i in range(3)]
    parts = [recording._share(rows, number, 3) for number in range(3)]
    assert sorted(row["id"] for part in parts for row in part) == sorted(row["id"] for row in rows)
    models = [{row["model"] for row in part} for part in parts]
    assert not models[0] & models[1]


@pytest.mark.parametrize("words", [["transformers"], ["nobody@1.0"], ["transformers@5.24.0", "--only", "no-such-row"]])
def test_what_cannot_be_recorded_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        recording.main(words)
    assert ended.value.code == 2
    assert "tools/record: error:" in capsys.readouterr().err


def test_the_exit_code_says_whether_a_rule_broke(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _rows()
    monkeypatch.setattr(recording, "environment", lambda *_: Path("python"))
    monkeypatch.setattr(recording, "recorded", lambda *_: found)
    monkeypatch.setattr(recording, "asked", lambda *_: _rows())
    asked = ["transformers@5.24.0", "--only", "/tiny:dory:loops", "--first", "4", "-o", str(tmp_path / "new.jsonl")]
    assert recording.main(asked) == 0
    assert len((tmp_path / "new.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    found[0]["expected"]["total_bytes"] += 64
    assert recording.main(asked) == 1
    found.clear()
    monkeypatch.setattr(recording, "recorded", lambda *args: (args[3] / "said0.txt").write_text("no module") and [])
    assert recording.main(asked) == 3
    assert "no module" in capsys.readouterr().err
