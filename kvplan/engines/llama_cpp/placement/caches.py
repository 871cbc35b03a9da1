"""Copies of the caches of blocks on the host, on the first device, which computes their attention for a large batch.

Flash attention has no weights: `ggml_backend_sched_split_graph` gives it to the device that multiplied the queries, and all
cells of its keys and values are inputs of that split. Source: llama.cpp 0c1e57098, `ggml/src/ggml-backend.cpp` (passes 2 and 3).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.placement.band import Band
from kvplan.engines.llama_cpp.placement.split import HOST_LAYER


def with_caches(band: Band, context: Context[int], layers: Sequence[int], *, weight: int, beside: int) -> Band:
    """A band with what attention over the largest cache on the host takes at least and at most.

    Args:
        band: of the first device, whatever the context's length.
        context: with its caches.
        layers: the device of each block.
        weight: bytes of the largest copy of a weight.
        beside: bytes that lie there with keys and values: the mask, what goes in and what comes out.
    """
    each: list[tuple[int, int]] = []
    for part in context.parts:
        there = [t for t in part.tensors if layers[min(t.layer, len(layers) - 2)] == HOST_LAYER]
        keys, values = (max((int(t.bytes) for t in there if t.role == role), default=0) for role in ("k", "v"))
        each.append((keys, values))
    largest = max(each, key=sum, default=(0, 0))
    # what comes next, another block's keys or values or a copy of a weight, may find no place among those that are there
    high = sum(map(sum, each)) + max(*largest, weight) + beside
    low, high = max(band.low, sum(largest) * 95 // 100), max(band.high, high * 105 // 100)
    return Band(low=low, best=(low + high) // 2, high=high)
