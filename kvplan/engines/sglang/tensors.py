"""Tensors of a pool, and what is common to all of them: element sizes, heads of a device, pipeline stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Final, Literal

from msgspec import Struct

from kvplan.errors import Refused

Place = Literal["full", "sliding", "index"]

_ITEM: Final = {
    "float32": 4, "float16": 2, "bfloat16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1, "mxfp8": 1, "nvfp4": 1, "fp4_mx_block16": 1,
    "uint8": 1,
}  # fmt: skip


class Tensor(Struct, frozen=True, kw_only=True):
    """A tensor that each of `layers` has: rows of `row` elements. Without layers there is one, shared by all."""

    name: str
    kind: str  # "key", "value", "latent", "index" or "scale"
    layers: tuple[int, ...]
    row: tuple[int, ...]
    dtype: str
    item: int  # bytes of an element
    place: Place = "full"
    whole_pages: bool = False  # keys and values in one tensor: its rows are whole pages
    tokens_per_row: int = 1

    @property
    def row_bytes(self) -> int:
        """One row of one layer."""
        return prod(self.row) * self.item

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.layers) or 1


class Layout(Struct, frozen=True, kw_only=True):
    """What one pipeline stage stores, and the cells of its budget in bytes.

    `cell` is a float where a share of a sliding pool is in it. What names the full and the sliding pool is of their split alone.
    """

    stage: range
    tensors: tuple[Tensor, ...]
    cell: int | float
    full_cell: int = 0  # one token in all layers that keep everything, the drafter's included
    sliding_cell: int = 0
    draft_cell: int = 0  # of `cell` (or of `full_cell`), the drafter's
    draft_sliding_cell: int = 0
    full_layers: int = 0
    sliding_layers: int = 0


def item_size(dtype: str) -> int:
    """Bytes of an element as torch counts them: packed fp4 has two elements in one.

    >>> item_size("bfloat16"), item_size("nvfp4")
    (2, 1)

    Raises:
        Refused: no cache of SGLang's is kept in it.
    """
    size = _ITEM.get(dtype)
    if size is None:
        raise Refused(f"SGLang keeps no cache in {dtype}")
    return size


def local_heads(total: int, devices: int, context_parallel: int = 1) -> int:
    """KV heads of one device: fewer heads than devices are replicated. Source: `ModelConfig.get_num_kv_heads`.

    >>> local_heads(8, 4), local_heads(8, 16), local_heads(10, 4)
    (2, 1, 2)
    """
    return max(1, total // max(1, devices // context_parallel))


def stages(layers: int, pipeline: int) -> tuple[range, ...]:
    """Layers of each pipeline stage; the last ones take what is left over. Source: `distributed/utils.py:get_pp_indices`.

    >>> stages(10, 4)
    (range(0, 2), range(2, 4), range(4, 7), range(7, 10))
    """
    base, left = divmod(layers, pipeline)
    sizes = [base + (rank >= pipeline - left) for rank in range(pipeline)]
    starts = [sum(sizes[:rank]) for rank in range(pipeline)]
    return tuple(range(start, start + size) for start, size in zip(starts, sizes, strict=True))


def total_bytes(tensors: Iterable[Tensor], rows: Mapping[Place, int], page: int) -> int:
    """Bytes of all tensors, given the rows of each place."""
    return sum(tensor_bytes(tensor, rows[tensor.place], page) for tensor in tensors)


def tensor_bytes(tensor: Tensor, rows: int, page: int) -> int:
    """Bytes of one tensor in all its layers."""
    if tensor.whole_pages:
        rows = -(-rows // page) * page
    return tensor.row_bytes * rows * tensor.count
