"""CSV for machines: raw integers, units in the column names, and no cell that a spreadsheet would run."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from kvplan.domain.tables import safe_cell
from kvplan.report.blocks import Answer, View


def text(answer: Answer, view: View) -> str:
    """The answer's rows, whatever the view."""
    columns, rows = answer.rows()
    return to_csv(rows, columns)


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """One line a row, the same column names in every report."""
    names = list(columns)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([safe_cell(row.get(name)) for name in names])
    return out.getvalue()
