"""Several ranks: two real gloo processes on loopback, and the agreement between ranks with a made-up exchange."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import DoesNotFit, EnvironmentMissing, InputError, KvplanError
from kvplan.questions.validate.distributed import Group
from kvplan.questions.validate.ranks import Ranks


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def torchrun(*args: Any) -> "subprocess.CompletedProcess[str]":
    """Two ranks of `kvplan validate` on this machine, talking over loopback only."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    return subprocess.run(
        [sys.executable, *launcher, "--master-port", str(free_port()), "-m", "kvplan", "validate", *map(str, args)],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def two_ranks(*args: Any) -> list[tuple[int, str, str]]:
    """The same without torchrun, which costs a third process: what each rank ended with and said."""
    port = str(free_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "kvplan", "validate", *map(str, args)],
            env={
                **os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            },
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in started]
    return [(process.returncode, *words) for process, words in zip(started, said, strict=True)]


def test_each_rank_allocates_its_shard_and_rank_0_prints_all(config_file: Path) -> None:
    done = torchrun(config_file, "-s", 64, "-b", 2, "--device", "cpu", "-f", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(v["rank"], v["world_size"], v["tensor_parallel"], v["equal"]) for v in told["validations"]] == [
        (0, 2, 2, True), (1, 2, 2, True),
    ]  # fmt: skip
    for validation in told["validations"]:
        assert validation["checks"][0]["real_bytes"] == 128 * 4 * 2 * 2 * 64 * 2
        assert [b["shape"] for b in validation["buffers"]] == [[2, 2, 64, 64]] * 2


def test_ranks_agree_that_it_does_not_fit_and_say_it_once(config_file: Path) -> None:
    ended = two_ranks(config_file, "-s", 64, "--device", "cpu", "--limit", "1KiB")
    assert [(code, out, err.count("error: the cache needs ")) for code, out, err in ended] == [(1, "", 1), (1, "", 0)]


def test_a_report_that_cannot_be_written_is_said_once_and_ends_all(config_file: Path, tmp_path: Path) -> None:
    done = torchrun(config_file, "-s", 64, "--device", "cpu", "-o", tmp_path / "absent" / "report.json")
    assert done.returncode == 1
    assert done.stderr.count("error: cannot write ") == 1
    assert "exitcode  : 2 " in done.stderr
    assert "Traceback" not in done.stderr.partition("torch/distributed/elastic")[0]


def test_each_rank_probes_under_its_own_limit(config_file: Path) -> None:
    (code, out, err), (other, *_) = two_ranks(
        config_file, "-s", 100, "--device", "cpu", "--tp", 1, "--probe-max", "--limit", "2MiB"
    )
    assert (code, other) == (0, 0), err
    rows = [line.split() for line in out.splitlines() if "largest batch" in line and line.strip().startswith("rank")]
    assert rows == [["rank", f"{rank}:", "largest", "batch", "5", "5", "0", "equal"] for rank in (0, 1)]


def other_rank_says(told: Any) -> Callable[[Any], list[Any]]:
    return lambda own: [own, told]


def test_answers_come_in_order_of_rank() -> None:
    group = Group(Ranks(rank=0, world_size=2), other_rank_says(("theirs", None)))
    assert group.together(lambda: "mine") == ["mine", "theirs"]
    assert group.each(lambda: "mine") == "mine"
    assert Group(Ranks()).together(lambda: "mine") == ["mine"]
    assert Group(Ranks()).each(lambda: "mine") == "mine"


@pytest.mark.parametrize(("code", "kind"), [(2, InputError), (3, EnvironmentMissing), (70, KvplanError)])
def test_what_another_rank_met_is_raised_here_with_its_code(code: int, kind: type[KvplanError]) -> None:
    group = Group(Ranks(rank=0, world_size=2), other_rank_says((None, (code, "no card", "buy one"))))
    with pytest.raises(kind, match="rank 1: no card") as caught:
        group.together(lambda: "mine")
    assert (caught.value.exit_code, caught.value.hint) == (code, "buy one")


def test_what_this_rank_met_is_told_to_the_others_before_it_is_raised() -> None:
    told: list[Any] = []

    def exchange(own: Any) -> list[Any]:
        told.append(own)
        return [own, ("fine", None)]

    def failing() -> str:
        raise DoesNotFit("too much", hint="less")

    with pytest.raises(DoesNotFit, match=r"^too much$"):
        Group(Ranks(rank=0, world_size=2), exchange).together(failing)
    assert told == [(None, (1, "too much", "less"))]
