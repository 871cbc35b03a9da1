"""What one entry of mlx-lm's prompt cache holds, and its arrays at one moment.

`make_prompt_cache` gives a list with an entry for each layer that keeps something (two for looped layers, none for layers
that share). An entry is one cache object, or a `CacheList` of several. Arrays are `[sequences, heads, rows, dim]`.

Source: mlx_lm/models/cache.py; deepseek_v41.py:LayerCache; 0.32.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final, Generic, assert_never

import msgspec
from msgspec.structs import replace

from kvplan.domain.dtypes import item_bytes, torch_name
from kvplan.engines.kernel.tensors import Count, Piece, at_most
from kvplan.engines.mlx_lm.batches import Rows
from kvplan.engines.mlx_lm.growth import Calls, chunked_rows, growing_rows, rotating_rows

#: Bytes of one `uint32`, in which quantised values are packed.
WORD: Final = 4


class Growing(msgspec.Struct, frozen=True, kw_only=True):
    """A `KVCache`: keys and values of `heads` heads for every token. `name` prefixes its arrays' names.

    `idle_values`: the values are zeros that nobody reads (the key cache of a sparse-attention indexer).
    """

    heads: int
    key_dim: int
    value_dim: int
    kind: str
    name: str = ""
    idle_values: bool = False


class Rotating(msgspec.Struct, frozen=True, kw_only=True):
    """A `RotatingKVCache` of `window` rows whose first `keep` are never overwritten."""

    heads: int
    key_dim: int
    value_dim: int
    kind: str
    window: int
    keep: int = 0


class Chunked(msgspec.Struct, frozen=True, kw_only=True):
    """A `ChunkedKVCache` of `size` tokens (Llama 4)."""

    heads: int
    key_dim: int
    value_dim: int
    kind: str
    size: int


class Array(msgspec.Struct, frozen=True, kw_only=True):
    """One state of one sequence; `dtype` empty: the activations'."""

    name: str
    shape: tuple[int, ...]
    dtype: str = ""


class Arrays(msgspec.Struct, frozen=True, kw_only=True):
    """An `ArraysCache`: states that do not grow."""

    arrays: tuple[Array, ...]
    kind: str


class Compressing(msgspec.Struct, frozen=True, kw_only=True):
    """DeepSeek V4.1's `LayerCache`: a window, one entry for `ratio` tokens (0: none) and `index_dim` wide keys for each."""

    dim: int
    window: int
    kind: str
    ratio: int = 0
    index_dim: int = 0


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The last `size` token ids, which an n-gram embedding looks back at (`longcat_flash_ngram.py:NgramEmbedding`)."""

    size: int
    kind: str = "n-gram context"


Member = Growing | Rotating | Chunked | Arrays | Compressing | Context


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the prompt cache: its caches, and the layer that each belongs to. A `CacheList` is never quantised."""

    layers: tuple[int, ...]
    members: tuple[Member, ...]
    listed: bool = False


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """How elements are stored: the activations' dtype and, once `start` tokens are cached, `bits` in groups of `group`."""

    dtype: str
    bits: int | None = None
    group: int = 64
    start: int = 0


class Moment(msgspec.Struct, Generic[Count], frozen=True, kw_only=True):
    """`sequences` sequences that each came as `calls` say.

    `batched`: the rows are those of a batch whose prompts had different lengths, of which `calls` are the longest one's.
    """

    calls: Calls[Count]
    sequences: Count
    batched: Rows | None = None

    @property
    def growing(self) -> Count:
        """Rows of a cache that grows."""
        return growing_rows(self.calls) if self.batched is None else self.calls.tokens * 0 + self.batched.growing

    def rotating(self, member: Rotating) -> Count:
        """Rows of a cache that rotates; those of a batch keep nothing at the front."""
        if self.batched is None:
            return rotating_rows(self.calls, member.window, member.keep)
        return self.calls.tokens * 0 + self.batched.rotating[member.window]

    def chunked(self, member: Chunked) -> Count:
        """Rows of a cache that is cut to its chunk; the library does not batch those."""
        return chunked_rows(self.calls, member.size)


