"""What kvplan cannot tell is an answer as any other: who was asked, about what, and why not, in every format."""

import csv
import io
import json
from pathlib import Path

import pytest

from kvplan.cli.app import main
from kvplan.report.answers.estimate import CSV_COLUMNS, LAYER_COLUMNS
from kvplan.report.answers.reserve import CSV_COLUMNS as POOL_COLUMNS

REFUSED = ("llama-3.1-8b", "--kv-dtype", "nvfp4")
REASON = "vLLM 0.33.0 refuses llama-3.1-8b: no attention backend takes kv_cache_dtype nvfp4 before compute capability 10.0"
COMMANDS = {
    "estimate": ("estimate", *REFUSED, "-e", "vllm"),
    "estimate --per-layer": ("estimate", *REFUSED, "-e", "vllm", "--per-layer"),
    "reserve": ("reserve", *REFUSED, "--memory", "20GiB"),
    "compare": ("compare", *REFUSED, "-e", "vllm,ideal"),
    "explain": ("explain", *REFUSED, "-e", "vllm"),
    "fit": ("fit", *REFUSED, "--gpu", "rtx-4090"),
}
#: An explanation and a comparison say more than that.
CODES = {"compare": 0, "explain": 0}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("fmt", ["table", "json", "csv", "markdown", "html"])
def test_model_engine_and_reason_are_in_every_format(name: str, fmt: str, capsys: pytest.CaptureFixture[str]) -> None:
    if (name, fmt) == ("explain", "csv"):
        return
    assert main([*COMMANDS[name], "-f", fmt]) == CODES.get(name, 1)
    shown = capsys.readouterr().out.replace("\\_", "_")
    assert REASON in shown
    assert "llama-3.1-8b" in shown.replace(REASON, "")
    assert "vllm" in shown.replace(REASON, "")


@pytest.mark.parametrize(
    ("name", "key"), [("estimate", "estimates"), ("reserve", "pools"), ("compare", "comparison"), ("fit", "fits")]
)
def test_json_says_what_was_asked(name: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*COMMANDS[name], "-f", "json"])
    row = json.loads(capsys.readouterr().out)[key][0]
    assert row["not_predicted"] == REASON
    assert (row["model"], row["engine"]) == ("llama-3.1-8b", "vllm")
    assert row["engine_version"] == "0.33.0" or name == "fit"


def test_an_explanation_says_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    main([*COMMANDS["explain"], "-f", "json"])
    e = json.loads(capsys.readouterr().out)["explanation"]
    assert {key: e[key] for key in ("model", "engine", "engine_version", "not_predicted", "see")} == {
        "model": "llama-3.1-8b", "engine": "vllm", "engine_version": "0.33.0", "not_predicted": REASON, "see": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "columns"), [("estimate", CSV_COLUMNS), ("estimate --per-layer", LAYER_COLUMNS), ("reserve", POOL_COLUMNS)]
)
def test_csv_ends_in_a_column_of_its_own(name: str, columns: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    main([*COMMANDS[name], "-f", "csv"])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert tuple(row) == columns
    assert columns[-1] == "not_predicted"
    known = {key: value for key, value in row.items() if value}
    version = {"engine_version": "0.33.0"} if "engine_version" in columns else {}
    assert known == {"model": "llama-3.1-8b", "engine": "vllm", **version, "not_predicted": REASON}


def test_an_older_release_says_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *REFUSED, "-e", "vllm@0.11.0,ideal", "-f", "json"]) == 0
    row = json.loads(capsys.readouterr().out)["comparison"][0]
    assert (row["engine"], row["engine_version"]) == ("vllm", "0.11.0")
    assert row["not_predicted"]


def test_one_of_several_that_is_not_predicted_is_the_answer_no(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "llama-3.1-8b", "-e", "vllm"]) == 0
    assert main(["estimate", "llama-3.1-8b", "deepseek-v3", "-e", "vllm", "--kv-dtype", "nvfp4_ds_mla"]) == 1
    assert capsys.readouterr().out.count("not predicted: ") >= 1


@pytest.mark.parametrize("fmt", ["table", "json", "csv", "markdown", "html"])
@pytest.mark.parametrize("command", ["estimate", "explain", "compare", "fit", "sweep"])
def test_what_a_file_calls_itself_cannot_steer_the_terminal(
    command: str, fmt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "model_type": "x\x1b[31m<b>\x07", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 64, "head_dim": 16, "torch_dtype": "bfloat16", "vocab_size": 10,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    more = ("--gpu", "rtx-4090", "--weights", "1GB") if command == "fit" else ()
    engine = "llama.cpp,ideal" if command in {"compare", "sweep"} else "llama.cpp"
    code = main([command, str(path), "--infer", "-e", engine, *more, "-f", fmt])
    shown = capsys.readouterr()
    assert code in {0, 1} or (command, fmt) == ("explain", "csv")
    assert "\x1b" not in shown.out + shown.err
    assert "\x07" not in shown.out + shown.err
    assert fmt != "html" or "<b>" not in shown.out
