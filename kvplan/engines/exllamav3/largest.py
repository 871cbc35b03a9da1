"""The largest cache that some memory holds, as a pool; the engine itself is told the size and measures nothing.

Source: tabby `backends/exllamav3/model.py:create` (defaults), exllamav3 1.6.5 `model/model_ls.py` (the refusal).
"""

from __future__ import annotations

from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.engines.exllamav3.about import ABOUT
from kvplan.engines.exllamav3.log import lines
from kvplan.engines.exllamav3.models import trained_tokens
from kvplan.engines.exllamav3.options import ExLlamaV3Options
from kvplan.engines.exllamav3.planes import PAGE
from kvplan.engines.exllamav3.pool import DEFAULT_LENGTH, Caches, default_jobs, sums
from kvplan.engines.exllamav3.states import Slots
from kvplan.units import MAX_COUNT, ceil_div


class CachePool(Pool, frozen=True, kw_only=True):
    """Pages, and the states beside them, which requests do not share."""

    state_bytes: int = 0

    @property
    def allocated_bytes(self) -> int:
        """What pages and states take."""
        return self.num_blocks * self.block_bytes + self.state_bytes

    @property
    def usable_bytes(self) -> int:
        """What jobs can hold at once; 0 when it does not fit."""
        return 0 if self.refused else self.allocated_bytes


def largest(kept: Caches, read: Model, options: ExLlamaV3Options, longest_draft: int, budget_bytes: int) -> CachePool:
    """Pages for what states and a drafter leave of `budget_bytes`; as many as `cache_size` says, where it is given.

    Args:
        kept: the layers that hold something on one card.
        read: the model as the engine reads it.
        longest_draft: tokens.
    """
    jobs = options.max_batch_size or default_jobs(kept.main)
    slots = Slots(jobs=jobs, history=longest_draft, state_dtype=options.state_dtype)
    parts = ((kept.main, options.mode), (kept.draft, options.draft_mode_of_cache))
    state = sum(sums(held, 0, mode, slots).state_bytes for held, mode in parts)
    page = sum(sums(held, PAGE, mode, slots).kv_bytes for held, mode in parts)
    trained = trained_tokens(read)
    told = options.max_seq_len if options.max_seq_len is not None and options.max_seq_len > 0 else None
    length = told or trained or DEFAULT_LENGTH
    if options.cache_size is not None:
        count = options.cache_size // PAGE
    elif page:
        count = min(max(0, budget_bytes - state) // page, MAX_COUNT // PAGE)
    else:
        count = ceil_div(length, PAGE)
    fits = count > 0 and state + count * page <= budget_bytes
    tokens = count * PAGE
    longest = min(length, tokens)
    return CachePool(
        engine=ABOUT.name,
        budget_bytes=budget_bytes,
        num_blocks=count,
        block_bytes=page,
        state_bytes=state,
        num_tokens=tokens,
        max_model_len=longest,
        concurrency=min(float(jobs), count / ceil_div(longest, PAGE)) if longest else 0.0,
        groups=(
            {"part": f"pages of {PAGE} tokens", "count": count, "each_bytes": page, "bytes": count * page},
            {"part": "states of a job", "count": jobs, "each_bytes": state // jobs, "bytes": state},
        ),
        refused="" if fits else "Insufficient VRAM in split for model and cache",
        log=tuple(lines(length, tokens, from_model=told is None and bool(trained))) if fits else (),
    )