def pieces(entries: tuple[Entry, ...], storage: Storage, at: Moment[Count]) -> Iterator[Piece[Count]]:
    """Every array of the prompt cache, equal entries together."""
    groups: dict[tuple[Member, bool], list[int]] = {}
    for entry in entries:
        for layer, member in zip(entry.layers, entry.members, strict=True):
            groups.setdefault((member, entry.listed), []).append(layer)
    unpacked = replace(storage, bits=None)
    for (member, listed), layers in groups.items():
        yield from _arrays(member, tuple(layers), unpacked if listed else storage, at)


def _arrays(member: Member, layers: tuple[int, ...], storage: Storage, at: Moment[Count]) -> Iterator[Piece[Count]]:
    match member:
        case Growing():
            yield from _growing(member, layers, storage, at)
        case Rotating():
            rows = at.rotating(member)
            yield from _keys_and_values(member, layers, storage.dtype, at, rows, at_most(at.calls.tokens, member.window))
        case Chunked():
            rows = at.chunked(member)
            yield from _keys_and_values(member, layers, storage.dtype, at, rows, at_most(at.calls.tokens, member.size))
        case Arrays(arrays=arrays):
            for array in arrays:
                yield _state(array, member.kind, layers, storage, at)
        case Compressing():
            yield from _compressing(member, layers, storage, at)
        case Context():
            yield _context(member, layers, at)
        case _:
            assert_never(member)


def _state(array: Array, kind: str, layers: tuple[int, ...], storage: Storage, at: Moment[Count]) -> Piece[Count]:
    dtype = array.dtype or storage.dtype
    size = at.sequences * (prod(array.shape) * item_bytes(dtype)) + at.calls.tokens * 0
    return Piece(
        layers=layers,
        name=array.name,
        kind=kind,
        shape=(at.sequences, *array.shape),
        dtype=torch_name(dtype),
        payload=size,
        padded=size,
        per="sequence",
    )


def _growing(member: Growing, layers: tuple[int, ...], storage: Storage, at: Moment[Count]) -> Iterator[Piece[Count]]:
    """Rows in the activations' dtype, or packed from the call after which enough tokens are cached."""
    rows, tokens = at.growing, at.calls.tokens
    if storage.bits is None:
        yield from _keys_and_values(member, layers, storage.dtype, at, rows, tokens)
        return
    packed = (tokens >= storage.start) * 1
    if not (isinstance(packed, int) and packed):
        plain = 1 - packed
        yield from _keys_and_values(member, layers, storage.dtype, at, rows * plain, tokens * plain)
    if not (isinstance(packed, int) and not packed):
        yield from _packed(member, layers, storage, storage.bits, at, rows * packed, tokens * packed)


def _keys_and_values(
    member: Growing | Rotating | Chunked, layers: tuple[int, ...], dtype: str, at: Moment[Count], rows: Count, tokens: Count
) -> Iterator[Piece[Count]]:
    idle = isinstance(member, Growing) and member.idle_values
    prefix = member.name if isinstance(member, Growing) else ""
    for name, dim in (("keys", member.key_dim), ("values", member.value_dim)):
        if not dim:
            continue
        each = at.sequences * (member.heads * dim * item_bytes(dtype))
        yield Piece(
            layers=layers,
            name=f"{prefix}{name}",
            kind=member.kind,
            shape=(at.sequences, member.heads, rows, dim),
            dtype=torch_name(dtype),
            payload=tokens * 0 if idle and name == "values" else each * tokens,
            padded=each * rows,
            per="token",
        )


