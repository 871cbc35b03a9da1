"""What ExLlamaV3 stores for a layer: paged planes that grow with the cache's tokens, slots that grow with its jobs.

Everything is allocated when the model loads, at full size. A *paged* layer has planes of `pages` pages of 256 tokens; a *slot*
layer has one fixed state for each of `max_batch_size` jobs. Keys and values are fp16 whatever the checkpoint's dtype is, or
packed at 2 to 8 bits in groups of 32 with an fp16 scale each; states are bf16, fp16 or fp32 as said at each class.

Source: exllamav3 1.6.5, `cache/{fp16,quant,mla,dsa,qsa}.py`, `modules/{sliding_attn,gated_delta_net,short_conv,ple}.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final, Generic

import msgspec

from kvplan.domain.dtypes import item_bytes
from kvplan.engines.kernel.tensors import Count, at_most
from kvplan.units import ceil_div

PAGE: Final = 256  # tokens; constants.py PAGE_SIZE
_GROUP: Final = 32  # values that share a scale
#: Rows that a ring keeps beside its window, so that a pass may be rolled back: two pages. `sliding_window_overp`.
_SPARE: Final = 2 * PAGE


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """How pages are stored: fp16, or packed (`quantised`) with so many bits for a key and a value."""

    k_bits: int = 0
    v_bits: int = 0
    quantised: bool = False

    def __str__(self) -> str:
        """As TabbyAPI's `cache_mode` says it."""
        if not self.quantised:
            return "FP16"
        return f"Q{self.k_bits}" if self.k_bits == self.v_bits and self.k_bits in {4, 6, 8} else f"{self.k_bits},{self.v_bits}"


FP16: Final = Mode()


class Plane(msgspec.Struct, Generic[Count], frozen=True, kw_only=True):
    """One real tensor: `per` leading items (pages or jobs) of `row` items of `dtype` each.

    `tokens_per_row` says how many tokens one row of a page stands for (paged planes only); `needed` are the bytes of one
    job that hold what its model must remember (slot planes only).
    """

    name: str
    shape: tuple[int | Count, ...]
    dtype: str
    tokens_per_row: int = 1
    needed: int | Count = 0
    on_host: bool = False

    @property
    def bytes(self) -> int | Count:
        """Bytes of the tensor."""
        size: int | Count = item_bytes(self.dtype)
        for items in self.shape:
            size = size * items
        return size


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """Keys and values of `heads` heads of `dim`; values are kept at `dim` too, even where a model's are narrower.

    With `index_dim` two fp16 planes of an indexer follow: a key a token, and one for `index_ratio` tokens (QSA).

    Source: `cache/fp16.py:CacheLayer_fp16`, `quant.py:CacheLayer_quant`, `qsa.py:QSAPlanes`.
    """

    heads: int
    dim: int
    index_dim: int = 0
    index_ratio: int = 4

    def planes(self, pages: Count, mode: Mode) -> Iterator[Plane[Count]]:
        """The tensors of `pages` pages."""
        if mode.k_bits:
            groups = self.heads * self.dim // _GROUP  # what does not fill a group is dropped, without an error
            yield Plane(name="keys", shape=(pages, PAGE, groups * mode.k_bits), dtype="int32")
            yield Plane(name="values", shape=(pages, PAGE, groups * mode.v_bits), dtype="int32")
            yield Plane(name="key scales", shape=(pages, PAGE, groups), dtype="float16")
            yield Plane(name="value scales", shape=(pages, PAGE, groups), dtype="float16")
        else:
            for name in ("keys", "values"):
                yield Plane(name=name, shape=(pages, PAGE, self.heads, self.dim), dtype="float16")
        if self.index_dim:
            yield Plane(name="index keys", shape=(pages, PAGE, self.index_dim), dtype="float16")
            rows = PAGE // self.index_ratio
            yield Plane(
                name="pooled index keys", shape=(pages, rows, self.index_dim), dtype="float16", tokens_per_row=self.index_ratio
            )

    def work_per_token(self, mode: Mode) -> int:
        """Bytes a token of a temporary, dequantised row that the tensor-parallel planner counts."""
        return 2 * self.heads * self.dim * 2 if mode.k_bits else 0


