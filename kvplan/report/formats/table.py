"""Text for people: on a terminal with colours that help, elsewhere the same characters without.

Colours are the sixteen that a person chose with their terminal, so that they can be read on light and on dark: green and red
for yes and no, yellow for a guess, bold for what was asked for, dim for what stands beside it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from textwrap import wrap
from typing import Final, NamedTuple, assert_never

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.tables import BAR, Column, Printed, Table, bar, printed
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
    Text,
    Verdict,
    View,
    not_predicted_title,
)

_RIGHT: Final = {"bytes", "tokens", "count", "ratio"}
_PROSE: Final = 100  # columns: longer lines are hard to read
_GUTTER: Final = 2
_HEADING: Final = 12  # columns of a heading over numbers before it is folded
_NAME: Final = 44  # columns of a name, before one of several words is folded between them
_LEAST_BAR: Final = 8
_NOTE: Final = "note: "
_CAPITALS: Final = r"[A-Z]+(?: [A-Z]+)*(?=[ :])"
_DECIMALS: Final = r"-?[\d,]+(\.\d+)?"
_NARROW: Final = frozenset("–—…→─│≤≥█▉▊▋▌▍▎▏")
#: SGR codes.
_BOLD, _DIM, _RED, _GREEN, _YELLOW, _CYAN = "1", "2", "31", "32", "33", "36"
#: What a cell says -> its colour.
_TONES: Final = {
    "no": _RED, "differs": _RED, "invalid": _RED, "missing": _RED, "equal": _GREEN, "exact": _GREEN, "serves": _GREEN,
    "yes": _GREEN, "assumed": _YELLOW, "not predicted": _YELLOW, "hypothetical": _YELLOW, "inferred": _YELLOW,
}  # fmt: skip


def text(answer: Answer, view: View) -> str:
    """The answer's blocks, an empty line between each two."""
    return "\n".join(_lines(_block(block, view)) for block in answer.blocks(view))


def _block(block: Block, view: View) -> list[str]:
    """The lines of one block; the first and the last are not empty."""
    paint = _painter(view.color)
    match block:
        case Table():
            return _table(block, view)
        case NotPredicted():
            see = [f"see: {printable(block.see, HINT)}"] if block.see else []
            said = wrap(f"not predicted: {printable(block.reason, MESSAGE)}", view.width, break_on_hyphens=False)
            title = wrap(printable(not_predicted_title(block)), view.width, break_on_hyphens=False)
            more = [line for one in see for line in wrap(one, view.width, break_on_hyphens=False)]
            return [*_painted(title, paint, _BOLD), *_painted(said, paint, _YELLOW), *_painted(more, paint, _DIM)]
        case Verdict():
            return _verdict(block, view)
        case Notes():
            return [line for note in block.lines for line in _note(note, view)]
        case Heading():
            return _painted(wrap(printable(block.text), view.width, break_on_hyphens=False), paint, _BOLD)
        case Paragraph():
            word = block.title.capitalize()
            first, *rest = wrap(f"{word}: {block.text}", width=min(view.width, _PROSE))
            return [first.replace(f"{word}:", f"{paint(word, _BOLD)}:", 1), *rest]
        case Command():
            return [f"{paint('type:', _BOLD)} {printable(block.text)}", *(f"      {printable(line)}" for line in block.needs)]
        case Steps():
            return [_step(printable(line if isinstance(line, str) else ": ".join(line)), paint) for line in block.lines]
        case Text():
            return [printable(line) for line in block.lines]
        case Fixes():
            return [
                line
                for fix in block.found
                for line in (
                    f"{paint('FIX:', _BOLD, _GREEN)} {printable(fix.change)} -> {printable(fix.result)}",
                    f"     {printable(fix.command)}",
                )
            ]
        case Section():
            return _section(block.blocks, view)
        case _:
            assert_never(block)


def _section(blocks: Iterable[Block], view: View) -> list[str]:
    """Blocks with an empty line between; the table that a verdict is about stands directly under it."""
    found: list[str] = []
    before: Block | None = None
    for block in blocks:
        follows = isinstance(before, Verdict) and isinstance(block, Table) and bool(block.title)
        found += [*([""] if found and not follows else []), *_block(block, view)]
        before = block
    return found


def _verdict(block: Verdict, view: View) -> list[str]:
    paint = _painter(view.color)
    first, *rest = wrap(printable(block.text), view.width, break_on_hyphens=False)
    said = re.match(_CAPITALS, first)
    tone = {True: _GREEN, False: _RED, None: _YELLOW}[block.yes]
    if said:
        first = f"{paint(said[0], _BOLD, tone)}{paint(first[said.end() :], _BOLD)}"
    return [first, *_painted(rest, paint, _BOLD)]


