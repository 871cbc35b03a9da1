"""Tables for a terminal, through rich; plain text when piped."""

import io
from typing import Any

from kvplan.report.table import Table, printable, printed

_RIGHT = {"bytes", "tokens", "count", "ratio"}


def rich_table(table: Table, *, unit: str | None = None, width: int = 200) -> Any:
    """The table as a rich renderable; optional columns are left out when they do not fit `width`."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = printed(table, unit)
    keep = _columns_that_fit(table, [shown.headers, *shown.rows, *([shown.total] if shown.total else [])], width)
    grid = RichTable(
        title=Text(printable(table.title)) if table.title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_footer=shown.total is not None,
        pad_edge=False,
        padding=(0, 1),
    )
    for index in keep:
        column = table.columns[index]
        grid.add_column(
            Text(shown.headers[index]),
            justify="right" if column.kind in _RIGHT else "left",
            overflow="fold",
            footer=Text(shown.total[index]) if shown.total else "",
        )
    for row in shown.rows:
        grid.add_row(*(Text(row[index]) for index in keep))
    return grid


def _columns_that_fit(table: Table, rows: list[list[str]], width: int) -> list[int]:
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(table.columns))]
    keep = list(range(len(table.columns)))
    for index in reversed(range(len(table.columns))):
        if sum(widths[i] for i in keep) <= width:
            break
        if table.columns[index].optional:
            keep.remove(index)
    return keep


def to_text(table: Table, *, unit: str | None = None, width: int = 80, color: bool = False) -> str:
    """The table as text of at most `width` columns, its notes beneath."""
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False, legacy_windows=False)
    console.print(rich_table(table, unit=unit, width=width))
    for note in table.notes:
        console.print(Text(f"note: {printable(note)}"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
