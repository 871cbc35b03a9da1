"""Blocks: the free ones, and keys by which blocks are found.

Free ones that nobody knows are a chain behind block 0, the null block, and taken first; then those of a queue, a ring in which
one that is held again leaves a gap.

As `scheduler.blocks`. A full block of a request's own tokens is only found by that request, once it was displaced: it has its
key, and is entered then (`findable`).
"""

from __future__ import annotations

from kvplan.engines.kernel.native.values import prefetch
from kvplan.engines.vllm.scheduler.compiled import state as s
from kvplan.engines.vllm.scheduler.compiled.state import State

NULL = 0
#: So many blocks before one is needed, the processor is told of it.
AHEAD = 8


def bucket(state: State, key: int) -> int:
    """The bucket of a key."""
    wide = int(key)
    return ((wide ^ wide >> 31) & 0x7FFFFFFF) * 0x4F1BBCDD >> 20 & (state.told[s.BUCKETS] - 1)


def holder(state: State, key: int) -> int:
    """The block that was first entered under a key; the null block: none."""
    entry = state.buckets[bucket(state, key), s.H_FIRST]
    while entry >= 0:
        if state.entries[entry, s.E_KEY] == key:
            return state.entries[entry, s.E_BLOCK]
        entry = state.entries[entry, s.E_AFTER]
    return NULL


def _add(state: State, block: int, key: int) -> None:
    entry = state.now[s.ENTRY]
    if entry < 0:
        state.now[s.FOUND] = s.OVERFULL
        return
    state.now[s.ENTRY] = state.entries[entry, s.E_NEXT]
    state.now[s.CHANGES] += 1
    place = bucket(state, key)
    last = state.buckets[place, s.H_LAST]
    state.entries[entry, s.E_KEY], state.entries[entry, s.E_BLOCK], state.entries[entry, s.E_NEXT] = key, block, -1
    state.entries[entry, s.E_AFTER], state.entries[entry, s.E_BEFORE] = -1, last
    if last < 0:
        state.buckets[place, s.H_FIRST] = entry
    else:
        state.entries[last, s.E_AFTER] = entry
    state.buckets[place, s.H_LAST] = entry
    other = state.blocks[block, s.B_FIRST_ENTRY]
    if other < 0:
        state.blocks[block, s.B_FIRST_ENTRY] = entry
        return
    while state.entries[other, s.E_NEXT] >= 0:
        other = state.entries[other, s.E_NEXT]
    state.entries[other, s.E_NEXT] = entry


def has(state: State, block: int, key: int) -> bool:
    """Whether a block is known by a key."""
    if state.blocks[block, s.B_KEY] == key:
        return True
    entry = state.blocks[block, s.B_FIRST_ENTRY]
    while entry >= 0:
        if state.entries[entry, s.E_KEY] == key:
            return True
        entry = state.entries[entry, s.E_NEXT]
    return False


def findable(state: State, block: int) -> None:
    """Enter a block under the key that it has."""
    if state.blocks[block, s.B_KEY] >= 0 and state.blocks[block, s.B_FIRST_ENTRY] < 0:
        _add(state, block, state.blocks[block, s.B_KEY])


def enter(state: State, block: int, key: int, tokens: int, later: bool) -> None:
    """Make a block known by one more key; `later`: nobody looks for it yet."""
    if has(state, block, key):
        return
    if state.blocks[block, s.B_KEY] < 0:
        state.blocks[block, s.B_KEY], state.blocks[block, s.B_KEY_TOKENS] = key, tokens
        if later:
            return
    else:
        findable(state, block)
    _add(state, block, key)


def forget(state: State, block: int) -> None:
    """Take all keys from a block."""
    entry = state.blocks[block, s.B_FIRST_ENTRY]
    state.blocks[block, s.B_KEY], state.blocks[block, s.B_KEY_TOKENS], state.blocks[block, s.B_FIRST_ENTRY] = -1, 0, -1
    if state.blocks[block, s.B_MARKED]:
        state.now[s.CHANGES] += 1
    while entry >= 0:
        place = bucket(state, state.entries[entry, s.E_KEY])
        before, after, other = state.entries[entry, s.E_BEFORE], state.entries[entry, s.E_AFTER], state.entries[entry, s.E_NEXT]
        if before < 0:
            state.buckets[place, s.H_FIRST] = after
        else:
            state.entries[before, s.E_AFTER] = after
        if after < 0:
            state.buckets[place, s.H_LAST] = before
        else:
            state.entries[after, s.E_BEFORE] = before
        state.entries[entry, s.E_NEXT] = state.now[s.ENTRY]
        state.now[s.ENTRY] = entry
        entry = other


def move_keys(state: State, source: int, target: int) -> None:
    """Make `target` known by what `source` was."""
    findable(state, source)
    tokens, entry = state.blocks[source, s.B_KEY_TOKENS], state.blocks[source, s.B_FIRST_ENTRY]
    while entry >= 0:
        enter(state, target, state.entries[entry, s.E_KEY], tokens, False)
        entry = state.entries[entry, s.E_NEXT]
    forget(state, source)


def take(state: State) -> int:
    """The next block; what it was known by is forgotten."""
    now = state.now
    block = state.blocks[NULL, s.B_AFTER]
    if block != NULL:
        state.blocks[NULL, s.B_AFTER] = state.blocks[block, s.B_AFTER]
    else:
        last = len(state.queue) - 1
        while block == NULL:
            block = state.queue[now[s.HEAD] & last]
            now[s.HEAD] += 1
        prefetch(state.blocks[state.queue[now[s.HEAD] + AHEAD & last], s.B_KEY])
    now[s.FREE] -= 1
    if state.blocks[block, s.B_KEY] >= 0:
        forget(state, block)
    state.blocks[block, s.B_HOLDERS] = 1
    return block


def hold(state: State, block: int) -> None:
    """One more holder."""
    if block == NULL:
        return
    if state.blocks[block, s.B_HOLDERS] == 0:
        state.queue[state.blocks[block, s.B_AT]] = NULL
        state.now[s.FREE] -= 1
    state.blocks[block, s.B_HOLDERS] += 1


def release(state: State, block: int, front: int) -> int:
    """One holder less. An unknown block is taken next, behind `front` of the same batch; a known one last. The new `front`.

    One below the null block was given back before.
    """
    if block <= NULL:
        return front
    state.blocks[block, s.B_HOLDERS] -= 1
    if state.blocks[block, s.B_HOLDERS]:
        return front
    state.now[s.FREE] += 1
    state.now[s.FREES] += 1
    if state.told[s.CACHING] and state.blocks[block, s.B_KEY] >= 0:
        _queue(state, block)
        return front
    state.blocks[block, s.B_AFTER] = state.blocks[front, s.B_AFTER]
    state.blocks[front, s.B_AFTER] = block
    return block


def _queue(state: State, block: int) -> None:
    """Behind all others that are free."""
    now, last = state.now, len(state.queue) - 1
    if now[s.TAIL] - now[s.HEAD] > last:
        tail = now[s.HEAD]
        for i in range(now[s.HEAD], now[s.TAIL]):
            other = state.queue[i & last]
            if other != NULL:
                state.queue[tail & last] = other
                state.blocks[other, s.B_AT] = tail & last
                tail += 1
        now[s.TAIL] = tail
    state.queue[now[s.TAIL] & last] = block
    state.blocks[block, s.B_AT] = now[s.TAIL] & last
    now[s.TAIL] += 1
