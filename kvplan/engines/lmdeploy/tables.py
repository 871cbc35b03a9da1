"""What an estimate shows beside the layers when the engine is LMDeploy: blocks, slots, and the reserve of a prefill pass."""

from collections.abc import Iterable
from typing import Final

from kvplan.domain.allocation import Allocation
from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Column, Table
from kvplan.engines.lmdeploy.facts import LmdeployFacts

_COLUMNS: Final = (
    Column(title="part", key="part"),
    Column(title="how many", key="count", kind="count"),
    Column(title="bytes each", key="each_bytes", kind="count"),
    Column(title="size", key="bytes", kind="bytes"),
)


def tables(a: Allocation) -> tuple[Table, ...]:
    """Blocks and slots that the workload takes; the reserve is beside them."""
    f: LmdeployFacts = a.facts
    blocks = f.request_blocks * a.workload.batch_size
    rows: list[tuple[Cell, ...]] = [(f"blocks of {f.block_size:,} tokens", blocks, f.block_bytes, f.kv_bytes)]
    if f.state_slot_bytes:
        rows.append(("slots of states", f.num_state_caches, f.state_slot_bytes, f.state_bytes))
    return (_table(rows),)


def pool_tables(pool: Pool) -> tuple[Table, ...]:
    """What becomes of the memory that is free once the weights are loaded."""
    keys = [column.key for column in _COLUMNS]
    rows = [tuple(group[key] for key in keys) for group in pool.groups if group["bytes"]]
    return (_table(rows),) if rows else ()


def _table(rows: Iterable[tuple[Cell, ...]]) -> Table:
    return Table(title="blocks and states", columns=_COLUMNS, rows=tuple(rows))
