"""Retention and storage of `transformers` caches: how many tokens a layer keeps, and as which tensors.

A kept tensor may be a view of a larger one: `payload` counts the view, `padded` the storage behind it. Sources, in
`cache_utils.py`: `DynamicLayer.update` (torch.cat), `DynamicSlidingWindowLayer.update` (a slice of the concatenation, one
token short of the window), `StaticLayer.lazy_initialization`, `LinearAttentionLayer.lazy_initialization`; for
DeepSeek V4 `DeepseekV4HCACache.store_compression_weights` in `models/deepseek_v4/modeling_deepseek_v4.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Generic

from msgspec import Struct

from kvplan.domain.allocation import Per
from kvplan.domain.dtypes import item_bytes, torch_name
from kvplan.domain.model import Chunk, Compressed, Cross, Index, Latent, Memory, Model, Reach, Recurrent, Softmax, Window
from kvplan.domain.words import memory_words
from kvplan.engines.kernel.tensors import Count, Piece, at_least, at_most
from kvplan.engines.transformers.rules import Rules


class Moment(Struct, Generic[Count], frozen=True, kw_only=True):
    """What a cache has seen: `seq_len` tokens, of which `prompt_len` went through in one forward pass."""

    seq_len: Count
    prompt_len: Count
    batch_size: Count
    encoder_len: int

    def after(self, prefilled: Count, decoded: Count) -> Count:
        """`decoded` where at least one token came after the prompt, else `prefilled`."""
        return prefilled + (decoded - prefilled) * (self.seq_len > self.prompt_len)

    def after_one(self, prefilled: Count, decoded: Count) -> Count:
        """As `after`, for modules that take a prompt of one token for a decode step."""
        rest = self.seq_len - self.prompt_len  # a prompt of one token is a step although nothing follows it
        return prefilled + (decoded - prefilled) * (rest + at_most(self.prompt_len, 1) * (self.prompt_len < 2) > 0)


class Tokens(Struct, Generic[Count], frozen=True, kw_only=True):
    """Tokens of one kept tensor: those it shows, and those its storage holds."""

    view: Count
    stored: Count


# Retention: which tokens are kept.


def window_of(reach: Reach) -> int | None:
    """The window as the library sees it: chunks are windows to its cache, and a window of 1 drops nothing.

    `keys[:, :, -1 + 1 :]` is the whole tensor (`DynamicSlidingWindowLayer.update`).
    """
    return reach.size if isinstance(reach, Window | Chunk) else None


def self_tokens(rules: Rules, reach: Reach, at: Moment[Count]) -> Tokens[Count]:
    """Tokens of a self-attention layer."""
    window = window_of(reach)
    if rules.preallocated:
        return _fixed(rules, window, at, rules.max_cache_len(at.seq_len))
    if window is not None and rules.windows == "on_modules":
        kept = at.seq_len * 0 + window
        return Tokens(view=kept, stored=at.after(at_least(at.seq_len, window), kept))
    if window is None or rules.windows == "ignored":
        return Tokens(view=at.seq_len, stored=at.seq_len)
    return sliding_tokens(window, at.seq_len, at)


def sliding_tokens(window: int, tokens: Count, at: Moment[Count]) -> Tokens[Count]:
    """A growing sliding layer shows window - 1 tokens; behind them lies the last concatenation.

    Right after the prompt that is the whole prompt, after a decode step the window.
    """
    if window == 1:
        return Tokens(view=tokens, stored=tokens)
    return Tokens(view=at_most(tokens, window - 1), stored=at.after(tokens, at_most(tokens, window)))


def _fixed(rules: Rules, window: int | None, at: Moment[Count], longest: Count) -> Tokens[Count]:
    limit = rules.every_window if rules.windows == "everywhere" else window if rules.windows == "kept" else None
    kept = longest if limit is None else longest * 0 + limit if rules.window_unclipped else at_most(longest, limit)
    return Tokens(view=kept, stored=kept)


def cross_tokens(rules: Rules, memory: Cross, at: Moment[Count]) -> Tokens[Count]:
    """Encoder positions; a growing cross cache slides where the layer does, and never grows after the first step."""
    length = at.encoder_len or memory.tokens or 0
    whole = at.seq_len * 0 + length
    window = window_of(memory.reach)
    if not rules.cross_slides or window is None or window == 1:
        return Tokens(view=whole, stored=whole)
    kept = at_most(whole, window if rules.preallocated else window - 1)
    return Tokens(view=kept, stored=kept if rules.preallocated else whole)


# Storage: memories -> tensors.


class Layers(Generic[Count]):
    """The tensors that a set of equal layers holds at one moment."""

    def __init__(self, rules: Rules, layers: tuple[int, ...], at: Moment[Count], heads: int | None) -> None:
        self.rules: Rules = rules
        self.layers: tuple[int, ...] = layers
        self.at: Moment[Count] = at
        self.heads: int | None = heads

    def pieces(self, memories: tuple[Memory, ...]) -> Iterator[Piece[Count]]:
        """Every tensor of one layer's memories."""
        compressed = any(isinstance(getattr(m, "reach", None), Compressed) for m in memories)
        for memory in memories:
            match memory:
                case Softmax(reach=Compressed() as reach):
                    yield from self._compressor(memory, "compressor", reach, memory.key_dim)
                case Index(reach=Compressed() as reach):
                    yield from self._compressor(memory, "indexer", reach, memory.dim)
                case Softmax():
                    yield from self._keys_and_values(memory, shared=compressed)
                case Latent():
                    yield from self._latent(memory)
                case Index():
                    yield from self._index(memory)
                case Cross():
                    yield from self._cross(memory)
                case Recurrent():
                    yield from self._states(memory)
                case _:  # Shared: another layer's tensors
                    continue

    def references(self, model: Model) -> Iterator[Piece[Count]]:
        """A prompt longer than the window stays alive whole, where sharing layers hold on to what their source returned."""
        for layer in self.layers:
            for memory in model.layers[layer].memories:
                window = window_of(memory.reach) if isinstance(memory, Softmax) else None
                if window is None or not isinstance(memory, Softmax):
                    continue
                zero = self.at.seq_len * 0
                prompt = self.at.after(self.at.seq_len * (self.at.seq_len > window), zero)
                one = Layers(self.rules, (layer,), self.at, self.heads)
                held = Tokens(view=zero, stored=prompt)
                yield one._rows(memory, "shared_keys", memory.kv_heads, memory.key_dim, held)
                yield one._rows(memory, "shared_values", memory.kv_heads, memory.value_dim, held)

    def _piece(
        self,
        memory: Memory,
        name: str,
        shape: tuple[int | Count, ...],
        tokens: Tokens[Count],
        *,
        row: int,
        dtype: str,
        per: Per = "token",
        first_row: int | None = None,
    ) -> Piece[Count]:
        """One tensor; `row` is its elements for one token of one sequence, `first_row` those behind the prompt's."""
        each = self.at.batch_size * (row * item_bytes(dtype))
        payload = each * tokens.view
        if first_row is not None:
            padded = self._first(payload, self.at.batch_size * (first_row * item_bytes(dtype)) * tokens.stored)
        else:
            padded = payload if tokens.stored is tokens.view else each * tokens.stored
        if first_row is not None and isinstance(padded, int) and padded != payload:
            shape = (self.at.batch_size, tokens.stored, first_row)
        return Piece(
            layers=self.layers,
            name=name,
            kind=memory_words(memory, self.heads),
            shape=shape,
            dtype=torch_name(dtype),
            payload=payload,
            padded=padded,
            per=per,
        )

    def _first(self, payload: Count, whole: Count) -> Count:
        """`whole` right after the prompt, when the cache still holds the projection's output itself."""
        if self.rules.first_view_of_one:
            whole = payload + (whole - payload) * (self.at.batch_size == 1)
        return self.at.after(whole, payload)

    def _rows(
        self,
        memory: Memory,
        name: str,
        heads: int,
        dim: int,
        tokens: Tokens[Count],
        *,
        dtype: str = "",
        per: Per = "token",
        first_row: int | None = None,
    ) -> Piece[Count]:
        shape = (self.at.batch_size, heads, tokens.stored, dim)
        kept = dtype or self.rules.dtype
        return self._piece(memory, name, shape, tokens, row=heads * dim, dtype=kept, per=per, first_row=first_row)

    def _keys_and_values(self, memory: Softmax, *, shared: bool) -> Iterator[Piece[Count]]:
        """`shared`: DeepSeek V4's compressing layers let the values alias the keys; its sliding ones keep both."""
        if self.rules.reference_window is not None:
            yield from self._reference_window(memory, self.rules.reference_window)
            return
        tokens = self_tokens(self.rules, memory.reach, self.at)
        values = memory.value_dim or memory.key_dim
        fused = ((self.heads or memory.kv_heads) + 2 * memory.kv_heads) * values
        keys_row = fused if self.rules.fused == "both" else None
        values_row = {"both": 0, "values": fused}.get(self.rules.fused)
        key_dtype = self.rules.key_dtype
        yield self._rows(memory, "keys", memory.kv_heads, memory.key_dim, tokens, dtype=key_dtype, first_row=keys_row)
        if not shared:
            yield self._rows(memory, "values", memory.kv_heads, values, tokens, first_row=values_row)

    def _latent(self, memory: Latent) -> Iterator[Piece[Count]]:
        tokens = self_tokens(self.rules, memory.reach, self.at)
        if self.rules.latent:
            yield self._rows(memory, "keys", 1, memory.rank, tokens)
            yield self._rows(memory, "values", 1, memory.rope_dim, tokens)
        else:
            yield self._rows(memory, "keys", memory.heads, memory.nope_dim + memory.rope_dim, tokens)
            fused = memory.heads * (memory.nope_dim + memory.value_dim) if self.rules.fused else None
            yield self._rows(memory, "values", memory.heads, memory.value_dim, tokens, first_row=fused)

    def _index(self, memory: Index) -> Iterator[Piece[Count]]:
        """The indexer's keys; one head has no axis of its own except in MiniMax-M3."""
        tokens = self_tokens(self.rules, memory.reach, self.at)
        dtype = memory.dtype or self.rules.dtype
        name = self.rules.index_name
        shape: tuple[int | Count, ...] = (self.at.batch_size, tokens.stored, memory.dim)
        if memory.heads > 1 or name == "idx_keys":
            shape = (self.at.batch_size, memory.heads, tokens.stored, memory.dim)
        yield self._piece(memory, name, shape, tokens, row=memory.heads * memory.dim, dtype=dtype)

    def _cross(self, memory: Cross) -> Iterator[Piece[Count]]:
        tokens = cross_tokens(self.rules, memory, self.at)
        yield self._rows(memory, "cross_keys", memory.kv_heads, memory.key_dim, tokens, per="encoder")
        yield self._rows(memory, "cross_values", memory.kv_heads, memory.value_dim, tokens, per="encoder")

    def _states(self, memory: Recurrent) -> Iterator[Piece[Count]]:
        for name, state in self.rules.named_states(memory):
            columns = self.rules.conv_columns(state)
            kept: tuple[int, ...] = self.rules.state_shape(state)
            elements = prod(kept)
            extra = prod(state.shape) if self.rules.conv_is_view and columns else 0
            dtype = self.rules.state_dtype(state)
            each = self.at.batch_size * item_bytes(dtype)
            zero = self.at.seq_len * 0
            after = self.at.after_one if self.rules.one_is_a_step else self.at.after
            payload = each * elements + zero
            # a view of the last inputs has one more column behind it, after a decode step
            padded = payload + each * after(zero, zero + extra) if extra else payload
            yield Piece(
                layers=self.layers,
                name=name,
                kind=memory_words(memory, self.heads),
                shape=(self.at.batch_size, *kept[:-1], after(zero + kept[-1], zero + kept[-1] + (extra > 0))),
                dtype=torch_name(dtype),
                payload=payload,
                padded=padded,
                per="sequence",
            )

    # DeepSeek V4.

    def _compressor(self, memory: Softmax | Index, name: str, reach: Compressed, dim: int) -> Iterator[Piece[Count]]:
        """Entries so far, the tokens that wait for their group to fill, and the last group where groups overlap."""
        ratio, overlap = reach.ratio, reach.overlap
        at, entries = self.at, self.at.seq_len // ratio
        width = dim * (2 if overlap else 1)
        waiting = Tokens(view=at.seq_len % ratio, stored=at.after(at.seq_len, (at.seq_len + ratio - 1) % ratio + 1))
        every = Tokens(view=entries, stored=entries)
        dtype = self.rules.dtype
        yield self._piece(memory, f"compressed_kv.{name}", (at.batch_size, entries, dim), every, row=dim, dtype=dtype)
        for part in ("kv", "gate"):
            shape = (at.batch_size, waiting.stored, width)
            yield self._piece(memory, f"buffer_{part}.{name}", shape, waiting, row=width, dtype=dtype)
        if overlap:
            group = at_most(entries, 1) * ratio
            kept = Tokens(view=group, stored=group)
            for part, kind in (("kv", dtype), ("gate", self.rules.gate_dtype or dtype)):
                yield self._piece(memory, f"overlap_{part}.{name}", (at.batch_size, group, dim), kept, row=dim, dtype=kind)

    # Unlimited-OCR.

    def _reference_window(self, memory: Softmax, window: int) -> Iterator[Piece[Count]]:
        """The prompt is kept whole, generated tokens in a window. Source: `UnlimitedOcr*ReferenceSlidingWindowLayer`."""
        at = self.at
        prompt = at.seq_len - at_least(at.seq_len - at.prompt_len, 0)
        for part, dim in (("keys", memory.key_dim), ("values", memory.value_dim)):
            if self.rules.preallocated:
                longest = at.seq_len * 0 + self.rules.max_cache_len(at.seq_len)
                slots = at_most(longest, window)
                held = prompt - at_least(prompt - (longest - slots), 0)
                zero = at.seq_len * 0
                whole = Tokens(view=held + slots, stored=held + slots)
                yield self._rows(memory, f"all_{part}", memory.kv_heads, dim, whole)
                yield self._rows(memory, f"prefill_{part}", memory.kv_heads, dim, Tokens(view=held, stored=zero))
                yield self._rows(memory, part, memory.kv_heads, dim, Tokens(view=slots, stored=zero))
            else:
                generated = at.seq_len - prompt
                yield self._rows(memory, f"prefill_{part}", memory.kv_heads, dim, Tokens(view=prompt, stored=prompt))
                stored = at_most(generated, window)
                yield self._rows(memory, part, memory.kv_heads, dim, Tokens(view=at_most(generated, window - 1), stored=stored))
