"""Lines of a ledger as rows of a table: the band stands in two columns where any line has one."""

from collections.abc import Sequence
from typing import Final

from kvplan.domain.ledger import Line
from kvplan.domain.tables import Cell, Column, Table

_LOW: Final = 2  # where the band stands in a row
_HIGH: Final = 3


def line_row(line: Line, name: str = "", source: str = "") -> tuple[Cell, ...]:
    """Name, bytes, the band's two ends (nothing where the line is exact), basis, source."""
    ends = (None, None) if line.exact else (line.low, line.high)
    return (name or line.name, line.bytes, *ends, line.basis, source or line.source)


def lines_table(title: str, what: str, rows: Sequence[tuple[Cell, ...]], decisive: str = "") -> Table:
    """The rows under `what`, that of the name `decisive` standing out, without columns for a band where no line has one."""
    columns: tuple[Column, ...] = (
        Column(title=what, key="name"),
        Column(title="memory", key="bytes", kind="bytes"),
        Column(title="from", key="low", kind="bytes", drop=1),
        Column(title="to", key="high", kind="bytes", drop=1),
        Column(title="basis", key="basis", quiet=True),
        Column(title="source", key="source", quiet=True, room=30),
    )
    if all(row[_LOW] is None and row[_HIGH] is None for row in rows):
        columns = columns[:_LOW] + columns[_HIGH + 1 :]
        rows = [row[:_LOW] + row[_HIGH + 1 :] for row in rows]
    marked = tuple(i for i, row in enumerate(rows) if row[0] == decisive)
    return Table(title=title, columns=columns, rows=tuple(rows), one_unit=True, marked=marked)
