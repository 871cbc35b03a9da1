"""The scheduler over arrays: the same steps as the plain form, for every layout of groups whose prompts share nothing.

Its functions are plain Python where numba is not installed, and are tried either way.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from vllm_traffic import answer, plain, traffic, workload

from kvplan.domain.traffic import Clock, Meter, Traffic
from kvplan.engines.vllm.scheduler import compiled, of_plan, served
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Settings


def layouts(seed: int) -> tuple[Settings, Traffic, Clock]:
    """A small server with windows, chunks, states, or none of them, and requests that share nothing."""
    told, asked, clock = workload(seed)
    r, size, caching = random.Random(seed + 2), told.groups[0].block_size, told.enable_prefix_caching
    groups, what = [*told.groups * r.choice((0, 1, 2))], r.choice(("sliding", "chunked", "states", "states", "both"))
    if what in {"sliding", "both"}:
        groups += [GroupSpec(kind="sliding", block_size=size, window=r.choice((1, size, 20, 50, 500)))] * r.choice((1, 2))
    if what == "chunked":
        groups += [*told.groups, GroupSpec(kind="chunked", block_size=size, chunk=size * r.choice((2, 4)))]
    if what in {"states", "both"} and caching:
        inside = r.choice((0, 1))
        grid = r.choice((1, 2, size)) if inside else None
        one = GroupSpec(kind="mamba", block_size=size, mode="align", checkpoint_blocks=inside, checkpoint_alignment=grid)
        groups += [one] * r.choice((1, 2))
    elif what in {"states", "both"}:
        groups += [GroupSpec(kind="mamba", block_size=told.max_model_len, mode="none")]
    r.shuffle(groups)
    blocks = sum(-(-told.max_model_len // group.block_size) + 3 for group in groups) + r.randint(1, 60)
    sizes = {group.block_size for group in groups}
    told = replace(
        told, groups=tuple(groups), num_gpu_blocks=blocks, scheduler_block_size=max(sizes), hash_block_size=max(sizes),
        release=r.choice(((0, 31, 0), (0, 32, 0), (0, 33, 0))), prefix_cache_retention_interval=r.choice((0, 0, None, 2 * size)),
    )  # fmt: skip
    return told, replace(asked, hashes=None, offsets=None, hash_tokens=0), clock


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_steps_over_arrays_are_the_same_steps(seed: int) -> None:
    told, asked, clock = layouts(seed)
    assert compiled.applies(told, asked)
    expected = plain(answer(served.serve, told, asked, clock))
    try:
        assert plain(answer(compiled.serve, told, asked, clock)) == expected
    except compiled.Displaced:
        assert told.enable_prefix_caching
        assert expected["preemptions"]


def test_what_is_not_followed_is_left_to_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    full, state = GroupSpec(kind="full", block_size=16), GroupSpec(kind="mamba", block_size=32, mode="align")
    told = Settings(
        groups=(full, GroupSpec(kind="sliding", block_size=16, window=32)), num_gpu_blocks=24, max_model_len=160,
        max_num_batched_tokens=64, max_num_seqs=4, scheduler_block_size=16, hash_block_size=16, release=(0, 32, 0),
        scheduler_reserve_full_isl=False,
    )  # fmt: skip
    asked, clock = traffic([(0, 60, 90, ()), (0, 60, 90, ()), (0, 60, 90, ())], 0), Clock(prefill_rate=1e4, decode_rate=100)
    assert not of_plan.numba_is_worth(asked)
    assert not compiled.applies(told, traffic([(0, 60, 90, (1,))], 64))
    assert not compiled.applies(replace(told, groups=(full, state)), asked)
    with pytest.raises(compiled.Displaced):
        compiled.serve(told, asked, clock, Meter(24, 0, 1))
    with pytest.raises(served.Stopped):
        compiled.serve(told, asked, clock, Meter(24, 0, 1), stop=True)
    tried: list[Settings] = []
    monkeypatch.setattr(of_plan, "numba_is_worth", lambda _: not tried.append(told))
    done: list[int] = []
    found = answer(of_plan.serve, told, asked, clock, advance=done.append)
    assert tried
    assert sum(done) == 3
    assert plain(found) == plain(answer(served.serve, told, asked, clock))
