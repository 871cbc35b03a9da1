"""A group's rows: what a request needs, takes, makes known and gives back. As `scheduler.groups` and `scheduler.states`."""

from __future__ import annotations

from kvplan.engines.kernel.native.values import prefetch
from kvplan.engines.vllm.scheduler.compiled import state as s
from kvplan.engines.vllm.scheduler.compiled.pool import AHEAD, NULL, findable, hold, move_keys, release, take
from kvplan.engines.vllm.scheduler.compiled.state import State


def ceil(number: int, size: int) -> int:
    """Blocks of `size` that hold so many."""
    return -(-number // size)


def checkpoint_before(tokens: int, unit: int) -> int:
    """The last multiple of `unit` below `tokens`."""
    return max((tokens - 1) // unit * unit, 0)


def name(state: State, request: int, tokens: int) -> int:
    """The name of a request's first `tokens` tokens, whole units of them; what is its own is told by its place."""
    unit = tokens // state.told[s.UNIT] - 1
    if tokens > state.requests[request, s.R_SHARED]:
        return state.told[s.OWN_NAMES] + state.moments[s.M_OWN_FROM, request] + unit
    wide = state.told[s.HASH_TOKENS]
    place = (tokens - 1) // wide
    return (
        state.nodes[state.moments[s.M_NODES_FROM, request] + place] * state.told[s.NODE_WIDTH]
        + unit
        - place * wide // state.told[s.UNIT]
    )


def key(state: State, g: int, request: int, tokens: int) -> int:
    """What a block of group `g` is known by that ends there."""
    return name(state, request, tokens) * state.told[s.GROUPS] + g


def skipped(state: State, g: int, computed: int) -> int:
    """Tokens at the start that no later token looks at, once `computed` are."""
    kind = state.groups[s.G_KIND, g]
    if kind == s.FULL:
        return 0
    if kind == s.SLIDING:
        return max(0, computed - state.groups[s.G_REACH, g] + 1)
    if kind == s.CHUNKED:
        return computed // state.groups[s.G_REACH, g] * state.groups[s.G_REACH, g]
    return computed - 1


def checkpoint_is_valid(state: State, g: int, start: int, end: int, at: int) -> bool:
    """As `settings.checkpoint_is_valid`."""
    grid, size, unit = state.groups[s.G_INSIDE_UNIT, g], state.groups[s.G_SIZE, g], state.told[s.UNIT]
    if grid < 0:
        return False
    return bool(
        start % unit == 0
        and ceil(end, size) - 2 > (start - 1) // size
        and start + unit <= at
        and start < at < end
        and (at - start) % grid == 0
    )


def _free_hits(state: State, g: int, first: int) -> int:
    number = 0
    for column in range(first, state.groups[s.G_HITS, g]):
        block = state.hit[g, column]
        number += block != NULL and state.blocks[block, s.B_HOLDERS] == 0
    return number


def _ends_inside(state: State, g: int, tokens: int) -> bool:
    return bool(state.groups[s.G_HITS, g] > 0 and tokens % state.groups[s.G_SIZE, g] != 0)


def needed(state: State, g: int, slot: int, tokens: int, start: int, capped: bool, prefill_end: int) -> int:
    """Free blocks that `tokens` tokens of a request take; -1: what it goes on from is only being written in this step."""
    size, kind = state.groups[s.G_SIZE, g], state.groups[s.G_KIND, g]
    if kind >= s.STATE and state.groups[s.G_HITS, g] > 0:
        known = state.blocks[state.hit[g, state.groups[s.G_HITS, g] - 1], s.B_KEY]
        for i in range(state.now[s.ENTERED]):
            if state.written[state.told[s.GROUPS], i] == known:
                return -1
    if kind == s.ALIGNED:
        return _needed_state(state, g, slot, tokens, start, capped, prefill_end)
    wanted = ceil(tokens, size)
    if capped and state.groups[s.G_CAP, g] >= 0:
        wanted = min(wanted, state.groups[s.G_CAP, g])
    held, behind = state.places[s.P_LENGTH, g, slot], skipped(state, g, start) // size
    missing = max(wanted - max(behind, state.groups[s.G_HITS, g] + held), 0)
    if state.groups[s.G_HITS, g] == 0:
        return missing
    return missing + _free_hits(state, g, max(0, behind - held)) + _ends_inside(state, g, start)


def _needed_state(state: State, g: int, slot: int, tokens: int, start: int, capped: bool, prefill_end: int) -> int:
    size, held = state.groups[s.G_SIZE, g], state.places[s.P_LENGTH, g, slot]
    missing = ceil(tokens, size) - state.groups[s.G_HITS, g] - held
    copy = _ends_inside(state, g, start) or state.places[s.P_TAIL_COLUMN, g, slot] >= 0
    if copy:
        missing = max(missing, 0) + 1
    at = checkpoint_before(tokens, state.told[s.ALIGNMENT] if state.told[s.TAIL_BEFORE] else state.told[s.UNIT])
    column = ceil(tokens, size) - 2
    inside = bool(
        state.groups[s.G_INSIDE, g] > 0
        and tokens >= prefill_end
        and checkpoint_is_valid(state, g, start, tokens, at)
        and column >= 0
        and (column >= held or state.row[g, slot, column] == NULL)
    )
    if not capped:
        state.places[s.P_INSIDE_AT, g, slot], state.places[s.P_INSIDE_COLUMN, g, slot] = at if inside else -1, column
    if missing > 0:
        missing = min(missing, 1 + int(copy) + int(inside))
    return missing + _free_hits(state, g, 0)


def adopt(state: State, g: int, slot: int, tokens: int) -> None:
    """Make the blocks of a hit the first of the request's row."""
    behind, row = max(skipped(state, g, tokens), 0) // state.groups[s.G_SIZE, g], state.row[g, slot]
    length = state.places[s.P_LENGTH, g, slot]
    for _ in range(behind):
        row[length] = NULL
        length += 1
    last = NULL
    kept = 0
    for column in range(behind, state.groups[s.G_HITS, g]):
        last = state.hit[g, column]
        hold(state, last)
        row[length] = last
        length += 1
        kept += 1
    state.places[s.P_LENGTH, g, slot] = state.places[s.P_PUBLISHED, g, slot] = length
    if kept and tokens % state.groups[s.G_SIZE, g]:
        column = tokens // state.groups[s.G_SIZE, g]
        state.places[s.P_TAIL_COLUMN, g, slot], state.places[s.P_TAIL_BLOCK, g, slot] = column, last
        state.places[s.P_PUBLISHED, g, slot] = column


def _copied(state: State, g: int, block: int) -> None:
    copies = state.written[g]
    if copies[0] + 1 >= len(copies):
        state.now[s.FOUND] = s.OVERFULL
        return
    copies[0] += 1
    copies[copies[0]] = block
    state.now[s.COPIES] += 1


def _copy_tail(state: State, g: int, slot: int, target: int) -> None:
    state.row[g, slot, state.places[s.P_TAIL_COLUMN, g, slot]] = target
    _copied(state, g, state.places[s.P_TAIL_BLOCK, g, slot])
    _copied(state, g, target)
    hold(state, target)
    state.places[s.P_TAIL_COLUMN, g, slot] = -1


def take_until(state: State, g: int, slot: int, tokens: int) -> None:
    """Take blocks until the row holds `tokens` tokens; a shared tail is copied into a block of its own."""
    if state.groups[s.G_KIND, g] == s.ALIGNED:
        _take_state(state, g, slot, tokens)
        return
    if state.places[s.P_TAIL_COLUMN, g, slot] >= 0:
        _copy_tail(state, g, slot, take(state))
    row, wanted = state.row[g, slot], ceil(tokens, state.groups[s.G_SIZE, g])
    for column in range(state.places[s.P_LENGTH, g, slot], wanted):
        row[column] = take(state)
    state.places[s.P_LENGTH, g, slot] = max(state.places[s.P_LENGTH, g, slot], wanted)


def _take_state(state: State, g: int, slot: int, tokens: int) -> None:
    row, length = state.row[g, slot], state.places[s.P_LENGTH, g, slot]
    wanted = ceil(tokens, state.groups[s.G_SIZE, g])
    inside, tail = int(state.places[s.P_INSIDE_AT, g, slot] >= 0), state.places[s.P_TAIL_COLUMN, g, slot]
    if wanted <= length and tail < 0 and not inside:
        state.places[s.P_STARTED, g, slot] = 1
        return
    while length < wanted - 1 - inside:
        row[length] = NULL
        length += 1
    target = take(state) if tail >= 0 else NULL  # a copy's block is the first of those that are taken
    while length < wanted:
        row[length] = take(state)
        length += 1
    if tail >= 0:
        if state.places[s.P_STARTED, g, slot]:  # the row keeps its block: what it is known by moves to the copy
            source = state.places[s.P_TAIL_BLOCK, g, slot]
            move_keys(state, source, target)
            _copied(state, g, source)
            _copied(state, g, target)
            hold(state, source)
            if state.blocks[target, s.B_KEY] >= 0:
                enter_step(state, state.blocks[target, s.B_KEY])
            state.places[s.P_TAIL_COLUMN, g, slot] = -1
        else:
            _copy_tail(state, g, slot, target)
    state.places[s.P_LENGTH, g, slot] = length
    state.places[s.P_STARTED, g, slot] = 1


def enter_step(state: State, known: int) -> None:
    """A key of a state that is written in this step."""
    if state.now[s.ENTERED] >= state.written.shape[1]:
        state.now[s.FOUND] = s.OVERFULL
        return
    state.written[state.told[s.GROUPS], state.now[s.ENTERED]] = known
    state.now[s.ENTERED] += 1


def drop(state: State, g: int, slot: int, processed: int) -> None:
    """Give back what no token behind `processed` looks at, the highest first."""
    kind, size, row = state.groups[s.G_KIND, g], state.groups[s.G_SIZE, g], state.row[g, slot]
    length = state.places[s.P_LENGTH, g, slot]
    behind = skipped(state, g, processed)
    front = NULL
    if kind != s.ALIGNED:
        if behind <= 0:
            return
        for column in range(min(behind // size, length) - 1, -1, -1):
            if row[column] <= NULL:
                break
            prefetch(state.blocks[max(row[max(column - AHEAD, 0)], NULL), s.B_KEY])
            front = release(state, row[column], front)
            row[column] = -row[column]  # given back, and perhaps found again
        return
    if behind > 0:
        first, last = state.places[s.P_STATE_DROPPED, g, slot], min(behind // size, length)
        if first < last:
            for column in range(last - 1, first - 1, -1):
                front = release(state, row[column], front)
                row[column] = NULL
            state.places[s.P_STATE_DROPPED, g, slot] = last


def free_row(state: State, g: int, slot: int) -> None:
    """Give back the row, its last block first."""
    front, row = NULL, state.row[g, slot]
    for column in range(state.places[s.P_LENGTH, g, slot] - 1, -1, -1):
        prefetch(state.blocks[max(row[max(column - AHEAD, 0)], NULL), s.B_KEY])
        front = release(state, row[column], front)


def begin(state: State, slot: int) -> None:
    """Empty rows."""
    places = state.places
    for g in range(state.told[s.GROUPS]):
        places[s.P_LENGTH, g, slot] = places[s.P_PUBLISHED, g, slot] = 0
        places[s.P_STARTED, g, slot] = places[s.P_STATE_DROPPED, g, slot] = 0
        places[s.P_TAIL_COLUMN, g, slot] = places[s.P_INSIDE_AT, g, slot] = -1


def entered_later(state: State, slot: int, request: int) -> None:
    """A request is displaced: it may look for its own blocks from now on, also for those that it gave back while it ran."""
    for g in range(state.told[s.GROUPS]):
        row, size = state.row[g, slot], state.groups[s.G_SIZE, g]
        for column in range(min(state.places[s.P_LENGTH, g, slot], state.requests[request, s.R_KNOWN] // size)):
            block = row[column]
            if block < NULL and state.blocks[-block, s.B_KEY] == key(state, g, request, (column + 1) * size):
                block = -block
            if block > NULL:
                findable(state, block)


def quiet_until(state: State, g: int, processed: int, end: int) -> int:
    """Tokens up to which decoding changes nothing here."""
    size, kind = state.groups[s.G_SIZE, g], state.groups[s.G_KIND, g]
    full = ceil(end, size) * size
    until = end if end == full and not state.told[s.AHEAD] else full - 1
    if kind == s.SLIDING:
        return min(until, (skipped(state, g, processed) // size + 1) * size + state.groups[s.G_REACH, g] - 1)
    if kind == s.CHUNKED:
        return min(until, (processed // state.groups[s.G_REACH, g] + 1) * state.groups[s.G_REACH, g])
    if kind >= s.STATE:
        return min(until, ceil(processed, size) * size)
    return until
