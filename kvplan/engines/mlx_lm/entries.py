"""From a model's layers to the entries of its prompt cache, in the library's order.

Source: mlx_lm/models/*.py:Model.make_cache; mlx_lm/models/cache.py:make_prompt_cache; 0.32.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from msgspec import Struct

from kvplan.domain.model import (
    Chunk,
    Compressed,
    Cross,
    Index,
    Latent,
    Layer,
    Memory,
    Recurrent,
    Shared,
    Softmax,
    State,
    Window,
)
from kvplan.domain.words import layer_words, memory_words
from kvplan.engines.mlx_lm.layers import Array, Arrays, Chunked, Compressing, Context, Entry, Growing, Member, Rotating

#: Tokens at the front that `max_kv_size` never overwrites: `make_prompt_cache`.
KEEP: Final = 4


class Traits(Struct, frozen=True, kw_only=True):
    """What a module's caches are like.

    `plain`: no `make_cache`, so `max_kv_size` is obeyed and windows are not. `rotates`, `chunks`: sliding and chunked layers
    have a cache that forgets. `expands`: keys and values of every head instead of the latent. `listed`: an entry is a list of
    caches, `paired`: of two attention blocks. `states_as_model`: every state in the activations' dtype.
    `empty_index_values`: an indexer's values have no width (else they are zeros).
    `compresses`: DeepSeek V4.1's own cache. `one_offset`: its rotary embedding takes one offset for all sequences, so it runs
    one.
    """

    plain: bool = False
    rotates: bool = False
    chunks: bool = False
    expands: bool = False
    listed: bool = False
    paired: bool = False
    states_as_model: bool = False
    empty_index_values: bool = False
    compresses: bool = False
    one_offset: bool = False


class _Caches(Struct, frozen=True, kw_only=True):
    """What decides the cache of a memory: the module's traits, the query heads (for words), and `max_kv_size`."""

    traits: Traits
    heads: int | None
    limit: int | None


def entries(layers: tuple[Layer, ...], traits: Traits, heads: int | None, limit: int | None, context: int) -> tuple[Entry, ...]:
    """The list that `make_prompt_cache` gives.

    Args:
        layers: the layers as the module reads them.
        traits: what its caches are like.
        heads: query heads, for words.
        limit: `max_kv_size`, where the module obeys it.
        context: token ids that an n-gram embedding keeps in an entry before all others.
    """
    caches = _Caches(traits=traits, heads=heads, limit=limit)
    by_layer = [(layer.index, tuple(_of_layer(layer, caches))) for layer in layers]
    members = [(i, member) for i, own in by_layer for member in own]
    first = (Entry(layers=(0,), members=(Context(size=context),)),) if context else ()
    if traits.paired:
        pairs = zip(members[::2], members[1::2], strict=True)
        return (*first, *(Entry(layers=(i, j), members=(a, b), listed=True) for (i, a), (j, b) in pairs))
    if traits.listed:
        return tuple(Entry(layers=(i,) * len(own), members=own, listed=True) for i, own in by_layer if own)
    return tuple(Entry(layers=(i,), members=(member,)) for i, member in members)


def _of_layer(layer: Layer, caches: _Caches) -> Iterator[Member]:
    if caches.traits.compresses:
        yield from _compressing(layer, caches)
        return
    for memory in layer.memories:
        yield from _members(memory, caches)


def _compressing(layer: Layer, caches: _Caches) -> Iterator[Member]:
    """One `LayerCache`: the window, and what compresses it."""
    window = next((m for m in layer.memories if isinstance(m, Softmax) and isinstance(m.reach, Window)), None)
    if window is None or not isinstance(window.reach, Window):
        return
    compressed = next((m.reach for m in layer.memories if isinstance(m, Softmax) and isinstance(m.reach, Compressed)), None)
    index = next((m for m in layer.memories if isinstance(m, Index)), None)
    yield Compressing(
        dim=window.key_dim,
        window=window.reach.size,
        kind=layer_words(layer.memories, caches.heads),
        ratio=compressed.ratio if compressed else 0,
        index_dim=index.dim if index else 0,
    )


def _members(memory: Memory, caches: _Caches) -> Iterator[Member]:
    kind = memory_words(memory, caches.heads)
    match memory:
        case Softmax():
            yield _attention(memory, kind, caches)
        case Latent() if caches.traits.expands:
            yield _rows(memory.heads, memory.nope_dim + memory.rope_dim, memory.value_dim, kind, caches.limit)
        case Latent():
            yield _rows(1, memory.rank, memory.rope_dim, kind, caches.limit)
        case Index():
            values = 0 if caches.traits.empty_index_values else memory.dim
            yield Growing(heads=memory.heads, key_dim=memory.dim, value_dim=values, kind=kind, name="index ", idle_values=True)
        case Recurrent():
            states = tuple(_state(state, caches.traits) for state in memory.states)
            yield Arrays(arrays=states, kind=kind)
        case Shared() | Cross():
            return
        case _:
            assert_never(memory)


def _rows(heads: int, key_dim: int, value_dim: int, kind: str, limit: int | None) -> Growing | Rotating:
    if limit is not None:
        return Rotating(heads=heads, key_dim=key_dim, value_dim=value_dim, kind=kind, window=limit, keep=KEEP)
    return Growing(heads=heads, key_dim=key_dim, value_dim=value_dim, kind=kind)


def _attention(memory: Softmax, kind: str, caches: _Caches) -> Member:
    heads, key_dim, value_dim = memory.kv_heads, memory.key_dim, memory.value_dim or memory.key_dim
    if caches.traits.plain:
        return _rows(heads, key_dim, value_dim, kind, caches.limit)
    match memory.reach:
        case Window(size=size) if caches.traits.rotates:
            return Rotating(heads=heads, key_dim=key_dim, value_dim=value_dim, kind=kind, window=size)
        case Chunk(size=size) if caches.traits.chunks:
            return Chunked(heads=heads, key_dim=key_dim, value_dim=value_dim, kind=kind, size=size)
        case _:
            return _rows(heads, key_dim, value_dim, kind, None)


def _state(state: State, traits: Traits) -> Array:
    """A state; a short convolution keeps its last kernel - 1 inputs."""
    columns = (state.kernel - 1,) if state.kernel else ()
    dtype = "" if traits.states_as_model else state.dtype or ""
    return Array(name=state.name, shape=(*columns, *state.shape), dtype=dtype)
