"""A stranger's class in a process of its own: bounded, unheard, gone; and `kvplan measure` around it."""

import importlib.util
import json
import time
from pathlib import Path

import pytest
from doors import End, here, left, refused

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

import kvplan
from kvplan.questions.measure import apart
from kvplan.questions.measure.observed import NotMeasured

MODULES = Path(__file__).parent / "modules_by_hand.py"
CONFIG = {"vocab": 50, "width": 24, "num_layers": 2, "span": 16, "group": 4, "recent": 10, "max_seq_len": 99}
GIB = 2**30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "mods.py").write_text("print('a stranger speaks', flush=True)\n" + MODULES.read_text())
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "strange.py"
    path.write_text(text)
    return path


def observed(path: Path, *, seconds: float = 60.0, memory_bytes: int = 8 * GIB) -> str:
    with pytest.raises(NotMeasured) as problem:
        apart.observed_apart(path, "Model", {}, seconds=seconds, memory_bytes=memory_bytes)
    return str(problem.value)


def test_the_command_measures_writes_a_description_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends: list[End] = []

    def ask() -> None:
        config, output = str(folder / "config.json"), str(folder / "mine.yaml")
        ends.append(here(capsys, "measure", f"{folder / 'mods.py'}:Compressive", "--config", config, "-o", output, "-f", "json"))

    assert left(folder, ask) == {str(folder / "mine.yaml")}
    (end,) = ends
    assert end.code == 0, end.err
    assert end.err.startswith("runs the code of mods.py (Compressive) in a process of its own")
    assert "a stranger speaks" not in end.out + end.err
    answer = json.loads(end.out)["measurement"]
    assert answer["passed"]
    assert {line["law"] for line in answer["tensors"]} == {"per token, at most 10", "one entry for 4 tokens"}
    kept = 2 * (10 + 250) * 24 * 4
    assert kvplan.estimate(folder / "mine.yaml", seq_len=1001).total_bytes == kept
    assert answer["spec"] == (folder / "mine.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_package\n", "strange.py:1: the file does not load: ModuleNotFoundError: No module named"),
        ("x = 1\ny = (\n", "strange.py:2: the file does not load: SyntaxError"),
        ("x = 1\nx.y()\n", "strange.py:2: the file does not load: AttributeError"),
        ("import os\nos._exit(7)\n", "ended by itself before it had an answer (exit code 7)"),
        ("raise SystemExit\n", "ended by itself before it had an answer (exit code 0)"),
        ("x = bytearray(4 * 2**30)\n", "needs more than the 1,073,741,824 bytes of memory"),
        ("import os\nos.abort()\n", "was ended by signal 6"),
        ("import os\nos.write(3, b'{}')\nos.abort()\n", "Model gave no answer"),
    ],
)
def test_a_file_that_fails_is_told_in_a_sentence_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    said = observed(written(tmp_path, text), memory_bytes=GIB)
    assert words in said
    assert said.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["strange.py"]


def test_a_file_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_START", 0.0)
    said = observed(written(tmp_path, "while True: pass\n"), seconds=0.5)
    assert "had no answer after 2 seconds and was ended" in said


def test_what_a_stranger_starts_is_ended_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    start = "import os, subprocess\np = subprocess.Popen(['sleep', '600'])\n"
    observed(written(tmp_path, f"{start}open({str(note)!r}, 'w').write(str(p.pid))\nos._exit(0)\n"))
    stat = Path(f"/proc/{note.read_text()}/stat")
    until = time.monotonic() + 30
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < until:
        time.sleep(0.05)
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_stranger_gets_no_secrets_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    told = "import os\nraise ValueError(sorted(k for k in os.environ if 'TOKEN' in k) + [os.environ['HOME'] == os.getcwd()])\n"
    assert "ValueError: [True]" in observed(written(tmp_path, told))


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b"null", b"[1]", b'{"seen":{"facts":{"name":"x","dtype":"y"},"points":[]}}', b"\xff" * 9, b"[" * 9000]
)
def test_an_answer_that_is_none_is_not_believed(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_run", lambda request, seconds: (answer, 0))
    with pytest.raises(NotMeasured):
        apart.observed_apart(Path("x.py"), "X", {}, seconds=1, memory_bytes=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.py:Model"], "there is no file"),
        (["x.py"], "names no class"),
        (["mods.py:1x"], "names no class"),
        (["x.txt:Model"], "is not a Python file"),
        (["mods.py:Ring", "--seconds", "0"], "--seconds must be from 1"),
        (["mods.py:Ring", "--seconds", "-3"], "--seconds must be from 1"),
        (["mods.py:Ring", "--seconds", "nan"], "--seconds must be from 1"),
        (["mods.py:Ring", "--memory", "8"], "memory"),
        (["mods.py:Ring", "--config", "mods.py"], "not valid JSON"),
        (["mods.py:Ring", "--config", "gone.json"], "cannot read"),
        (["binary.py:Ring"], "is binary"),
        (["~nosuchuser/x.py:Ring"], "no such user"),
    ],
)
def test_wrong_words_run_no_code(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "binary.py").write_bytes(b"\0\1")
    monkeypatch.setattr(apart, "_run", lambda request, seconds: pytest.fail("code was run"))
    end = here(capsys, "measure", *arguments)
    refused(End(end.code, end.out, end.err[end.err.index("error:") :], end.seconds), words=words)
    assert "--seconds" not in arguments or "runs the code" not in end.err  # said of runs that may be
