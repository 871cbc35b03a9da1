"""The second manager's pools: slots of one memory, shared out by a typical request, in grains of at least 2 MiB.

A layer's buffers of a block are keys and values (and their scales, and index keys); layers with the same window are one life
cycle. Buffers of one size lie side by side in a pool; life cycles whose pools have the same sizes share them. A request takes
one slot of its life cycle for each block that its window still needs.

Source: TensorRT-LLM 1.4.0rc4 `runtime/kv_cache_manager_v2/_storage/_core.py`, `_storage_manager.py`, `_storage/_config.py`,
`_cuda_virt_mem.py`; `_torch/pyexecutor/kv_cache_manager_v2.py`, `mamba_cache_manager.py:MambaHybridCacheManagerV2`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import log2
from typing import Final

from msgspec import Struct

from kvplan.engines.tensorrt_llm.layers import Kept, Stage
from kvplan.engines.tensorrt_llm.pool import Part, budget
from kvplan.engines.tensorrt_llm.settle import Settled
from kvplan.errors import Refused
from kvplan.units import MIB, ceil_div

GRAIN: Final = 2 * MIB
_GRAINS: Final = 512  # a pool of fewer has the smallest grains
_LARGEST: Final = 4  # doublings of a grain
_TYPICAL: Final = (2049, 2048)  # tokens of the request that shares are made by, and those before its next
_RESUMED: Final = 0.95  # of the slots, where a number of tokens is asked: max_util_for_resume


class LifeCycle(Struct, frozen=True, kw_only=True):
    """Layers whose slots come and go together. `window` None: every token; `state`: one slot a sequence."""

    window: int | None
    sizes: tuple[int, ...]  # bytes of a slot in each of its pools, the largest first
    state: bool = False

    @property
    def slot_bytes(self) -> int:
        """Of all its pools."""
        return sum(self.sizes)


class Group(Struct, frozen=True, kw_only=True):
    """Life cycles that share their pools, and the slots that these have."""

    cycles: tuple[LifeCycle, ...]
    slots: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of a slot in each pool."""
        return self.cycles[0].sizes


class Request(Struct, frozen=True):
    """A request that shares are made by: tokens that it has room for, and those that it has seen."""

    capacity: int
    history: int


def life_cycles(settled: Settled, stage: Stage) -> tuple[LifeCycle, ...]:
    """The windows' life cycles in the order of their layers, and that of states."""
    order: dict[int | None, list[Kept]] = {}
    for one in stage.kept:
        order.setdefault(one.window, []).append(one)
    size = settled.tokens_per_block
    found = [LifeCycle(window=window, sizes=side_by_side(_buffers(kept, size))) for window, kept in order.items()]
    if stage.states:
        sizes = side_by_side(part for state in stage.states for *_, part in state.shapes)
        found.append(LifeCycle(window=None, sizes=sizes, state=True))
    return tuple(found)


