"""The steps that numba compiles (extra `replay`); without it they are plain Python, and slower than `served`.

All that is compiled, and the places of all numbers, stand in this file: numba keeps what it has compiled until the file changes.
Numbers lie in few arrays, as every function takes each part of each array as an argument, and is compiled for that.

As `scheduler`, `groups`, `states` and `served`. Blocks are numbers: which they are decides nothing while nobody looks for what is
in them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Ints = np.ndarray[Any, Any]

LARGE: Final = 2**30  # tokens

# Kinds of groups: of states, one a request, or at the ends of blocks.
FULL, SLIDING, CHUNKED, STATE, ALIGNED = range(5)
# What the loop ends with.
DONE, MORE, STUCK, STOPPED, DISPLACED = range(5)
# `told`: options.
(
    GROUPS, BUDGET, LIMIT, SEATS, ALIGNMENT, AHEAD, CHUNKS, CACHING, ALL_KEPT, WHOLE, WATERMARK, ALIGNED_STATES, TAIL_BEFORE,
    CHECKPOINTS, FIRST_STATE, STATE_BLOCK, BLOCKS, UNIT, STOPS, OPTIONS,
) = range(20)  # fmt: skip
# `now`: what changes, and from WAITED on what is counted.
(
    TIME, COMING, STEP, RUNNING, FRONT, QUEUE, QUEUE_END, FREE, ROW, HELD_UP, FLIGHT, TOKENS, FELL_NOW, IDLE, SLOTS,
    BEFORE_TOKENS, BEFORE_AT, WAITED, FELL_EVER, FALLS, REFUSED, ASKED, ENDED, WAS_HELD_UP, CHANGING,
) = range(25)  # fmt: skip
# `requests`, by request; QUEUED is the queue in the order of arrival.
(
    PROMPT, OUTPUT, KNOWN, COMPUTED, IN_FLIGHT, PENDING, STALE, QUIET, PREFILLING, FINISHED, FELL, QUEUED_IN, SLOT, QUEUED,
    OF_REQUEST,
) = range(15)  # fmt: skip
ARRIVAL, ADMITTED_US, FINISHED_US, MOMENTS = range(4)
KIND, SIZE, REACH, CAP, INSIDE, INSIDE_UNIT, OF_GROUP = range(7)
# `places`, by group and place of one that runs: columns of its row, and those given back; of states at the ends of blocks the
# column that a step started from, that of a state inside this step's chunk, and from FIRST on those that hold one. -1 is none.
LENGTH, GONE, STARTED_FROM, INSIDE_COLUMN, FIRST, OF_PLACE = 0, 1, 2, 3, 4, 10
# `lists`: who runs; who was displaced, the last in front; free places; of this step and the one before it the requests, their
# tokens, and whether they give one.
RUNS, FRONTS, PLACES, STEP_REQUEST, STEP_TOKENS, STEP_GIVES, LISTS = 0, 1, 2, 3, 5, 7, 9


class State(NamedTuple):
    """The scheduler's state; the constants above are places in the first dimension of each array."""

    told: Ints
    now: Ints
    step_us: Ints  # how long a step of so many prompt tokens lasts
    requests: Ints
    moments: Ints
    groups: Ints
    places: Ints
    lists: Ints
    meter: Ints  # when a step begins, blocks used, how long it lasts


#: Numba is installed. `_nrt=False` below: nothing is allocated, so that no function counts who holds its arrays (half the time).
_NUMBA: Final = find_spec("numba") is not None


def _inner(function: F) -> F:
    """Compiled for others that are."""
    if not _NUMBA:
        return function
    from numba import njit

    found: F = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)(function)
    return found


def _outer(function: F) -> F:
    """Compiled at its first call, and kept on disk."""
    if not _NUMBA:
        return function
    from numba import njit

    found: F = njit(nogil=True, cache=True, _nrt=False)(function)
    return found


