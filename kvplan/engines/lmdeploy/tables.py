"""What an estimate shows beside the layers when the engine is LMDeploy: blocks, slots, and the reserve of a prefill pass."""

from typing import Final

from kvplan.domain.allocation import Allocation
from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Table
from kvplan.engines.kernel.parts import parts_table, pool_parts
from kvplan.engines.lmdeploy.facts import LmdeployFacts

_TITLE: Final = "blocks and states"


def tables(a: Allocation) -> tuple[Table, ...]:
    """Blocks and slots that the workload takes; the reserve is beside them."""
    f: LmdeployFacts = a.facts
    blocks = f.request_blocks * a.workload.batch_size
    rows: list[tuple[Cell, ...]] = [(f"blocks of {f.block_size:,} tokens", blocks, f.block_bytes, f.kv_bytes)]
    if f.state_slot_bytes:
        rows.append(("slots of states", f.num_state_caches, f.state_slot_bytes, f.state_bytes))
    return (parts_table(_TITLE, rows),)


def pool_tables(pool: Pool) -> tuple[Table, ...]:
    """What becomes of the memory that is free once the weights are loaded."""
    return pool_parts(pool, _TITLE)
