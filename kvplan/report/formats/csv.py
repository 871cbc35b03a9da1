"""CSV for machines: raw integers, units in the column names, and no cell that a spreadsheet would run."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets a leading apostrophe; control characters go.

    >>> safe_cell("=1+1")
    "'=1+1"
    """
    if not isinstance(value, str):
        return value
    text = "".join(c if c.isprintable() else "\ufffd" for c in value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """One line a row, the same column names in every report."""
    names = list(columns)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([safe_cell(row.get(name)) for name in names])
    return out.getvalue()
