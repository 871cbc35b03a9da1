"""The scheduler over arrays: the same steps as the plain form, for every layout of groups, with hashes and without.

As Python's functions, and as machine code where llvmlite is installed.
"""

import random
from math import gcd, lcm
from typing import Any

import numpy as np
import pytest
from arrivals import traffic
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from vllm_traffic import answer, plain, workload

from kvplan.domain.traffic import Clock, Meter, Traffic
from kvplan.engines.kernel import native
from kvplan.engines.vllm.scheduler import of_plan, served
from kvplan.engines.vllm.scheduler.compiled import serve as compiled
from kvplan.engines.vllm.scheduler.compiled.loop import steps
from kvplan.engines.vllm.scheduler.compiled.state import made
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Settings

FULL, WINDOW = GroupSpec(kind="full", block_size=16), GroupSpec(kind="sliding", block_size=16, window=32)
SMALL = Settings(
    groups=(FULL, WINDOW), num_gpu_blocks=24, max_model_len=160, max_num_batched_tokens=64, max_num_seqs=4,
    scheduler_block_size=16, hash_block_size=16, release=(0, 32, 0), scheduler_reserve_full_isl=False,
)  # fmt: skip
CLOCK = Clock(prefill_rate=1e4, decode_rate=100)
#: More than the small server holds: somebody is displaced.
CROWD = traffic([(0, 60, 90, ()), (0, 60, 90, ()), (0, 60, 90, ())], 0)


def layouts(seed: int) -> tuple[Settings, Traffic, Clock]:
    """A small server with windows, chunks, states, blocks of several sizes, or none of them; half the traces have hashes."""
    told, asked, clock = workload(seed)
    r, size, caching = random.Random(seed + 2), told.groups[0].block_size, told.enable_prefix_caching
    groups = [*told.groups * r.choice((0, 1, 2))]
    what = r.choice(("sliding", "chunked", "states", "states", "both", "sizes"))
    windows = [GroupSpec(kind="sliding", block_size=size, window=r.choice((1, size, 20, 50, 500)))] * r.choice((1, 2))
    if what in {"sliding", "both", "sizes"}:
        groups += windows
    if what == "sizes":
        larger = size * r.choice((1, 2))
        groups += [GroupSpec(kind="full", block_size=larger), replace(windows[0], block_size=size * r.choice((1, 2)))]
    if what == "chunked":
        groups += [*told.groups, GroupSpec(kind="chunked", block_size=size, chunk=size * r.choice((2, 4)))]
    if what in {"states", "both"} and caching:
        inside, larger = r.choice((0, 1)), size * r.choice((1, 1, 2, 4))
        grid = r.choice((1, 2, size)) if inside else None
        one = GroupSpec(kind="mamba", block_size=larger, mode="align", checkpoint_blocks=inside, checkpoint_alignment=grid)
        groups += [one] * r.choice((1, 2))
    elif what in {"states", "both"}:
        groups += [GroupSpec(kind="mamba", block_size=told.max_model_len, mode="none")]
    r.shuffle(groups)
    blocks = sum(-(-told.max_model_len // group.block_size) + 3 for group in groups) + r.randint(1, 60)
    sizes = [group.block_size for group in groups]
    aligned = all(group.kind != "mamba" or group.mode == "align" for group in groups)
    told = replace(
        told, groups=tuple(groups), num_gpu_blocks=blocks, scheduler_block_size=lcm(*sizes),
        hash_block_size=gcd(*sizes) if caching and aligned else lcm(*sizes),
        release=r.choice(((0, 31, 0), (0, 32, 0), (0, 33, 0))), prefix_cache_retention_interval=r.choice((0, 0, None, 2 * size)),
    )  # fmt: skip
    return told, asked if r.random() < 0.5 else replace(asked, hashes=None, offsets=None, hash_tokens=0), clock


def forms(told: Settings, asked: Traffic, clock: Clock) -> list[Any]:
    """The answers as Python's functions give them, and as machine code does."""
    ways = (True, False) if native.available() else (True,)
    return [plain(answer(compiled.serve, told, asked, clock, plain=way)) for way in ways]


@settings(max_examples=12)
@given(st.integers(0, 2**32))
def test_steps_over_arrays_are_the_same_steps(seed: int) -> None:
    """As machine code on the whole trace, and as Python's functions, which take a hundred times as long, on its beginning."""
    told, asked, clock = layouts(seed)
    assert compiled.applies(told)
    few = asked.part(np.arange(min(len(asked), 5)))
    assert plain(answer(compiled.serve, told, few, clock, plain=True)) == plain(answer(served.serve, told, few, clock))
    if native.available():
        assert plain(answer(compiled.serve, told, asked, clock)) == plain(answer(served.serve, told, asked, clock))


def test_a_displaced_request_finds_what_its_windows_have_left() -> None:
    """What it had given back before it was displaced, it finds, too; these seeds tell."""
    wrong, again = [], 0
    for seed in (980, 1124, 2603):
        told, asked, clock = layouts(seed)
        asked = replace(asked, hashes=None, offsets=None, hash_tokens=0)
        expected = plain(answer(served.serve, told, asked, clock))
        again += expected["found_again_tokens"] > 0
        wrong += [seed] * sum(found != expected for found in forms(told, asked, clock))
    assert not wrong
    assert again == 3


def test_all_of_it_is_translated() -> None:
    state = made(SMALL, CROWD, CLOCK, stop=False)
    assert "define i64 @main(ptr %table)" in native.translated(steps, native.fields_of(state))


def test_what_is_not_followed_is_left_to_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not of_plan.is_worth_compiling(CROWD)
    assert not compiled.applies(replace(SMALL, policy="priority"))
    assert not compiled.applies(replace(SMALL, long_prefill_token_threshold=16))
    with pytest.raises(served.Stopped):
        compiled.serve(SMALL, CROWD, CLOCK, Meter(24, 0, 1), stop=True, plain=True)
    expected = plain(answer(served.serve, SMALL, CROWD, CLOCK))
    assert expected["preemptions"]
    tried: list[bool] = []
    monkeypatch.setattr(of_plan, "is_worth_compiling", lambda _: not tried.append(True))

    def gives_up(*_: Any, advance: Any, **more: Any) -> None:
        advance(1)
        raise compiled.Overfull

    for way in (compiled.serve, gives_up):
        monkeypatch.setattr(compiled, "serve", way)
        done: list[int] = []
        assert plain(answer(of_plan.serve, SMALL, CROWD, CLOCK, advance=done.append)) == expected
        assert sum(done) == 3
    assert len(tried) == 2