@_inner
def _before(tokens: int, unit: int) -> int:
    """The last multiple of `unit` below `tokens`."""
    return max((tokens - 1) // unit * unit, 0)


@_inner
def _skipped(s: State, g: int, computed: int) -> int:
    """Tokens at the start that no later token looks at, once `computed` are."""
    kind: int = s.groups[KIND, g]
    reach: int = s.groups[REACH, g]
    if kind == FULL:
        return 0
    if kind == SLIDING:
        return max(0, computed - reach + 1)
    if kind == CHUNKED:
        return computed // reach * reach
    return computed - 1


@_inner
def _can_be_inside(s: State, g: int, start: int, end: int, at: int) -> bool:
    """Whether a state at token `at` of a chunk can be written out. As `settings.checkpoint_is_valid`."""
    grid, size, unit = s.groups[INSIDE_UNIT, g], s.groups[SIZE, g], s.told[UNIT]
    if grid < 0 or start % unit != 0 or -(-end // size) - 2 <= (start - 1) // size or start + unit > at:
        return False
    return bool(start < at < end and (at - start) % grid == 0)


@_inner
def _wanted(s: State, request: int, slot: int, tokens: int, start: int, capped: bool) -> int:
    """Free blocks that `tokens` tokens of a request take."""
    total = 0
    for g in range(s.told[GROUPS]):
        kind, size, held = s.groups[KIND, g], s.groups[SIZE, g], s.places[LENGTH, g, slot]
        columns = -(-tokens // size)
        if kind != ALIGNED:
            if capped and s.groups[CAP, g] >= 0:
                columns = min(columns, s.groups[CAP, g])
            total += max(columns - max(_skipped(s, g, start) // size, held), 0)
            continue
        column = columns - 2
        end = 0 if s.told[ALL_KEPT] else max(s.requests[PROMPT, request], s.requests[KNOWN, request] - 1)
        inside = s.groups[INSIDE, g] > 0 and tokens >= end and column >= 0
        inside = inside and _can_be_inside(s, g, start, tokens, _before(tokens, s.told[ALIGNMENT]))
        if inside and column < held:  # not where a state is held
            for place in range(FIRST, OF_PLACE):
                inside = inside and s.places[place, g, slot] != column
        if not capped:
            s.places[INSIDE_COLUMN, g, slot] = column if inside else -1
        total += min(max(columns - held, 0), 1 + int(inside))
    return total


@_inner
def _release_state(s: State, g: int, slot: int, place: int) -> None:
    s.places[place, g, slot] = -1
    s.now[FREE] += 1


@_inner
def _drop(s: State, slot: int, processed: int) -> None:
    """Give back what no token behind `processed` looks at."""
    for g in range(s.told[GROUPS]):
        kind, size, held = s.groups[KIND, g], s.groups[SIZE, g], s.places[LENGTH, g, slot]
        if kind == FULL:
            continue
        behind = _skipped(s, g, processed) // size
        if kind != ALIGNED:
            last = min(behind, held)
            if last > s.places[GONE, g, slot]:
                s.now[FREE] += last - s.places[GONE, g, slot]
                s.places[GONE, g, slot] = last
            continue
        started = s.places[STARTED_FROM, g, slot]
        left = started >= 0 and started < -(-processed // size) - 1
        for place in range(FIRST, OF_PLACE):
            column = s.places[place, g, slot]
            if column >= 0 and (column < behind or (left and column == started)):
                _release_state(s, g, slot, place)


@_inner
def _take(s: State, slot: int, tokens: int) -> None:
    """Blocks until the rows hold `tokens` tokens."""
    for g in range(s.told[GROUPS]):
        held, columns = s.places[LENGTH, g, slot], -(-tokens // s.groups[SIZE, g])
        if s.groups[KIND, g] != ALIGNED:
            if columns > held:
                s.now[FREE] -= columns - held
                s.places[LENGTH, g, slot] = columns
            continue
        inside = int(s.places[INSIDE_COLUMN, g, slot] >= 0)
        if columns <= held and not inside:
            continue
        if held:
            s.places[STARTED_FROM, g, slot] = held - 1
        for column in range(max(held, columns - 1 - inside), columns):
            for place in range(FIRST, OF_PLACE):
                if s.places[place, g, slot] < 0:
                    s.places[place, g, slot] = column
                    s.now[FREE] -= 1
                    break
        s.places[LENGTH, g, slot] = max(held, columns)


@_inner
def _quiet(s: State, processed: int, end: int) -> int:
    """Tokens up to which decoding takes and gives back nothing."""
    until = LARGE
    for g in range(s.told[GROUPS]):
        kind, size, reach = s.groups[KIND, g], s.groups[SIZE, g], s.groups[REACH, g]
        until = min(until, -(-end // size) * size)
        if kind == SLIDING:
            until = min(until, (_skipped(s, g, processed) // size + 1) * size + reach - 1)
        elif kind == CHUNKED:
            until = min(until, (processed // reach + 1) * reach)
        elif kind >= STATE:
            until = min(until, -(-processed // size) * size)
    return until


@_inner
def _allocate(s: State, request: int, slot: int, new: int, runs: bool) -> bool:
    """Take blocks for `new` tokens, of one that runs or of one that is to be admitted; whether they are there."""
    requests, start = s.requests, min(s.requests[COMPUTED, request], s.told[LIMIT])
    if runs and start + new <= requests[QUIET, request]:
        return True
    kept = s.told[WATERMARK] if not runs and s.now[RUNNING] > 0 else 0
    if not runs and s.told[WHOLE]:
        known = min(requests[KNOWN, request], s.told[LIMIT])
        if _wanted(s, request, slot, known, start, True) + kept > s.now[FREE]:
            return False
    processed = max(0, start - requests[IN_FLIGHT, request])
    if runs:
        _drop(s, slot, processed)
    end = min(start + new, s.told[LIMIT])
    if _wanted(s, request, slot, end, start, False) + kept > s.now[FREE]:
        return False
    _take(s, slot, end)
    decodes = runs and new == 1 and start > requests[PROMPT, request] + 1
    requests[QUIET, request] = _quiet(s, processed, end) if decodes else 0
    return True


@_inner
def _give_back(s: State, request: int) -> None:
    slot = s.requests[SLOT, request]
    for g in range(s.told[GROUPS]):
        if s.groups[KIND, g] == ALIGNED:
            for place in range(FIRST, OF_PLACE):
                if s.places[place, g, slot] >= 0:
                    _release_state(s, g, slot, place)
        else:
            s.now[FREE] += s.places[LENGTH, g, slot] - s.places[GONE, g, slot]
    s.requests[SLOT, request], s.requests[QUIET, request] = -1, 0
    s.lists[PLACES, s.now[SLOTS]] = slot
    s.now[SLOTS] += 1


@_inner
def _between(start: int, stop: int, cut: int, end: int) -> int:
    return min(cut, stop) if start < stop < end else cut


@_inner
def _to_block_end(s: State, request: int, new: int, start: int) -> int:
    """`new` tokens from `start` on, cut so that the chunk ends where a state can be kept. As `Scheduler._to_block_end`."""
    known, size, early = s.requests[KNOWN, request], s.told[STATE_BLOCK], s.told[TAIL_BEFORE]
    stop = max(s.requests[PROMPT, request], known - 1)
    if start >= stop:
        return new
    last, end = _before(known, size) if early else known // size * size, start + new
    inside = s.told[CHECKPOINTS] and end >= stop
    if inside:
        inside = _can_be_inside(s, s.told[FIRST_STATE], start, end, _before(stop, s.told[ALIGNMENT]))
    if inside:
        last = 0
    if end < stop:
        whole = end // size * size
        if whole > start or size <= s.told[BUDGET]:
            end = whole
    cut = end
    if start % size and not inside:
        cut = _between(start, (start // size + 1) * size, cut, end)
    cut = _between(start, last, cut, end)
    return max(cut - start, 0)


@_inner
def _scheduled(s: State, request: int, new: int) -> None:
    at, row = s.now[TOKENS], s.now[ROW]
    s.lists[STEP_REQUEST + row, at], s.lists[STEP_TOKENS + row, at] = request, new
    s.now[TOKENS] += 1


@_inner
def _run(s: State) -> int:
    """Tokens for those that run; what is left of the budget."""
    told, now, requests = s.told, s.now, s.requests
    budget: int = told[BUDGET]
    place = 0
    while place < now[RUNNING] and budget > 0:
        request = s.lists[RUNS, place]
        place += 1
        computed, known, pending = requests[COMPUTED, request], requests[KNOWN, request], requests[PENDING, request]
        if pending > 0 and computed + 2 - pending >= requests[PROMPT, request] + requests[OUTPUT, request]:
            continue
        new = min(known + pending - computed, budget, told[LIMIT] - computed - 1)
        if told[ALIGNED_STATES]:
            new = _to_block_end(s, request, new, computed)
        if new == 0:
            continue
        while not _allocate(s, request, requests[SLOT, request], new, True):
            now[RUNNING] -= 1
            victim = s.lists[RUNS, now[RUNNING]]
            _give_back(s, victim)
            requests[COMPUTED, victim], requests[STALE, victim], requests[PENDING, victim] = 0, requests[IN_FLIGHT, victim], 0
            requests[FELL, victim] += 1
            s.lists[FRONTS, now[FRONT]] = victim
            now[FRONT] += 1
            now[FELL_NOW] += 1
            if victim == request:
                return budget
        _scheduled(s, request, new)
        budget -= new
    return budget


@_inner
def _first(s: State) -> int:
    """The next of those that wait; -1: nobody does."""
    found = -1
    if s.now[FRONT] > 0:
        found = s.lists[FRONTS, s.now[FRONT] - 1]
    elif s.now[QUEUE] < s.now[QUEUE_END]:
        found = s.requests[QUEUED, s.now[QUEUE]]
    return found


@_inner
def _admit(s: State, budget: int) -> None:
    """Tokens for those that wait, until one cannot be had."""
    told, now, requests = s.told, s.now, s.requests
    while budget > 0 and now[RUNNING] < told[SEATS]:
        request = _first(s)
        if request < 0:
            return
        slot, known = s.lists[PLACES, now[SLOTS] - 1], requests[KNOWN, request]
        s.places[:, :, slot] = -1
        s.places[LENGTH, :, slot] = 0
        s.places[GONE, :, slot] = 0
        new = known
        if new > budget:
            if not told[CHUNKS]:
                return
            new = budget
        if told[ALIGNED_STATES]:
            new = _to_block_end(s, request, new, 0)
            if new == 0:
                return
        if not _allocate(s, request, slot, new, False):
            now[HELD_UP] = 1
            return
        if now[FRONT] > 0:
            now[FRONT] -= 1
        else:
            now[QUEUE] += 1
        now[SLOTS] -= 1
        requests[SLOT, request], requests[PREFILLING, request] = slot, 1
        s.lists[RUNS, now[RUNNING]] = request
        now[RUNNING] += 1
        if s.moments[ADMITTED_US, request] < 0:
            s.moments[ADMITTED_US, request] = now[TIME]
            now[WAITED] += requests[QUEUED_IN, request] != now[STEP]
            now[ASKED] += known
        _scheduled(s, request, new)
        budget -= new
    if _first(s) >= 0 and now[RUNNING] >= told[SEATS]:
        now[HELD_UP] = 1


@_inner
def _schedule(s: State) -> int:
    """The next step's tokens; those of prompts."""
    now, requests = s.now, s.requests
    now[TOKENS] = now[FELL_NOW] = now[HELD_UP] = 0
    budget = _run(s)
    if now[FELL_NOW]:
        now[HELD_UP] = 1
    else:
        _admit(s, budget)
    row, prefill = now[ROW], 0
    for i in range(now[TOKENS]):
        request, new = s.lists[STEP_REQUEST + row, i], s.lists[STEP_TOKENS + row, i]
        if requests[PREFILLING, request]:
            prefill += new
        requests[COMPUTED, request] += new
        requests[IN_FLIGHT, request] += new
        going = requests[COMPUTED, request] < requests[KNOWN, request] + requests[PENDING, request]
        requests[PREFILLING, request], s.lists[STEP_GIVES + row, i] = going, not going
        if not going:
            requests[PENDING, request] += s.told[AHEAD]
    return prefill


@_inner
def _update(s: State, row: int, number: int, at: int) -> None:
    """Read the output of a step that ended at `at`."""
    told, now, requests, ended = s.told, s.now, s.requests, 0
    for i in range(number):
        request, new = s.lists[STEP_REQUEST + row, i], s.lists[STEP_TOKENS + row, i]
        requests[IN_FLIGHT, request] -= new
        stale = requests[STALE, request] > 0
        if stale:
            requests[STALE, request] -= new
        if requests[FINISHED, request] or not s.lists[STEP_GIVES + row, i]:
            continue
        requests[KNOWN, request] += 1
        if told[AHEAD] and not stale:
            requests[PENDING, request] -= 1
        known = requests[KNOWN, request]
        if known < told[LIMIT] and known - requests[PROMPT, request] < requests[OUTPUT, request]:
            continue
        requests[FINISHED, request] = 1
        s.moments[FINISHED_US, request] = at
        now[ENDED] += 1
        now[FELL_EVER] += requests[FELL, request] > 0
        ended += 1
        if requests[SLOT, request] >= 0:
            _give_back(s, request)
    if ended:
        for row, size in ((RUNS, RUNNING), (FRONTS, FRONT)):
            kept = 0
            for i in range(now[size]):
                request = s.lists[row, i]
                if not requests[FINISHED, request]:
                    s.lists[row, kept] = request
                    kept += 1
            now[size] = kept


@_inner
def _arrive(s: State) -> None:
    """Those that have come by now wait."""
    now = s.now
    while now[COMING] < s.requests.shape[1] and s.moments[ARRIVAL, now[COMING]] <= now[TIME]:
        request = now[COMING]
        if 0 < s.requests[PROMPT, request] < s.told[LIMIT]:
            s.requests[QUEUED, now[QUEUE_END]], s.requests[QUEUED_IN, request] = request, now[STEP]
            now[QUEUE_END] += 1
        else:
            now[REFUSED] += 1
            now[ENDED] += 1
        now[COMING] += 1


@_outer
def steps(s: State) -> int:
    """Steps until the meter's rows are full (`MORE`, and TOKENS says how many there are); else how it ended."""
    told, now, count = s.told, s.now, 0
    while count < s.meter.shape[1]:
        _arrive(s)
        if now[RUNNING] == 0 and _first(s) < 0 and now[FLIGHT] == 0:
            if now[COMING] == s.requests.shape[1]:
                now[TOKENS] = count
                return DONE
            later = s.moments[ARRIVAL, now[COMING]]
            now[IDLE] += later - now[TIME]
            now[TIME] = later
            continue
        prefill = _schedule(s)
        tokens, row = now[TOKENS], now[ROW]
        if now[HELD_UP]:
            now[WAS_HELD_UP] = 1
            if told[STOPS]:
                return STOPPED
            if now[FELL_NOW] and told[CACHING]:
                return DISPLACED
        lasts = s.step_us[prefill] if tokens else 0
        s.meter[0, count], s.meter[1, count], s.meter[2, count] = now[TIME], told[BLOCKS] - 1 - now[FREE], lasts
        count += 1
        if tokens == 0 and now[FELL_NOW] == 0 and now[FLIGHT] == 0 and _first(s) >= 0:
            return STUCK
        if now[FLIGHT]:
            _update(s, 1 - row, now[BEFORE_TOKENS], now[BEFORE_AT])
        at = now[TIME] + lasts
        now[FLIGHT] = 0
        if told[AHEAD] and tokens:
            now[FLIGHT], now[BEFORE_TOKENS], now[BEFORE_AT], now[ROW] = 1, tokens, at, 1 - row
        else:
            _update(s, row, tokens, at)
        now[TIME] = at
        now[STEP] += 1
        now[FALLS] += now[FELL_NOW]
    now[TOKENS] = count
    return MORE
