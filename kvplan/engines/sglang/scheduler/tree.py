"""The radix cache: nodes hold stretches of tokens, whole pages of them; leaves that nobody uses are evicted, the oldest first.

Source (0.5.23): `mem_cache/unified_cache/unified_tree_core.py` (the Rust core does the same), `components/full.py`,
`evict_policy.py:LRUStrategy`.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Final

_DEEPEST: Final = 1 << 32  # moments between two: nodes of one path, at most

#: Tokens, told as stretches `(name, first, one past the last)` of what a name stands for; stretches that follow on are one.
Key = tuple[tuple[Hashable, int, int], ...]


def cut(key: Key, at: int) -> tuple[Key, Key]:
    """The first `at` tokens, and the rest.

    >>> cut((("a", 0, 4), ("b", 2, 5)), 5)
    ((('a', 0, 4), ('b', 2, 3)), (('b', 3, 5),))
    """
    for i, (name, first, last) in enumerate(key):
        size = last - first
        if at < size:
            if at <= 0:
                return key[:i], key[i:]
            return (*key[:i], (name, first, first + at)), ((name, first + at, last), *key[i + 1 :])
        at -= size
    return key, ()


def length(key: Key) -> int:
    """Its tokens."""
    return sum(last - first for _, first, last in key)


def common(one: Key, other: Key) -> int:
    """Tokens at the start of both that are the same."""
    found = 0
    for (name, first, last), (other_name, other_first, other_last) in zip(one, other, strict=False):
        if name != other_name or first != other_first:
            break
        found += min(last, other_last) - first
        if last != other_last:
            break
    return found


class Node:
    """Tokens behind those of its parent."""

    __slots__ = ("children", "key", "locks", "parent", "queued", "size", "used")

    def __init__(self, parent: Node | None, key: Key, size: int, used: int) -> None:
        self.parent, self.key, self.size, self.used = parent, key, size, used
        self.children: dict[Hashable, Node] = {}
        self.locks = 0  # requests that hold it
        self.queued = False  # among those that may be evicted


class Tree:
    """All that is known; `size` and `evictable` are tokens."""

    def __init__(self, page: int) -> None:
        self.page = page
        self.root = Node(None, (), 0, 0)
        self.size = self.evictable = 0
        self.work = 0  # stretches looked at
        self._time = 0
        self._leaves: list[tuple[int, int, Node]] = []  # a heap; times may be older than the node's own
        self._pushed = 0

    def match(self, key: Key) -> tuple[int, Node]:
        """The longest known prefix of whole pages, and its last node; a node that it ends in is cut there."""
        key = self._whole(key)
        node, found = self.root, 0
        while key:
            child = node.children.get(self._head(key))
            if child is None:
                break
            same = self._same(child, key)
            self.work += len(key)
            found += same
            if same < child.size:
                node = self._split(child, same)
                break
            node, key = child, cut(key, same)[1]
        now, at = self._tick(), node
        while at.parent is not None:  # the deeper, the later
            at.used, at, now = now, at.parent, now - 1
        return found, node

    def insert(self, key: Key) -> Node:
        """Make a prefix known; the node that it ends with."""
        key, node = self._whole(key), self.root
        while key:
            child = node.children.get(self._head(key))
            if child is None:
                break
            child.used = self._tick()
            same = self._same(child, key)
            self.work += len(key)
            node, key = self._split(child, same) if same < child.size else child, cut(key, same)[1]
        if key:
            new = Node(node, key, length(key), self._tick())
            node.children[self._head(key)] = node = new
            self.size += new.size
            self.evictable += new.size
            self._may_go(new)
        return node

    def lock(self, node: Node) -> None:
        """One more request that holds a node and all before it."""
        at: Node | None = node
        while at is not None and at.parent is not None:
            if not at.locks:
                self.evictable -= at.size
            at.locks += 1
            at = at.parent

    def unlock(self, node: Node) -> None:
        """One less."""
        at: Node | None = node
        while at is not None and at.parent is not None:
            at.locks -= 1
            if not at.locks:
                self.evictable += at.size
                self._may_go(at)
            at = at.parent

    def evict(self, tokens: int) -> None:
        """Forget leaves until so many tokens are free, or none is left."""
        while tokens > 0 and self._leaves:
            used, _, node = heappop(self._leaves)
            node.queued = False
            parent = node.parent
            if parent is None or node.locks or node.children:
                continue
            if node.used != used:
                self._may_go(node)
                continue
            del parent.children[self._head(node.key)]
            node.parent = None
            self.size -= node.size
            self.evictable -= node.size
            tokens -= node.size
            self._may_go(parent)

    def _may_go(self, node: Node) -> None:
        if node.parent is not None and not node.locks and not node.children and not node.queued:
            node.queued = True
            self._pushed += 1
            heappush(self._leaves, (node.used, self._pushed, node))

    def _tick(self) -> int:
        self._time += _DEEPEST
        return self._time

    def _whole(self, key: Key) -> Key:
        """Whole pages of it."""
        self.work += len(key)
        if self.page == 1:
            return key
        return cut(key, length(key) // self.page * self.page)[0]

    def _head(self, key: Key) -> Hashable:
        """What tells children apart: the first page."""
        return key[0][:2] if self.page == 1 else cut(key, self.page)[0]

    def _same(self, node: Node, key: Key) -> int:
        return common(node.key, key) // self.page * self.page

    def _split(self, node: Node, at: int) -> Node:
        """Cut a node in two; the first of them. The second counts as used after it."""
        parent = node.parent
        if parent is None:
            raise AssertionError("the root holds no tokens")
        first, rest = cut(node.key, at)
        new = Node(parent, first, at, self._tick())
        new.locks = node.locks
        parent.children[self._head(first)] = new
        new.children[self._head(rest)] = node
        node.parent, node.key, node.size, node.used = new, rest, node.size - at, self._tick()
        return new
