"""Tables as HTML, for notebooks."""

from html import escape

from kvplan.domain.tables import Table, printed
from kvplan.errors import printable


def to_html(table: Table, *, unit: str | None = None) -> str:
    """A plain `<table>`; numbers are right-aligned, everything is escaped."""
    shown = printed(table, unit)

    def line(cells: list[str], tag: str) -> str:
        parts = []
        for column, cell in zip(table.columns, cells, strict=True):
            style = "" if column.kind in {"text", "verdict", "bar"} else ' style="text-align:right"'
            parts.append(f"<{tag}{style}>{escape(cell)}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in shown.rows)
    foot = f"<tfoot>{line(shown.total, 'th')}</tfoot>" if shown.total else ""
    notes = "".join(f"<p><small>{escape(printable(note))}</small></p>" for note in table.notes)
    caption = f"<caption>{escape(printable(table.title))}</caption>"
    return f"<table>{caption}<thead>{line(shown.headers, 'th')}</thead><tbody>{body}</tbody>{foot}</table>{notes}"
