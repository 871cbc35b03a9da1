"""What ExLlamaV3 stores for a paged layer: planes of pages of 256 tokens, which all jobs share.

Everything is allocated when the model loads, at full size. Keys and values are fp16 whatever the checkpoint's dtype is, or
packed at 2 to 8 bits in groups of 32 with an fp16 scale each. What grows with the jobs instead is in `states`.

Source: exllamav3 1.6.5, `cache/{fp16,quant,mla,dsa,qsa}.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic

import msgspec

from kvplan.domain.dtypes import item_bytes
from kvplan.engines.kernel.tensors import Count

PAGE: Final = 256  # tokens; constants.py PAGE_SIZE
_GROUP: Final = 32  # values that share a scale


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

    `tokens_per_row` says how many tokens one row of a page stands for, and `used` which part of a row the model needs (paged
    planes only); `needed` are the bytes of one job that hold what its model must remember (slot planes only).
    """

    name: str
    shape: tuple[int | Count, ...]
    dtype: str
    tokens_per_row: int = 1
    used: tuple[int, int] = (1, 1)  # so many of so many elements
    needed: int | Count = 0
    on_host: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a page."""
        size = item_bytes(self.dtype)
        for items in self.shape[2:]:
            size *= int(items)
        return size

    @property
    def bytes(self) -> int | Count:
        """Bytes of the tensor."""
        size: int | Count = item_bytes(self.dtype)
        for items in self.shape:
            size = size * items
        return size


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """Keys and values of `heads` heads of `dim`: the wider of the two, even where a model's values are narrower.

    With `index_dim` two fp16 planes of an indexer follow: a key a token, and one for `index_ratio` tokens (QSA).

    Source: `cache/fp16.py:CacheLayer_fp16`, `quant.py:CacheLayer_quant`, `qsa.py:QSAPlanes`.
    """

    heads: int
    dim: int
    key_dim: int
    value_dim: int
    index_dim: int = 0
    index_ratio: int = 4

    def planes(self, pages: Count, mode: Mode) -> Iterator[Plane[Count]]:
        """The tensors of `pages` pages."""
        key, value = (self.key_dim, self.dim), (self.value_dim, self.dim)
        if mode.k_bits:
            groups = self.heads * self.dim // _GROUP  # what does not fill a group is dropped, without an error
            yield Plane(name="keys", shape=(pages, PAGE, groups * mode.k_bits), dtype="int32", used=key)
            yield Plane(name="values", shape=(pages, PAGE, groups * mode.v_bits), dtype="int32", used=value)
            yield Plane(name="key scales", shape=(pages, PAGE, groups), dtype="float16", used=key)
            yield Plane(name="value scales", shape=(pages, PAGE, groups), dtype="float16", used=value)
        else:
            for name, used in (("keys", key), ("values", value)):
                yield Plane(name=name, shape=(pages, PAGE, self.heads, self.dim), dtype="float16", used=used)
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


Paged = Attention | Mla | Entries | Rows
