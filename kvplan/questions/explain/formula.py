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
    """Every buffer of an allocation as a product, equal tensors of several layers in one; the lines sum to `total_bytes`."""
    alike: dict[tuple[str, str, bool, str], list[Buffer]] = {}
    for b in a.buffers:
        alike.setdefault((b.name, b.kind, bool(b.layers), _one(a, b)), []).append(b)
    found = []
    for (name, kind, of_layers, one), buffers in alike.items():
        count = sum(b.count for b in buffers)
        layers = f"{count:,} layer{'s' if count > 1 else ''} x " if of_layers else f"{count:,} x " if count > 1 else ""
        found.append(Line(name=name, kind=kind, product=f"{layers}{one}", bytes=sum(b.padded_bytes for b in buffers)))
    return found


def _one(a: Allocation, b: Buffer) -> str:
    """One of a buffer's tensors as a product."""
    item = _item_bytes(b.dtype)
    if item is None or prod(b.shape) * item * b.count != b.padded_bytes:
        # a tensor that several layers share, or that is not a plain product: its own bytes are all that can be said
        return f"{b.padded_bytes // b.count:,} B"
    axes = _axes(a, b)
    if item > 1:
        return " x ".join([*axes, f"{item} B"])
    return " x ".join(axes) + ("" if axes and axes[-1].endswith(("B", a.kv_dtype)) else " B")


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
    if b.per == "block" and len(shape) == 2 and _item_bytes(b.dtype) == 1:
        return [f"{shape[0]:,} block{'s' if shape[0] > 1 else ''}", f"{shape[1]:,} B"]
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
    if b.per == "token" and len(shape) == 3:
        return [first, f"{shape[1]:,} rows", f"{shape[2]:,} elements"]
    return [first, *(f"{size:,}" for size in shape[1:])]
