"""What PyTorch's caching allocator for CUDA takes from the device for a sequence of tensors. Pure arithmetic.

The allocator asks the driver for *segments*, cuts *blocks* from them, and keeps what is left over for later
requests. Rules and constants are those of `c10/cuda/CUDACachingAllocator.cpp` (`round_size`, `get_pool`,
`get_free_block`, `get_allocation_size`, `should_split`, `alloc_found_block`) and, since torch 2.9,
`c10/core/AllocatorConfig.h`; the same for CUDA and ROCm, and unchanged from torch 2.4 to 2.13.

Only a cache that starts empty and only allocations on one stream are predicted, under the default settings:
`unpredicted_setting` says which environment variable stands in the way.
"""

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from kvplan.units import MIB, ceil_div

MIN_BLOCK_BYTES: Final = 512  # kMinBlockSize: every request is rounded up to a multiple
SMALL_BYTES: Final = MIB  # kSmallSize: the largest request of the small pool
SMALL_SEGMENT_BYTES: Final = 2 * MIB  # kSmallBuffer: segments of the small pool
MIN_LARGE_BYTES: Final = 10 * MIB  # kMinLargeAlloc: from here on a request gets a segment of its own size
LARGE_SEGMENT_BYTES: Final = 20 * MIB  # kLargeBuffer (large_segment_size): segments for requests below that
ROUND_LARGE_BYTES: Final = 2 * MIB  # kRoundLarge: own segments are rounded up to a multiple


class Figures(Struct, frozen=True, kw_only=True):
    """`allocated_bytes` as `torch.cuda.memory_allocated` counts, `reserved_bytes` as `memory_reserved` does."""

    allocated_bytes: int
    reserved_bytes: int
    segments: int  # calls of cudaMalloc


def round_size(size: int) -> int:
    """A request as the allocator sees it: the next multiple of 512 bytes.

    >>> round_size(1), round_size(512), round_size(513)
    (512, 512, 1024)
    """
    return max(MIN_BLOCK_BYTES, ceil_div(size, MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES)


def segment_size(rounded: int) -> int:
    """Bytes asked of the driver when no free block is large enough for `rounded` bytes."""
    if rounded <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if rounded < MIN_LARGE_BYTES:
        return LARGE_SEGMENT_BYTES
    return ceil_div(rounded, ROUND_LARGE_BYTES) * ROUND_LARGE_BYTES


def simulate(sizes: Iterable[int]) -> Figures:
    """The allocator's figures after allocating `sizes` bytes in order, from an empty cache, freeing nothing.

    A request takes the smallest free block of its pool that holds it (best fit). The rest of that block
    becomes a free block when it is worth keeping: at least 512 bytes in the small pool, more than 1 MiB in
    the large one; otherwise it stays part of the block, and `memory_allocated` counts it.

    Args:
        sizes: storage bytes of each tensor; an empty tensor takes nothing.

    >>> simulate([100, 3 * 2**20])  # a 2 MiB segment, and a 20 MiB one for the 3 MiB
    Figures(allocated_bytes=3146240, reserved_bytes=23068672, segments=2)
    """
    small: list[int] = []  # free blocks, ascending
    large: list[int] = []
    allocated = reserved = segments = 0
    for size in sizes:
        if size == 0:
            continue
        rounded = round_size(size)
        is_small = rounded <= SMALL_BYTES
        free = small if is_small else large
        position = bisect_left(free, rounded)
        if position < len(free):
            block = free.pop(position)
        else:
            block = segment_size(rounded)
            reserved += block
            segments += 1
        rest = block - rounded
        if rest >= MIN_BLOCK_BYTES if is_small else rest > SMALL_BYTES:
            insort(free, rest)
            block = rounded
        allocated += block
    return Figures(allocated_bytes=allocated, reserved_bytes=reserved, segments=segments)


#: Settings that change no figure when nothing is freed: they concern pinned memory, retries or the error path.
_HARMLESS: Final = frozenset({
    "garbage_collection_threshold", "per_process_memory_fraction", "throw_on_cudamalloc_oom",
    "release_lock_on_cudamalloc", "release_lock_on_hipmalloc", "graph_capture_record_stream_reuse",
    "pinned_use_cuda_host_register", "pinned_use_hip_host_register", "pinned_use_background_threads",
    "pinned_num_register_threads", "pinned_reserve_segment_size_mb", "pinned_free_catch_all",
    "pinned_max_round_threshold_mb", "pinned_max_cached_size_mb",
})  # fmt: skip
_DEFAULTS: Final = {"backend": "native", "expandable_segments": "false", "large_segment_size_mb": "20"}
_VARIABLES: Final = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
_UNCACHED: Final = ("PYTORCH_NO_CUDA_MEMORY_CACHING", "PYTORCH_NO_HIP_MEMORY_CACHING")
_PAIR = re.compile(r"\s*(\w+)\s*:\s*(\[[^\]]*\]|[^,]*)")


def unpredicted_setting(environment: Mapping[str, str]) -> str | None:
    """The first setting under which `simulate` does not hold, as `VARIABLE=setting`, or None.

    >>> unpredicted_setting({"PYTORCH_CUDA_ALLOC_CONF": "backend:native,expandable_segments:True"})
    'PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True'
    """
    for variable in _UNCACHED:
        if variable in environment:
            return f"{variable}={environment[variable]}"
    for variable in _VARIABLES:
        for key, value in _PAIR.findall(environment.get(variable, "")):
            if key not in _HARMLESS and _DEFAULTS.get(key) != value.strip().lower():
                return f"{variable}={key}:{value.strip()}"
    return None