def _packed(
    member: Growing, layers: tuple[int, ...], storage: Storage, bits: int, at: Moment[Count], rows: Count, tokens: Count
) -> Iterator[Piece[Count]]:
    """`mx.quantize`: the values in words of 32 bits, and for each group a scale and a bias in the activations' dtype."""
    for part, dim in (("keys", member.key_dim), ("values", member.value_dim)):
        words, groups = dim * bits // (8 * WORD), dim // storage.group
        item = item_bytes(storage.dtype)
        for name, width, size, dtype in (
            (f"{part} packed", words, WORD, "uint32"),
            (f"{part} scales", groups, item, torch_name(storage.dtype)),
            (f"{part} biases", groups, item, torch_name(storage.dtype)),
        ):
            each = at.sequences * (member.heads * width * size)
            yield Piece(
                layers=layers,
                name=f"{member.name}{name}",
                kind=member.kind,
                shape=(at.sequences, member.heads, rows, width),
                dtype=dtype,
                payload=each * tokens,
                padded=each * rows,
                per="token",
            )


def _compressing(member: Compressing, layers: tuple[int, ...], storage: Storage, at: Moment[Count]) -> Iterator[Piece[Count]]:
    """The window in the activations' dtype; what is compressed, and what waits for its group to fill, in float32."""
    tokens = at.calls.tokens
    parts: list[tuple[str, Count, int, str]] = [("window", at_most(tokens, member.window), member.dim, storage.dtype)]
    if member.ratio:
        parts.append(("compress_kv", tokens // member.ratio, member.dim, "float32"))
        if member.index_dim:
            parts.append(("index_k", tokens // member.ratio, member.index_dim, "float32"))
    if member.ratio > 1:
        parts += [(f"pending_{name}", tokens % member.ratio, member.dim, "float32") for name in ("kv", "gate")]
    for name, rows, dim, dtype in parts:
        size = at.sequences * (dim * item_bytes(dtype)) * rows
        yield Piece(
            layers=layers,
            name=name,
            kind=member.kind,
            shape=(at.sequences, rows, dim),
            dtype=torch_name(dtype),
            payload=size,
            padded=size,
            per="token",
        )


def _context(member: Context, layers: tuple[int, ...], at: Moment[Count]) -> Piece[Count]:
    """Ids are kept as int64."""
    kept = at_most(at.calls.tokens, member.size)
    size = at.sequences * kept * item_bytes("int64")
    return Piece(
        layers=layers,
        name="context",
        kind=member.kind,
        shape=(at.sequences, kept),
        dtype="int64",
        payload=size,
        padded=size,
        per="sequence",
    )


def peak_bytes(entries: tuple[Entry, ...], storage: Storage, at: Moment[int]) -> int:
    """The most that all arrays take between two calls: sliding layers hold a whole chunk of the prompt until the first token."""
    calls = at.calls
    moments = [at] + [
        replace(at, calls=replace(calls, tokens=t, prefilled=min(t, calls.prefilled))) for t in _tops(entries, storage, calls)
    ]
    return max(sum(p.padded * p.count for p in pieces(entries, storage, moment)) for moment in moments)


def _tops(entries: tuple[Entry, ...], storage: Storage, calls: Calls[int]) -> set[int]:
    """Token counts after which the arrays may be longest: rows grow from chunk to chunk, and fall where a call cuts or packs.

    The last whole chunk and the whole prompt; for a chunked cache the calls before and after its first cut; before packing.
    """
    chunk = calls.chunk
    tops = {calls.prefilled // chunk * chunk, calls.prefilled}
    for size in {m.size for entry in entries for m in entry.members if isinstance(m, Chunked)}:
        first = (size // chunk + 1) * chunk
        tops |= {first, first + chunk, size + 1}
    if storage.bits is not None and 0 < storage.start <= calls.tokens:
        before = storage.start - 1
        tops.add(before if before > calls.prefilled else before // chunk * chunk)
    return {t for t in tops if 0 < t < calls.tokens and (t >= calls.prefilled or t % chunk == 0)}
