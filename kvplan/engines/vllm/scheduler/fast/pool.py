"""Blocks as numbers and pieces: free ones in the order of their use, and prefixes that hold some.

Of blocks only what they hold counts, not which they are. Free ones are a number of unknown ones, taken first, and behind them
pieces: blocks in a row of one prefix (`Node`), the latest in the sequence taken first.
"""

from __future__ import annotations

from collections import OrderedDict


class Node:
    """A stretch of tokens after those of its parent, and the pieces that hold blocks of it, the oldest first."""

    __slots__ = ("children", "name", "parent", "pieces")

    def __init__(self, parent: Node | None, name: int) -> None:
        self.parent, self.name = parent, name
        self.children: dict[int, Node] = {}
        self.pieces: list[Piece] = []


class Piece:
    """Blocks `lo` to `hi` of a node; none: nobody can find them. `next` is what was cut off behind it while it was held."""

    __slots__ = ("hi", "lo", "next", "node", "refs")

    def __init__(self, node: Node | None, lo: int, hi: int, refs: int) -> None:
        self.node, self.lo, self.hi, self.refs = node, lo, hi, refs
        self.next: Piece | None = None


#: Pieces that a lookup found, each with the first block of it and one past the last.
Found = list[tuple[Piece, int, int]]


class Pool:
    """Free blocks in the order of their use: unknown ones, then pieces."""

    def __init__(self, number: int, *, caching: bool) -> None:
        self.caching = caching
        self.unknown = self.free = number
        self.queue: OrderedDict[Piece, None] = OrderedDict()
        self._back: Piece | None = None

    def take(self, number: int) -> None:
        """The next ones; what was in them is forgotten."""
        self.free -= number
        if number <= self.unknown:
            self.unknown -= number
            return
        number -= self.unknown
        self.unknown = 0
        queue = self.queue
        while number:
            piece = next(iter(queue))
            size = piece.hi - piece.lo
            if size > number:
                piece.hi -= number
                return
            number -= size
            del queue[piece]
            if piece is self._back:
                self._back = None
            if piece.node is not None:
                _forget(piece, piece.node)

    def put(self, piece: Piece) -> None:
        """A piece that nobody holds any more, behind all others."""
        self.free += piece.hi - piece.lo
        self.queue[piece] = None
        self._back = piece

    def put_dead(self, number: int) -> None:
        """Blocks that are known, and that nobody will look for: as good as unknown while no others are behind those."""
        if not self.caching or not self.queue:
            self.put_unknown(number)
            return
        self.free += number
        back = self._back
        if back is not None and back.node is None:
            back.hi += number
        else:
            self._back = Piece(None, 0, number, 0)
            self.queue[self._back] = None

    def put_unknown(self, number: int) -> None:
        """Blocks that were never made known, before all others."""
        self.free += number
        self.unknown += number

    def hold(self, piece: Piece, lo: int, hi: int) -> Piece:
        """One more holder of a part of a piece; the piece that begins with that part."""
        node = piece.node
        if node is None:
            raise AssertionError("nobody finds a piece without a node")
        at = node.pieces.index(piece)
        if piece.refs:
            if hi < piece.hi:
                _cut(piece, hi, node, at)
            if lo > piece.lo:
                piece = _cut(piece, lo, node, at)
            piece.refs += 1
            return piece
        self.free -= hi - lo
        if (lo, hi) == (piece.lo, piece.hi):
            del self.queue[piece]
            if piece is self._back:
                self._back = None
            piece.refs, piece.next = 1, None
            return piece
        held = Piece(node, lo, hi, 1)
        if lo == piece.lo:
            piece.lo = hi
            node.pieces.insert(at, held)
        elif hi == piece.hi:
            piece.hi = lo
            node.pieces.insert(at + 1, held)
        else:
            rest = Piece(node, hi, piece.hi, 0)
            piece.hi = lo
            node.pieces[at + 1 : at + 1] = [held, rest]
            self._before(rest, piece)
        return held

    def _before(self, new: Piece, piece: Piece) -> None:
        """Into the queue, directly before another one."""
        order: list[Piece] = []
        for other in self.queue:
            order += [new, piece] if other is piece else [other]
        self.queue = OrderedDict.fromkeys(order)

    def let_go(self, row: list[tuple[Piece, int]]) -> None:
        """One holder less of each piece up to the block given, the last blocks first."""
        for first, end in reversed(row):
            chain: list[Piece] = []
            piece: Piece | None = first
            while piece is not None and piece.lo < end:
                chain.append(piece)
                piece = piece.next
            for piece in reversed(chain):
                piece.refs -= 1
                if not piece.refs:
                    self.put(piece)


def _cut(piece: Piece, at: int, node: Node, where: int) -> Piece:
    """A piece that is held in two; the second."""
    rest = Piece(node, at, piece.hi, piece.refs)
    rest.next, piece.next, piece.hi = piece.next, rest, at
    node.pieces.insert(where + 1, rest)
    return rest


def _forget(piece: Piece, node: Node) -> None:
    node.pieces.remove(piece)
    while not node.pieces and not node.children and node.parent is not None:
        del node.parent.children[node.name]
        node = node.parent


def covered(node: Node, stop: int, found: Found) -> tuple[int, int]:
    """The blocks of a node from the first on that are known, at most `stop`; and how many of them nobody holds.

    Of several that hold a block, the oldest is the one that is found.
    """
    column, free = 0, 0
    while column < stop:
        end, best = stop, None
        for piece in node.pieces:
            if piece.lo <= column < piece.hi:
                best = piece
                break
            if column < piece.lo < end:
                end = piece.lo
        if best is None:
            break
        end = min(end, best.hi)
        found.append((best, column, end))
        if not best.refs:
            free += end - column
        column = end
    return column, free
