"""Counts of tokens and sequences, and tensors as a function of them: one formula for an `int` and for int64 arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from kvplan.domain.allocation import Per

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

#: A token or sequence count: one `int`, or an int64 array with one entry a grid cell.
Count = TypeVar("Count", int, "IntArray")


def at_most(amount: Count, limit: int | Count) -> Count:
    """`min(amount, limit)` for an int or an array, whose limit may be one too."""
    if isinstance(amount, int):
        return min(amount, limit)
    return amount.clip(max=limit)


def at_least(amount: Count, limit: int | Count) -> Count:
    """`max(amount, limit)` for an int or an array, whose limit may be one too."""
    if isinstance(amount, int):
        return max(amount, limit)
    return amount.clip(min=limit)


def whole_blocks(amount: Count, size: int) -> Count:
    """Blocks of `size` that hold `amount`, for an int or an array."""
    return -(-amount // size)


class At(Struct, Generic[Count], frozen=True):
    """A workload, or an array of workloads of one shape: `batch_size` sequences of `seq_len` tokens."""

    seq_len: Count
    batch_size: Count
    encoder_len: int = 0  # encoder output (or image) tokens of one sequence


class Piece(Struct, Generic[Count], frozen=True, kw_only=True):
    """One tensor that each of `layers` holds; `payload` and `padded` are bytes of *one* such tensor.

    Without layers it is one tensor that belongs to none of them: padding, or a drafter's cache.
    """

    layers: tuple[int, ...]
    name: str
    kind: str
    shape: tuple[int | Count, ...]
    dtype: str
    payload: Count
    padded: Count
    per: Per

    @property
    def count(self) -> int:
        """How many such tensors there are."""
        return len(self.layers) or 1


class Totals(Struct, Generic[Count], frozen=True, kw_only=True):
    """What a sweep reports of a workload, in bytes."""

    payload: Count
    allocated: Count  # the same object as `payload` where an engine pads nothing
    bookkeeping: Count | int
    state: Count
