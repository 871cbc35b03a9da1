"""What a group makes known of a request's blocks. As `Group.publish` and `States.publish`."""

from __future__ import annotations

from kvplan.engines.vllm.scheduler.compiled import state as s
from kvplan.engines.vllm.scheduler.compiled.groups import ceil, checkpoint_before, enter_step, key
from kvplan.engines.vllm.scheduler.compiled.pool import NULL, enter, forget, has
from kvplan.engines.vllm.scheduler.compiled.state import State


def _reachable(state: State, g: int, request: int, column: int) -> bool:
    """Whether a later request could go on from a full block."""
    kind, size, alignment, interval = (
        state.groups[s.G_KIND, g],
        state.groups[s.G_SIZE, g],
        state.told[s.ALIGNMENT],
        state.told[s.INTERVAL],
    )
    junction = state.requests[request, s.R_JUNCTION]
    if kind == s.SLIDING:
        if alignment % size:
            return True
        need = ceil(state.groups[s.G_REACH, g] - 1, size)
        segment = alignment if interval == s.DENSE else interval
        if segment:
            each = segment // size
            if need >= each or column % each >= each - need:
                return True
        if interval == s.DENSE:
            return False
        end = (state.requests[request, s.R_PROMPT] - 1) // alignment * alignment // size
        if end - need <= column < end:
            return True
        end = junction // alignment * alignment // size
        return bool(junction and end - need <= column < end)
    if kind < s.STATE or interval == s.DENSE:
        return True
    if _keeps_segment(state, g, column):
        return True
    if column == (state.requests[request, s.R_PROMPT] - 1) // alignment * alignment // size - 1:
        return True
    return bool(junction and column == junction // alignment * alignment // size - 1)


def _keeps_segment(state: State, g: int, column: int) -> bool:
    """Whether the interval keeps the state at the end of a block."""
    interval = state.told[s.INTERVAL]
    if interval == 0:
        return False
    each = interval // state.groups[s.G_SIZE, g]
    return bool(interval == s.DENSE or each <= 1 or (column + 1) % each == 0)


def publish(state: State, g: int, slot: int, request: int, tokens: int) -> None:
    """Make known the blocks that are full with `tokens` tokens, as far as anybody could go on from them."""
    size, kind, row = state.groups[s.G_SIZE, g], state.groups[s.G_KIND, g], state.row[g, slot]
    first, last = state.places[s.P_PUBLISHED, g, slot], tokens // size
    for column in range(first, last):
        block = row[column]
        if block > NULL and _reachable(state, g, request, column):
            end = (column + 1) * size
            if state.blocks[block, s.B_KEY] >= 0:
                forget(state, block)
            own = kind < s.STATE and end > state.requests[request, s.R_SHARED]
            enter(state, block, key(state, g, request, end), end, own)
    state.places[s.P_PUBLISHED, g, slot] = max(first, last)
    unit = state.told[s.UNIT]
    if kind == s.FULL and size != unit:
        end = (state.requests[request, s.R_PROMPT] - state.told[s.TAIL_BEFORE]) // unit * unit
        column = end // size
        if 0 < end <= tokens and end % size and column < state.places[s.P_LENGTH, g, slot] and row[column] != NULL:
            _enter_part(state, row[column], key(state, g, request, end), end, False)
    if kind == s.ALIGNED:
        known = _publish_state(state, g, slot, request, tokens)
        if known >= 0:
            enter_step(state, known)
    if kind >= s.STATE:
        for column in range(first, last):
            if row[column] != NULL and state.blocks[row[column], s.B_KEY] >= 0:
                enter_step(state, state.blocks[row[column], s.B_KEY])


def _enter_part(state: State, block: int, known: int, tokens: int, alone: bool) -> None:
    if alone or (
        state.blocks[block, s.B_KEY] >= 0 and not has(state, block, known) and state.blocks[block, s.B_KEY_TOKENS] < tokens
    ):
        forget(state, block)
    enter(state, block, known, tokens, False)


def _publish_state(state: State, g: int, slot: int, request: int, tokens: int) -> int:
    """The state inside the chunk, or the one where the chunk ends; what it is known by, or -1."""
    if state.places[s.P_INSIDE_AT, g, slot] >= 0:
        return _publish_inside(state, g, slot, request, tokens)
    unit, size, early = state.told[s.UNIT], state.groups[s.G_SIZE, g], state.told[s.TAIL_BEFORE]
    if tokens <= 0 or tokens % unit:
        return -1
    end = (
        checkpoint_before(state.requests[request, s.R_PROMPT], unit)
        if early
        else state.requests[request, s.R_PROMPT] // unit * unit
    )
    if tokens != end or (not early and tokens % size == 0):
        return -1
    column = ceil(tokens, size) - 1
    if column >= state.places[s.P_LENGTH, g, slot] or state.row[g, slot, column] == NULL:
        return -1
    block, known = state.row[g, slot, column], key(state, g, request, tokens)
    if state.told[s.ONCE] and state.blocks[block, s.B_KEY_TOKENS] == tokens:
        return -1
    _enter_part(state, block, known, tokens, False)
    if tokens % size:
        state.places[s.P_TAIL_COLUMN, g, slot], state.places[s.P_TAIL_BLOCK, g, slot] = column, block
        state.places[s.P_PUBLISHED, g, slot] = column
    return known


def _publish_inside(state: State, g: int, slot: int, request: int, tokens: int) -> int:
    at, early, prompt = state.places[s.P_INSIDE_AT, g, slot], state.told[s.TAIL_BEFORE], state.requests[request, s.R_PROMPT]
    block, size = state.row[g, slot, state.places[s.P_INSIDE_COLUMN, g, slot]], state.groups[s.G_SIZE, g]
    unit = state.told[s.ALIGNMENT] if early else state.told[s.UNIT]
    wanted = at == checkpoint_before(prompt, unit) or at == state.requests[request, s.R_JUNCTION]
    if early:
        wanted = wanted or (at % size == 0 and _keeps_segment(state, g, at // size - 1))
    else:
        wanted = wanted or state.told[s.INTERVAL] != 0 or tokens >= prompt
    if not wanted:
        forget(state, block)
        return -1
    if state.blocks[block, s.B_KEY_TOKENS] == at:
        return -1
    known = key(state, g, request, at)
    _enter_part(state, block, known, at, True)
    return known
