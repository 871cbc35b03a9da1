"""What an estimate shows beside the layers when the engine is ExLlamaV3: pages, slots, a drafter, and host memory."""

from typing import Final

from kvplan.domain.allocation import Allocation
from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Table
from kvplan.engines.exllamav3.facts import ExLlamaV3Facts
from kvplan.engines.kernel.parts import parts_table, pool_parts

_TITLE: Final = "pages and states"


def tables(a: Allocation) -> tuple[Table, ...]:
    """The parts of the cache on the card, and what it asks of the host."""
    f: ExLlamaV3Facts = a.facts
    rows: list[tuple[Cell, ...]] = [("pages of 256 tokens", f.num_pages, f.page_bytes, f.kv_bytes)]
    if f.num_state_layers:
        rows.append(("states of a job", f.max_batch_size, f.state_bytes // max(1, f.max_batch_size), f.state_bytes))
    if f.draft_bytes:
        rows.append(("the drafter's cache", 1, f.draft_bytes, f.draft_bytes))
    if f.page_tier is not None:
        tier = f.page_tier
        rows.append(("pages in host memory", tier.max_slots, tier.slot_size, tier.max_slots * tier.slot_size))
    notes = [f"cache_size {f.cache_size:,} tokens, shared by all jobs"]
    if f.checkpoint_bytes:
        notes.append(f"a stored checkpoint of one sequence's states takes {f.checkpoint_bytes:,} bytes of host memory")
    return (parts_table(_TITLE, rows, notes),)


def pool_tables(pool: Pool) -> tuple[Table, ...]:
    """Pages and states of the largest cache."""
    return pool_parts(pool, _TITLE)
