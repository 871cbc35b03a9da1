"""Parquet for data frames: the rows of the CSV with their types. A sweep of any length has a writer of its own."""

import io
from collections.abc import Sequence
from typing import Any

from kvplan.domain.tables import safe_cell
from kvplan.report.blocks import Answer, View


def data(answer: Answer, view: View) -> bytes:
    """The answer's rows, whatever the view: a column is bool, int64, float64 or string, as all of its cells are."""
    import pyarrow as pa
    from pyarrow import parquet

    names, rows = answer.rows()
    kept = [dict(row) for row in rows]
    arrays = [_array(pa, [safe_cell(row.get(name)) for row in kept]) for name in names]
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays(arrays, names=list(names)), out)
    return out.getvalue()


def _array(pa: Any, cells: Sequence[Any]) -> Any:
    kinds = {type(cell) for cell in cells if cell is not None}
    for kind, stored in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64())):
        if kinds == {kind}:
            return pa.array(cells, stored)
    if kinds == {int, float}:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
