"""SGLang's scheduler: every recorded scenario, requests with times, examples by hand, and against itself."""

import random
from typing import Any

import numpy as np
import pytest
from arrivals import array, traffic
from golden import cases
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic, first_width
from kvplan.engines import make_engine
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.sglang.scheduler.scheduler import Scheduler
from kvplan.engines.sglang.scheduler.serve import serve
from kvplan.engines.sglang.scheduler.settings import Settings
from kvplan.engines.sglang.scheduler.tree import Tree, common, cut, length
from kvplan.errors import Refused
from kvplan.loading import load
from kvplan.questions.audit.judge import judge

CLOCK = Clock(prefill_rate=1e4, decode_rate=100)


def told(**more: Any) -> Settings:
    given_: dict[str, Any] = {
        "tokens": 1000, "page": 1, "requests": 8, "context": 512, "chunk": 128, "most_prefill": 16384, "radix": True,
        "overlap": False,
    }  # fmt: skip
    return Settings(**given_ | more)


def workload(seed: int) -> tuple[Settings, Traffic, Clock]:
    """A small server that is short of room, and requests for it."""
    r = random.Random(seed)
    page, limit = r.choice((1, 1, 4, 16)), r.choice((64, 200))
    server = Settings(
        tokens=(limit + r.randint(0, 400)) // page * page, page=page, requests=r.choice((2, 5, 16)), context=limit,
        chunk=r.choice((None, 16, 48, 256)), most_prefill=r.choice((64, 16384)), radix=r.random() < 0.8, overlap=r.random() < 0.5,
    )  # fmt: skip
    each, hashed, rows = r.choice((8, 16, 32)), r.random() < 0.6, []
    for i in range(r.randint(1, 24)):
        prompt = r.randint(1, limit + 2) if r.random() < 0.3 else r.randint(1, limit // 2)
        shared, base = r.randint(0, 8), r.randint(0, 1)
        names = tuple(base * 100 + j if j < shared else 1000 * (i + 1) + j for j in range(-(-prompt // each)))
        later = r.choice((0, 1, 500, 20_000, 300_000))
        rows.append((later, prompt, r.randint(1, r.choice((3, 90))), names if hashed else ()))
    return server, traffic(rows, each), Clock(prefill_rate=r.choice((1e3, 1e5)), decode_rate=r.choice((30.0, 200.0)))


def answer(server: Settings, asked: Traffic, clock: Clock = CLOCK, **more: Any) -> Any:
    first, last = int(asked.arrival_us[0]), int(asked.arrival_us[-1])
    meter = Meter(server.tokens // server.page + 1, first, first_width(first, last))
    try:
        found = serve(server, asked, clock, meter, **more)
    except Refused as problem:
        return str(problem)
    assert isinstance(found, Outcome)
    values = {name: getattr(found, name) for name in found.__struct_fields__}
    line = values.pop("timeline")
    assert int(found.held_us @ np.arange(len(found.held_us))) == sum(line.held)
    assert int((found.finished_us >= 0).sum()) + found.refused == len(asked)
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()} | {
        "timeline": (line.start_us, line.width_us, line.held, line.peaks)
    }


def test_every_recorded_scenario_is_exact() -> None:
    recorded = cases("sglang_scheduler")
    results = [judge(record_from(case, where="sglang_scheduler.jsonl")) for case in recorded]
    assert len(results) == 89
    assert {r.id: r.reason or [f.name for f in r.facts if not f.agrees] for r in results if r.status != "exact"} == {}
    assert all(len(result.facts) == 9 for result in results)


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_many_steps_at_once_are_the_same_steps(seed: int) -> None:
    server, asked, clock = workload(seed)
    assert answer(server, asked, clock) == answer(server, asked, clock, plain=True)


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_nothing_is_lost(seed: int) -> None:
    """After each step what is free, known and held makes up the pool; in the end nobody holds anything."""
    server, asked, _ = workload(seed)
    scheduler, pending = Scheduler(server), None
    for i in range(len(asked)):
        scheduler.add(i, asked.stretches(i), int(asked.prompt[i]), int(asked.output[i]))
    for _ in range(5000):
        batch = scheduler.schedule()
        assert 0 <= scheduler.tree.evictable <= scheduler.tree.size
        assert scheduler.free >= 0
        assert scheduler.own >= 0
        assert scheduler.used <= server.tokens
        done, pending = (pending, batch) if server.overlap else (batch, None)
        if done is not None:
            scheduler.process(done)
        if batch is None and pending is None:
            break
    if not scheduler.waiting:  # the head may be one that the pool never holds
        assert scheduler.own == 0
        assert scheduler.tree.evictable == scheduler.tree.size


def test_the_tree_by_hand() -> None:
    """Two prompts with 20 common tokens: the first's node is cut there; the leaf used longest ago goes first."""
    tree, shared = Tree(1), ("shared", 0, 20)
    first = tree.insert((shared, ("a", 0, 10)))
    second = tree.insert((shared, ("b", 0, 30)))
    assert (first.size, second.size) == (10, 30)
    assert first.parent is second.parent
    assert (tree.size, tree.evictable) == (60, 60)
    found, node = tree.match((shared, ("a", 0, 4), ("c", 0, 9)))
    assert found == 24
    tree.lock(node)
    assert tree.evictable == 6 + 30
    tree.evict(1)  # `b`: it was used before `a` was
    assert (tree.size, tree.evictable) == (30, 6)
    tree.unlock(node)
    tree.evict(1000)
    assert (tree.size, tree.evictable, tree.root.children) == (0, 0, {})
    paged = Tree(16)
    assert paged.insert((shared, ("a", 0, 30))).size == 48  # whole pages
    assert paged.match((shared, ("a", 0, 5), ("b", 0, 50)))[0] == 16  # 25 are the same


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 5)), max_size=4), st.integers(0, 20))
def test_keys_are_cut_and_put_together(parts: list[tuple[str, int]], at: int) -> None:
    key = tuple((name, 0, size) for name, size in parts)
    first, rest = cut(key, at)
    assert length(first) == min(at, length(key))
    assert length(first) + length(rest) == length(key)
    assert common(first, key) == length(first)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_known_prefix_is_found_while_its_request_still_runs(overlap: bool) -> None:
    """A prompt is in the tree when its prefill was read; one token of a prompt is computed again."""
    rows = [(0, 100, 50, (1, 2)), (60_000, 100, 5, (1, 2)), (0, 90, 5, (1, 3))]
    found = answer(told(overlap=overlap), traffic(rows, 64))
    assert found["hit_tokens"] == 99 + 64
    assert found["asked_tokens"] == 290
    assert answer(told(overlap=overlap, radix=False), traffic(rows, 64))["hit_tokens"] == 0