class Mla(msgspec.Struct, frozen=True, kw_only=True):
    """One latent of `rank` and one rotary key of `rope` a token, shared by all heads; the rotary key is never packed.

    `index_dim` is the indexer's key where the layer has one of its own; with `kpool` the plane is twice as wide and a pooled
    key for `kpool` tokens follows. `v_bits` is accepted and unused.

    Source: `cache/mla.py:CacheLayer_MLA_fp16`, `CacheLayer_MLA_quant`.
    """

    rank: int
    rope: int
    index_dim: int = 0
    kpool: int = 0

    def planes(self, pages: Count, mode: Mode) -> Iterator[Plane[Count]]:
        """The tensors of `pages` pages."""
        if mode.k_bits:
            groups = self.rank // _GROUP
            yield Plane(name="latent", shape=(pages, PAGE, groups * mode.k_bits), dtype="int32")
            yield Plane(name="latent scales", shape=(pages, PAGE, groups), dtype="float16")
        else:
            yield Plane(name="latent", shape=(pages, PAGE, 1, self.rank), dtype="float16")
        yield Plane(name="rotary key", shape=(pages, PAGE, 1, self.rope), dtype="float16")
        if self.index_dim:
            yield Plane(name="index keys", shape=(pages, PAGE, self.index_dim * (2 if self.kpool else 1)), dtype="float16")
            if self.kpool:
                rows = PAGE // self.kpool
                yield Plane(
                    name="pooled index keys", shape=(pages, rows, self.index_dim), dtype="float16", tokens_per_row=self.kpool
                )