def _note(note: str, view: View) -> list[str]:
    shown = wrap(f"{_NOTE}{printable(note)}", view.width, break_on_hyphens=False, subsequent_indent=" " * len(_NOTE))
    return _painted(shown, _painter(view.color), _DIM)


class _Painter(NamedTuple):
    """Puts colours on, or leaves text as it is."""

    color: bool

    def __call__(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.color and text and codes else text


def _step(line: str, paint: _Painter) -> str:
    """A line whose first words end in a colon: these stand out."""
    first, colon, rest = line.partition(":")
    return f"{paint(first + colon, _BOLD)}{rest}" if colon and not line.startswith(" ") else line


def _painter(color: bool) -> _Painter:
    return _Painter(color)


def _painted(lines: Iterable[str], paint: _Painter, *codes: str) -> list[str]:
    return [paint(line, *codes) for line in lines]


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def to_text(table: Table, *, unit: str | None = None, width: int = 80, color: bool = False) -> str:
    """The table as text of at most `width` columns, its title above and its notes beneath."""
    return _lines(_table(table, View(unit=unit, width=width, color=color)))


def _table(table: Table, view: View) -> list[str]:
    paint = _painter(view.color)
    shown = printed(table, view.unit)
    title = _painted(wrap(printable(shown.title), view.width, break_on_hyphens=False), paint, _BOLD) if table.title else []
    layout = _Layout(table, _once(table, _aligned(table, shown)), view)
    notes = [line for note in (*table.notes, *layout.notes()) for line in _note(note, view)]
    body = layout.lines()
    return [*title, *([""] if title else []), *body, *([""] if notes else []), *notes]


def _aligned(table: Table, shown: Printed) -> Printed:
    """Sizes with their points under each other, although some have more decimals."""
    every = [*shown.rows, *([shown.total] if shown.total else [])]
    for index, column in enumerate(table.columns):
        found = [match and len(match[1] or "") for row in every if (match := re.fullmatch(_DECIMALS, row[index]))]
        if column.kind == "bytes" and found:
            most = max(found)
            for row in every:
                match = re.fullmatch(_DECIMALS, row[index])
                row[index] += " " * (most - len(match[1] or "")) if match else ""
    return shown


def _once(table: Table, shown: Printed) -> Printed:
    """The first of equal names that stand under each other."""
    for index, column in enumerate(table.columns):
        if column.once:
            above = None
            for row in shown.rows:
                row[index], above = ("" if row[index] == above else row[index]), row[index]
    return shown


class _Layout:
    """Which columns are shown, how wide, and in which lines."""

    def __init__(self, table: Table, shown: Printed, view: View) -> None:
        self.table, self.shown, self.view = table, shown, view
        self.measure = _measure(shown)
        self.total = [shown.total] if shown.total else []
        self.cells = [[row[i] for row in (*shown.rows, *self.total)] for i in range(len(table.columns))]
        self.keep, self.widths = self._fitted()
        for index, width in zip(self.keep, self.widths, strict=True):
            if table.columns[index].kind == "bar" and width < BAR:
                for row, raw in zip(shown.rows, table.rows, strict=True):
                    share = raw[index]
                    row[index] = bar(share, width) if isinstance(share, int | float) else row[index]

    def _fitted(self) -> tuple[list[int], list[int]]:
        """The columns that are shown, and their widths."""
        keep = list(range(len(self.table.columns)))
        whole = [max(map(self.measure, [self.shown.headers[i], *self.cells[i]])) for i in keep]
        if self._line(whole) <= self.view.width:
            return keep, whole
        from kvplan.report.folding import narrowed, widened

        whole = [BAR if c.kind == "bar" else width for c, width in zip(self.table.columns, whole, strict=True)]
        low = [self._least(i) for i in keep]
        comfort = [self._comfort(*sizes) for sizes in zip(self.table.columns, low, whole, strict=True)]
        for rank in sorted({column.drop for column in self.table.columns} - {0}):
            if self._line([comfort[i] for i in keep]) <= self.view.width:
                break
            keep = [i for i in keep if self.table.columns[i].drop != rank]
        low, comfort, whole = ([sizes[i] for i in keep] for sizes in (low, comfort, whole))
        room = self.view.width - _GUTTER * (len(keep) - 1)
        return keep, widened(comfort, whole, room) if sum(comfort) <= room else narrowed(comfort, low, room)

    @staticmethod
    def _comfort(column: Column, least: int, whole: int) -> int:
        """The width below which another column is left out instead: a bar may be short, prose and long headings fold."""
        if column.kind == "bar":
            return least
        enough = _HEADING if column.kind in _RIGHT else _NAME if column.kind == "name" else column.room
        return max(least, min(whole, enough))

    def _least(self, index: int) -> int:
        """The narrowest that a column can be without harm: numbers whole, names whole, words whole."""
        from kvplan.report.folding import least

        column, cells = self.table.columns[index], self.cells[index]
        if column.kind == "bar":
            return _LEAST_BAR
        header = least(self.shown.headers[index], name=True, measure=self.measure)
        if column.kind in _RIGHT:
            return max([header, *map(self.measure, cells)])
        return max([header, *(least(cell, name=column.kind != "text", measure=self.measure) for cell in cells)])

    @staticmethod
    def _line(widths: Sequence[int]) -> int:
        return sum(widths) + _GUTTER * (len(widths) - 1)

    def notes(self) -> list[str]:
        """What columns said that are not shown."""
        dropped = [c for i, c in enumerate(self.table.columns) if i not in self.keep]
        unnamed = [c.title for c in dropped if c.instead is None and c.title]
        wider = [f"a wider terminal also shows {', '.join(unnamed)}"] if unnamed else []
        return [*(c.instead for c in dropped if c.instead), *wider]

    def lines(self) -> list[str]:
        """Headings, a rule, the rows, the total."""
        paint = _painter(self.view.color)
        rule = paint("─" * min(self.view.width, self._line(self.widths)), _DIM)
        body = [
            line
            for number, row in enumerate(self.shown.rows)
            for line in self._row(row, *([_BOLD] if self.table.stands_out(number) else []), odd=bool(number % 2))
        ]
        total = [line for row in self.total for line in ("", *self._row(row, _BOLD))]
        return [*self._row(self.shown.headers, low=True), rule, *body, *total]

    def _row(self, row: list[str], *codes: str, low: bool = False, odd: bool = False) -> list[str]:
        """A row in as many lines as its highest cell needs; `low` puts the others at the bottom."""
        cells = [row[i] for i in self.keep]
        columns = [self.table.columns[i] for i in self.keep]
        pieces = [
            self._cell(cell, column, width, heading=low) for cell, column, width in zip(cells, columns, self.widths, strict=True)
        ]
        high = max(map(len, pieces), default=0)
        filled = [[*[""] * (high - len(p)), *p] if low else [*p, *[""] * (high - len(p))] for p in pieces]
        styles = [() if low else self._style(column, cell, codes, odd=odd) for column, cell in zip(columns, cells, strict=True)]
        return [self._joined(line, columns, styles) for line in zip(*filled, strict=True)]

    def _cell(self, cell: str, column: Column, width: int, *, heading: bool) -> list[str]:
        if self.measure(cell) <= width:
            return [cell]
        from kvplan.report.folding import folded

        return folded(cell, width, name=heading or column.kind != "text", measure=self.measure)

    def _style(self, column: Column, cell: str, codes: tuple[str, ...], *, odd: bool) -> tuple[str, ...]:
        if not self.view.color:
            return ()
        if column.kind == "bar":
            return (_DIM, _CYAN) if odd else (_CYAN,)  # neighbours touch
        if column.tone and cell.strip() not in {"", "0"}:
            return (*codes, _GREEN if column.tone == "good" else _RED)
        tone = _TONES.get(cell.strip()) if column.kind in {"verdict", "text"} or column.quiet else None
        return (*codes, tone) if tone else codes or ((_DIM,) if column.quiet else ())

    def _joined(self, parts: Sequence[str], columns: Sequence[Column], styles: Sequence[tuple[str, ...]]) -> str:
        """One line; nothing stands after its last word."""
        paint = _painter(self.view.color)
        last = max((i for i, part in enumerate(parts) if part.strip()), default=-1)
        line = ""
        for i, (part, column, width, style) in enumerate(zip(parts, columns, self.widths, styles, strict=True)):
            if i > last:
                break
            gap = " " * (width - self.measure(part))
            lead, trail = (gap, "") if column.kind in _RIGHT else ("", gap)
            shown = part.rstrip() if i == last else part
            line += f"{' ' * _GUTTER if i else ''}{lead}{paint(shown, *style)}{'' if i == last else trail}"
        return line


def _measure(shown: Printed) -> Callable[[str], int]:
    """How wide a text is: its length, unless some characters take two columns or none; rich knows those."""
    rows = [shown.headers, *shown.rows, *([shown.total] if shown.total else [])]
    if all(cell.isascii() or all(c < "\u0300" or c in _NARROW for c in cell) for row in rows for cell in row):
        return len
    from rich.cells import cell_len

    return cell_len
