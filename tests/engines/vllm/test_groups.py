"""How vLLM groups caches: hand-built pages, each rule alone."""

import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st

from kvplan.engines.vllm.groups import CacheGroup, Rules, block_bytes, cache_groups
from kvplan.engines.vllm.specs import ChunkedSpec, FullSpec, Held, Kind, Scheduling, SlidingSpec, Spec, StateSpec
from kvplan.errors import Refused

PLAIN, OUTERMOST = Rules(), Rules(block_outermost=True)


def caches(*runs: tuple[int, Spec]) -> tuple[Held, ...]:
    """`count` caches of each spec, one layer after the other."""
    specs = [spec for count, spec in runs for _ in range(count)]
    return tuple(Held(layer=i, memory=0, name="keys and values", spec=spec) for i, spec in enumerate(specs))


def spec(kind: Kind, page: int, *, block: int = 16, reach: int = 0, latent: bool = False) -> Spec:
    if kind == "state":
        return StateSpec(content=(page,), block_size=block, state_bytes=page)
    if kind == "full":
        return FullSpec(content=(page,), block_size=block, entry_bytes=page // block, latent=latent)
    local = SlidingSpec if kind == "sliding" else ChunkedSpec
    return local(content=(page,), block_size=block, entry_bytes=page // block, reach=reach, latent=latent)


def lengths(groups: tuple[CacheGroup, ...]) -> list[int]:
    return [len(group.members) for group in groups]


def test_nothing_to_cache_is_no_group() -> None:
    assert cache_groups((), PLAIN) == ()
    assert block_bytes((), PLAIN) == 0


@each(
    ("windows", "full", "expected"),
    [(52, 10, [9, 9, 9, 9, 8, 8, 10]), (12, 12, [12, 12]), (12, 13, [12, 13]), (18, 12, [9, 9, 12]), (17, 12, [17, 12])],
)
def test_groups_are_as_long_as_the_shortest_bucket_unless_the_longest_is_near(
    windows: int, full: int, expected: list[int]
) -> None:
    groups = cache_groups(caches((windows, spec("sliding", 1024, reach=128)), (full, spec("full", 1024))), PLAIN)
    assert lengths(groups) == expected
    assert block_bytes(groups, PLAIN) == max(expected) * 1024
    old = cache_groups(
        caches((windows, spec("sliding", 1024, reach=128)), (full, spec("full", 1024))),
        Rules(balance=0.0, unified_pages=False),
    )
    assert len(old) == -(-windows // min(windows, full)) + -(-full // min(windows, full))


def test_members_are_dealt_out_in_turn() -> None:
    groups = cache_groups(caches((4, spec("sliding", 64, reach=8)), (2, spec("full", 64))), PLAIN)
    assert [[held.layer for held in group.members] for group in groups] == [[0, 2], [1, 3], [4, 5]]


def test_a_latent_page_that_does_not_divide_makes_windows_whole() -> None:
    mixed = caches((3, spec("full", 1152, latent=True)), (1, spec("sliding", 2048, reach=128)))
    (group,) = cache_groups(mixed, PLAIN)
    assert group.page_bytes == 3 * 1152 + 2048
    assert {held.spec.kind for held in group.members} == {"full"}
    with pytest.raises(Refused):
        cache_groups(caches((3, spec("full", 1152, latent=True)), (1, spec("state", 2048))), PLAIN)
    with pytest.raises(Refused):
        cache_groups(caches((3, spec("full", 1152, latent=True)), (1, spec("chunked", 2048, reach=64))), PLAIN)


def test_states_beside_attention_cannot_do_without_the_hybrid_manager() -> None:
    with pytest.raises(Refused, match="Failed to promote"):
        cache_groups(caches((3, spec("state", 1024)), (1, spec("full", 1024))), Rules(hybrid_manager=False))


def test_packed_groups_repeat_the_pattern_of_a_mixed_bucket() -> None:
    wide = [(3, spec("full", 65536, latent=True)), (1, spec("full", 51200, latent=True))]
    narrow = [(10, spec("sliding", 128, reach=64)), (10, spec("sliding", 256, reach=64))]
    groups = cache_groups(caches(*wide, *narrow, (100, spec("state", 1024))), OUTERMOST)
    assert lengths(groups) == [4, 20, *[10] * 10]  # 100 states in tens: the pattern's repeats
    assert block_bytes(groups, OUTERMOST) == 3 * 65536 + 51200


def test_packed_states_are_split_until_no_group_is_wider_than_a_block() -> None:
    groups = cache_groups(caches((25, spec("sliding", 131072, reach=1024)), (5, spec("full", 65536))), OUTERMOST)
    assert lengths(groups) == [2] * 12 + [1, 5]
    assert block_bytes(groups, OUTERMOST) == 5 * 65536


def test_a_block_begins_where_every_layer_may() -> None:
    aligned = FullSpec(content=("a",), block_size=64, entry_bytes=1152, stride_alignment=1152)
    index = FullSpec(content=("i",), block_size=64, entry_bytes=132)
    groups = cache_groups(caches((61, aligned), (61, index)), OUTERMOST)
    assert block_bytes(groups, PLAIN) == 61 * 64 * (1152 + 132)
    assert block_bytes(groups, OUTERMOST) == -(-61 * 64 * (1152 + 132) // 1152) * 1152


kinds = st.sampled_from(["full", "sliding", "chunked", "state"])
specs = st.builds(spec, kinds, st.sampled_from([1024, 2048, 3072, 4096]), reach=st.just(64))
runs = st.lists(st.tuples(st.integers(1, 9), specs), min_size=1, max_size=4)


@given(runs, st.booleans())
def test_every_cache_is_in_one_group_and_every_group_fits_a_block(found: list[tuple[int, Spec]], outermost: bool) -> None:
    rules = Rules(block_outermost=outermost)
    everything = caches(*found)
    groups = cache_groups(everything, rules)
    assert sorted(held.layer for group in groups for held in group.members) == [held.layer for held in everything]
    size = block_bytes(groups, rules)
    assert all(group.page_bytes <= size for group in groups)
    assert all(held.spec.block_size == group.spec.block_size for group in groups for held in group.members)


@given(st.integers(1, 1 << 20), st.integers(1, 4096), st.integers(1, 1 << 15), st.sampled_from([16, 64, 1056]))
def test_a_window_never_takes_more_than_one_block_beyond_full_attention(
    length: int, window: int, flight: int, block: int
) -> None:
    scheduling = Scheduling(in_flight_tokens=flight, batch_tokens=flight)
    full = spec("full", 1024, block=block).blocks(length, scheduling)
    held = SlidingSpec(content=(), block_size=block, entry_bytes=64, reach=window).blocks(length, scheduling)
    assert held <= full + 1
    assert held * block >= min(window, length)
