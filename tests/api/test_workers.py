"""Where the pieces of a question are computed: the answer is the same, byte for byte."""

import io
import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from golden import GUIDES

import kvplan
from kvplan.api.workers import _in_order, runner
from kvplan.errors import EnvironmentMissing, OptionError

MODELS = ("llama-3.1-8b", "gpt-oss-20b")


def sent(task: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
    """As another process does it: what is to be done, and the answer, are copies."""
    for piece in pieces:
        asked, given = pickle.loads(pickle.dumps((task, piece)))
        yield pickle.loads(pickle.dumps(asked(given)))


def answers(**where: Any) -> list[bytes]:
    """A replay, a table of capacities, and the rows of a sweep, as they are written."""
    day = kvplan.replay(GUIDES / "monday.csv", MODELS[0], "l40s:2", prefill_rate=8000, decode_rate=30, search=False, **where)
    table = kvplan.capacity(MODELS, "h100-80gb,l4:4", context="8k,32k", mix="90% 4k, 10% 32k", **where)
    grid = kvplan.sweep(MODELS, engine="ideal,vllm", seq_len="1k:64k:512", batch_size="1:1k:x2", **where)
    rows = io.BytesIO()
    grid.write_csv(rows)
    return [json.dumps(day.to_dict()).encode(), json.dumps(table.to_dict()).encode(), rows.getvalue()]


def test_pieces_can_be_sent_and_their_answers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What processes and clusters do, without their start: everything that goes there and comes back is copied."""
    one = answers()
    for module in ("replay", "capacity_table"):
        monkeypatch.setattr(f"kvplan.api.{module}.runner", lambda workers, scheduler: sent)
    monkeypatch.setattr("kvplan.api.workers.runner", lambda workers, scheduler: sent)
    assert answers() == one


def test_errors_that_come_back_keep_their_hint() -> None:
    problem = OptionError("«gpu NAME» is wrong", hint="«gpu h100» is right")
    copy = pickle.loads(pickle.dumps(problem))
    assert (copy.render(), copy.hint, copy.exit_code) == (problem.render(), problem.hint, 2)


def test_pieces_go_out_a_few_ahead_and_answers_keep_their_order() -> None:
    out: list[int] = []

    class Future:
        def __init__(self, value: int) -> None:
            self.value = value

        def result(self) -> int:
            return self.value

    def submit(piece: int) -> Future:
        out.append(piece)
        return Future(piece)

    found = _in_order(submit, range(10), 3)
    assert next(found) == 0
    assert out == [0, 1, 2]  # the rest waits until it is asked for
    assert list(found) == list(range(1, 10))


def test_what_workers_can_be() -> None:
    with pytest.raises(OptionError, match="at most 256"):
        runner(1000, None)
    with pytest.raises(OptionError, match="has workers of its own"):
        runner(2, "tcp://127.0.0.1:1")
    with pytest.raises(EnvironmentMissing, match="Dask"):
        list(runner(1, "tcp://127.0.0.1:1")(len, ["a"]))


def test_two_workers_of_a_dask_cluster_give_the_same_answers() -> None:
    """Real processes; run where the extra `replay` is installed."""
    distributed = pytest.importorskip("distributed", reason="Dask (the extra `replay`) is not installed")
    with distributed.LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None) as cluster:
        with pytest.raises(EnvironmentMissing, match="has no workers"):
            list(runner(1, cluster.scheduler_address)(len, ["a"]))
        cluster.scale(2)
        cluster.wait_for_workers(2)
        assert answers(scheduler=cluster.scheduler_address) == answers()
