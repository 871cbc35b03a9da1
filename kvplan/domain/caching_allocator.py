"""What PyTorch's caching allocator for CUDA counts for a sequence of tensors that come and go. Pure arithmetic.

The allocator asks the driver for *segments*, cuts *blocks* from them, and keeps what is left over or freed for later
requests. Rules and constants are those of `c10/cuda/CUDACachingAllocator.cpp` (`round_size`, `get_pool`,
`get_free_block`, `get_allocation_size`, `should_split`, `alloc_found_block`, `free_block`, `try_merge_blocks`,
`release_cached_blocks`) and, since torch 2.9, `c10/core/AllocatorConfig.h`; the same for CUDA and ROCm, and unchanged from
torch 2.4 to 2.13.

One stream and the default settings are predicted, and `max_split_size_mb`, which vLLM sets while it loads a model:
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
UNLIMITED: Final = 1 << 62  # max_split_size unless it is set

_Free = tuple[int, int, int]  # size, segment, offset: the order in which the allocator looks for the best fit


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


def fresh_block(size: int) -> int:
    """What a tensor of `size` bytes counts in a segment of its own: the whole segment where the rest is at most 1 MiB.

    >>> fresh_block(30 * 2**20 + 384 * 2**10) == 30 * 2**20 + 384 * 2**10, fresh_block(31 * 2**20) == 32 * 2**20
    (True, True)
    """
    if size <= 0:
        return 0
    rounded = round_size(size)
    segment = segment_size(rounded)
    return segment if rounded >= MIN_LARGE_BYTES and segment - rounded <= SMALL_BYTES else rounded


class Allocator:
    """The allocator's state over a sequence of `take` and `give`.

    Attributes:
        allocated: bytes of blocks in use, as `memory_allocated` counts; a block that is not split counts whole.
        reserved: bytes of segments, as `memory_reserved` counts.
        peak: the largest `allocated` since the start or `reset_peak`.
        max_split: `max_split_size` in bytes. A request of at least that size never splits its block and may reuse a cached
            one that is less than 20 MiB larger; a smaller request does not touch a block of that size or more.
    """

    def __init__(self, max_split: int = UNLIMITED) -> None:
        self.max_split = max_split
        self.allocated = self.reserved = self.peak = self.segments = 0
        self._free: dict[bool, list[_Free]] = {True: [], False: []}
        self._used: dict[int, tuple[int, int, int, bool]] = {}
        self._handles = 0

    def take(self, size: int) -> int:
        """Allocate `size` bytes; the handle gives them back. Zero bytes take nothing (handle 0)."""
        if size <= 0:
            return 0
        rounded = round_size(size)
        small = rounded <= SMALL_BYTES
        found = self._best_fit(rounded, small)
        if found is None:
            block = segment_size(rounded)
            self.segments += 1
            found = (block, self.segments, 0)
            self.reserved += block
        block, segment, offset = found
        rest = block - rounded
        if rest >= MIN_BLOCK_BYTES if small else (rounded < self.max_split and rest > SMALL_BYTES):
            insort(self._free[small], (rest, segment, offset + rounded))
            block = rounded
        self._handles += 1
        self._used[self._handles] = (block, segment, offset, small)
        self.allocated += block
        self.peak = max(self.peak, self.allocated)
        return self._handles

    def _best_fit(self, rounded: int, small: bool) -> _Free | None:
        free = self._free[small]
        position = bisect_left(free, (rounded, -1, -1))
        if position == len(free):
            return None
        if not small:
            block = free[position][0]
            if rounded < self.max_split <= block:
                return None
            if rounded >= self.max_split and block >= rounded + LARGE_SEGMENT_BYTES:
                return None
        return free.pop(position)

    def give(self, handle: int) -> None:
        """Free a block: it merges with free neighbours of its segment and waits for the next request."""
        if not handle:
            return
        size, segment, offset, small = self._used.pop(handle)
        self.allocated -= size
        free = self._free[small]
        for other in [one for one in free if one[1] == segment and (one[2] + one[0] == offset or offset + size == one[2])]:
            free.remove(other)
            offset, size = min(offset, other[2]), size + other[0]
        insort(free, (size, segment, offset))

    def size(self, handle: int) -> int:
        """Bytes that the block of `handle` counts."""
        return self._used[handle][0] if handle else 0

    def empty_cache(self) -> None:
        """Return segments without a used block to the driver, as `torch.cuda.empty_cache` does."""
        used = {segment for _, segment, _, _ in self._used.values()}
        for small, free in self._free.items():
            self.reserved -= sum(size for size, segment, _ in free if segment not in used)
            self._free[small] = [block for block in free if block[1] in used]

    def reset_peak(self) -> None:
        """Forget the peak so far."""
        self.peak = self.allocated


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
    allocator = Allocator()
    for size in sizes:
        allocator.take(size)
    return Figures(allocated_bytes=allocator.allocated, reserved_bytes=allocator.reserved, segments=allocator.segments)


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
_PAIR = r"\s*(\w+)\s*:\s*(\[[^\]]*\]|[^,]*)"


def unpredicted_setting(environment: Mapping[str, str]) -> str | None:
    """The first setting under which `simulate` does not hold, as `VARIABLE=setting`, or None.

    >>> unpredicted_setting({"PYTORCH_CUDA_ALLOC_CONF": "backend:native,expandable_segments:True"})
    'PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True'
    """
    for variable in _UNCACHED:
        if variable in environment:
            return f"{variable}={environment[variable]}"
    for variable in _VARIABLES:
        for key, value in re.findall(_PAIR, environment.get(variable, "")):
            if key not in _HARMLESS and _DEFAULTS.get(key) != value.strip().lower():
                return f"{variable}={key}:{value.strip()}"
    return None
