"""Tables as GitHub markdown, with the same units as on a terminal."""

from kvplan.domain.tables import Table, printed
from kvplan.errors import printable

_ESCAPED = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>|#"})


def _cell(text: str) -> str:
    return text.translate(_ESCAPED)


def to_markdown(table: Table, *, unit: str | None = None) -> str:
    """The table, a bold total row, and the notes as a list."""
    shown = printed(table, unit)
    keep = [i for i, column in enumerate(table.columns) if column.kind != "bar"]
    rules = ["---" if table.columns[i].kind in {"text", "verdict"} else "---:" for i in keep]
    lines = [f"**{_cell(printable(table.title))}**", ""] if table.title else []
    rows = [[_cell(row[i]) for i in keep] for row in shown.rows]
    if shown.total:
        rows.append([f"**{_cell(shown.total[i])}**" if shown.total[i] else "" for i in keep])
    headers = [_cell(shown.headers[i]) for i in keep]
    lines += [f"| {' | '.join(row)} |" for row in (headers, rules, *rows)]
    if table.notes:
        lines += ["", *(f"- {_cell(printable(note))}" for note in table.notes)]
    return "\n".join(lines) + "\n"
