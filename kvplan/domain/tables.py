"""The neutral table: columns with a kind, rows of raw values (bytes are ints in every machine format)."""

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from kvplan.errors import printable
from kvplan.units import byte_unit, in_unit

Kind = Literal["text", "bytes", "tokens", "count", "ratio", "bar", "verdict"]
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
Cell = str | int | float | None


class Column(Struct, frozen=True, kw_only=True):
    """A column: `title` for people, `key` for machines, `kind` for unit and alignment.

    `exact` also shows whole bytes beside the human unit; `optional` columns go first when the terminal is narrow.
    """

    title: str
    key: str
    kind: Kind = "text"
    optional: bool = False


class Table(Struct, frozen=True, kw_only=True):
    """Rows of raw values under columns; `total` is a closing row, `notes` stand beneath.

    With `one_unit` the columns of bytes can be compared with each other: they share the unit of the largest of all.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] | None = None
    notes: tuple[str, ...] = ()
    one_unit: bool = False


class Printed(Struct, frozen=True):
    """A table as people read it: headers and cells as text, one unit per bytes column."""

    headers: list[str]
    rows: list[list[str]]
    total: list[str] | None


def safe_cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets a leading apostrophe; control characters go.

    >>> safe_cell("=1+1")
    "'=1+1"
    """
    if not isinstance(value, str):
        return value
    text = "".join(c if c.isprintable() else "\ufffd" for c in value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def printed(table: Table, unit: str | None = None) -> Printed:
    """Format every cell; a bytes column takes one unit, chosen from its largest value unless `unit` is given."""
    everything = [*table.rows, *([table.total] if table.total else [])]
    if table.one_unit and unit is None:
        unit = _common_unit(table)
    headers: list[str] = []
    columns: list[list[str]] = []
    for index, column in enumerate(table.columns):
        values = [row[index] for row in everything]
        header, texts = _column(column, values, unit)
        headers.append(header)
        columns.append(texts)
    rows = [list(cells) for cells in zip(*columns, strict=True)] if everything else []
    return Printed(headers, rows[: len(table.rows)], rows[-1] if table.total else None)


def _common_unit(table: Table) -> str:
    wanted = [i for i, column in enumerate(table.columns) if column.kind == "bytes"]
    return byte_unit(max((v for row in table.rows for i in wanted if isinstance(v := row[i], int)), default=0))


def _column(column: Column, values: Sequence[Cell], unit: str | None) -> tuple[str, list[str]]:
    numbers = [v for v in values if isinstance(v, int)]
    if column.kind == "bytes":
        chosen = unit or byte_unit(max((abs(v) for v in numbers), default=0))
        return f"{column.title} [{chosen}]", [in_unit(v, chosen) if isinstance(v, int) else _text(v) for v in values]
    if column.kind in {"count", "tokens"}:
        return column.title, [f"{v:,}" if isinstance(v, int) else _text(v) for v in values]
    if column.kind == "ratio":
        return column.title, [f"{v:.2f}x" if isinstance(v, int | float) else _text(v) for v in values]
    if column.kind == "bar":
        return column.title, ["\u2588" * round(24 * v) if isinstance(v, int | float) else _text(v) for v in values]
    return column.title, [_text(v) for v in values]


def _text(value: Cell) -> str:
    return "" if value is None else printable(value)
