"""All groups of a server on one pool: what is known of a request's prefix, and blocks for its next tokens.

Source: `kv_cache_manager.py:KVCacheManager`, `kv_cache_coordinator.py`.
"""

from collections.abc import Sequence
from typing import Final

from kvplan.engines.vllm.scheduler.blocks import Blocks
from kvplan.engines.vllm.scheduler.groups import Chunked, Group, Sliding
from kvplan.engines.vllm.scheduler.request import Request
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Settings
from kvplan.engines.vllm.scheduler.states import States

_KINDS: Final[dict[str, type[Group]]] = {"full": Group, "mla": Group, "sliding": Sliding, "chunked": Chunked, "mamba": States}

#: Blocks of each group, and the tokens that they hold.
Hit = tuple[list[list[int]], int]


class Cache:
    """The pool and the rows of all groups."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.blocks = Blocks(settings.num_gpu_blocks, caching=settings.enable_prefix_caching)
        self.groups = [_KINDS[spec.kind](i, spec, settings, self.blocks) for i, spec in enumerate(settings.groups)]
        self.watermark_blocks = int(settings.watermark * settings.num_gpu_blocks)
        self._alike = _alike(settings.groups)

    def new_step(self) -> None:
        """A step begins."""
        for group in self.groups:
            group.new_step()

    def end_step(self) -> None:
        """A step is scheduled: blocks that its copies read and write are let go."""
        copies = [block for group in self.groups for block in group.copies]
        for group in self.groups:
            group.copies.clear()
        self.blocks.release(copies)

    # What is known.

    def lookup(self, request: Request) -> Hit:
        """The longest prefix that every group knows; sets where the longest that any one group knows ends (`junction`)."""
        rows: list[list[int]] = [[] for _ in self.groups]
        request.junction = 0
        if not self.settings.enable_prefix_caching:
            return rows, 0
        limit = request.known - 1  # the last token is computed for its logits
        longest, units = 0, request.tokens.units
        looked_up: dict[int, int] = {}  # groups that look at everything need one look
        while True:
            now = limit
            for numbers in self._alike:
                first = self.groups[numbers[0]]
                if first.number in looked_up:
                    now = min(now, looked_up[first.number])
                    continue
                found, now = first.lookup(units, now, numbers)
                for number, row in zip(numbers, found, strict=True):
                    rows[number] = row
                if first.spec.sees_everything:
                    looked_up[first.number] = now
                longest = max(longest, now)
            if now >= limit:
                break
            limit = now
            if len(self._alike) == 1 or (len(self._alike) == 2 and self.groups[self._alike[0][0]].spec.sees_everything):
                break
        for group in self.groups:
            if group.spec.sees_everything:
                del rows[group.number][-(-limit // group.size) :]
        if len(self.groups) > 1 and longest > limit:
            request.junction = longest
        return rows, limit

    def publish(self, request: Request, tokens: int) -> None:
        """Make known what the request's first `tokens` tokens fill."""
        settings = self.settings
        if not settings.enable_prefix_caching:
            return
        if len(self.groups) > 1 and not settings.fine_hits:
            tokens -= tokens % settings.scheduler_block_size
        for group in self.groups:
            group.publish(request, tokens)

    # Blocks.

    def allocate(self, request: Request, new: int, hit: Hit | None = None, *, whole: bool = False, others: bool = True) -> bool:
        """Take blocks for `new` tokens; False where they are not there: then nothing is taken.

        Args:
            hit: what a lookup found, of a request that waits.
            whole: all that is known of the request must fit, not just the new tokens.
            others: requests run beside it.
        """
        rows, tokens = hit if hit is not None else ([[] for _ in self.groups], 0)
        start = min(request.computed + tokens, self.settings.max_model_len)
        if hit is None and start + new <= request.quiet_until:
            return True
        kept_back = self.watermark_blocks if others and request.status != "running" else 0
        if whole:
            all_tokens = min(request.known, self.settings.max_model_len)
            if self._needed(request, all_tokens, rows, start, capped=True) + kept_back > self.blocks.free:
                return False
        for group in self.groups:
            group.drop(request, max(0, start - request.in_flight))
        end = min(start + new, self.settings.max_model_len)
        if self._needed(request, end, rows, start) + kept_back > self.blocks.free:
            return False
        if any(rows):
            for group, row in zip(self.groups, rows, strict=True):
                group.adopt(request, row, start)
        for group in self.groups:
            group.take(request, end)
        self.publish(request, min(start + new, request.known))
        decodes = hit is None and new == 1 and start > request.prompt + 1
        processed = max(0, start - request.in_flight)
        request.quiet_until = min(group.quiet_until(processed, end) for group in self.groups) if decodes else 0
        return True

    def allocate_to_load(self, request: Request, hit: Hit, tokens: int, *, whole: bool, others: bool, kept_back: int) -> bool:
        """Take blocks for `tokens` tokens behind a hit, which are read from elsewhere; False where they are not there.

        Nothing of them is known before they are read. For layers that see everything.

        Args:
            whole: all that is known of the request must fit.
            others: requests run beside it.
            kept_back: blocks that others still need, who have a part of theirs.
        """
        rows, known = hit
        watermark = self.watermark_blocks if others else 0
        longest = min(request.known, self.settings.max_model_len)
        if whole and self._needed(request, longest, rows, known, capped=True) + watermark > self.blocks.free:
            return False
        if self._needed(request, known + tokens, rows, known) + watermark > self.blocks.free - kept_back:
            return False
        for group, row in zip(self.groups, rows, strict=True):
            group.adopt(request, row, known)
        for group in self.groups:
            group.take(request, known + tokens)
        return True

    def missing(self, request: Request) -> int:
        """Blocks that it does not have of those for all that is known of it."""
        tokens = min(request.known, self.settings.max_model_len)
        return self._needed(request, tokens, [[] for _ in self.groups], request.computed, capped=True)

    def _needed(self, request: Request, tokens: int, rows: Sequence[Sequence[int]], start: int, *, capped: bool = False) -> int:
        end = request.prefill_end if self.settings.prefix_cache_retention_interval == 0 else 0
        return sum(
            group.needed(request, tokens, row, start, capped=capped, prefill_end=end)
            for group, row in zip(self.groups, rows, strict=True)
        )

    def free(self, request: Request) -> None:
        """Give back all blocks of a request."""
        request.quiet_until = 0
        for group in self.groups:
            group.free(request)

    def pop(self, request: Request) -> list[int]:
        """All blocks of a request, which has them no longer, still held: to be released from the last to the first."""
        request.quiet_until = 0
        return [block for group in self.groups for block in group.pop(request)]


def _alike(specs: Sequence[GroupSpec]) -> list[list[int]]:
    """Groups of one spec together; those that look at everything first."""
    together: dict[GroupSpec, list[int]] = {}
    for number, spec in enumerate(specs):
        together.setdefault(spec, []).append(number)
    return sorted(together.values(), key=lambda numbers: not specs[numbers[0]].sees_everything)
