"""The scheduler's state as a few arrays of whole numbers: what it was told, its requests, its blocks and rows.

Few, as every function of the compiled program takes each part of each array as an argument. -1 is none.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from kvplan.domain.traffic import Clock, Traffic
from kvplan.engines.vllm.scheduler.settings import ENTERED_ONCE, TAIL_BEFORE_END, Settings

Ints = np.ndarray[Any, Any]

# Kinds of groups: of states, one a request, or at the ends of blocks.
FULL, SLIDING, CHUNKED, STATE, ALIGNED = range(5)
# What the loop ends with.
DONE, MORE, STUCK, STOPPED, OVERFULL = range(5)
#: An interval of retention that is None: everything is kept.
DENSE: Final = -1

# `told`: options. Flags are 0 or 1.
(
    GROUPS, BUDGET, LIMIT, SEATS, UNIT, SCHEDULER_BLOCK, ALIGNMENT, AHEAD, CHUNKS, CACHING, INTERVAL, WHOLE, WATERMARK, FINE,
    ALIGNED_STATES, TAIL_BEFORE, ONCE, CHECKPOINTS, FIRST_STATE, STATE_BLOCK, BLOCKS, KINDS, HASH_TOKENS, NODE_WIDTH, OWN_NAMES,
    COUNT, BUCKETS, STOPS, BUFFER, ONE_LOOK, OPTIONS,
) = range(31)  # fmt: skip
# `now`: what changes, and from WAITED on what is counted.
(
    TIME, COMING, STEP, RUNNING, FRONT, QUEUE, FREE, ENTRY, ROWS, HELD_UP, FLIGHT, TOKENS, FREES, CHANGES, BLOCKED, DEFICIT,
    BLOCKED_FREES, BLOCKED_CHANGES, BLOCKED_KNOWN, BLOCKED_ALONE, PREEMPTED_NOW, ENTERED, COPIES, IDLE, SLOTS, FOUND, QUEUE_END,
    BEFORE_TOKENS, BEFORE_AT, HEAD, TAIL, WAITED, PREEMPTED, PREEMPTIONS, REFUSED, ASKED, HIT, FOUND_AGAIN, ENDED, WAS_HELD_UP,
    CHANGING,
) = range(41)  # fmt: skip
# `requests`: by request; `queue` in the order of arrival. SHARED: tokens of the prompt that have hashes. FELL: times displaced.
(
    R_PROMPT, R_OUTPUT, R_SHARED, R_KNOWN, R_COMPUTED, R_FLIGHT, R_PENDING, R_STALE, R_JUNCTION, R_QUIET, R_PREFILLING,
    R_FINISHED, R_FELL, R_QUEUED_IN, R_SLOT, R_QUEUE, OF_REQUEST,
) = range(17)  # fmt: skip
# `moments`: by request, too, but larger numbers.
M_ARRIVAL, M_ADMITTED_US, M_FINISHED_US, M_NODES_FROM, M_OWN_FROM, MOMENTS = range(6)
# `groups`. REACH: tokens of a window or a chunk. INSIDE: blocks for a state inside a chunk. ALIKE: groups of one kind together,
# from ALIKE_FROM on. HITS: columns that a lookup found; WISHED the same, of the request that waits in front for room.
(
    G_KIND, G_SIZE, G_REACH, G_CAP, G_INSIDE, G_INSIDE_UNIT, G_ALIKE, G_ALIKE_FROM, G_HITS, G_WISHED, G_LOOKED, OF_GROUP,
) = range(12)  # fmt: skip
# `blocks`. AFTER: in the chain of free ones, AT: in the queue of them. MARKED: found by the request that waits in front for room.
B_HOLDERS, B_AFTER, B_AT, B_KEY, B_KEY_TOKENS, B_FIRST_ENTRY, B_MARKED = range(7)
OF_BLOCK: Final = 8  # so that one lies in one line of a processor's cache
# `entries` of `buckets`: a key, and a block that is found by it. NEXT: of the same block, and of those that are free.
E_KEY, E_BLOCK, E_AFTER, E_BEFORE, E_NEXT, OF_ENTRY = range(6)
H_FIRST, H_LAST, OF_BUCKET = range(3)
# `places`: of a group and of one that runs.
(
    P_LENGTH, P_PUBLISHED, P_TAIL_COLUMN, P_TAIL_BLOCK, P_STARTED, P_STATE_DROPPED, P_INSIDE_AT, P_INSIDE_COLUMN,
    OF_PLACE,
) = range(9)  # fmt: skip
# `lists`: who runs; who was displaced, the last in front; places that are free; and of this step and the one before it the
# requests, their tokens, and whether they give one.
L_RUNNING, L_FRONT, L_SLOTS, L_REQUEST, L_TOKENS, L_GIVES, LISTS = 0, 1, 2, 3, 5, 7, 9


class Numbers(Protocol):
    """An array, whose elements alone are read and written."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its lengths."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: Any, /) -> int: ...

    def __setitem__(self, at: Any, value: int, /) -> None: ...


