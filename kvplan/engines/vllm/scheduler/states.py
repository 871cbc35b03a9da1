"""Groups of states: one a request, or one at the end of each block that a chunk of a prompt ends on.

Source: `single_type_kv_cache_manager.py:MambaManager`.
"""

from collections.abc import Sequence

from kvplan.engines.vllm.scheduler.blocks import NULL, Blocks
from kvplan.engines.vllm.scheduler.groups import Found, Group
from kvplan.engines.vllm.scheduler.hashes import Key, Name
from kvplan.engines.vllm.scheduler.request import Request
from kvplan.engines.vllm.scheduler.settings import ENTERED_ONCE, GroupSpec, Settings, checkpoint_before, checkpoint_is_valid
from kvplan.units import ceil_div


class States(Group):
    """The rows of a group of states."""

    def __init__(self, number: int, spec: GroupSpec, settings: Settings, blocks: Blocks) -> None:
        super().__init__(number, spec, settings, blocks)
        self.aligned = spec.mode == "align"
        self.entered: set[Key] = set()  # in this step: what is in them is written while the step runs
        self._started: set[int] = set()  # requests that took blocks themselves
        self._dropped: dict[int, int] = {}  # columns that were given back
        self._checkpoints: dict[int, tuple[int, int]] = {}  # (tokens, column) of the state inside this step's chunk
        self._entered_once = ENTERED_ONCE.at(settings.release)

    def new_step(self) -> None:
        """What was entered in the step before is written now."""
        self.entered.clear()

    def needed(
        self, request: Request, tokens: int, hit: Sequence[int], start: int, *, capped: bool = False, prefill_end: int = 0
    ) -> int:
        """More than there are where the hit's state is only being written in this step."""
        if hit and self.blocks.key[hit[-1]] in self.entered:
            return self.blocks.number + 1
        if not self.aligned:
            return super().needed(request, tokens, hit, start, capped=capped, prefill_end=prefill_end)
        row = self.row(request)
        missing = ceil_div(tokens, self.size) - len(hit) - len(row)
        copy = self.ends_inside(hit, start) or request.index in self.shared_tails
        if copy:
            missing = max(missing, 0) + 1
        at = checkpoint_before(tokens, self.settings.alignment if self.tail_before_end else self.settings.hash_block_size)
        column = ceil_div(tokens, self.size) - 2
        inside = (
            self.spec.checkpoint_blocks > 0
            and tokens >= prefill_end
            and checkpoint_is_valid(self.spec, self.settings.hash_block_size, start, tokens, at)
            and column >= 0
            and (column >= len(row) or row[column] == NULL)
        )
        if not capped:
            if inside:
                self._checkpoints[request.index] = at, column
            else:
                self._checkpoints.pop(request.index, None)
        if missing > 0:
            missing = min(missing, 1 + int(copy) + int(inside))
        return missing + sum(self.blocks.is_free(block) for block in hit)

    def take(self, request: Request, tokens: int) -> None:
        """One block at the end of the row, null ones before it; one more for a state inside the chunk, and for a copy."""
        if not self.aligned:
            super().take(request, tokens)
            return
        row, index = self.row(request), request.index
        wanted = ceil_div(tokens, self.size)
        inside, tail = int(index in self._checkpoints), self.shared_tails.pop(index, None)
        if wanted <= len(row) and tail is None and not inside:
            self._started.add(index)
            return
        if len(row) < wanted - 1:
            row += [NULL] * (wanted - 1 - inside - len(row))
        new = self.blocks.take(max(wanted - len(row), 0) + int(tail is not None))
        if tail is not None:
            column, source = tail
            target = new.pop(0)
            if index in self._started:  # the row keeps its block: what it is known by moves to the copy
                self.blocks.move_keys(source, target)
                self.copies += (source, target)
                self.blocks.hold([source])
                key = self.blocks.key[target]
                if key is not None:
                    self.entered.add(key)
            else:
                self.copy_tail(request, column, source, target)
        row += new
        self._started.add(index)

    def drop(self, request: Request, processed: int) -> None:
        """Give back states before the last one, null columns between them or not."""
        if not self.aligned:
            super().drop(request, processed)
            return
        row, index = self.rows.get(request.index), request.index
        if row is None:
            return
        skipped = self.spec.skipped(processed)
        if skipped > 0:
            first, last = self._dropped.get(index, 0), min(skipped // self.size, len(row))
            if first < last:
                self._give_back(row, range(last - 1, first - 1, -1))
                self._dropped[index] = last

    def dropped_next(self, processed: int) -> int:
        """Until the next block of tokens is full."""
        return ceil_div(processed, self.size) * self.size

    def _give_back(self, row: list[int], columns: Sequence[int]) -> None:
        dropped = [row[column] for column in columns if row[column] != NULL]
        for column in columns:
            row[column] = NULL
        self.blocks.release(dropped)

    def free(self, request: Request) -> None:
        """Give back the row."""
        self._started.discard(request.index)
        self._dropped.pop(request.index, None)
        self._checkpoints.pop(request.index, None)
        super().free(request)

    def publish(self, request: Request, tokens: int) -> None:
        """Full blocks, and the state of the prompt's end."""
        first = self.published.get(request.index, 0)
        self.publish_full(request, tokens)
        last = self.published.get(request.index, 0)
        if self.aligned:
            key = self._publish_state(request, tokens)
            if key is not None:
                self.entered.add(key)
        row = self.row(request)
        for column in range(first, last):
            key = self.blocks.key[row[column]]
            if row[column] != NULL and key is not None:
                self.entered.add(key)

    def reachable(self, request: Request, first: int, last: int) -> set[int] | None:
        """The columns that end where a later request may go on."""
        interval, alignment = self.settings.prefix_cache_retention_interval, self.settings.alignment
        if interval is None:
            return None
        kept = self._ends_of_segments(interval, first, last)
        if kept is None:
            return None
        return kept | {boundary // alignment * alignment // self.size - 1 for boundary in self.boundaries(request)}

    def _ends_of_segments(self, interval: int, first: int, last: int) -> set[int] | None:
        each = interval // self.size
        if interval and each <= 1:
            return None
        return {column for column in range(first, last) if (column + 1) % each == 0} if interval else set()

    def _publish_state(self, request: Request, tokens: int) -> Key | None:
        """The state inside the chunk, or the one where the chunk ends, if the prompt's next reader could start there."""
        inside = self._checkpoints.get(request.index)
        if inside is not None:
            return self._publish_inside(request, tokens, *inside)
        unit = self.settings.hash_block_size
        if tokens <= 0 or tokens % unit:
            return None
        end = checkpoint_before(request.prompt, unit) if self.tail_before_end else request.prompt // unit * unit
        if tokens != end or (not self.tail_before_end and tokens % self.size == 0):
            return None
        row, column = self.row(request), ceil_div(tokens, self.size) - 1
        if column >= len(row) or row[column] == NULL:
            return None
        block, key = row[column], (self.name(request, tokens), self.number)
        if self._entered_once and self.blocks.key_tokens[block] == tokens:
            return None
        self.blocks.enter_part(block, key, tokens)
        if tokens % self.size:
            self.shared_tails[request.index] = column, block
            self.published[request.index] = column
        return key

    def _publish_inside(self, request: Request, tokens: int, at: int, column: int) -> Key | None:
        block = self.row(request)[column]
        interval = self.settings.prefix_cache_retention_interval
        unit = self.settings.alignment if self.tail_before_end else self.settings.hash_block_size
        wanted = at in (checkpoint_before(request.prompt, unit), request.junction)
        if self.tail_before_end:
            if at % self.size == 0:
                kept = None if interval is None else self._ends_of_segments(interval, at // self.size - 1, at // self.size)
                wanted = wanted or kept is None or bool(kept)
        else:
            wanted = wanted or interval != 0 or tokens >= request.prompt
        if not wanted:
            self.blocks.forget(block)
            return None
        if self.blocks.key_tokens[block] == at:
            return None
        key = self.name(request, at), self.number
        self.blocks.enter_part(block, key, at, alone=True)
        return key

    def lookup(self, units: Sequence[Name], limit: int, groups: Sequence[int]) -> Found:
        """The rightmost state that is known, null columns before it."""
        size, unit, alignment = self.size, self.settings.hash_block_size, self.settings.alignment
        step = unit if alignment < size and size % alignment == 0 else size
        for index in range(min(limit // step, len(units) * unit // step) - 1, -1, -1):
            tokens = (index + 1) * step
            if tokens % alignment:
                continue
            found = self.blocks.known(units[tokens // unit - 1], groups)
            if found is not None:
                column = ceil_div(tokens, size) - 1
                return [[NULL] * column + [block] for block in found], tokens
        return [[] for _ in groups], 0
