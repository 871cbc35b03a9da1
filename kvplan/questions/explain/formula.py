"""The sum behind an allocation, one line a kind of tensor, with this workload's numbers in it."""

from math import prod
from typing import NamedTuple

from kvplan.domain.allocation import Allocation, Buffer
from kvplan.domain.dtypes import DTYPES, STATE_ITEM_BYTES, item_bytes


class Line(NamedTuple):
    """One term: what is kept, the product in words, and the bytes that it comes to."""

    name: str
    kind: str
    product: str
    bytes: int


def formula(a: Allocation) -> list[Line]:
    """Every buffer of an allocation as a product; the lines sum to `total_bytes`."""
    return [Line(name=b.name, kind=b.kind, product=_product(a, b), bytes=b.padded_bytes) for b in a.buffers]


def _product(a: Allocation, b: Buffer) -> str:
    layers = f"{b.count:,} layer{'s' if b.count > 1 else ''}"
    item = _item_bytes(b.dtype)
    if item is None or prod(b.shape) * item * b.count != b.padded_bytes:
        # a tensor that several layers share, or that is not a plain product: its own bytes are all that can be said
        return f"{layers} x {b.padded_bytes // b.count:,} B"
    factors = [layers, *_axes(a, b)]
    if item > 1:
        factors.append(f"{item} B")
    return " x ".join(factors)


def _item_bytes(dtype: str) -> int | None:
    if dtype == "uint8":
        return 1
    by_torch = {row.torch: row.block_bytes for row in DTYPES.values() if not row.packed}
    if dtype in by_torch:
        return by_torch[dtype]
    return item_bytes(dtype) if dtype in STATE_ITEM_BYTES else None


def _axes(a: Allocation, b: Buffer) -> list[str]:
    """The tensor's dimensions, named where the layout is the usual one."""
    sequences, shape = a.workload.batch_size, b.shape
    if not shape or shape[0] != sequences:
        return [f"{size:,}" for size in shape]
    first = f"{sequences:,} sequence{'s' if sequences > 1 else ''}"
    tokens = "encoder tokens" if b.per == "encoder" else "tokens"
    if b.per in {"token", "encoder"} and len(shape) == 4:
        if shape[1] == 1 and not b.name.endswith(("keys", "values")):
            return [first, f"{shape[2]:,} {tokens}", f"{shape[3]:,} elements"]
        return [first, f"{shape[1]:,} kv_heads", f"{shape[2]:,} {tokens}", f"{shape[3]:,} head_dim"]
    if b.per in {"token", "encoder"} and len(shape) == 3 and b.dtype == "uint8":
        return [first, f"{shape[1]:,} {tokens}", f"{shape[2]:,} B of {a.kv_dtype}"]
    return [first, *(f"{size:,}" for size in shape[1:])]
