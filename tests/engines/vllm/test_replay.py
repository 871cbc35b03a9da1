"""vLLM's scheduler over requests with times: many steps at once are the same steps, and a model's plan is its scheduler's."""

import random
from typing import Any

import numpy as np
import pytest
from arrivals import traffic
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from vllm_traffic import answer, plain, workload

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
from kvplan.engines import make_engine
from kvplan.engines.vllm.engine import VllmOn
from kvplan.engines.vllm.scheduler import served
from kvplan.engines.vllm.scheduler.fast import steps as fast
from kvplan.engines.vllm.scheduler.fast import windows as fast_windows
from kvplan.engines.vllm.scheduler.of_plan import serve, settings_of
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Settings
from kvplan.errors import Refused
from kvplan.loading import load


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_many_steps_at_once_are_the_same_steps(seed: int) -> None:
    told, asked, clock = workload(seed)
    assert fast.applies(told, asked)
    found = answer(fast.serve, told, asked, clock)
    assert plain(found) == plain(answer(served.serve, told, asked, clock))
    if isinstance(found, Outcome):
        assert int(found.held_us @ np.arange(len(found.held_us))) == sum(found.timeline.held)
        done = found.finished_us >= 0
        assert int(done.sum()) + found.refused == len(asked)
        assert (found.admitted_us[done] >= asked.arrival_us[done]).all()


def windows(seed: int) -> tuple[Settings, Traffic, Clock]:
    """The same with windows, whose prompts share nothing."""
    told, asked, clock = workload(seed)
    r, size = random.Random(seed + 1), told.groups[0].block_size
    sliding = [
        GroupSpec(kind="sliding", block_size=size, window=window)
        for window in (r.choice((1, size, size + 1, 20, 50, 500)), r.choice((3, 33)))
    ]
    groups = [*told.groups * r.choice((0, 1, 2)), *sliding[:1] * r.choice((1, 2, 3)), *sliding[1:] * r.choice((0, 0, 1))]
    r.shuffle(groups)
    blocks = len(groups) * (-(-told.max_model_len // size) + 1) + 1 + r.randint(0, 60)
    told = replace(told, groups=tuple(groups), num_gpu_blocks=blocks, enable_prefix_caching=r.random() < 0.3)
    return told, replace(asked, hashes=None, offsets=None, hash_tokens=0), clock


@settings(max_examples=80)
@given(st.integers(0, 2**32))
def test_many_steps_of_windows_at_once_are_the_same_steps(seed: int) -> None:
    told, asked, clock = windows(seed)
    assert fast_windows.applies(told, asked)
    found = answer(serve, told, asked, clock)  # with what is followed step by step, once somebody is displaced
    assert plain(found) == plain(answer(served.serve, told, asked, clock))


def test_a_displaced_request_of_windows_is_followed_step_by_step_where_prefixes_are_kept() -> None:
    told = Settings(
        groups=(GroupSpec(kind="full", block_size=16), GroupSpec(kind="sliding", block_size=16, window=32)), num_gpu_blocks=24,
        max_model_len=160, max_num_batched_tokens=64, max_num_seqs=4, scheduler_block_size=16, hash_block_size=16,
        release=(0, 32, 0), scheduler_reserve_full_isl=False,
    )  # fmt: skip
    asked, clock = traffic([(0, 60, 90, ()), (0, 60, 90, ()), (0, 60, 90, ())], 0), Clock(prefill_rate=1e4, decode_rate=100)
    with pytest.raises(fast_windows.Displaced):
        fast_windows.FastWindows(told, asked, clock, Meter(24, 0, 1)).run(lambda _: None, stop=False)
    done: list[int] = []
    found = answer(serve, told, asked, clock, advance=done.append)
    assert isinstance(found, Outcome)
    assert found.preemptions
    assert sum(done) == 3
    assert plain(found) == plain(answer(served.serve, told, asked, clock))


def test_a_known_prefix_is_found_and_the_last_full_block_with_it() -> None:
    """Three prompts of 64 shared tokens, blocks of 16, one after the other: the others find all but their own."""
    told = Settings(
        groups=(GroupSpec(kind="full", block_size=16),), num_gpu_blocks=100, max_model_len=256, max_num_batched_tokens=64,
        max_num_seqs=4, scheduler_block_size=16, hash_block_size=16, release=(0, 32, 0),
    )  # fmt: skip
    asked = traffic([(0, 80, 2, (1, 2)), (10**7, 80, 2, (1, 3)), (10**7, 64, 2, (1,))], 64)
    found = fast.serve(told, asked, Clock(prefill_rate=1e4, decode_rate=100), Meter(100, 0, 10**6))
    assert found.hit_tokens == 64 + 48  # the last token is computed again, so that of 64 known ones three blocks count
    assert found.asked_tokens == 80 + 80 + 64
    # 80 tokens in chunks of 64 and 16; 1 / 100 s a step at least
    assert found.finished_us.tolist()[0] == 10_000 + 10_000 + 10_000


def test_it_stops_where_somebody_waits_for_room() -> None:
    told = Settings(
        groups=(GroupSpec(kind="full", block_size=16),), num_gpu_blocks=10, max_model_len=100, max_num_batched_tokens=64,
        max_num_seqs=4, scheduler_block_size=16, hash_block_size=16, release=(0, 32, 0),
    )  # fmt: skip
    asked = traffic([(0, 60, 30, ()), (0, 60, 30, ()), (0, 60, 30, ())], 0)
    for run in (fast.serve, served.serve):
        with pytest.raises(served.Stopped):
            answer(run, told, asked, Clock(prefill_rate=1e4, decode_rate=100), stop=True)


def scheduler(name: str, **options: Any) -> Settings:
    prepared = make_engine("vllm", options).on(load(name))
    assert isinstance(prepared, VllmOn)
    return settings_of(prepared.plan, prepared.pool(40 * 2**30), caching=options.get("enable_prefix_caching", True))


def test_a_models_plan_is_its_schedulers() -> None:
    dense = scheduler("llama-3.1-8b")
    assert dense.groups == (GroupSpec(kind="full", block_size=16),)
    assert (dense.max_num_batched_tokens, dense.async_scheduling, dense.hash_block_size) == (8192, True, 16)
    windows = scheduler("gpt-oss-20b")
    assert {group.kind for group in windows.groups} == {"full", "sliding"}
    assert {group.window for group in windows.groups if group.kind == "sliding"} == {128}
    states = scheduler("qwen3-next-80b-a3b", tensor_parallel_size=4, max_model_len=8192)
    assert {(group.kind, group.mode) for group in states.groups} == {("full", "none"), ("mamba", "align")}
    assert scheduler("qwen3-next-80b-a3b", tensor_parallel_size=4, enable_prefix_caching=False).aligned_states is False
    with pytest.raises(Refused, match="pipeline stages"):
        scheduler("llama-3.1-8b", pipeline_parallel_size=2)
    with pytest.raises(Refused, match="drafts tokens"):
        scheduler("llama-3.1-8b", speculative_config='{"method": "ngram", "num_speculative_tokens": 2}')
