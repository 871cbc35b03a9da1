"""A graph as it is built: tensors one after the other, each on a device, with copies of what lies elsewhere.

Source: llama.cpp 0c1e57098, `ggml/src/ggml-backend.cpp` (`ggml_backend_sched_split_graph`: an input of a split that lies
elsewhere is copied once a device, and kept until the copy is made).
"""

from __future__ import annotations

from math import prod

from kvplan.engines.llama_cpp.placement.graph.heap import Node


class Tape:
    """Collects nodes; `device` is where the next ones are computed.

    With several copies of a batch (`copies`) each input of a split lies there that many times, and is never freed.
    """

    def __init__(self, copies: int = 1) -> None:
        self.nodes: list[Node] = []
        self.leaves: list[Node] = []
        self._count = copies
        self.device = 0
        self._copies: dict[tuple[int, int], Node] = {}

    def tensor(
        self, *shape: int, reads: tuple[Node, ...] = (), in_place: bool = False, element: int = 4, kept: bool = False
    ) -> Node:
        """What an operation gives: `element` bytes each. What it reads is copied to the device where it lies elsewhere."""
        seen = tuple(self.here(read) for read in reads)
        node = Node(element * prod(shape), self.device, shape, seen, in_place=in_place, kept=kept)
        self.nodes.append(node)
        return node

    def over(self, node: Node, *others: Node) -> Node:
        """An operation in place: a norm's factor, a bias, a rotation, a sum."""
        return self.tensor(*node.shape, reads=(node, *others), in_place=True)

    def view(self, node: Node, *shape: int, size: int | None = None) -> Node:
        """A tensor that lies where `node` does; `size`: from its first byte to its last, where it has gaps."""
        node = self.here(node)
        taken = node.bytes if size is None else size
        seen = Node(taken, node.device, shape, (node,), of=node.of or node, outside=node.outside)
        self.nodes.append(seen)
        return seen

    def stored(self, *reads: Node) -> None:
        """Written into a cache."""
        self.nodes.append(Node(0, self.device, (), tuple(self.here(read) for read in reads), outside=True))

    def weight(self, size: int) -> Node:
        """A copy of a weight that lies on the host, for one multiplication."""
        return self.tensor(size, element=1)

    def here(self, node: Node) -> Node:
        """The tensor itself, or its copy on this device."""
        if node.device == self.device or node.outside:
            return node
        key = id(node), self.device
        if key not in self._copies:
            self.nodes.append(Node(0, node.device, (), (node,), of=node.of or node, waits=True))
            copies = [Node(node.bytes, self.device, node.shape, kept=self._count > 1) for _ in range(self._count)]
            (self.leaves if self._count > 1 else self.nodes).extend(copies)
            self._copies[key] = copies[0]
        return self._copies[key]
