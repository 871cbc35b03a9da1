"""HOSTILE.md 20: a rank that never comes, that is lost, that is absurd.

Elsewhere: what the environment of torchrun must be in tests/questions/validate/test_devices.py; ranks that agree in
tests/questions/validate/test_distributed.py.
"""

import os
import signal
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from doors import config, forked, refused
from each import each
from forks import Ended, Forks, Started

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


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


class Told(NamedTuple):
    """How ranks ended: one whose other never came, and the second of two whose first was killed."""

    port: str
    alone: Ended
    seconds: float  # until it had ended
    left: Ended


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Three ranks at once, forked from one process: to load torch is the dear part, and each waits for seconds."""
    if find_spec("torch") is None:  # asked without loading it: only the ranks need it
        pytest.skip("torch is not installed")
    ports = free_port(), free_port()
    forks = Forks("torch.distributed", "kvplan.cli.validate", "impatient")

    def rank(name: str, number: int, port: str, arguments: tuple[str, ...], **keys: int) -> Started:
        """One rank of two."""
        folder = tmp_path_factory.mktemp(name)
        words = ["validate", config(folder / "config.json", **keys), *arguments, "--device", "cpu"]
        place = {**PLACE, "RANK": str(number), "LOCAL_RANK": str(number), "MASTER_PORT": port}
        return forks.start(words, folder, {**os.environ, **place})

    alone = rank("alone", 0, ports[0], ("-s", "16"))
    start = time.monotonic()  # torch is loaded
    large = ("-s", "100k", "-b", "1000", "--limit", "1000000GiB")
    both = [rank(f"both{number}", number, ports[1], large, num_hidden_layers=64, hidden_size=4096) for number in (0, 1)]
    time.sleep(1.0)
    os.kill(both[0].pid, signal.SIGKILL)
    ended = alone.end()
    seconds = time.monotonic() - start
    both[0].end()
    answer = Told(ports[0], ended, seconds, both[1].end())
    forks.end()
    return answer


def test_a_rank_that_never_comes_is_waited_for_in_words(told: Told) -> None:
    assert told.seconds < 30
    assert (told.alone.code, told.alone.out) == (3, "")
    assert f"waiting for the other ranks of 2 at 127.0.0.1:{told.port}" in told.alone.err
    assert "error: rank 0 cannot reach the others" in told.alone.err
    assert "Traceback" not in told.alone.err


def test_a_rank_that_is_lost_ends_the_other(told: Told) -> None:
    assert told.left.code in {1, 2, 3}
    assert "Traceback" not in told.left.err
    assert "bug in kvplan" not in told.left.err


def test_a_place_that_contradicts_itself_is_one_sentence(tmp_path: Path) -> None:
    config(tmp_path / "config.json")
    for more in ({"WORLD_SIZE": "999999"}, {"RANK": "2"}, {"LOCAL_RANK": "x"}):
        refused(forked("validate", "config.json", "--device", "cpu", cwd=tmp_path, **{**PLACE, **more}))
