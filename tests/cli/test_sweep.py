"""`kvplan sweep` through the real entry point: tables, files, pipes, and what goes wrong."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from kvplan.cli.app import main
from kvplan.domain.allocation import COLUMNS as CSV_COLUMNS

KVPLAN = (sys.executable, "-m", "kvplan")
GRID = ("llama-3.1-8b", "-s", "1k:8k:x2", "-b", "1,2")
LONG = ("llama-3.1-8b", "-s", "1:3000:1", "-b", "1:1000:1")  # three million rows


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["sweep", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_one_model_is_a_matrix_of_lengths_and_batch_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *GRID)
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert (code, err) == (0, "")
    assert lines[0] == ["llama-3.1-8b", "·", "ideal", "·", "bfloat16", "·", "8", "cells,", "in", "GiB"]
    assert lines[1] == ["tokens", "batch", "1", "batch", "2", "B/token"]
    assert lines[3:] == [
        ["1,024", "0.125", "0.25", "131,072"],
        ["2,048", "0.25", "0.50", "131,072"],
        ["4,096", "0.50", "1.00", "131,072"],
        ["8,192", "1.00", "2.00", "131,072"],
    ]


def test_several_dtypes_are_a_list_with_exact_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "llama-3.1-8b", "gemma-3-27b", "-s", "8k", "-b", "4", "--kv-dtype", "bf16,fp8")
    assert code == 0
    assert out.count("4,294,967,296") == 1  # the figure of `kvplan estimate llama-3.1-8b -s 8192 -b 4`
    assert out.count("2,147,483,648") == 1
    assert [out.count(f"{word} ") for word in ("llama-3.1-8b", "gemma-3-27b", "fp8_e4m3")] == [1, 1, 2]  # a name once a group


def test_a_long_table_is_cut_and_says_how_to_get_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "llama-3.1-8b", "-s", "1:5000:1")
    assert code == 0
    assert "note: 4,900 more rows; `-o report.csv`" in out
    assert len(out.splitlines()) < 110


@pytest.mark.parametrize("fmt", ["csv", "json", "markdown"])
def test_stdout_takes_every_format(capsys: pytest.CaptureFixture[str], fmt: str) -> None:
    code = main(["sweep", *GRID, "-f", fmt, "-q"])
    out = capsys.readouterr().out
    assert code == 0
    if fmt == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert (len(rows), tuple(rows[0])) == (8, CSV_COLUMNS)
        assert rows[-1]["total_bytes"] == str(2 * 8192 * 131072)
    elif fmt == "json":
        answer = json.loads(out)
        assert answer["schema"] == 2
        assert [row["total_bytes"] for row in answer["sweep"]][:2] == [2**27, 2**28]
    else:
        assert "| 8,192 | 1.00 | 2.00 | 131,072 |" in out


def test_the_file_name_chooses_the_format_and_the_remark_echoes_exact_counts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table, parquet = tmp_path / "report.csv", tmp_path / "report.parquet"
    for path in (table, parquet):
        code, out, err = run(capsys, *GRID, "-o", str(path))
        assert (code, out) == (0, "")
        assert "8 rows: 4 lengths (1,024 to 8,192 tokens) x 2 batch sizes" in err
    assert pd.read_csv(table)["total_bytes"].tolist() == pd.read_parquet(parquet)["total_bytes"].tolist()
    assert main(["sweep", *GRID, "-o", str(tmp_path / "report.json")]) == 0
    assert len(json.loads((tmp_path / "report.json").read_text())["sweep"]) == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.csv", "report.json", "report.parquet"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("-s", "8k:1k"), "--seq-len"),
        (("-s", "0:64k:4k"), "--seq-len"),
        (("-s", "1k:2k:0"), "--seq-len"),
        (("-s", "1k:2k:x1"), "--seq-len"),
        (("-s", "1k:2k:3k:4k"), "--seq-len"),
        (("-s", "1:1G:1"), "too many values"),
        (("-s", "1,,2"), "--seq-len"),
        (("-s", "nan"), "--seq-len"),
        (("-s", "1.3"), "--seq-len"),
        (("-b", "-1"), "--batch-size"),
        (("-b", ""), "--batch-size"),
        (("-b", "9" * 400), "--batch-size"),
        (("--kv-dtype", "bf16,"), "--kv-dtype"),
        (("--kv-dtype", "bf17"), "bf17"),
        (("-e", "ideel"), "did you mean `ideal`"),
        (("--tp", "3"), "tensor_parallel 3"),
        (("--tp", "x"), "--tensor-parallel"),
        (("--unit", "XB"), "--unit"),
        (("-o", "report.xlsx"), "end it in one of"),
        (("-o", "."), "folder"),
        (("-s", "8k", "-b", "9000000000000000"), "64-bit"),
        (("-s", "1:1001:1", "-b", "1:1001:1", "-f", "json"), "too many for JSON"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_one_sentence_and_a_hint(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "llama-3.1-8b", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert what in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, *GRID, "-o", str(tmp_path / "missing" / "report.csv"))
    assert code == 2
    assert "cannot write" in err
    assert "no such file or directory" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("-o", "/dev/full"), ("-f", "csv"), ("-f", "table")], ids=" ".join)
def test_a_full_disk_is_one_sentence(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*KVPLAN, "sweep", *GRID, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot ")
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_enough_is_no_failure() -> None:
    with subprocess.Popen([*KVPLAN, "sweep", *LONG, "-f", "csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert first.decode().strip().split(",") == list(CSV_COLUMNS)
    assert (process.returncode, said) == (0, b"")


def test_a_long_sweep_into_a_pipe_shows_no_progress(tmp_path: Path) -> None:
    done = subprocess.run([*KVPLAN, "sweep", *LONG, "-o", str(tmp_path / "a.csv")], capture_output=True, check=True)
    assert done.stdout == b""
    assert b"\x1b" not in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_long_sweep_on_a_terminal_shows_progress(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [*KVPLAN, "sweep", *LONG, "-o", str(tmp_path / "a.csv")]
    with subprocess.Popen(command, stderr=follower, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"}) as process:
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 4096):
                shown += part
        except OSError:  # the terminal is gone with the process
            pass
    os.close(leader)
    assert process.returncode == 0
    assert b"/3000000" in shown
    assert (tmp_path / "a.csv").stat().st_size > 10**8


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    old = tmp_path / "report.csv"
    old.write_text("what was there before\n")
    command = [*KVPLAN, "sweep", "llama-3.1-8b", "-s", "1:100000:1", "-b", "1:1000:1", "-o", str(old)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(200):  # until the temporary file grows
            if any(p.stat().st_size for p in tmp_path.glob(".*.tmp")):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == b"interrupted"
    assert [p.name for p in tmp_path.iterdir()] == ["report.csv"]
    assert old.read_text() == "what was there before\n"
