"""Where answers go: the format that was asked for or that the file's name says, whole files, one place for options."""

import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import kvplan.cli
from kvplan.cli.app import main

COMMANDS = (
    ("estimate", "llama-3.1-8b"), ("compare", "llama-3.1-8b", "--variant", "mqa"), ("sweep", "llama-3.1-8b", "-s", "1k,2k", "-q"),
    ("fit", "llama-3.1-8b", "--gpu", "h100-80gb", "--context", "8k"), ("reserve", "llama-3.1-8b", "--memory", "20GiB"),
    ("receipt", "llama-3.1-8b", "--gpu", "h100-80gb"), ("models", "llama-3.1-8b"), ("engines",), ("dtypes",), ("gpus",),
    ("explain", "llama-3.1-8b"),
    ("committee", str(Path(__file__).resolve().parents[2] / "docs" / "guides" / "desk.yaml")),
)  # fmt: skip
ENDINGS = {".txt": "table", ".json": "json", ".csv": "csv", ".md": "markdown", ".html": "html"}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_the_ending_of_the_file_is_its_format(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for ending, fmt in ENDINGS.items():
        if command[0] == "explain" and fmt == "csv":
            continue
        path = tmp_path / f"report{ending.upper()}"
        assert main([*command, "-f", fmt]) == 0
        printed = capsys.readouterr().out
        assert main([*command, "-o", str(path)]) == 0
        out, err = capsys.readouterr()
        assert out == ""
        written = {"sweep": 0}.get(command[0], len(printed.encode()))
        assert err == (f"wrote {path}: {fmt}, {written:,} bytes\n" if written else "")  # the sweep here is told to be quiet
        assert path.read_text(encoding="utf-8") == printed
    assert main([*command, "-o", "-"]) == 0
    assert capsys.readouterr().out.count("\n─") >= 1 or command[0] == "committee"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] != "explain"], ids=lambda command: command[0])
def test_parquet_is_the_csv_with_types(command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in ("csv", "parquet"):
        assert main([*command, "-o", str(tmp_path / f"a.{ending}")]) == 0
    table, typed = pd.read_csv(tmp_path / "a.csv"), pd.read_parquet(tmp_path / "a.parquet")
    assert list(table) == list(typed)
    assert len(table) == len(typed) > 0
    for name in typed:
        if name.endswith("_bytes") and typed[name].notna().all():
            assert typed[name].tolist() == table[name].tolist()


@pytest.mark.parametrize("command", [COMMANDS[0], ("sweep", "llama-3.1-8b", "-s", "1k,2k")], ids=lambda command: command[0])
def test_an_ending_that_contradicts_the_format_gets_one_remark(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.parquet"
    assert main([*command, "-f", "json", "-o", str(path)]) == 0
    remarks = [line for line in capsys.readouterr().err.splitlines() if "is written as" in line]
    assert remarks == [f"note: `{path}` is written as json, as --format says; its name says parquet"]
    assert json.loads(path.read_text())["schema"] == 2
    assert main([*command, "-f", "md", "-o", str(tmp_path / "report.md")]) == 0
    assert "is written as" not in capsys.readouterr().err


def test_a_name_that_says_nothing_is_a_table_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("report", "report.out", "report.8b"):
        assert main(["estimate", "llama-3.1-8b", "-o", str(tmp_path / name)]) == 0
        assert capsys.readouterr().err.startswith(f"wrote {tmp_path / name}: table, ")
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("llama-3.1-8b · ideal")


@pytest.mark.parametrize("word", ["json", "csv", "md", "Markdown", "parquet"])
@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[2], COMMANDS[3]], ids=lambda command: command[0])
def test_a_format_is_no_file(
    word: str, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "-o", word]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"error: --output: `{word}` is a format, not a file" in err
    assert "or name a file: -o report." in err
    assert list(tmp_path.iterdir()) == []
    assert main([*command, "-f", "csv", "-o", word]) == 0  # who says both means a file
    assert (tmp_path / word).is_file()


def test_a_spec_is_yaml_whatever_its_name_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", "gpt2", "-o", str(tmp_path / "gpt2.json")]) == 2
    assert "a spec is YAML" in capsys.readouterr().err
    assert main(["spec", "gpt2", "-o", str(tmp_path / "gpt2.yaml")]) == 0
    assert capsys.readouterr().err.startswith(f"wrote {tmp_path / 'gpt2.yaml'}: yaml, ")


def test_a_grid_says_what_it_is_made_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "llama-3.1-8b", "gemma-3-27b", "-s", "1k:1M:x2", "-b", "1,2,4,8", "--kv-dtype", "bf16,fp8"]
    assert main([*command, "-o", str(tmp_path / "report.csv")]) == 0
    shape = "176 rows: 2 models x 2 kv dtypes x 11 lengths (1,024 to 1,048,576 tokens) x 4 batch sizes"
    beyond = "note: 1,048,576 tokens are more than the model's own limit of 131,072 (-s max)\n"
    assert capsys.readouterr().err == f"{beyond}wrote {tmp_path / 'report.csv'}: csv, {shape}\n"
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 177


def test_what_is_no_text_does_not_go_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["estimate", "llama-3.1-8b", "-f", "parquet"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"PAR1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for command in (("estimate", "llama-3.1-8b"), ("sweep", "llama-3.1-8b", "-s", "1k")):
        assert main([*command, "-f", "parquet"]) == 2
        shown = capfdbinary.readouterr()
        assert shown.out == b""
        assert b"no text for a terminal" in shown.err


def test_an_unknown_format_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "llama-3.1-8b", "-f", "jsn"]) == 2
    assert capsys.readouterr().err == (
        "error: --format: unknown format `jsn`\n\n"
        "hint: did you mean `json`? one of table, json, csv, markdown, html, parquet, svg, pdf, png\n"
    )


def test_an_option_of_several_commands_is_declared_once() -> None:
    declared: Counter[str] = Counter()
    for path in Path(kvplan.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"typer.Option", "typer.Argument"}:
                declared[ast.unparse(node)] += 1
    assert len(declared) > 40
    assert [option for option, times in declared.items() if times > 1] == []


def test_no_command_prints_or_chooses_a_format_by_itself() -> None:
    for path in Path(kvplan.cli.__file__).parent.glob("*.py"):
        if path.name not in {"app.py", "output.py"}:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\bprint\(", text), path
            assert "terminal_width" not in text, path
            assert "wants_color" not in text, path
