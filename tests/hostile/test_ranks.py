"""HOSTILE.md 20: a rank that never comes, that is lost, that is absurd.

Elsewhere: what the environment of torchrun must be in tests/questions/validate/test_devices.py; ranks that agree in
tests/questions/validate/test_distributed.py.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from doors import config, refused, there
from each import each

from kvplan.errors import OptionError
from kvplan.limits import RANK_SECONDS, RANK_WORD_SECONDS, RANKS
from kvplan.questions.validate.ranks import ranks_from

PLACE = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29777"}


@each("size", [str(RANKS + 1), "999999", "9" * 30, "-1", "x", "٣"])
def test_an_absurd_number_of_ranks_is_refused_at_once(size: str) -> None:
    with pytest.raises(OptionError):
        ranks_from({**PLACE, "WORLD_SIZE": size})


def test_the_patience_is_what_is_told() -> None:
    assert (RANK_WORD_SECONDS, RANK_SECONDS) == (5.0, 60.0)


#: The patience of ranks, shortened.
IMPATIENT = """
import sys
from kvplan.questions.validate import distributed
distributed.RANK_SECONDS, distributed.RANK_WORD_SECONDS = 4.0, 0.5
from kvplan.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def needs_torch() -> None:
    if find_spec("torch") is None:  # asked without loading it: only the ranks need it
        pytest.skip("torch is not installed")


def rank(folder: Path, number: int, port: str, *arguments: str) -> "subprocess.Popen[str]":
    """One rank of two."""
    return subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, "validate", *arguments, "--device", "cpu"],
        cwd=folder, env={**os.environ, **PLACE, "RANK": str(number), "LOCAL_RANK": str(number), "MASTER_PORT": port},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_rank_that_never_comes_is_waited_for_in_words(tmp_path: Path, port: str) -> None:
    needs_torch()
    path = config(tmp_path / "config.json")
    start = time.monotonic()
    running = rank(tmp_path, 0, port, path, "-s", "16")
    out, said = running.communicate(timeout=60)
    assert time.monotonic() - start < 30
    assert (running.returncode, out) == (3, "")
    assert f"waiting for the other ranks of 2 at 127.0.0.1:{port}" in said
    assert "error: rank 0 cannot reach the others" in said
    assert "Traceback" not in said


def test_a_rank_that_is_lost_ends_the_other(tmp_path: Path, port: str) -> None:
    needs_torch()
    path = config(tmp_path / "config.json", num_hidden_layers=64, hidden_size=4096)
    both = [rank(tmp_path, number, port, path, "-s", "100k", "-b", "1000", "--limit", "1000000GiB") for number in (0, 1)]
    time.sleep(2.5)
    both[0].send_signal(signal.SIGKILL)
    both[0].communicate(timeout=60)
    _, said = both[1].communicate(timeout=60)
    assert both[1].returncode in {1, 2, 3}
    assert "Traceback" not in said
    assert "bug in kvplan" not in said


def test_a_place_that_contradicts_itself_is_one_sentence(tmp_path: Path) -> None:
    config(tmp_path / "config.json")
    for more in ({"WORLD_SIZE": "999999"}, {"RANK": "2"}, {"LOCAL_RANK": "x"}):
        refused(there("validate", "config.json", "--device", "cpu", cwd=tmp_path, **{**PLACE, **more}))
