"""vLLM's scheduler: every recorded scenario, the page's examples by hand, what holds for any workload, and refusals."""

from typing import Any

import pytest
from golden import cases
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kvplan.engines.kernel.cases import record_from
from kvplan.engines.vllm.scheduler.replay import Asked, Replayed, replay
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Settings
from kvplan.errors import Refused
from kvplan.questions.audit.judge import judge

FULL = GroupSpec(kind="full", block_size=16)
WINDOW = GroupSpec(kind="sliding", block_size=16, window=64)
STATES = GroupSpec(kind="mamba", block_size=64, mode="align")


def server(*groups: GroupSpec, **options: Any) -> Settings:
    size = max(group.block_size for group in groups)
    told: dict[str, Any] = {
        "groups": groups, "num_gpu_blocks": 200, "max_model_len": 1024, "max_num_batched_tokens": 256, "max_num_seqs": 16,
        "scheduler_block_size": size, "hash_block_size": min(group.block_size for group in groups), "release": (0, 32, 0),
    }  # fmt: skip
    return Settings(**told | options)


def run(settings: Settings, *asked: Asked) -> Replayed:
    return replay(settings, asked, most_steps=5_000, most_work=10_000_000)


def one_after_the_other(settings: Settings, *prompts: tuple[tuple[str, int], ...]) -> list[int]:
    """Tokens that each prompt finds computed, when the one before has long ended."""
    trace = run(settings, *(Asked(arrival=100 * i, prompt=prompt, max_tokens=1) for i, prompt in enumerate(prompts)))
    return [request.hits[0] for request in trace.requests]


def test_every_recorded_scenario_is_exact() -> None:
    recorded = cases("vllm_scheduler")
    results = [judge(record_from(case, where="vllm_scheduler.jsonl")) for case in recorded]
    assert len(results) == 154
    assert {r.id: r.reason or [f.name for f in r.facts if not f.agrees] for r in results if r.status != "exact"} == {}
    assert all(len(result.facts) == 5 for result in results)


@pytest.mark.parametrize(
    ("groups", "three", "same"), [((FULL, WINDOW), [0, 0, 96], [0, 144, 144]), ((STATES,), [0, 0, 64], [0, 128, 128])]
)
def test_common_prefixes_by_hand(groups: tuple[GroupSpec, ...], three: list[int], same: list[int]) -> None:
    """Section 10 of the rules: of a window or a state almost nothing is kept, so the second of three that share a prefix finds
    nothing, and leaves the end of what they share to the third.
    """
    layout = (GroupSpec(kind="full", block_size=64), *groups) if STATES in groups else groups
    settings = server(*layout)
    shared, whole = ("shared", 100), ("same", 160)
    assert one_after_the_other(settings, *(((shared), (f"own:{i}", 60)) for i in range(3))) == three
    assert one_after_the_other(settings, (whole,), (whole,), (whole, ("more", 40))) == same


def test_a_prompt_of_a_state_model_ends_a_step_at_its_last_block() -> None:
    """A prompt of 150 is computed as 128 + 22: section 8."""
    settings = server(GroupSpec(kind="full", block_size=64), STATES)
    trace = run(settings, Asked(arrival=0, prompt=(("a", 150),), max_tokens=1))
    assert trace.scheduled_tokens == [128, 22]


def test_a_displaced_request_comes_back_first_and_finds_its_own_blocks() -> None:
    """Two prompts of 100 with 60 tokens of output in 14 blocks: the second is displaced, and goes on where its blocks end."""
    settings = server(FULL, num_gpu_blocks=15, scheduler_reserve_full_isl=False)
    trace = run(settings, *(Asked(arrival=0, prompt=((f"own:{i}", 100),), max_tokens=60) for i in range(2)))
    first, second = trace.requests
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert second.hits[0] == 0
    assert second.hits[1] > 0
    assert trace.peak_used_blocks == 14


def test_releases_and_work_that_are_not_followed() -> None:
    asked = Asked(arrival=0, prompt=(("a", 10),), max_tokens=3)
    with pytest.raises(Refused, match=r"known from 0\.29 on"):
        run(server(FULL, release=(0, 28, 0)), asked)
    with pytest.raises(Refused, match=r"known from 0\.31 on with groups of states"):
        run(server(GroupSpec(kind="full", block_size=64), STATES, release=(0, 30, 0)), asked)
    with pytest.raises(Refused, match="more than kvplan follows"):
        replay(server(FULL), [asked] * 50, most_steps=100, most_work=60)


layouts = st.sampled_from(((FULL,), (FULL, WINDOW), (WINDOW,), (FULL, GroupSpec(kind="chunked", block_size=16, chunk=64))))
asked_for = st.builds(
    Asked,
    arrival=st.integers(0, 12),
    prompt=st.lists(st.tuples(st.sampled_from(("a", "b", "c")), st.integers(1, 90)), min_size=1, max_size=3).map(tuple),
    max_tokens=st.integers(1, 40),
    priority=st.integers(0, 2),
)


@given(layouts, st.lists(asked_for, min_size=1, max_size=8), st.booleans(), st.booleans(), st.sampled_from(("fcfs", "priority")))
def test_every_token_is_computed_once_or_found(
    groups: tuple[GroupSpec, ...], asked: list[Asked], ahead: bool, caching: bool, policy: Any
) -> None:
    """Whatever comes: all end, no block is lost, and without displacement each token but the last is computed once or found."""
    settings = server(*groups, async_scheduling=ahead, enable_prefix_caching=caching, policy=policy, num_gpu_blocks=120)
    trace = run(settings, *asked)
    assert not trace.stuck
    assert all(request.finished for request in trace.requests)
    assert trace.used_blocks[-1] <= trace.peak_used_blocks < 120
    if not trace.preemptions:
        computed = sum(request.known - 1 for request in trace.requests)
        assert sum(trace.scheduled_tokens) + trace.hit_tokens == computed
    if not caching:
        assert trace.hit_tokens == 0


@given(st.lists(asked_for, min_size=1, max_size=6))
def test_more_blocks_displace_no_more(asked: list[Asked]) -> None:
    """With room for everybody nobody is displaced, and nobody ends later than with less room."""
    settings = server(FULL, num_gpu_blocks=40, scheduler_reserve_full_isl=False)
    tight, wide = run(settings, *asked), run(replace(settings, num_gpu_blocks=2000), *asked)
    assert wide.preemptions == 0
    assert wide.steps <= tight.steps
