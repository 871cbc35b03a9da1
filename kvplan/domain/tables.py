"""The neutral table: columns with a kind, rows of raw values (bytes are ints in every machine format)."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from kvplan.errors import printable
from kvplan.units import BYTE_UNITS, GIB, byte_unit, in_unit, significant

Kind = Literal["text", "name", "mark", "bytes", "tokens", "count", "ratio", "bar", "verdict"]
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
Cell = str | int | float | None
#: Characters of the longest bar.
BAR: Final = 24
_LARGEST: Final = 2**20  # of a unit: a larger number is read in the next
_MOST_PARTS: Final = 999  # of a whole, in `1/16`


class Column(Struct, frozen=True, kw_only=True):
    """A column: `title` for people, `key` for machines, `kind` for unit, alignment and folding.

    A `name` is never folded inside; a `mark` stands before the row that was asked for.

    Attributes:
        drop: where the terminal is narrow, 1 goes first, then 2 and so on; 0 stays.
        instead: what a note says where the column is left out; None names the column, "" says nothing.
        once: a value that the row above has, too, is not repeated on a terminal.
        quiet: stands beside the answer and is dim on a terminal.
        tone: what it means where a cell counts something.
        room: what prose may be folded to before another column is left out for it.
    """

    title: str
    key: str
    kind: Kind = "text"
    drop: int = 0
    instead: str | None = None
    once: bool = False
    quiet: bool = False
    room: int = 18
    tone: Literal["", "good", "bad"] = ""


class Table(Struct, frozen=True, kw_only=True):
    """Rows of raw values under columns; `total` is a closing row, `notes` stand beneath.

    With `one_unit` the columns of bytes can be compared with each other: they share one unit, which the title names.
    `marked` are rows that stand out, beside those that have a mark.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] | None = None
    notes: tuple[str, ...] = ()
    one_unit: bool = False
    marked: tuple[int, ...] = ()

    def stands_out(self, number: int) -> bool:
        """Whether a row is the one that was asked for."""
        return number in self.marked or any(
            column.kind == "mark" and bool(cell) for column, cell in zip(self.columns, self.rows[number], strict=True)
        )


def without(table: Table, key: str) -> Table:
    """The same table without a column."""
    keep = [i for i, column in enumerate(table.columns) if column.key != key]
    rows = tuple(tuple(row[i] for i in keep) for row in table.rows)
    total = None if table.total is None else tuple(table.total[i] for i in keep)
    return replace(table, columns=tuple(table.columns[i] for i in keep), rows=rows, total=total)


class Printed(Struct, frozen=True):
    """A table as people read it: headers, cells and title as text, one unit per bytes column."""

    headers: list[str]
    rows: list[list[str]]
    total: list[str] | None
    title: str = ""


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
    """Format every cell; a bytes column takes one unit that suits its middle value, unless `unit` is given."""
    everything = [*table.rows, *([table.total] if table.total else [])]
    if table.one_unit and unit is None:
        unit = common_unit(v for row in everything for column, v in zip(table.columns, row, strict=True) if _is_size(column, v))
    in_title = table.one_unit and bool(table.title) and unit is not None
    headers: list[str] = []
    columns: list[list[str]] = []
    for index, column in enumerate(table.columns):
        values = [row[index] for row in everything]
        header, texts = _column(column, values, unit)
        headers.append(column.title if in_title else header)
        columns.append(texts)
    rows = [list(cells) for cells in zip(*columns, strict=True)] if everything else []
    title = f"{table.title}, in {unit}" if in_title else table.title
    return Printed(headers, rows[: len(table.rows)], rows[-1] if table.total else None, title)


def _is_size(column: Column, value: Cell) -> bool:
    return column.kind == "bytes" and isinstance(value, int)


def common_unit(sizes: Iterable[Any]) -> str:
    """One unit for several sizes: the middle one's, GiB where that is a tenth of one and another is whole, and one that lets the
    largest be read.

    >>> common_unit([2**27, 2**33, 2**40]), common_unit([2**90])
    ('GiB', 'PiB')
    """
    found = sorted(abs(size) for size in sizes if size)
    if not found:
        return "B"
    middle = found[len(found) // 2]
    unit = "GiB" if 10 * middle >= GIB > middle and found[-1] >= GIB else byte_unit(middle)
    while found[-1] >= BYTE_UNITS[unit] * _LARGEST and (larger := byte_unit(BYTE_UNITS[unit] * 1024)) != unit:
        unit = larger
    return unit


def ratio_words(ratio: float) -> str:
    """A ratio as people say it: `1.03x`, an even part as `1/16`, else three digits.

    >>> ratio_words(1.0), ratio_words(0.0625), ratio_words(0.7344)
    ('1.00x', '1/16', '0.734x')
    """
    if not 0 < ratio < 1:
        return f"{ratio:,.2f}x" if ratio else "0"
    parts = round(min(1 / ratio, _MOST_PARTS + 1))
    if parts <= _MOST_PARTS and abs(ratio * parts - 1) < 1e-9:
        return f"1/{parts}"
    return f"{significant(ratio)}x"


def _column(column: Column, values: Sequence[Cell], unit: str | None) -> tuple[str, list[str]]:
    if column.kind == "bytes":
        chosen = unit or common_unit(v for v in values if isinstance(v, int))
        return f"{column.title} {chosen}".lstrip(), [in_unit(v, chosen) if isinstance(v, int) else _text(v) for v in values]
    if column.kind in {"count", "tokens"}:
        return column.title, [f"{v:,}" if isinstance(v, int) else _text(v) for v in values]
    if column.kind == "ratio":
        return column.title, [ratio_words(v) if isinstance(v, int | float) else _text(v) for v in values]
    if column.kind == "bar":
        return column.title, [bar(v, BAR) if isinstance(v, int | float) else _text(v) for v in values]
    return column.title, [_text(v) for v in values]


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar of up to `width` characters, in eighths of one; what is more than nothing shows.

    >>> bar(0.5, 4), bar(1 / 64, 4), bar(0.0, 4)
    ('██', '▏', '')
    """
    whole, eighths = divmod(max(round(8 * width * share), 1 if share > 0 else 0), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()


def _text(value: Cell) -> str:
    return "" if value is None else printable(value)
