"""The simulation of CUDA's caching allocator: sequences worked out by hand from its source, and its laws."""

import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st

from kvplan.domain.caching_allocator import Figures, round_size, segment_size, simulate, unpredicted_setting
from kvplan.units import MIB

B = 512  # one block


@each(
    ("sizes", "allocated", "reserved", "segments"),
    [
        pytest.param([], 0, 0, 0, id="nothing"),
        pytest.param([0, 0], 0, 0, 0, id="empty tensors take no block"),
        pytest.param([1], B, 2 * MIB, 1, id="one byte takes one block of a small segment"),
        pytest.param([513], 2 * B, 2 * MIB, 1, id="rounded up to 512"),
        pytest.param([B] * 4096, 2 * MIB, 2 * MIB, 1, id="a small segment filled to the brim"),
        pytest.param([B] * 4097, 2 * MIB + B, 4 * MIB, 2, id="and one block more"),
        pytest.param([MIB] * 2, 2 * MIB, 2 * MIB, 1, id="1 MiB is still small"),
        pytest.param([MIB] * 3, 3 * MIB, 4 * MIB, 2, id="small segments hold two of 1 MiB"),
        pytest.param([MIB + 1], MIB + B, 20 * MIB, 1, id="above 1 MiB comes from a 20 MiB segment"),
        # 19 blocks of 1 MiB + 512 leave less than 1 MiB, which stays in the last of them
        pytest.param([MIB + 1] * 19, 20 * MIB, 20 * MIB, 1, id="a rest below 1 MiB belongs to the block"),
        pytest.param([MIB + 1] * 20, 21 * MIB + B, 40 * MIB, 2, id="and the next opens a segment"),
        pytest.param([10 * MIB - B] * 2, 20 * MIB, 20 * MIB, 1, id="two of just under 10 MiB share a segment"),
        pytest.param([10 * MIB], 10 * MIB, 10 * MIB, 1, id="10 MiB gets a segment of its own"),
        pytest.param([11 * MIB], 12 * MIB, 12 * MIB, 1, id="a rest of exactly 1 MiB is not split off"),
        pytest.param([11 * MIB - B], 11 * MIB - B, 12 * MIB, 1, id="a rest of more than 1 MiB is"),
        pytest.param([11 * MIB - B, MIB + B], 12 * MIB, 12 * MIB, 1, id="and serves the next request"),
        pytest.param([11 * MIB - B, MIB], 12 * MIB - B, 14 * MIB, 2, id="but not a small one"),
        pytest.param([3 * MIB, 12 * MIB], 15 * MIB, 20 * MIB, 1, id="a free block serves a large request too"),
        # 17 MiB are left of the first segment; the second is 18 MiB whole; 16 MiB takes the 17 with its rest of 1 MiB
        pytest.param([3 * MIB, 18 * MIB - B, 16 * MIB], 38 * MIB, 38 * MIB, 2, id="what is left serves what comes"),
        # free blocks of 13 MiB (of 20) and 1.5 MiB (of 14): best fit gives 1.4 MiB the smaller, so 13 MiB finds the larger
        pytest.param(
            [14 * MIB - 3 * MIB // 2, 7 * MIB, 7 * MIB // 5, 13 * MIB],
            14 * MIB + 20 * MIB,
            34 * MIB,
            2,
            id="the smallest block that fits is taken",
        ),
    ],
)
def test_a_sequence_takes_what_the_source_says(sizes: list[int], allocated: int, reserved: int, segments: int) -> None:
    assert simulate(sizes) == Figures(allocated_bytes=allocated, reserved_bytes=reserved, segments=segments)


def by_address(sizes: list[int]) -> tuple[int, int, int]:
    """The allocator again, as its source tells it: segments of blocks with addresses, best fit by (size, address)."""
    segments: list[list[list[int]]] = []  # each a list of [address, size, pool, used]
    top = 0
    for size in sizes:
        if not size:
            continue
        wanted = -(-size // 512) * 512
        pool = 0 if wanted <= 2**20 else 1
        free = [
            (block[1], block[0], blocks, block)
            for blocks in segments
            for block in blocks
            if not block[3] and block[2] == pool and block[1] >= wanted
        ]
        if not free:
            whole = 2 * MIB if pool == 0 else 20 * MIB if wanted < 10 * MIB else -(-wanted // (2 * MIB)) * 2 * MIB
            segments.append([[top, whole, pool, 0]])
            free = [(whole, top, segments[-1], segments[-1][0])]
            top += whole
        _, _, blocks, block = min(free, key=lambda row: row[:2])
        rest = block[1] - wanted
        if (pool == 0 and rest >= 512) or (pool == 1 and rest > 2**20):
            blocks.append([block[0] + wanted, rest, pool, 0])
            block[1] = wanted
        block[3] = 1
    used = sum(block[1] for blocks in segments for block in blocks if block[3])
    return used, sum(block[1] for blocks in segments for block in blocks), len(segments)


requests = st.one_of(
    st.integers(0, 4096), st.integers(0, 2 * MIB), st.integers(MIB - 1024, 24 * MIB), st.sampled_from([MIB, 10 * MIB])
)


@given(st.lists(requests, max_size=60))
def test_the_simulation_equals_an_allocator_with_addresses(sizes: list[int]) -> None:
    found = simulate(sizes)
    assert (found.allocated_bytes, found.reserved_bytes, found.segments) == by_address(sizes)


@given(st.lists(requests, max_size=60))
def test_no_figure_is_below_what_was_asked(sizes: list[int]) -> None:
    found = simulate(sizes)
    assert sum(sizes) <= found.allocated_bytes <= found.reserved_bytes
    assert found.allocated_bytes % 512 == 0
    assert found.reserved_bytes % (2 * MIB) == 0


@given(st.integers(1, 2**40))
def test_a_rounded_size_always_fits_its_segment(size: int) -> None:
    rounded = round_size(size)
    assert size <= rounded < size + 512
    assert rounded <= segment_size(rounded)


@each(
    ("environment", "setting"),
    [
        ({}, None),
        ({"PYTORCH_CUDA_ALLOC_CONF": ""}, None),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native, garbage_collection_threshold:0.8"}, None),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}, None),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:128"}, "PYTORCH_ALLOC_CONF=max_split_size_mb:128"),
        ({"PYTORCH_HIP_ALLOC_CONF": "large_segment_size_mb:12"}, "PYTORCH_HIP_ALLOC_CONF=large_segment_size_mb:12"),
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "roundup_power2_divisions:[256:1,512:2,>:8]"},
            "PYTORCH_CUDA_ALLOC_CONF=roundup_power2_divisions:[256:1,512:2,>:8]",
        ),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, "PYTORCH_CUDA_ALLOC_CONF=backend:cudaMallocAsync"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "something_new:1"}, "PYTORCH_CUDA_ALLOC_CONF=something_new:1"),
        ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, "PYTORCH_NO_CUDA_MEMORY_CACHING=1"),
    ],
)
def test_settings_that_change_the_figures_are_named(environment: dict[str, str], setting: str | None) -> None:
    assert unpredicted_setting(environment) == setting