class Entries(msgspec.Struct, frozen=True, kw_only=True):
    """One entry for `ratio` tokens: `dim` elements of which `rope` are never packed, and an indexer's key beside it.

    Where the rest of an entry does not fill groups of 32 it stays fp16 in any mode. `v_bits` is unused.

    Source: `cache/dsa.py:CacheLayer_dsa`, `modules/dsv4.py:cache_layer_type`.
    """

    dim: int
    rope: int
    ratio: int
    index_dim: int = 0

    def planes(self, pages: Count, mode: Mode) -> Iterator[Plane[Count]]:
        """The tensors of `pages` pages."""
        rows, packed = PAGE // self.ratio, self.dim - self.rope

        def plane(name: str, width: int, dtype: str = "float16") -> Plane[Count]:
            return Plane(name=name, shape=(pages, rows, width), dtype=dtype, tokens_per_row=self.ratio)

        if mode.k_bits and packed % _GROUP == 0:
            yield plane("entries", packed // _GROUP * mode.k_bits, "int32")
            yield plane("entry scales", packed // _GROUP)
        else:
            yield plane("entries", packed)
        yield plane("rotary parts", self.rope)
        if self.index_dim:
            yield plane("index keys", self.index_dim)


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `dim` a token, never packed: a draft block of DeepSeek-V4. Source: `cache/dsa.py:CacheLayer_dspark`."""

    dim: int

    def planes(self, pages: Count, mode: Mode) -> Iterator[Plane[Count]]:
        """The tensor of `pages` pages."""
        yield Plane(name="rows", shape=(pages, PAGE, self.dim), dtype="float16")


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs hold a state, how many drafted tokens one of them may take back, and the dtype of recurrent states."""

    jobs: int
    history: int = 0
    state_dtype: str = "float16"  # or float32


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """The last `window` tokens of a sliding layer, in whole pages with two pages to spare; never quantised.

    Source: `modules/sliding_attn.py:SWALayerState`.
    """

    heads: int
    dim: int
    window: int  # tokens before the current one that it may look at, as the module is told

    @property
    def rows(self) -> int:
        """Rows of the ring."""
        return ceil_div(self.window + _SPARE, PAGE) * PAGE

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """Keys and values of `jobs` jobs."""
        for name in ("keys", "values"):
            needed = at_most(seq_len, self.window) * (self.heads * self.dim * 2)
            yield Plane(name=name, shape=(jobs, self.rows, self.heads, self.dim), dtype="float16", needed=needed)

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes."""
        return 2 * self.window * self.heads * self.dim * 2


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A short convolution's ring and a recurrent state of two rows a job, with the staged inputs of a drafting pass.

    `gate` is the width of the staged gate. Mamba-2 layers (`always_fp32`) keep fp32 states whatever is asked.

    Source: `modules/gated_delta_net.py:GDNLayerState`, `modules/mamba2.py`.
    """

    channels: int
    kernel: int
    heads: int
    key_dim: int
    value_dim: int
    gate: int
    always_fp32: bool = False

    def _dtype(self, slots: Slots) -> str:
        return "float32" if self.always_fp32 else slots.state_dtype

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """The state of `jobs` jobs."""
        width, rows = self.kernel + slots.history, jobs * (slots.history + 1)
        state = self.heads * self.key_dim * self.value_dim * item_bytes(self._dtype(slots))
        yield Plane(name="conv", shape=(jobs, self.channels, width), dtype="bfloat16", needed=self.channels * self.kernel * 2)
        shape = (jobs * 2, 1, self.heads, self.key_dim, self.value_dim)
        yield Plane(name="state", shape=shape, dtype=self._dtype(slots), needed=state)
        yield Plane(name="staged inputs", shape=(rows, self.channels), dtype="bfloat16")
        yield Plane(name="staged rates", shape=(rows, self.heads), dtype="bfloat16")
        yield Plane(name="staged gates", shape=(rows, self.gate), dtype="float32")

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes."""
        return self.channels * self.kernel * 2 + self.heads * self.key_dim * self.value_dim * item_bytes(self._dtype(slots))


class Conv(msgspec.Struct, frozen=True, kw_only=True):
    """A short convolution's ring. Source: `modules/short_conv.py:ShortConvLayerState`."""

    channels: int
    kernel: int

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """The ring of `jobs` jobs."""
        shape = (jobs, self.channels, self.kernel + slots.history)
        yield Plane(name="conv", shape=shape, dtype="float16", needed=self.checkpoint(slots))

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes."""
        return self.channels * self.kernel * 2


class Compressor(msgspec.Struct, frozen=True, kw_only=True):
    """DeepSeek-V4's state: a ring of raw rows, and buffers of the compressor where the layer has one.

    `ratio` 0: a sliding layer, the ring alone. With `index_dim` the windows overlap, and their snapshots are fp32 because
    they carry the position's bias. The length of a draft does not matter.

    Source: `cache/dsa.py:DSV4LayerState`.
    """

    dim: int
    window: int
    ratio: int = 0
    index_dim: int = 0

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        rows = ceil_div(self.window + _SPARE, PAGE) * PAGE
        yield "ring", (rows, self.dim), "float16"
        if not self.ratio:
            return
        overlap = bool(self.index_dim)
        for name in ("compressor rows", "compressor gates"):
            yield name, (PAGE + self.ratio, self.dim * (2 if overlap else 1)), "float16"
        if overlap:
            depth = PAGE // self.ratio + 2
            for name in ("index rows", "index gates"):
                yield name, (PAGE + self.ratio, self.index_dim * 2), "float16"
            yield "snapshots", (depth, 2, self.ratio, self.dim), "float32"
            yield "index snapshots", (depth, 2, self.ratio, self.index_dim), "float32"

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """The state of `jobs` jobs; of the buffers nothing need be kept but what has not been compressed yet."""
        for name, sizes, dtype in self._shapes():
            needed: int | Count = 0
            if name == "ring":
                needed = at_most(seq_len, self.window) * (self.dim * 2)
            shape: tuple[int | Count, ...] = (jobs,)
            yield Plane(name=name, shape=shape + sizes, dtype=dtype, needed=needed)

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes: one job's state whole."""
        return sum(prod(one[1]) * item_bytes(one[2]) for one in self._shapes())


class Ngrams(msgspec.Struct, frozen=True, kw_only=True):
    """An n-gram injection: a dilated convolution's ring on the card, token ids in host memory.

    Source: `modules/ple.py:PLELayerState`.
    """

    channels: int
    window: int
    context: int

    def planes(self, slots: Slots, jobs: Count, seq_len: Count) -> Iterator[Plane[Count]]:
        """The state of `jobs` jobs."""
        shape = (jobs, self.channels, self.window + slots.history)
        yield Plane(name="n-gram conv", shape=shape, dtype="float16", needed=self.channels * self.window * 2)
        ids = (jobs, self.context + slots.history)
        yield Plane(name="n-gram ids", shape=ids, dtype="int64", needed=self.context * 8, on_host=True)

    def checkpoint(self, slots: Slots) -> int:
        """Host bytes that a stored checkpoint of one sequence takes."""
        return self.channels * self.window * 2 + self.context * 8


Paged = Attention | Mla | Entries | Rows
Slot = Ring | Delta | Conv | Compressor | Ngrams


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer of the model, or one occurrence of it in a layer map, holds.

    `after` marks an n-gram injection: the engine keeps it as a layer of its own, listed after all others.
    """

    layer: int
    paged: Paged | None = None
    slot: Slot | None = None
    after: bool = False