class State(NamedTuple):
    """Arrays of whole numbers; the constants above are places in one dimension of each."""

    told: Numbers
    now: Numbers
    step_us: Numbers  # how long a step of so many prompt tokens lasts
    requests: Numbers  # by request; one lies together
    moments: Numbers
    nodes: Numbers
    groups: Numbers
    blocks: Numbers  # by block, as are entries and buckets
    queue: Numbers  # free blocks in the order of their use, from HEAD to TAIL; a power of two of places
    entries: Numbers
    buckets: Numbers
    places: Numbers
    row: Ints  # blocks, by group, place and column; below the null block, those that were given back
    hit: Ints  # blocks that a lookup found, by group and column
    lists: Numbers
    written: Ints  # by group, blocks of this step's copies, behind their number; in the last row keys of states of this step
    meter: Numbers  # steps until they are counted: when, blocks used, how long


_KINDS: Final = {"full": FULL, "mla": FULL, "sliding": SLIDING, "chunked": CHUNKED}
_BUFFER: Final = 200_000  # steps
_WRITTEN: Final = 4096  # copies, and keys of states, of one step
_LARGE: Final = 2**30  # tokens
_LINE: Final = 64  # bytes


def made(settings: Settings, traffic: Traffic, clock: Clock, *, stop: bool) -> State:
    """The state before the first request."""
    groups, count, number = settings.groups, len(traffic), settings.num_gpu_blocks
    together: dict[Any, list[int]] = {}
    for i, spec in enumerate(groups):
        together.setdefault(spec, []).append(i)
    alike = sorted(together.values(), key=lambda numbers: not groups[numbers[0]].sees_everything)
    ends = np.minimum(traffic.prompt + traffic.output, settings.max_model_len)
    nodes, kinds = _nodes(traffic)
    buckets = 1 << max(4, (2 * number).bit_length())
    told = _told(settings, traffic, alike)
    told[OWN_NAMES], told[BUCKETS], told[STOPS] = (kinds + 1) * told[NODE_WIDTH], buckets, stop
    seats = min(settings.max_num_seqs, count)
    now = _zeros(CHANGING)
    now[TIME], now[FREE], now[BLOCKED], now[SLOTS] = traffic.arrival_us[0], number - 1, -1, seats + 1
    now[TAIL] = number - 1
    columns = max(-(-int(ends.max()) // spec.block_size) + 2 for spec in groups)
    lists = _zeros(LISTS, seats + 1)
    lists[L_SLOTS] = np.arange(seats, -1, -1)
    entries = _zeros(4 * number + 16, OF_ENTRY)
    entries[:, E_NEXT] = np.arange(1, len(entries) + 1)
    entries[-1, E_NEXT] = -1
    units = np.where(traffic.prompt < settings.max_model_len, ends // settings.hash_block_size + 1, 0)
    own_units = int(units.sum())
    blocks = _lines(number, OF_BLOCK, largest=(int(told[OWN_NAMES]) + own_units + 1) * len(groups))
    queue = np.zeros(1 << (2 * number).bit_length(), dtype=np.int32)
    queue[: number - 1] = np.arange(1, number)
    blocks[:, [B_KEY, B_FIRST_ENTRY]] = -1
    return State(
        told=told,
        now=now,
        step_us=np.array([clock.step_us(n) for n in range(settings.max_num_batched_tokens + 1)], dtype=np.int64),
        requests=_requests(traffic),
        moments=_moments(traffic, units),
        nodes=nodes,
        groups=_groups(settings, alike),
        blocks=blocks,
        queue=queue,
        entries=entries,
        buckets=_zeros(buckets, OF_BUCKET) - 1,
        places=_zeros(OF_PLACE, len(groups), seats + 1),
        row=np.empty((len(groups), seats + 1, columns), dtype=np.int32),  # a place is begun before it is read
        hit=_zeros(len(groups), columns),
        lists=lists,
        written=_zeros(len(groups) + 1, _WRITTEN),
        meter=_zeros(3, _BUFFER),
    )


def _lines(number: int, width: int, *, largest: int) -> Ints:
    """Rows of numbers up to `largest`, none across two lines of a processor's cache: most time goes by waiting for these."""
    dtype = np.dtype(np.int32 if largest < 2**31 else np.int64)
    room = np.zeros(number * width + _LINE // dtype.itemsize, dtype=dtype)
    first = -room.ctypes.data % _LINE // dtype.itemsize
    return room[first : first + number * width].reshape(number, width)


def _zeros(*shape: int) -> Ints:
    return np.zeros(shape, dtype=np.int64)


def _told(settings: Settings, traffic: Traffic, alike: list[list[int]]) -> Ints:
    groups, unit = settings.groups, settings.hash_block_size
    states = [i for i, spec in enumerate(groups) if spec.kind == "mamba"]
    others = [spec.block_size for spec in groups if spec.kind != "mamba"]
    interval = settings.prefix_cache_retention_interval
    told = _zeros(OPTIONS)
    for place, value in {
        GROUPS: len(groups), BUDGET: settings.max_num_batched_tokens, LIMIT: settings.max_model_len, SEATS: settings.max_num_seqs,
        UNIT: unit, SCHEDULER_BLOCK: settings.scheduler_block_size, ALIGNMENT: settings.alignment,
        AHEAD: settings.async_scheduling, CHUNKS: settings.enable_chunked_prefill, CACHING: settings.enable_prefix_caching,
        INTERVAL: DENSE if interval is None else interval, WHOLE: settings.scheduler_reserve_full_isl,
        WATERMARK: int(settings.watermark * settings.num_gpu_blocks), FINE: settings.fine_hits,
        ALIGNED_STATES: settings.aligned_states, TAIL_BEFORE: TAIL_BEFORE_END.at(settings.release),
        ONCE: ENTERED_ONCE.at(settings.release),
        CHECKPOINTS: bool(states) and all(groups[i].checkpoint_blocks > 0 for i in states),
        FIRST_STATE: states[0] if states else -1, STATE_BLOCK: min(others) if others else groups[states[0]].block_size,
        BLOCKS: settings.num_gpu_blocks, KINDS: len(alike), HASH_TOKENS: traffic.hash_tokens,
        NODE_WIDTH: traffic.hash_tokens // unit + 2, COUNT: len(traffic), BUFFER: _BUFFER,
        ONE_LOOK: len(alike) == 1 or (len(alike) == 2 and groups[alike[0][0]].sees_everything),
    }.items():  # fmt: skip
        told[place] = int(value)
    return told


def _groups(settings: Settings, alike: list[list[int]]) -> Ints:
    found = _zeros(OF_GROUP, len(settings.groups) + 1)
    for i, spec in enumerate(settings.groups):
        cap = spec.admission_blocks(settings.max_in_flight_tokens, settings.max_model_len)
        grid = spec.checkpoint_alignment
        found[: G_INSIDE_UNIT + 1, i] = (
            _KINDS.get(spec.kind, ALIGNED if spec.mode == "align" else STATE),
            spec.block_size,
            spec.window or spec.chunk,
            -1 if cap is None else cap,
            spec.checkpoint_blocks,
            -1 if grid is None else grid,
        )
    found[G_ALIKE, :-1] = [i for numbers in alike for i in numbers]
    found[G_ALIKE_FROM, : len(alike) + 1] = np.cumsum([0, *(len(numbers) for numbers in alike)])
    return found


def _requests(traffic: Traffic) -> Ints:
    found = np.zeros((len(traffic), OF_REQUEST), dtype=np.int32)
    found[:, R_PROMPT] = found[:, R_KNOWN] = np.minimum(traffic.prompt, _LARGE)
    found[:, R_OUTPUT] = np.minimum(traffic.output, _LARGE)
    if traffic.offsets is not None:
        found[:, R_SHARED] = np.minimum(traffic.prompt, np.diff(traffic.offsets) * traffic.hash_tokens)
    found[:, R_SLOT] = -1
    return found


def _moments(traffic: Traffic, units: Ints) -> Ints:
    found = _zeros(MOMENTS, len(traffic))
    found[M_ARRIVAL] = traffic.arrival_us
    found[[M_ADMITTED_US, M_FINISHED_US]] = -1
    if traffic.offsets is not None:
        found[M_NODES_FROM] = traffic.offsets[:-1]
    found[M_OWN_FROM] = np.cumsum(units) - units
    return found


def _nodes(traffic: Traffic) -> tuple[Ints, int]:
    """A number for each hash of each request that is equal where it, and all before it, are the same; and how many there are."""
    if traffic.offsets is None or traffic.hashes is None:
        return _zeros(1), 0
    _, names = np.unique(traffic.hashes, return_inverse=True)
    counts, starts, wide = np.diff(traffic.offsets), traffic.offsets[:-1], int(names.max(initial=0)) + 1
    found, parents, number = _zeros(len(names)), _zeros(len(counts)), 0
    rows, depth = np.flatnonzero(counts > 0), 0
    while len(rows):
        at = starts[rows] + depth
        kinds, mine = np.unique(parents[rows] * wide + names[at], return_inverse=True)
        found[at] = parents[rows] = mine + number + 1
        number += len(kinds)
        depth += 1
        rows = rows[counts[rows] > depth]
    return found, number
