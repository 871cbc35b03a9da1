"""ggml's graph allocator: the largest extent of each device's heap.

Source: llama.cpp 0c1e57098, `ggml/src/ggml-alloc.c` (`ggml_dyn_tallocr_alloc`: the smallest free block that fits, else the last
one, which has no end; `ggml_dyn_tallocr_free_bytes`: neighbours are merged; `ggml_gallocr_allocate_node`: an operation that can
takes the place of what it reads, where nothing else does and that is no view; `ggml_gallocr_alloc_graph_impl`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

_END: Final = 1 << 62


class Node:
    """A tensor of the graph.

    Attributes:
        bytes: what it takes where it is not a view.
        device: whose heap it lies on.
        shape: elements by dimension; only what is alike takes over a place.
        reads: tensors that it is computed from.
        in_place: whether its operation may write over what it reads.
        of: the tensor that it is a view of.
        kept: never freed.
        outside: weights and caches: no heap's.
        waits: no operation: keeps what it reads from being freed before here.
    """

    __slots__ = (
        "bytes", "children", "device", "held", "in_place", "kept", "of", "offset", "outside", "reads", "shape", "views", "waits",
    )  # fmt: skip

    def __init__(
        self,
        size: int,
        device: int,
        shape: tuple[int, ...],
        reads: tuple[Node, ...] = (),
        *,
        in_place: bool = False,
        of: Node | None = None,
        kept: bool = False,
        outside: bool = False,
        waits: bool = False,
    ) -> None:
        self.bytes = size
        self.device = device
        self.shape = shape
        self.reads = reads
        self.in_place = in_place
        self.of = of
        self.kept = kept
        self.outside = outside
        self.waits = waits
        self.children = 0  # operations that still read it
        self.views = 0  # views of it that are still read
        self.offset = -1
        self.held = False  # whether its place is its own


class Heap:
    """Free blocks by offset; the last one has no end."""

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.peak = 0
        self._free = [[0, _END]]

    def take(self, size: int) -> int:
        """The offset of a new tensor."""
        size = -(-size // self.alignment) * self.alignment
        free = self._free
        at, least = len(free) - 1, _END
        for index in range(at):
            if size <= free[index][1] <= least:
                at, least = index, free[index][1]
        block = free[at]
        offset = block[0]
        block[0] += size
        block[1] -= size
        if not block[1]:
            del free[at]
        if offset + size > self.peak:
            self.peak = offset + size
        return offset

    def give(self, offset: int, size: int) -> None:
        """Free a place, and join it with what is free right before and behind it."""
        size = -(-size // self.alignment) * self.alignment
        free = self._free
        for at, block in enumerate(free):
            if block[0] + block[1] == offset:
                block[1] += size
                if at + 1 < len(free) and block[0] + block[1] == free[at + 1][0]:
                    block[1] += free.pop(at + 1)[1]
                return
            if offset + size == block[0]:
                block[0] = offset
                block[1] += size
                if at and free[at - 1][0] + free[at - 1][1] == offset:
                    free[at - 1][1] += free.pop(at)[1]
                return
        at = 0
        while at < len(free) and free[at][0] < offset:
            at += 1
        free.insert(at, [offset, size])


class Extent(Struct, frozen=True, kw_only=True):
    """Bytes of a heap at its largest, and before the last tensor of all, which is the logits."""

    bytes: int
    before_last: int


def peaks(nodes: Sequence[Node], alignments: Sequence[int], leaves: Sequence[Node] = ()) -> list[Extent]:
    """Each heap at its largest.

    Args:
        nodes: the graph in its order; each once, and never placed before.
        alignments: of each heap.
        leaves: what is placed before all others.
    """
    heaps = [Heap(alignment) for alignment in alignments]
    for leaf in leaves:
        _put(leaf, heaps)
    for node in nodes:
        if node.of is not None and not node.waits:
            node.of.views += 1
        for read in node.reads:
            read.children += 1
    before = [heap.peak for heap in heaps]
    for node in nodes:
        if node is nodes[-1]:
            before = [heap.peak for heap in heaps]
        for read in node.reads:
            if read.offset < 0:
                _put(read, heaps)
        _put(node, heaps)
        for read in node.reads:
            read.children -= 1
            if read.children or read.views:
                continue
            owner = read
            if read.of is not None:
                owner = read.of
                owner.views -= 1
                if owner.views or owner.children:
                    continue
            if owner.held and not owner.kept:
                heaps[owner.device].give(owner.offset, owner.bytes)
                owner.held = False
    return [Extent(bytes=heap.peak, before_last=peak) for heap, peak in zip(heaps, before, strict=True)]


def _put(node: Node, heaps: Sequence[Heap]) -> None:
    if node.offset >= 0 or node.of is not None or node.outside:
        return
    node.held = True
    if node.in_place:
        for read in node.reads:
            if read.held and read.children == 1 and not read.views and not read.kept and read.shape == node.shape:
                read.held = False
                node.device, node.offset = read.device, read.offset
                return
    node.offset = heaps[node.device].take(node.bytes)
