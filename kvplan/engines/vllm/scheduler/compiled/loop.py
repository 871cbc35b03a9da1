"""Steps, one after the other, until all requests have ended or there are enough to be counted: as `scheduler` and `served`."""

from __future__ import annotations

from kvplan.engines.vllm.scheduler.compiled import state as s
from kvplan.engines.vllm.scheduler.compiled.allocation import (
    FITS,
    NEVER_NOW,
    allocate,
    displace,
    give_back,
    publish_all,
    to_block_end,
)
from kvplan.engines.vllm.scheduler.compiled.groups import begin
from kvplan.engines.vllm.scheduler.compiled.lookups import lookup
from kvplan.engines.vllm.scheduler.compiled.pool import NULL, release
from kvplan.engines.vllm.scheduler.compiled.state import State


def _run(state: State) -> int:
    """Tokens for those that run; what is left of the budget."""
    told, now = state.told, state.now
    budget, place = told[s.BUDGET], 0
    while place < now[s.RUNNING] and budget > 0:
        request = state.lists[s.L_RUNNING, place]
        computed, known, pending = (
            state.requests[request, s.R_COMPUTED],
            state.requests[request, s.R_KNOWN],
            state.requests[request, s.R_PENDING],
        )
        if pending > 0 and computed + 2 - pending >= state.requests[request, s.R_PROMPT] + state.requests[request, s.R_OUTPUT]:
            place += 1
            continue
        new = min(known + pending - computed, budget, told[s.LIMIT] - computed - 1)
        if told[s.ALIGNED_STATES]:
            new = to_block_end(state, request, new, computed)
        if new == 0:
            place += 1
            continue
        fell = False
        while allocate(state, request, state.requests[request, s.R_SLOT], new, 0, True, False) != FITS:
            now[s.RUNNING] -= 1
            victim = state.lists[s.L_RUNNING, now[s.RUNNING]]
            displace(state, victim)
            now[s.PREEMPTED_NOW] += 1
            if victim == request:
                fell = True
                break
        if fell:
            break
        _scheduled(state, request, new)
        budget -= new
        place += 1
    return budget


def _scheduled(state: State, request: int, new: int) -> None:
    at, row = state.now[s.TOKENS], state.now[s.ROWS]
    state.lists[s.L_REQUEST + row, at], state.lists[s.L_TOKENS + row, at] = request, new
    state.now[s.TOKENS] += 1


def _first(state: State) -> int:
    """The next of those that wait; -1: nobody does."""
    now = state.now
    if now[s.FRONT] > 0:
        return state.lists[s.L_FRONT, now[s.FRONT] - 1]
    return state.requests[now[s.QUEUE], s.R_QUEUE] if now[s.QUEUE] < now[s.QUEUE_END] else -1


def _blocked(state: State, request: int) -> bool:
    """Whether nothing has changed by which the request that could not be admitted now could be."""
    now = state.now
    return bool(
        now[s.BLOCKED] == request
        and now[s.BLOCKED_KNOWN] == state.requests[request, s.R_KNOWN]
        and now[s.BLOCKED_CHANGES] == now[s.CHANGES]
        and now[s.FREES] - now[s.BLOCKED_FREES] < now[s.DEFICIT]
        and (now[s.RUNNING] == 0) == now[s.BLOCKED_ALONE]
    )


def _mark(state: State, mark: int) -> None:
    for g in range(state.told[s.GROUPS]):
        for column in range(state.groups[s.G_WISHED, g]):
            state.blocks[state.hit[g, column], s.B_MARKED] = mark


