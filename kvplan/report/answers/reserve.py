"""What `kvplan reserve` shows: the pool that a server makes of its memory, and the lines that it prints."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Column, Table
from kvplan.engines import ABOUTS, located
from kvplan.report.answers import tiers
from kvplan.report.answers.lines import line_row, lines_table
from kvplan.report.answers.media import media_table, savings
from kvplan.report.blocks import Block, Fixes, Notes, Rows, View
from kvplan.units import human_bytes

#: The columns of the CSV, one row a pool (docs/reference/formats.md).
CSV_COLUMNS: Final = (
    "model", "engine", "engine_version", "budget_bytes", "block_bytes", "num_blocks", "allocated_bytes", "num_tokens",
    "max_model_len", "concurrency", "refused", "estimated_max_model_len", "not_predicted",
)  # fmt: skip


class ReserveAnswer(Struct, frozen=True):
    """Several pools."""

    key: ClassVar[str] = "pools"
    pools: Sequence[Pool | NotPredicted]

    def dicts(self) -> list[dict[str, Any]]:
        """One object a model."""
        return [pool_dict(pool) for pool in self.pools]

    def rows(self) -> Rows:
        """One row a model; where memory below the device was asked about, one a tier."""
        asked = [pool for pool in self.pools if isinstance(pool, Pool) and pool.tiers is not None]
        if asked:
            rows = ({**pool.to_dict(), **row} for pool in asked for row in tiers.csv_rows(pool.tiers))
            return (*CSV_COLUMNS[:3], *tiers.CSV_COLUMNS), rows
        return CSV_COLUMNS, self.dicts()

    def blocks(self, view: View) -> Iterator[Block]:
        """The pool line by line, and the groups that share it."""
        for pool in self.pools:
            if isinstance(pool, NotPredicted):
                yield pool
            else:
                yield from _tables(pool)
                if pool.media is not None:
                    found = list(savings(pool.media))
                    yield media_table(pool.media)
                    yield from [Fixes(found)] if found else []
                    tokens = pool.media.tokens
                    if tokens and not pool.refused:
                        yield Notes((f"the pool holds the media of {pool.num_tokens // tokens:,} such requests, text beside",))
                if pool.tiers is not None:
                    yield from tiers.blocks(pool.tiers)


def pool_dict(pool: Pool | NotPredicted) -> dict[str, Any]:
    """The JSON form of a pool, every bytes value an exact int."""
    return pool.to_dict()


def pool_table(pool: Pool) -> Table:
    """What the server makes of its memory; the engine's own lines, or its refusal, stand beneath."""
    rows: list[tuple[Cell, ...]] = [
        _sized("memory for the cache", pool.budget_bytes),
        _sized("one block of all layers", pool.block_bytes),
    ]
    if not pool.refused:
        rows += [
            ("blocks", pool.num_blocks, ""),
            _sized("allocated", pool.allocated_bytes),
            ("tokens", pool.num_tokens, ""),
            (f"requests of {pool.max_model_len:,} tokens", f"{pool.concurrency:.2f}", ""),
        ]
    columns = (
        Column(title="what", key="what"),
        Column(title="amount", key="amount", kind="count"),
        Column(title="", key="size", quiet=True),
    )
    title = f"{pool.model} · {pool.engine} {pool.engine_version}"
    notes = (pool.refused,) if pool.refused else pool.log
    return Table(title=title, columns=columns, rows=tuple(rows), notes=notes)


def _sized(what: str, amount: int) -> tuple[Cell, ...]:
    """A size in whole bytes, and as people read it."""
    return (what, f"{amount:,} B", f"= {human_bytes(amount)}")


def _tables(pool: Pool) -> tuple[Table, ...]:
    where = ABOUTS[pool.engine].tables
    budget = [line_row(line) for line in pool.budget if line.bytes or line.high]
    title = f"{pool.model} · {pool.engine} {pool.engine_version}"
    lines = (lines_table(title, "where the memory goes", budget),) if budget else ()
    return (*lines, pool_table(pool), *(located(where).pool_tables(pool) if where else ()))
