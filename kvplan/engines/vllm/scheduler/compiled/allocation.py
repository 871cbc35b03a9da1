"""Blocks of all groups for a request's next tokens, and where a chunk of its prompt ends. As `Cache.allocate` and `Scheduler`."""

from __future__ import annotations

from kvplan.engines.vllm.scheduler.compiled import state as s
from kvplan.engines.vllm.scheduler.compiled.groups import (
    adopt,
    checkpoint_before,
    checkpoint_is_valid,
    drop,
    entered_later,
    free_row,
    needed,
    quiet_until,
    take_until,
)
from kvplan.engines.vllm.scheduler.compiled.published import publish
from kvplan.engines.vllm.scheduler.compiled.state import State

FITS = 0
NEVER_NOW = 1 << 40  # blocks that are missing where a state is only being written


def _wanted(state: State, request: int, slot: int, tokens: int, start: int, capped: bool) -> int:
    """Free blocks that all groups take; many where a state that is gone on from is only being written."""
    end = max(state.requests[request, s.R_PROMPT], state.requests[request, s.R_KNOWN] - 1) if state.told[s.INTERVAL] == 0 else 0
    total, written = 0, True
    for g in range(state.told[s.GROUPS]):
        one = needed(state, g, slot, tokens, start, capped, end)
        if one < 0:
            written = False
        total += one
    return total if written else NEVER_NOW


def publish_all(state: State, request: int, slot: int, tokens: int) -> None:
    """Make known what a request's first `tokens` tokens fill."""
    if not state.told[s.CACHING]:
        return
    if state.told[s.GROUPS] > 1 and not state.told[s.FINE]:
        tokens -= tokens % state.told[s.SCHEDULER_BLOCK]
    for g in range(state.told[s.GROUPS]):
        publish(state, g, slot, request, tokens)


def allocate(state: State, request: int, slot: int, new: int, hit: int, runs: bool, whole: bool) -> int:
    """Take blocks for `new` tokens; else how many are missing, more than 0. `whole`: all that is known must fit first.

    What is missing for the whole is positive, and for the chunk negative less one: the chunk may be shorter another time.
    """
    limit, now = state.told[s.LIMIT], state.now
    start = min(state.requests[request, s.R_COMPUTED] + hit, limit)
    if runs and start + new <= state.requests[request, s.R_QUIET]:
        return FITS
    kept = state.told[s.WATERMARK] if not runs and now[s.RUNNING] > 0 else 0
    if whole:
        missing = _wanted(state, request, slot, min(state.requests[request, s.R_KNOWN], limit), start, True) + kept - now[s.FREE]
        if missing > 0:
            return missing
    groups, processed = state.told[s.GROUPS], max(0, start - state.requests[request, s.R_FLIGHT])
    if runs:
        for g in range(groups):
            drop(state, g, slot, processed)
    end = min(start + new, limit)
    missing = _wanted(state, request, slot, end, start, False) + kept - now[s.FREE]
    if missing > 0:
        return -missing
    if not runs:
        found = False
        for g in range(groups):
            found = found or state.groups[s.G_HITS, g] > 0
        if found:
            for g in range(groups):
                adopt(state, g, slot, start)
    for g in range(groups):
        take_until(state, g, slot, end)
    publish_all(state, request, slot, min(start + new, state.requests[request, s.R_KNOWN]))
    quiet = 0
    if runs and new == 1 and start > state.requests[request, s.R_PROMPT] + 1:
        quiet = 1 << 30
        for g in range(groups):
            quiet = min(quiet, quiet_until(state, g, processed, end))
    state.requests[request, s.R_QUIET] = quiet
    return FITS


def give_back(state: State, request: int) -> None:
    """All blocks of a request, and its place."""
    slot = state.requests[request, s.R_SLOT]
    state.requests[request, s.R_QUIET] = 0
    for g in range(state.told[s.GROUPS]):
        free_row(state, g, slot)
    state.requests[request, s.R_SLOT] = -1
    state.lists[s.L_SLOTS, state.now[s.SLOTS]] = slot
    state.now[s.SLOTS] += 1


def displace(state: State, request: int) -> None:
    """Take all blocks from a running request; it is the next to be admitted."""
    if state.told[s.CACHING]:
        entered_later(state, state.requests[request, s.R_SLOT], request)
    give_back(state, request)
    state.requests[request, s.R_COMPUTED] = 0
    state.requests[request, s.R_STALE], state.requests[request, s.R_PENDING] = state.requests[request, s.R_FLIGHT], 0
    state.requests[request, s.R_FELL] += 1
    state.lists[s.L_FRONT, state.now[s.FRONT]] = request
    state.now[s.FRONT] += 1


def to_block_end(state: State, request: int, new: int, start: int) -> int:
    """`new` tokens from `start` on, cut so that the chunk ends where a state can be kept."""
    known, prompt, size, unit = (
        state.requests[request, s.R_KNOWN],
        state.requests[request, s.R_PROMPT],
        state.told[s.STATE_BLOCK],
        state.told[s.UNIT],
    )
    stop, early = max(prompt, known - 1), state.told[s.TAIL_BEFORE]
    if start >= stop:
        return new
    last = checkpoint_before(known, size) if early else known // size * size
    end = start + new
    inside = bool(state.told[s.CHECKPOINTS] and end >= stop)
    if inside:
        at = checkpoint_before(stop, state.told[s.ALIGNMENT] if early else unit)
        inside = checkpoint_is_valid(state, state.told[s.FIRST_STATE], start, end, at)
    if inside:
        last = 0
    if end < stop:
        whole = end // size * size
        if whole > start or size <= state.told[s.BUDGET]:
            end = whole
    tail = 0
    if state.told[s.FINE] and not inside:
        tail = checkpoint_before(prompt, unit) if early else prompt // unit * unit
    junction, cut = state.requests[request, s.R_JUNCTION], end
    if start % size and not inside:
        cut = _between(start, (start // size + 1) * size, cut, end)
    cut = _between(start, last, cut, end)
    if last < tail < prompt:
        cut = _between(start, tail, cut, end)
    if start < junction < end:
        cut = _between(start, start + (junction - start) // size * size, cut, end)
    return max(cut - start, 0)


def _between(start: int, stop: int, cut: int, end: int) -> int:
    return min(cut, stop) if start < stop < end else cut
