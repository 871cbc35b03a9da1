"""A group's rows of blocks: what a request needs, takes, makes known and gives back.

Source: `single_type_kv_cache_manager.py:SingleTypeKVCacheManager`, `FullAttentionManager`, `SlidingWindowManager`,
`ChunkedLocalAttentionManager`.
"""

from collections.abc import Sequence

from kvplan.engines.vllm.scheduler.blocks import NULL, Blocks
from kvplan.engines.vllm.scheduler.hashes import Name
from kvplan.engines.vllm.scheduler.request import Request
from kvplan.engines.vllm.scheduler.settings import TAIL_BEFORE_END, GroupSpec, Settings
from kvplan.units import MAX_COUNT, ceil_div

#: What a lookup found: a row of blocks for each group, and tokens.
Found = tuple[list[list[int]], int]


class Group:
    """The rows of one group; this class alone is that of layers that look at everything."""

    def __init__(self, number: int, spec: GroupSpec, settings: Settings, blocks: Blocks) -> None:
        self.number, self.spec, self.settings, self.blocks = number, spec, settings, blocks
        self.size = spec.block_size
        self.rows: dict[int, list[int]] = {}
        self.published: dict[int, int] = {}  # blocks of a row that are known, or never will be
        self.shared_tails: dict[int, tuple[int, int]] = {}  # request -> (column, block): a hit's last block, to be copied
        self.copies: list[int] = []  # blocks that are read or written by copies of this step
        self.cap = spec.admission_blocks(settings.max_in_flight_tokens, settings.max_model_len)
        self.tail_before_end = TAIL_BEFORE_END.at(settings.release)

    def row(self, request: Request) -> list[int]:
        """The request's blocks, by column."""
        return self.rows.setdefault(request.index, [])

    # What it needs and takes.

    def needed(
        self, request: Request, tokens: int, hit: Sequence[int], start: int, *, capped: bool = False, prefill_end: int = 0
    ) -> int:
        """Free blocks that `tokens` tokens of a request take.

        Args:
            hit: blocks that a lookup found.
            start: tokens that are computed, the hit's included.
            capped: count as admission does.
            prefill_end: states alone look at it.
        """
        wanted = ceil_div(tokens, self.size)
        if capped and self.cap is not None:
            wanted = min(wanted, self.cap)
        held = len(self.rows.get(request.index, ()))
        skipped = self.spec.skipped(start) // self.size
        missing = max(wanted - max(skipped, len(hit) + held), 0)
        adopted = sum(self.blocks.is_free(block) for block in hit[max(0, skipped - held) :])
        return missing + adopted + int(self.ends_inside(hit, start))

    def ends_inside(self, hit: Sequence[int], tokens: int) -> bool:
        """Whether a hit of `tokens` tokens ends inside a block of this group."""
        return len(hit) > 0 and tokens % self.size != 0

    def adopt(self, request: Request, hit: Sequence[int], tokens: int) -> None:
        """Make the blocks of a hit the first of the request's row."""
        skipped = max(self.spec.skipped(tokens), 0) // self.size
        kept = list(hit[skipped:])
        self.blocks.hold(kept)
        row = self.row(request)
        row += [NULL] * skipped + kept
        self.published[request.index] = len(row)
        if self.ends_inside(kept, tokens):
            column = tokens // self.size
            self.shared_tails[request.index] = column, kept[-1]
            self.published[request.index] = column

    def take(self, request: Request, tokens: int) -> None:
        """Take blocks until the row holds `tokens` tokens; a shared tail is copied into a block of its own."""
        tail = self.shared_tails.pop(request.index, None)
        if tail is not None:
            self.copy_tail(request, *tail, self.blocks.take(1)[0])
        row = self.row(request)
        missing = ceil_div(tokens, self.size) - len(row)
        if missing > 0:
            row += self.blocks.take(missing)

    def copy_tail(self, request: Request, column: int, source: int, target: int) -> None:
        """Put a private copy into the row; both blocks are held until the step ends."""
        self.rows[request.index][column] = target
        self.copies += (source, target)
        self.blocks.hold([target])

    # What it gives back.

    def drop(self, request: Request, processed: int) -> None:
        """Give back what no token behind `processed` looks at, the highest first."""
        skipped = self.spec.skipped(processed)
        row = self.rows.get(request.index)
        if row is None or skipped <= 0:
            return
        dropped = []
        for column in range(min(skipped // self.size, len(row)) - 1, -1, -1):
            if row[column] == NULL:
                break
            dropped.append(row[column])
            row[column] = NULL
        self.blocks.release(dropped)

    def quiet_until(self, processed: int, end: int) -> int:
        """Tokens up to which decoding changes nothing here, when `end` have a block and `processed` are settled.

        A block that is full now is made known now; with asynchronous scheduling when its last token is read.
        """
        full = ceil_div(end, self.size) * self.size
        known = end == full and not self.settings.async_scheduling
        return min(end if known else full - 1, self.dropped_next(processed))

    def dropped_next(self, processed: int) -> int:
        """The tokens, those that have a block, up to which nothing more is given back."""
        return MAX_COUNT

    def free(self, request: Request) -> None:
        """Give back the row, its last block first."""
        self.blocks.release(reversed(self.pop(request)))

    def pop(self, request: Request) -> list[int]:
        """The row, which the request has no longer; its blocks are still held."""
        self.published.pop(request.index, None)
        self.shared_tails.pop(request.index, None)
        return self.rows.pop(request.index, [])

    def new_step(self) -> None:
        """A step begins."""

    # What is known.

    def name(self, request: Request, tokens: int) -> Name:
        """The name of the request's first `tokens` tokens, whole units of them."""
        return request.tokens.units[tokens // self.settings.hash_block_size - 1]

    def publish(self, request: Request, tokens: int) -> None:
        """Make known the blocks that are full with `tokens` tokens, as far as anybody could go on from them."""
        self.publish_full(request, tokens)
        unit = self.settings.hash_block_size
        if self.size != unit and self.spec.sees_everything:
            self._publish_tail(request, tokens, unit)

    def publish_full(self, request: Request, tokens: int) -> None:
        """The full ones."""
        first, last = self.published.get(request.index, 0), tokens // self.size
        if first >= last:
            return
        row, reachable = self.row(request), self.reachable(request, first, last)
        for column in range(first, last):
            if row[column] != NULL and (reachable is None or column in reachable):
                end = (column + 1) * self.size
                self.blocks.enter_full(row[column], (self.name(request, end), self.number), end)
        self.published[request.index] = last

    def reachable(self, request: Request, first: int, last: int) -> set[int] | None:
        """Columns from which a later request could go on; None: all."""
        return None

    def boundaries(self, request: Request) -> list[int]:
        """Tokens at which a later request may go on: where the same prompt does, and where one with a common prefix would."""
        return [request.prompt - 1, *([request.junction] if request.junction else [])]

    def _publish_tail(self, request: Request, tokens: int, unit: int) -> None:
        end = (request.prompt - (1 if self.tail_before_end else 0)) // unit * unit
        column = end // self.size
        if 0 < end <= tokens and end % self.size and column < len(self.row(request)):
            block = self.row(request)[column]
            if block != NULL:
                self.blocks.enter_part(block, (self.name(request, end), self.number), end)

    # Lookups.

    def lookup(self, units: Sequence[Name], limit: int, groups: Sequence[int]) -> Found:
        """The longest known prefix of at most `limit` tokens: blocks from the left until one is missing.

        Args:
            units: names of the request's prefixes, one a hash unit.
            groups: groups of this spec; all must know it.
        """
        size, unit, alignment = self.size, self.settings.hash_block_size, self.settings.alignment
        each = size // unit
        rows: list[list[int]] = [[] for _ in groups]
        for column in range(min(limit // size, len(units) // each)):
            found = self.blocks.known(units[(column + 1) * each - 1], groups)
            if found is None:
                break
            _append(rows, found)
        tokens = len(rows[0]) * size
        if alignment < size and size % alignment == 0:  # then the alignment is the unit
            first = len(rows[0]) * each
            for index in range(min(first + each - 1, limit // unit, len(units)) - 1, first - 1, -1):
                found = self.blocks.known(units[index], groups)
                if found is not None:
                    _append(rows, found)
                    tokens = (index + 1) * unit
                    break
        tokens -= tokens % alignment
        for row in rows:
            del row[ceil_div(tokens, size) :]
        return rows, tokens


class Sliding(Group):
    """Layers that look at a window."""

    def dropped_next(self, processed: int) -> int:
        """Until the window has left the next block."""
        return (self.spec.skipped(processed) // self.size + 1) * self.size + self.spec.window - 1

    def reachable(self, request: Request, first: int, last: int) -> set[int] | None:
        """The columns of each window that ends where a later request may go on."""
        size, alignment, interval = self.size, self.settings.alignment, self.settings.prefix_cache_retention_interval
        if alignment % size:
            return None
        need = ceil_div(self.spec.window - 1, size)
        segment = alignment if interval is None else interval
        kept: set[int] = set()
        if segment:
            each = segment // size
            if need >= each:
                return None
            kept |= {column for column in range(first, last) if column % each >= each - need}
        if interval is not None:
            for boundary in self.boundaries(request):
                end = boundary // alignment * alignment // size
                kept |= set(range(max(first, end - need), min(last, end)))
        return kept

    def lookup(self, units: Sequence[Name], limit: int, groups: Sequence[int]) -> Found:
        """From the right, the first window whose blocks are all known; else what is known from the start on."""
        size, alignment = self.size, self.settings.alignment
        each = size // self.settings.hash_block_size
        need, columns = ceil_div(self.spec.window - 1, size), limit // size
        rows = [[NULL] * columns for _ in groups]
        run = 0
        for column in range(columns - 1, -1, -1):
            found = self.blocks.known(units[(column + 1) * each - 1], groups)
            if found is None:
                run = 0
                continue
            if run == 0 and (column + 1) * size % alignment:
                continue
            for row, block in zip(rows, found, strict=True):
                row[column] = block
            run += 1
            if run >= need:
                for row in rows:
                    del row[column + run :]
                return rows, len(rows[0]) * size
        while run * size % alignment:
            run -= 1
        for row in rows:
            del row[run:]
        return rows, run * size


class Chunked(Group):
    """Layers that look at their own chunk."""

    def dropped_next(self, processed: int) -> int:
        """Until the next chunk begins."""
        return (processed // self.spec.chunk + 1) * self.spec.chunk

    def lookup(self, units: Sequence[Name], limit: int, groups: Sequence[int]) -> Found:
        """Blocks before the chunk of `limit` need not be there; behind them, from the left until one is missing."""
        each = self.size // self.settings.hash_block_size
        first = limit // self.spec.chunk * self.spec.chunk // self.size
        rows = [[NULL] * first for _ in groups]
        for column in range(first, limit // self.size):
            found = self.blocks.known(units[(column + 1) * each - 1], groups)
            if found is None:
                break
            _append(rows, found)
        return rows, len(rows[0]) * self.size


def _append(rows: list[list[int]], blocks: Sequence[int]) -> None:
    for row, block in zip(rows, blocks, strict=True):
        row.append(block)
