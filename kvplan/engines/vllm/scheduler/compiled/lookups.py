"""What every group knows of a waiting request's tokens. As `scheduler.cache.Cache.lookup`."""

from __future__ import annotations

from kvplan.engines.vllm.scheduler.compiled import state as s
from kvplan.engines.vllm.scheduler.compiled.groups import ceil, name
from kvplan.engines.vllm.scheduler.compiled.pool import NULL, holder
from kvplan.engines.vllm.scheduler.compiled.state import State


def lookup(state: State, request: int) -> int:
    """The longest prefix that every group knows, in `hit`; its tokens. Sets the junction."""
    groups = state.told[s.GROUPS]
    for g in range(groups):
        state.groups[s.G_HITS, g] = 0
        state.groups[s.G_LOOKED, g] = -1
    state.requests[request, s.R_JUNCTION] = 0
    if not state.told[s.CACHING]:
        return 0
    limit = state.requests[request, s.R_KNOWN] - 1
    if (
        state.told[s.HASH_TOKENS] == 0
        and state.requests[request, s.R_FELL] == 0
        and state.groups[s.G_KIND, state.groups[s.G_ALIKE, 0]] != s.CHUNKED
    ):
        return 0  # what is in the cache is others' own
    longest = 0
    while True:
        now = limit
        for kind in range(state.told[s.KINDS]):
            first = state.groups[s.G_ALIKE, state.groups[s.G_ALIKE_FROM, kind]]
            if state.groups[s.G_LOOKED, first] >= 0:
                now = min(now, state.groups[s.G_LOOKED, first])
                continue
            now = _of_kind(state, request, now, kind, first)
            if state.groups[s.G_KIND, first] == s.FULL:
                state.groups[s.G_LOOKED, first] = now
            longest = max(longest, now)
        if now >= limit:
            break
        limit = now
        if state.told[s.ONE_LOOK]:
            break
    for g in range(groups):
        if state.groups[s.G_KIND, g] == s.FULL:
            state.groups[s.G_HITS, g] = min(state.groups[s.G_HITS, g], ceil(limit, state.groups[s.G_SIZE, g]))
    if groups > 1 and longest > limit:
        state.requests[request, s.R_JUNCTION] = longest
    return limit


def _known(state: State, request: int, tokens: int, kind: int, column: int) -> bool:
    """Whether all groups of a kind know the prefix; the blocks go into their hits."""
    prefix, groups = name(state, request, tokens) * state.told[s.GROUPS], state.told[s.GROUPS]
    for i in range(state.groups[s.G_ALIKE_FROM, kind], state.groups[s.G_ALIKE_FROM, kind + 1]):
        g = state.groups[s.G_ALIKE, i]
        block = holder(state, prefix + g)
        if block == NULL:
            return False
        state.hit[g, column] = block
    return groups > 0


def _set(state: State, kind: int, columns: int) -> None:
    for i in range(state.groups[s.G_ALIKE_FROM, kind], state.groups[s.G_ALIKE_FROM, kind + 1]):
        state.groups[s.G_HITS, state.groups[s.G_ALIKE, i]] = columns


def _of_kind(state: State, request: int, limit: int, kind: int, g: int) -> int:
    what = state.groups[s.G_KIND, g]
    if what == s.FULL:
        return _full(state, request, limit, kind, g)
    if what == s.SLIDING:
        return _sliding(state, request, limit, kind, g)
    if what == s.CHUNKED:
        return _chunked(state, request, limit, kind, g)
    return _state(state, request, limit, kind, g)


def _full(state: State, request: int, limit: int, kind: int, g: int) -> int:
    size, unit, alignment = state.groups[s.G_SIZE, g], state.told[s.UNIT], state.told[s.ALIGNMENT]
    each, units, columns = size // unit, state.requests[request, s.R_KNOWN] // unit, 0
    most = min(limit // size, units // each)
    while columns < most and _known(state, request, (columns + 1) * size, kind, columns):
        columns += 1
    tokens = columns * size
    if alignment < size and size % alignment == 0:
        first = columns * each
        for index in range(min(first + each - 1, limit // unit, units) - 1, first - 1, -1):
            if _known(state, request, (index + 1) * unit, kind, columns):
                tokens = (index + 1) * unit
                break
    tokens -= tokens % alignment
    _set(state, kind, ceil(tokens, size))
    return tokens


def _clear(state: State, kind: int, last: int) -> None:
    """Null columns up to `last`."""
    for i in range(state.groups[s.G_ALIKE_FROM, kind], state.groups[s.G_ALIKE_FROM, kind + 1]):
        row = state.hit[state.groups[s.G_ALIKE, i]]
        for column in range(last):
            row[column] = NULL


def _sliding(state: State, request: int, limit: int, kind: int, g: int) -> int:
    size, alignment = state.groups[s.G_SIZE, g], state.told[s.ALIGNMENT]
    need, run = ceil(state.groups[s.G_REACH, g] - 1, size), 0
    for column in range(limit // size - 1, -1, -1):
        end = (column + 1) * size
        if run == 0 and end % alignment:
            continue
        if not _known(state, request, end, kind, column):
            run = 0
            continue
        run += 1
        if run >= need:
            _clear(state, kind, column)
            _set(state, kind, column + run)
            return (column + run) * size
    while run * size % alignment:
        run -= 1
    _set(state, kind, run)
    return run * size


def _chunked(state: State, request: int, limit: int, kind: int, g: int) -> int:
    size = state.groups[s.G_SIZE, g]
    columns = limit // state.groups[s.G_REACH, g] * state.groups[s.G_REACH, g] // size
    _clear(state, kind, columns)
    while columns < limit // size and _known(state, request, (columns + 1) * size, kind, columns):
        columns += 1
    _set(state, kind, columns)
    return columns * size


def _state(state: State, request: int, limit: int, kind: int, g: int) -> int:
    size, unit, alignment = state.groups[s.G_SIZE, g], state.told[s.UNIT], state.told[s.ALIGNMENT]
    step = unit if alignment < size and size % alignment == 0 else size
    for index in range(min(limit // step, state.requests[request, s.R_KNOWN] // unit * unit // step) - 1, -1, -1):
        tokens = (index + 1) * step
        if tokens % alignment == 0 and _known(state, request, tokens, kind, ceil(tokens, size) - 1):
            _clear(state, kind, ceil(tokens, size) - 1)
            _set(state, kind, ceil(tokens, size))
            return tokens
    _set(state, kind, 0)
    return 0