def _admit(state: State, budget: int) -> None:
    """Tokens for those that wait, until one cannot be had."""
    told, now = state.told, state.now
    while budget > 0 and now[s.RUNNING] < told[s.SEATS]:
        request = _first(state)
        if request < 0:
            break
        if _blocked(state, request):
            now[s.HELD_UP] = 1
            break
        if now[s.BLOCKED] >= 0:
            _mark(state, 0)
            now[s.BLOCKED] = -1
        slot = state.lists[s.L_SLOTS, now[s.SLOTS] - 1]
        begin(state, slot)
        hit = lookup(state, request)
        known = state.requests[request, s.R_KNOWN]
        new = known - hit
        if new > budget:
            if not told[s.CHUNKS]:
                break
            new = budget
        if told[s.ALIGNED_STATES]:
            new = to_block_end(state, request, new, hit)
            if new == 0:
                break
        missing = allocate(state, request, slot, new, hit, False, told[s.WHOLE] == 1)
        if missing != FITS:
            now[s.HELD_UP] = 1
            if 0 < missing < NEVER_NOW // 2:
                for g in range(told[s.GROUPS]):
                    state.groups[s.G_WISHED, g] = state.groups[s.G_HITS, g]
                _mark(state, 1)
                now[s.BLOCKED], now[s.DEFICIT], now[s.BLOCKED_KNOWN] = request, missing, known
                now[s.BLOCKED_FREES], now[s.BLOCKED_CHANGES], now[s.BLOCKED_ALONE] = (
                    now[s.FREES],
                    now[s.CHANGES],
                    now[s.RUNNING] == 0,
                )
            break
        if now[s.FRONT] > 0:
            now[s.FRONT] -= 1
        else:
            now[s.QUEUE] += 1
        now[s.SLOTS] -= 1
        state.requests[request, s.R_SLOT] = slot
        state.lists[s.L_RUNNING, now[s.RUNNING]] = request
        now[s.RUNNING] += 1
        state.requests[request, s.R_COMPUTED], state.requests[request, s.R_PREFILLING] = hit, 1
        if state.moments[s.M_ADMITTED_US, request] < 0:
            state.moments[s.M_ADMITTED_US, request] = now[s.TIME]
            now[s.WAITED] += state.requests[request, s.R_QUEUED_IN] != now[s.STEP]
            now[s.ASKED] += known
            now[s.HIT] += hit
        else:
            now[s.FOUND_AGAIN] += hit
        _scheduled(state, request, new)
        budget -= new
    for g in range(told[s.GROUPS]):
        state.groups[s.G_HITS, g] = 0
    if _first(state) >= 0 and now[s.RUNNING] >= told[s.SEATS]:
        now[s.HELD_UP] = 1


def _end_copies(state: State) -> None:
    """Blocks that this step's copies read and write are let go."""
    front = NULL
    for g in range(state.told[s.GROUPS]):
        for i in range(1, state.written[g, 0] + 1):
            front = release(state, state.written[g, i], front)
        state.written[g, 0] = 0
    state.now[s.COPIES] = 0


def _schedule(state: State) -> int:
    """The next step's tokens; those of prompts."""
    now = state.now
    now[s.ENTERED] = now[s.TOKENS] = now[s.PREEMPTED_NOW] = now[s.HELD_UP] = 0
    budget = _run(state)
    if now[s.PREEMPTED_NOW]:
        now[s.HELD_UP] = 1
    else:
        _admit(state, budget)
    if now[s.COPIES]:
        _end_copies(state)
    row, prefill = now[s.ROWS], 0
    for i in range(now[s.TOKENS]):
        request, new = state.lists[s.L_REQUEST + row, i], state.lists[s.L_TOKENS + row, i]
        if state.requests[request, s.R_PREFILLING]:
            prefill += new
        state.requests[request, s.R_COMPUTED] += new
        state.requests[request, s.R_FLIGHT] += new
        going = state.requests[request, s.R_COMPUTED] < state.requests[request, s.R_KNOWN] + state.requests[request, s.R_PENDING]
        state.requests[request, s.R_PREFILLING], state.lists[s.L_GIVES + row, i] = going, not going
        if not going:
            state.requests[request, s.R_PENDING] += state.told[s.AHEAD]
    return prefill