def _buffers(kept: Iterable[Kept], size: int) -> Iterable[int]:
    for one in kept:
        yield from (one.plane_bytes * size for _ in range(one.planes))
        if one.scale_bytes:
            yield from (one.scale_bytes // one.planes * size for _ in range(one.planes))
        if one.index_bytes:
            yield one.index_bytes * size


def side_by_side(buffers: Iterable[int]) -> tuple[int, ...]:
    """Buffers of one size in one pool, the largest first.

    >>> side_by_side([4, 4, 1])
    (8, 1)
    """
    return tuple(sorted((size * count for size, count in Counter(buffers).items()), reverse=True))


def grouped(cycles: Sequence[LifeCycle]) -> tuple[Group, ...]:
    """Life cycles with the same sizes together."""
    found: dict[tuple[int, ...], list[LifeCycle]] = {}
    for cycle in cycles:
        found.setdefault(cycle.sizes, []).append(cycle)
    return tuple(Group(cycles=tuple(alike)) for alike in found.values())


def grain(quota: int) -> int:
    """Bytes of a physical allocation: larger for larger pools.

    >>> grain(2**30), grain(2**33) // 2**20
    (2097152, 16)
    """
    doublings = int(log2(quota / (GRAIN * _GRAINS))) if quota > 0 else 0
    return GRAIN << min(_LARGEST, max(0, doublings))


def needed_slots(cycle: LifeCycle, requests: Sequence[Request], size: int) -> int:
    """Slots of a life cycle that requests take: blocks of their capacity but those that the window has left behind."""
    if cycle.state:
        return len(requests)
    total = 0
    for one in requests:
        gone = 0 if cycle.window is None else max(0, (one.history + 1 - cycle.window) // size)
        total += max(0, ceil_div(one.capacity, size) - gone)
    return total


def shared_out(settled: Settled, stage: Stage, quota: int) -> tuple[Group, ...]:
    """The slots that a quota becomes.

    Raises:
        Refused: it is too small.
    """
    size = settled.tokens_per_block
    found = grouped(life_cycles(settled, stage))
    each = grain(quota)
    pools = sum(len(group.sizes) for group in found)
    quota = max(pools * each, ceil_div(quota, each) * each)
    typical, constraints = _requests(settled)
    weights = []
    for group in found:
        slots = sum(needed_slots(cycle, typical, size) for cycle in group.cycles)
        weights.append(sum(ceil_div(slots * part, each) * each for part in group.sizes))
    total = sum(weights)
    least = [
        max([len(group.cycles), *(sum(needed_slots(cycle, batch, size) for cycle in group.cycles) for batch in constraints)])
        for group in found
    ]
    counts = slot_counts(quota // each, [group.sizes for group in found], [weight / total for weight in weights], each, least)
    return tuple(Group(cycles=group.cycles, slots=count) for group, count in zip(found, counts, strict=True))


def _requests(settled: Settled) -> tuple[list[Request], list[list[Request]]]:
    """The typical batch, by which memory is shared out, and batches that must always fit."""
    options = settled.options
    sequences, drafted = options.sequences, options.drafted
    average, longest = options.avg_seq_len, settled.longest or options.max_num_tokens
    if settled.hybrid:
        live = sequences * options.pp_size
        dummies = settled.slots(sequences) - live
        typical = average or max(1, longest // 2)
        none = [Request(0, 0)]
        return [Request(typical, typical - 1)] * live + none * dummies, [none * (live + dummies)]
    if average is None:
        return [Request(*_TYPICAL)], []
    extra = max(0, drafted - 1)
    first = Request(options.max_num_tokens + extra, 0)
    batch = [first, *[Request(average, max(0, average - drafted - 1))] * (sequences - 1)]
    full = [Request(longest, longest - 1), *[Request(1 + drafted + extra, 0)] * (sequences - 1)]
    return batch, [full, [first]]


def slots_in(grains: int, sizes: Sequence[int], each: int) -> tuple[int, int]:
    """The most slots of a group in so many grains, and the grains that they take."""
    if grains < sum(ceil_div(size, each) for size in sizes):
        return 0, 0
    low, high = 1, 2
    while grains_of(high, sizes, each) <= grains:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if grains_of(middle, sizes, each) <= grains:
            low = middle
        else:
            high = middle
    return low, grains_of(low, sizes, each)


def grains_of(slots: int, sizes: Sequence[int], each: int) -> int:
    """Grains that so many slots take."""
    return sum(ceil_div(slots * size, each) for size in sizes)


def slot_counts(
    grains: int, sizes: Sequence[Sequence[int]], weights: Sequence[float], each: int, least: Sequence[int]
) -> list[int]:
    """Slots of every group: by weight, the lightest first; a group below its least gets that, and the rest is shared again.

    Raises:
        Refused: the least of all groups does not fit.
    """
    if grains < sum(map(len, sizes)):
        raise Refused("Insufficient quota to satisfy min_slots constraints")
    counts = [0] * len(sizes)
    active, left = list(range(len(sizes))), grains
    while active:
        found: dict[int, int] = {}
        budget_left = left
        order = sorted(active, key=lambda group: weights[group])
        for position, group in enumerate(order):
            part = weights[group] / sum(weights[later] for later in order[position:])
            found[group], used = slots_in(round(budget_left * part), sizes[group], each)
            budget_left -= used
        short = [group for group in active if found[group] <= least[group]]
        if not short:
            for group in active:
                counts[group] = found[group]
            break
        for group in short:
            counts[group], used = slots_in(grains_of(least[group], sizes[group], each), sizes[group], each)
            left -= used
        active = [group for group in active if group not in short]
        if left < 0 or (active and left <= 0):
            raise Refused("Insufficient quota to satisfy min_slots constraints")
    for group, size in enumerate(sizes):
        now = grains_of(counts[group], size, each)
        while grains_of(counts[group] + 1, size, each) <= now:
            counts[group] += 1
    return counts


def second_pool(settled: Settled, free_bytes: int) -> tuple[tuple[Part, ...], int, str]:
    """The pools of the fullest rank, their bytes in grains, and the engine's refusal."""
    stage = settled.worst
    quota = quota_of(settled, stage, free_bytes)
    refused = _too_small(settled, stage, quota)
    if refused:
        return (), 0, refused
    try:
        found = shared_out(settled, stage, quota)
    except Refused as problem:
        return (), 0, problem.reason
    each = grain(quota)
    parts = tuple(
        Part(
            name=_named(group, settled.tokens_per_block),
            blocks=group.slots,
            block_bytes=sum(group.sizes),
            windows=tuple(cycle.window for cycle in group.cycles if not cycle.state),
            state=any(cycle.state for cycle in group.cycles),
        )
        for group in found
    )
    return parts, sum(grains_of(group.slots, group.sizes, each) * each for group in found), _too_few(settled, parts)


def _too_few(settled: Settled, parts: tuple[Part, ...]) -> str:
    """The refusal of fewer slots of states than always live."""
    states = next((part for part in parts if part.state), None)
    least = settled.slots(settled.options.sequences)
    if states is None or states.blocks >= least:
        return ""
    return (
        f"The V2 Mamba state pool has only {states.blocks} slots but needs at least {least} live/dummy slots. "
        "Increase the KV cache budget or allocate a larger Mamba pool_ratio."
    )


def _named(group: Group, size: int) -> str:
    if all(cycle.state for cycle in group.cycles):
        return "slots of states"
    windows = ["every token" if cycle.window is None else f"window {cycle.window:,}" for cycle in group.cycles if not cycle.state]
    return f"slots of {size:,} tokens" + ("" if windows == ["every token"] else f", {', '.join(windows)}")


def quota_of(settled: Settled, stage: Stage, free_bytes: int) -> int:
    """The bytes of the device's pools."""
    quota = budget(settled, free_bytes)
    tokens = settled.options.max_tokens
    if tokens is None:
        return quota
    needed = stage.token_bytes * tokens + stage.state_bytes * settled.slots(settled.options.sequences) * bool(stage.states)
    return min(quota, int(-(-needed // _RESUMED)))


def _too_small(settled: Settled, stage: Stage, quota: int) -> str:
    """The refusal of a quota that holds not even what always lives."""
    if quota <= 0:
        return "Quota not set. Check kv_cache_config.max_tokens or kv_cache_config.max_gpu_total_bytes"
    if stage.states:
        least = stage.state_bytes * settled.slots(settled.options.sequences) + stage.token_bytes * settled.tokens_per_block
        if quota < least:
            return (
                "The V2 Mamba GPU cache quota is too small for live recurrent states and attention pages: "
                f"got {quota} bytes, need at least {least} bytes."
            )
    return ""