def test_prompts_go_first_and_in_parts_of_a_chunk() -> None:
    """300 tokens in parts of 128 take three steps, in which the request that runs gets no token."""
    scheduler = Scheduler(told())
    for i, (prompt, at) in enumerate(((20, 0), (300, 1))):
        if at:
            batch = scheduler.schedule()
            assert batch is not None
            scheduler.process(batch)
        scheduler.add(i, ((f"own:{i}", 0, prompt),), prompt, 50)
    steps = []
    for _ in range(4):
        batch = scheduler.schedule()
        assert batch is not None
        steps.append((batch.extends, batch.prefill, len(batch.requests)))
        scheduler.process(batch)
    assert steps == [(True, 128, 1), (True, 128, 1), (True, 44, 1), (False, 0, 2)]


def test_admission_keeps_room_for_a_part_of_the_output() -> None:
    """1,000 tokens. In one step all of the first's output is kept: the second needs 100 + 400 + 1, and 499 are left. A little
    later 0.7 of the rest is kept, less than 280, and there is room for it.
    """
    for later, waited in ((0, 1), (20_000, 0)):
        rows = [(0, 100, 400, ()), (later, 100, 400, ())]
        assert answer(told(tokens=1000), traffic(rows, 0))["waited"] == waited


def test_who_gave_fewest_tokens_is_retracted_and_waits_again() -> None:
    """The ratio has fallen when the others come, so that too many are admitted; who came last has the fewest tokens."""
    rows = [(0, 20, 900, ()), (6_200_000, 20, 500, ()), *[(1000, 20, 500, ())] * 3]
    found = answer(told(tokens=1500, context=1200, radix=False), traffic(rows, 0), Clock(prefill_rate=1e6, decode_rate=100))
    assert found["refused"] == 0
    assert found["preemptions"] > 0
    assert found["finished_us"][-1] == max(found["finished_us"])


def test_what_is_not_followed_is_said() -> None:
    for name, options, words in (
        ("gpt-oss-20b", {}, "a pool for windows"),
        ("qwen3-next-80b-a3b", {"tp_size": 4}, "states"),
        ("llama-3.1-8b", {"pp_size": 2}, "pipeline stages"),
    ):
        prepared: Any = make_engine("sglang", options).on(load(name))
        with pytest.raises(Refused, match=words):
            prepared.kept_blocks(prepared.pool(40 * 2**30), array([100]))
