"""What requests find of each other's prompts, and of their own blocks once they were displaced."""

from __future__ import annotations

from array import array

from kvplan.domain.traffic import Traffic
from kvplan.engines.vllm.scheduler.fast.pool import Found, Node, Piece, Pool, covered


class Prefixes:
    """Nodes of what prompts share, and who holds which pieces of them.

    Tokens of a request that have no hash are found by nobody else: they are a number while it runs, and pieces of a node of its
    own (`own`) once it was displaced.
    """

    def __init__(self, traffic: Traffic, prompt: array[int], offsets: array[int] | None, pool: Pool, size: int) -> None:
        self.traffic, self.prompt, self.offsets, self.pool, self.size = traffic, prompt, offsets, pool, size
        self.root = Node(None, 0)
        self.columns = traffic.hash_tokens // size if pool.caching else 0  # blocks of a whole node
        self.paths: dict[int, list[Node]] = {}
        self.rows: dict[int, list[tuple[Piece, int]]] = {}
        self.own: dict[int, Node] = {}

    def ended(self, request: int) -> None:
        """A request will not come back."""
        self.own.pop(request, None)

    def shared(self, request: int) -> int:
        """Blocks of its prompt that have hashes."""
        offsets = self.offsets
        if offsets is None:
            return 0
        hashes = offsets[request + 1] - offsets[request]
        return min(self.prompt[request], hashes * self.traffic.hash_tokens) // self.size

    def lookup(self, request: int, limit: int) -> tuple[int, int, Found, list[Node]]:
        """Blocks that are known, of at most `limit`: how many, how many of them are free, which, and the nodes on the way."""
        hit, free = 0, 0
        found: Found = []
        path: list[Node] = []
        shared = self.shared(request) if self.columns else 0
        node = self.root
        if shared:
            for name in self.traffic.names(request):
                begin = len(path) * self.columns
                if begin >= shared or hit >= limit:
                    break
                child = node.children.get(name)
                if child is None:
                    return hit, free, found, path
                node = child
                path.append(node)
                wide = min(self.columns, shared - begin)
                got, held_by_none = covered(node, min(wide, limit - begin), found)
                hit, free = hit + got, free + held_by_none
                if got < wide:
                    return hit, free, found, path
        own = self.own.get(request)
        if own is not None and hit == shared and hit < limit:
            got, held_by_none = covered(own, limit - hit, found)
            hit, free = hit + got, free + held_by_none
        return hit, free, found, path

    def adopt(self, request: int, found: Found, path: list[Node]) -> None:
        """Hold what a lookup found."""
        own = self.own.get(request)
        row: list[tuple[Piece, int]] = []
        for piece, lo, hi in found:
            mine = own is not None and piece.node is own
            held = self.pool.hold(self._current(piece, lo), lo, hi)
            if mine and own is not None:
                own.pieces.remove(held)
            else:
                row.append((held, hi))
        if self.columns:
            self.rows[request], self.paths[request] = row, path

    @staticmethod
    def _current(piece: Piece, lo: int) -> Piece:
        """The part of a piece that holds block `lo`, should it have been cut since it was found."""
        while piece.node is not None and not piece.lo <= lo < piece.hi:
            piece = next(other for other in piece.node.pieces if other.lo <= lo < other.hi)
        return piece

    def publish(self, request: int, first: int, last: int) -> None:
        """Make known the shared ones of the request's blocks from `first` to `last`."""
        if request not in self.paths:
            return
        end = min(last, self.shared(request))
        if first >= end:
            return
        path, row, names = self.paths[request], self.rows[request], self.traffic.names(request)
        while first < end:
            number = first // self.columns
            if number == len(path):
                parent = path[-1] if path else self.root
                node = parent.children.get(names[number])
                if node is None:
                    node = parent.children[names[number]] = Node(parent, names[number])
                path.append(node)
            node, begin = path[number], number * self.columns
            piece = Piece(node, first - begin, min(self.columns, end - begin), 1)
            node.pieces.append(piece)
            row.append((piece, piece.hi))
            first = begin + piece.hi

    def leave(self, request: int, known: int, *, displaced: bool) -> None:
        """Give back `known` blocks of a request, those that are known; a displaced one may find its own again."""
        pool = self.pool
        shared = min(self.shared(request), known) if self.columns else 0
        if known > shared:
            if displaced:
                node = self.own.setdefault(request, Node(None, 0))
                piece = Piece(node, 0, known - shared, 0)
                node.pieces.append(piece)
                pool.put(piece)
            else:
                pool.put_dead(known - shared)
        row = self.rows.pop(request, None)
        if row:
            pool.let_go(row)
        self.paths.pop(request, None)
