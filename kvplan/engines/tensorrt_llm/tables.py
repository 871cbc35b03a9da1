"""What an estimate shows beside the layers when the engine is TensorRT-LLM: blocks of each pool, and slots of states."""

from collections.abc import Iterable
from typing import Final

from kvplan.domain.allocation import Allocation
from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Column, Table
from kvplan.engines.tensorrt_llm.facts import TrtllmFacts

_COLUMNS: Final = (
    Column(title="part", key="part"),
    Column(title="how many", key="count", kind="count"),
    Column(title="bytes each", key="each_bytes", kind="count"),
    Column(title="size", key="bytes", kind="bytes"),
)


def tables(a: Allocation) -> tuple[Table, ...]:
    """Blocks and slots that the workload takes."""
    f: TrtllmFacts = a.facts
    rows: list[tuple[Cell, ...]] = []
    for window, blocks, each in f.pools:
        name = f"blocks of {f.tokens_per_block:,} tokens" + ("" if window < 0 else f", window {window:,}")
        count = blocks * a.workload.batch_size
        rows.append((name, count, each, count * each))
    if f.state_slot_bytes:
        rows.append(("slots of states", f.state_slots, f.state_slot_bytes, f.state_slots * f.state_slot_bytes))
    return (_table(rows),)


def pool_tables(pool: Pool) -> tuple[Table, ...]:
    """What becomes of the memory that is free once the weights are loaded."""
    keys = [column.key for column in _COLUMNS]
    rows = [tuple(group[key] for key in keys) for group in pool.groups if group["bytes"]]
    return (_table(rows),) if rows else ()


def _table(rows: Iterable[tuple[Cell, ...]]) -> Table:
    return Table(title="blocks and states", columns=_COLUMNS, rows=tuple(rows))
