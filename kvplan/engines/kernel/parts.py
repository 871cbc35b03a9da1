"""A cache as parts of a size: how many of each, and their bytes; shown by engines whose pool is one kind of block and slots."""

from collections.abc import Iterable
from typing import Final

from kvplan.domain.pool import Pool
from kvplan.domain.tables import Cell, Column, Table

_COLUMNS: Final = (
    Column(title="part", key="part"),
    Column(title="how many", key="count", kind="count"),
    Column(title="bytes each", key="each_bytes", kind="count"),
    Column(title="size", key="bytes", kind="bytes"),
)


def parts_table(title: str, rows: Iterable[tuple[Cell, ...]], notes: Iterable[str] = ()) -> Table:
    """One row a part: its name, how many there are, bytes of one, bytes of all."""
    return Table(title=title, columns=_COLUMNS, rows=tuple(rows), notes=tuple(notes))


def pool_parts(pool: Pool, title: str) -> tuple[Table, ...]:
    """The parts of a pool whose groups have the columns' keys; nothing where none takes a byte."""
    rows = [tuple(group[column.key] for column in _COLUMNS) for group in pool.groups if group["bytes"]]
    return (parts_table(title, rows),) if rows else ()
