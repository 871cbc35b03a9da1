"""HOSTILE.md 1 (`-o` and links), 5 (control characters), 6 (signals leave nothing), and what held of files and pipes.

Elsewhere: parquet on a terminal in tests/cli/test_output.py; a file that cannot grow in tests/questions/sweep/test_sweep.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doors import answered, config, here, left, refused, steady, there

from kvplan.report.formats import FIGURES, FORMATS

FIVE = ("\x1b[31mred", "\u202ered", "\u2028red", "\x9b31m")


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, link = tmp_path / "r.csv", tmp_path / "l.csv"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to("r.csv")
    assert here(capsys, "estimate", "gpt2", "-f", "csv", "-o", str(link)).code == 0
    assert link.is_symlink()
    assert target.read_text().startswith("model,engine,")
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.csv", "r.csv"]


@pytest.mark.parametrize("device", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"])
def test_the_machines_stdout_is_written_and_never_replaced(device: str, tmp_path: Path) -> None:
    before = os.readlink("/dev/stdout")
    end = there("estimate", "gpt2", "-f", "csv", "-o", device, cwd=tmp_path, shell="> f.csv")
    assert (end.code, end.out, end.err) == (0, "", "")
    assert (tmp_path / "f.csv").read_text().startswith("model,engine,")
    assert os.readlink("/dev/stdout") == before
    assert [path.name for path in tmp_path.iterdir()] == ["f.csv"]


@pytest.mark.parametrize("place", ["missing/x.csv", ".", "x" * 300 + ".csv", "loop", "file/x.csv"])
def test_a_place_that_cannot_be_written_is_one_sentence(place: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("old")
    path = f"{tmp_path}/{place}"
    new = left(tmp_path, lambda: refused(there("estimate", "gpt2", "-f", "csv", "-o", path, cwd=tmp_path)))
    assert not new
    assert (tmp_path / "loop").is_symlink()
    assert (tmp_path / "file").read_text() == "old"


def test_a_full_device_is_one_sentence(tmp_path: Path) -> None:
    refused(there("estimate", "gpt2", "-f", "csv", cwd=tmp_path, shell="> /dev/full"))
    refused(there("estimate", "gpt2", "-o", "/dev/full", cwd=tmp_path))


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    for command in ("gpus", "models"):
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m kvplan {command} | head -c 1"], capture_output=True, cwd=tmp_path, check=False
        )
        assert (done.stderr, len(done.stdout)) == (b"", 1)


@pytest.mark.parametrize("name", FIVE)
def test_no_format_lets_a_name_steer_a_terminal(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path / "e.json", model_type=name)
    for fmt in (row.name for row in FORMATS if row.name not in {"parquet", *FIGURES}):
        for engine in ("llama.cpp", "vllm", "ideal"):
            steady(here(capsys, "estimate", path, "--infer", "-e", engine, "-f", fmt))
    steady(here(capsys, "sweep", path, "--infer", "-e", "llama.cpp", "-s", "1k", "-f", "csv"))
    steady(here(capsys, "compare", path, "--infer", "-e", "llama.cpp"))
    steady(here(capsys, "fit", path, "--infer", "-e", "llama.cpp", "--gpu", "h100-80gb", "--weights", "1GB"))


def test_the_name_of_an_output_does_not_steer_it_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end = here(capsys, "estimate", "gpt2", "-f", "json", "-o", f"{tmp_path}/\x1b[31m.csv")
    assert "is written as json" in end.err
    steady(end)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_beside_the_target(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("old")
    command = [sys.executable, "-m", "kvplan", "sweep", "llama-3.1-8b", "-s", "1:3000000:1", "-b", "1,2,4", "-o", "o.csv", "-q"]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".o.csv.*")) and time.monotonic() < end and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert b"Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv"]
    assert (tmp_path / "o.csv").read_text() == "old"


def test_json_that_is_none_is_never_written() -> None:
    from kvplan.report.formats.json import to_json

    assert json.loads(to_json("x", [1])) == {"schema": 2, "x": [1]}
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json("x", [number])


def test_a_folder_that_was_deleted_under_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    end = there("estimate", "gpt2", "-f", "csv", cwd=folder, shell="", PYTHONSAFEPATH="1")
    answered(end)
    done = subprocess.run(
        ["sh", "-c", f"cd {folder}; rmdir {folder}; exec {sys.executable} -P -m kvplan estimate gpt2 -f csv"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, end.out)