def _update(state: State, row: int, number: int, at: int) -> None:
    """Read the output of a step that ended at `at`."""
    told, now, ended = state.told, state.now, 0
    for i in range(number):
        request, new = state.lists[s.L_REQUEST + row, i], state.lists[s.L_TOKENS + row, i]
        state.requests[request, s.R_FLIGHT] -= new
        stale = state.requests[request, s.R_STALE] > 0
        if stale:
            state.requests[request, s.R_STALE] -= new
        if state.requests[request, s.R_FINISHED] or not state.lists[s.L_GIVES + row, i]:
            continue
        runs = state.requests[request, s.R_SLOT] >= 0
        state.requests[request, s.R_KNOWN] += 1
        known, prompt = state.requests[request, s.R_KNOWN], state.requests[request, s.R_PROMPT]
        if told[s.AHEAD]:
            if not stale:
                state.requests[request, s.R_PENDING] -= 1
            settled = state.requests[request, s.R_COMPUTED] - state.requests[request, s.R_PENDING]
            if runs and settled > state.requests[request, s.R_QUIET]:
                publish_all(state, request, state.requests[request, s.R_SLOT], settled)
        if known < told[s.LIMIT] and known - prompt < state.requests[request, s.R_OUTPUT]:
            continue
        state.requests[request, s.R_FINISHED], state.moments[s.M_FINISHED_US, request] = 1, at
        state.now[s.ENDED] += 1
        state.now[s.PREEMPTED] += state.requests[request, s.R_FELL] > 0
        if runs:
            give_back(state, request)
            ended += 1
        else:
            _forget_waiting(state, request)
    if ended:
        kept = 0
        for i in range(now[s.RUNNING]):
            request = state.lists[s.L_RUNNING, i]
            if not state.requests[request, s.R_FINISHED]:
                state.lists[s.L_RUNNING, kept] = request
                kept += 1
        now[s.RUNNING] = kept


def _forget_waiting(state: State, request: int) -> None:
    """One that ended while it waited, displaced."""
    kept = 0
    for i in range(state.now[s.FRONT]):
        if state.lists[s.L_FRONT, i] != request:
            state.lists[s.L_FRONT, kept] = state.lists[s.L_FRONT, i]
            kept += 1
    state.now[s.FRONT] = kept


def _arrive(state: State) -> None:
    """Those that have come by now wait; `QUEUE_END` is where the queue ends."""
    told, now = state.told, state.now
    while now[s.COMING] < told[s.COUNT] and state.moments[s.M_ARRIVAL, now[s.COMING]] <= now[s.TIME]:
        request = now[s.COMING]
        if 0 < state.requests[request, s.R_PROMPT] < told[s.LIMIT]:
            state.requests[now[s.QUEUE_END], s.R_QUEUE] = request
            now[s.QUEUE_END] += 1
            state.requests[request, s.R_QUEUED_IN] = now[s.STEP]
        else:
            state.now[s.REFUSED] += 1
            state.now[s.ENDED] += 1
        now[s.COMING] += 1


def steps(state: State) -> int:
    """Steps until the buffer is full (`MORE`); else how it ended."""
    told, now = state.told, state.now
    count, at = 0, 0
    now[s.FOUND] = s.MORE
    while True:
        _arrive(state)
        if now[s.RUNNING] == 0 and _first(state) < 0 and now[s.FLIGHT] == 0:
            if now[s.COMING] == told[s.COUNT]:
                now[s.TOKENS] = count
                return s.DONE
            later = state.moments[s.M_ARRIVAL, now[s.COMING]]
            now[s.IDLE] += later - now[s.TIME]
            now[s.TIME] = later
            continue
        prefill = _schedule(state)
        tokens, row = now[s.TOKENS], now[s.ROWS]
        if now[s.FOUND] == s.OVERFULL:
            return s.OVERFULL
        if now[s.HELD_UP]:
            state.now[s.WAS_HELD_UP] = 1
            if told[s.STOPS]:
                return s.STOPPED
        lasts = state.step_us[prefill] if tokens else 0
        state.meter[0, count], state.meter[1, count], state.meter[2, count] = now[s.TIME], told[s.BLOCKS] - 1 - now[s.FREE], lasts
        count += 1
        if tokens == 0 and now[s.PREEMPTED_NOW] == 0 and now[s.FLIGHT] == 0 and _first(state) >= 0:
            return s.STUCK
        if now[s.FLIGHT]:
            _update(state, 1 - row, now[s.BEFORE_TOKENS], now[s.BEFORE_AT])
        at = now[s.TIME] + lasts
        now[s.FLIGHT] = 0
        if told[s.AHEAD] and tokens:
            now[s.FLIGHT], now[s.BEFORE_TOKENS], now[s.BEFORE_AT], now[s.ROWS] = 1, tokens, at, 1 - row
        else:
            _update(state, row, tokens, at)
        if now[s.FOUND] == s.OVERFULL:
            return s.OVERFULL
        now[s.TIME] = at
        now[s.STEP] += 1
        state.now[s.PREEMPTIONS] += now[s.PREEMPTED_NOW]
        if count == told[s.BUFFER]:
            now[s.TOKENS] = count
            return s.MORE
