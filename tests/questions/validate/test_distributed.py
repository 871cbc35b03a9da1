"""Several ranks: two real gloo processes on loopback, and the agreement between ranks with a made-up exchange."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kvplan.errors import DoesNotFit, EnvironmentMissing, InputError, KvplanError
from kvplan.questions.validate.distributed import Group
from kvplan.questions.validate.ranks import Ranks

CONFIG = {
    "model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4,
    "hidden_size": 512, "torch_dtype": "bfloat16",
}  # fmt: skip


def free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Told(NamedTuple):
    """What two ranks said: of each command line what (rank 0, rank 1) ended with, printed and said; and torchrun itself."""

    equal: list[tuple[int, str, str]]
    does_not_fit: list[tuple[int, str, str]]
    probed: list[tuple[int, str, str]]
    cannot_write: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Two ranks of `kvplan validate` on this machine, talking over loopback only; all command lines by the same two processes."""
    if find_spec("torch") is None:  # asked without loading it: only the ranks need it
        pytest.skip("torch is not installed")
    folder = tmp_path_factory.mktemp("ranks")
    config = str(folder / "config.json")
    Path(config).write_text(json.dumps(CONFIG), encoding="utf-8")
    cases = [
        ["validate", config, "-s", "64", "-b", "2", "--device", "cpu", "-f", "json"],
        ["validate", config, "-s", "64", "--device", "cpu", "--limit", "1KiB"],
        ["validate", config, "-s", "100", "--device", "cpu", "--tp", "1", "--probe-max", "--limit", "2MiB"],
        ["validate", config, "-s", "64", "--device", "cpu", "-o", str(folder / "absent" / "report.json")],
    ]
    port, *ports = map(str, free_ports(len(cases)))
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", port]
    done = subprocess.run(
        [sys.executable, *launcher, str(Path(__file__).with_name("rank_of_many.py")), json.dumps(cases), str(folder), *ports],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    files = [folder / f"rank-{rank}.json" for rank in range(2)]
    assert all(file.is_file() for file in files), done.stderr
    captured = zip(*(json.loads(file.read_text(encoding="utf-8")) for file in files), strict=True)
    return Told(*([(code, out, err) for code, out, err in of_ranks] for of_ranks in captured), cannot_write=done)


def test_each_rank_allocates_its_shard_and_rank_0_prints_all(told: Told) -> None:
    (code, out, err), (other, printed, _) = told.equal
    assert (code, other, printed) == (0, 0, ""), err
    told_all = json.loads(out)
    assert [(v["rank"], v["world_size"], v["tensor_parallel"], v["equal"]) for v in told_all["validations"]] == [
        (0, 2, 2, True), (1, 2, 2, True),
    ]  # fmt: skip
    for validation in told_all["validations"]:
        assert validation["checks"][0]["real_bytes"] == 128 * 4 * 2 * 2 * 64 * 2
        assert [b["shape"] for b in validation["buffers"]] == [[2, 2, 64, 64]] * 2


def test_ranks_agree_that_it_does_not_fit_and_say_it_once(told: Told) -> None:
    said = [(code, out, err.count("error: the cache needs ")) for code, out, err in told.does_not_fit]
    assert said == [(1, "", 1), (1, "", 0)]


def test_a_report_that_cannot_be_written_is_said_once_and_ends_all(told: Told) -> None:
    done = told.cannot_write
    assert done.returncode == 1
    assert done.stderr.count("error: cannot write ") == 1
    assert "exitcode  : 2 " in done.stderr
    assert "Traceback" not in done.stderr.partition("torch/distributed/elastic")[0]


def test_each_rank_probes_under_its_own_limit(told: Told) -> None:
    (code, out, err), (other, *_) = told.probed
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
