"""Text for a terminal. Tables go through rich; the same layout is written directly where nothing needs color.

The direct way exists for speed: importing rich's console and tables takes a fifth of the CPU time of an
estimate. A test holds the two equal, character for character, folded cells included.
"""

from textwrap import wrap
from typing import Any, Final, assert_never

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.tables import Printed, Table, printed
from kvplan.errors import printable
from kvplan.limits import HINT, MESSAGE
from kvplan.report.blocks import (
    Answer,
    Block,
    Command,
    Fixes,
    Heading,
    Notes,
    Paragraph,
    Section,
    Steps,
    Verdict,
    View,
    not_predicted_title,
)

_RIGHT: Final = {"bytes", "tokens", "count", "ratio"}
_PROSE: Final = 100  # columns: longer lines are hard to read


def text(answer: Answer, view: View) -> str:
    """The answer's blocks, an empty line between each two."""
    return "\n".join(_block(block, view) for block in answer.blocks(view))


def _block(block: Block, view: View) -> str:
    """One block; every line ends in a newline."""
    match block:
        case Table():
            return to_text(block, unit=view.unit, width=view.width, color=view.color)
        case NotPredicted():
            more = [f"see: {printable(block.see, HINT)}"] if block.see else []
            said = [printable(not_predicted_title(block)), f"not predicted: {printable(block.reason, MESSAGE)}", *more]
            return _folded(said, view.width)
        case Verdict():
            return _folded([printable(block.text)], view.width)
        case Notes():
            return _folded([f"note: {printable(note)}" for note in block.lines], view.width)
        case Heading():
            return _lines(wrap(printable(block.text), view.width))
        case Paragraph():
            return _lines(wrap(f"{block.title.capitalize()}: {block.text}", width=min(view.width, _PROSE)))
        case Command():
            return f"type: {printable(block.text)}\n"
        case Steps():
            return _lines([printable(line) for line in block.lines])
        case Fixes():
            return "".join(
                f"FIX: {printable(fix.change)} -> {printable(fix.result)}\n     {printable(fix.command)}\n" for fix in block.found
            )
        case Section():
            return "".join(_in_section(inner, view) for inner in block.blocks)
        case _:
            assert_never(block)


def _in_section(block: Block, view: View) -> str:
    """Tables bring their own empty lines, and what follows them begins with one."""
    shown = _block(block, view).rstrip("\n") + "\n"
    return shown if isinstance(block, Verdict | Table) else f"\n{shown}"


def _folded(sentences: list[str], width: int) -> str:
    return _lines([line for said in sentences for line in wrap(said, width, break_on_hyphens=False)])


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def rich_table(table: Table, *, unit: str | None = None, width: int = 200) -> Any:
    """The table as a rich renderable; optional columns are left out when they do not fit `width`."""
    from rich.text import Text

    shown = printed(table, unit)
    grid = _rich_grid(table, shown, _columns_that_fit(table, shown, width))
    grid.title = Text(printable(table.title)) if table.title else None
    return grid


def _rich_grid(table: Table, shown: Printed, keep: list[int]) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(
        title_justify="left", box=box.SIMPLE_HEAD, show_footer=shown.total is not None, pad_edge=False, padding=(0, 1)
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


def _widths(shown: Printed) -> list[int]:
    rows = [shown.headers, *shown.rows, *([shown.total] if shown.total else [])]
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _line_width(widths: list[int], keep: list[int]) -> int:
    """Characters of one line: an edge, the cells, three between each two, an edge."""
    return sum(widths[i] for i in keep) + 3 * len(keep) - 1


def _columns_that_fit(table: Table, shown: Printed, width: int) -> list[int]:
    widths = _widths(shown)
    keep = list(range(len(table.columns)))
    for index in reversed(range(len(table.columns))):
        if _line_width(widths, keep) <= width:
            break
        if table.columns[index].optional:
            keep.remove(index)
    return keep


def to_text(table: Table, *, unit: str | None = None, width: int = 80, color: bool = False) -> str:
    """The table as text of at most `width` columns, its title above and its notes beneath."""
    shown = printed(table, unit)
    keep = _columns_that_fit(table, shown, width)
    widths = None if color or not _is_narrow(shown) else _cell_widths(shown, keep, width)
    body = _through_rich(table, shown, keep, width, color=color) if widths is None else _direct(table, shown, widths)
    title = wrap(printable(table.title), width) if table.title else []
    notes = [line for note in table.notes for line in wrap(f"note: {printable(note)}", width, break_on_hyphens=False)]
    return "\n".join([*title, *body, *notes]) + "\n"


def _is_narrow(shown: Printed) -> bool:
    """Whether every character takes one column; rich knows the others."""
    rows = [shown.headers, *shown.rows, *([shown.total] if shown.total else [])]
    return all(cell.isascii() or all(c < "\u0300" or c in "\u2026\u2588" for c in cell) for row in rows for cell in row)


def _cell_widths(shown: Printed, keep: list[int], width: int) -> dict[int, int] | None:
    """Characters of each column's cells in a table of at most `width` characters; None where that is too little."""
    widths = _widths(shown)
    if _line_width(widths, keep) <= width:
        return {index: widths[index] for index in keep}
    from kvplan.report.folding import narrowed

    beside = {index: (index != keep[0]) + (index != keep[-1]) for index in keep}  # between two cells: one, a line, one
    room = narrowed([widths[index] + beside[index] for index in keep], width - len(keep) - 1)
    folded = {index: whole - beside[index] for index, whole in zip(keep, room, strict=True)}
    return folded if all(folded[index] >= min(1, widths[index]) for index in keep) else None


def _direct(table: Table, shown: Printed, widths: dict[int, int]) -> list[str]:
    right = [table.columns[index].kind in _RIGHT for index in widths]
    sizes = list(widths.values())

    def lines(row: list[str], *, low: bool = False) -> list[str]:
        """A row in as many lines as its highest cell needs; `low` puts the others at the bottom."""
        cells = [row[index] for index in widths]
        parts = [cells]
        if any(len(cell) > size for cell, size in zip(cells, sizes, strict=True)):
            from kvplan.report.folding import folded_row

            parts = folded_row(cells, sizes, low=low)
        return [line(part) for part in parts]

    def line(part: list[str]) -> str:
        placed = zip(part, sizes, right, strict=True)
        return f" {'   '.join(cell.rjust(size) if to_right else cell.ljust(size) for cell, size, to_right in placed)}".rstrip()

    rule = " " + "\u2500" * (sum(sizes) + 3 * len(sizes) - 3)
    total = ["", *lines(shown.total)] if shown.total else []
    body = [text for row in shown.rows for text in lines(row)]
    return ["", *lines(shown.headers, low=True), rule, *body, *total, ""]


def _through_rich(table: Table, shown: Printed, keep: list[int], width: int, *, color: bool) -> list[str]:
    import io

    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False, legacy_windows=False)
    console.print(_rich_grid(table, shown, keep))
    return [line.rstrip() for line in out.getvalue().splitlines()]
