"""What an estimate shows beside the layers when the engine is mlx-lm: the cache objects that the library makes."""

from kvplan.domain.allocation import Allocation
from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Column, Table
from kvplan.engines.mlx_lm.facts import MlxLmFacts


def tables(a: Allocation) -> tuple[Table, ...]:
    """One row for equal caches: their class, how many, and the rows of their arrays."""
    facts: MlxLmFacts = a.facts
    columns = (
        Column(title="cache", key="cache", kind="name"),
        Column(title="caches", key="count", kind="count"),
        Column(title="rows", key="rows", kind="count", drop=1),
    )
    rows: list[tuple[Cell, ...]] = [(c.cache, c.count, c.rows or None) for c in facts.caches]
    note = f"{facts.entries:,} entries of the prompt cache; a state has no rows"
    return (Table(title="the library's cache objects", columns=columns, rows=tuple(rows), notes=(note,)),)


def pool_tables(pool: Pool) -> tuple[Table, ...]:
    """Nothing: the library reserves no pool."""
    return ()
