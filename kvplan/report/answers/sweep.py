"""What `kvplan sweep` shows: a matrix of lengths and batch sizes, or one line a cell."""

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kvplan.domain.allocation import COLUMNS as CSV_COLUMNS
from kvplan.domain.tables import Cell, Column, Table
from kvplan.units import byte_unit

if TYPE_CHECKING:
    from kvplan.questions.sweep.grid import Sweep

_MATRIX_WIDTH: Final = 8  # batch sizes beside each other
_VARYING: Final = ("model", "engine", "kv_dtype", "tensor_parallel")


def sweep_rows(sweep: "Sweep", limit: int | None = None) -> list[dict[str, Any]]:
    """Rows as JSON holds them, the names and order of the CSV; the first `limit` if that is given."""

    def every() -> Any:
        for block in sweep.batches():
            columns = [v if isinstance(v, str | int) else v.tolist() for v in (block[name] for name in CSV_COLUMNS)]
            for i in range(len(block["seq_len"])):  # type: ignore[arg-type]
                yield {n: v[i] if isinstance(v, list) else v for n, v in zip(CSV_COLUMNS, columns, strict=True)}

    return list(islice(every(), limit))


def sweep_table(sweep: "Sweep", limit: int = 100) -> Table:
    """The first `limit` rows of the grid, or of its matrix when there is one combination and few batch sizes."""
    matrix = len(sweep.combinations) == 1 and 1 < len(sweep.batch_sizes) <= _MATRIX_WIDTH
    table = _matrix(sweep, limit) if matrix else _list(sweep, limit)
    hidden = (len(sweep.seq_lens) if matrix else len(sweep)) - len(table.rows)
    more = (f"{hidden:,} more rows; `-o report.csv` (or .parquet) writes all",) if hidden else ()
    return Table(title=table.title, columns=table.columns, rows=table.rows, notes=(*table.notes, *more, *sweep.notes))


def common_unit(table: Table) -> str:
    """One unit for all bytes columns of the table, so that they can be compared across."""
    wanted = [i for i, column in enumerate(table.columns) if column.kind == "bytes"]
    return byte_unit(max((v for row in table.rows for i in wanted if isinstance(v := row[i], int)), default=0))


def _title(sweep: "Sweep") -> str:
    same = {name: {str(c.labels[name]) for c in sweep.combinations} for name in _VARYING[:3]}
    words = [next(iter(v)) if len(v) == 1 else f"{len(v)} {n}s" for n, v in same.items() if v]
    encoder = [f"{sweep.encoder_len:,} encoder tokens"] if sweep.encoder_len else []
    return " · ".join([*words, *encoder, f"{len(sweep):,} cells"])


def _matrix(sweep: "Sweep", limit: int) -> Table:
    width = len(sweep.batch_sizes)
    cells = sweep_rows(sweep, limit * width)
    totals = [row["total_bytes"] for row in cells]
    columns = [
        Column(title="seq_len", key="seq_len", kind="tokens"),
        *(Column(title=f"batch {b:,}", key=f"batch_{b}", kind="bytes") for b in sweep.batch_sizes.tolist()),
        Column(title="B a token", key="bytes_per_token", kind="count"),
    ]
    rows: list[tuple[Cell, ...]] = [
        (cells[i]["seq_len"], *totals[i : i + width], cells[i]["bytes_per_token"]) for i in range(0, len(cells), width)
    ]
    return Table(title=_title(sweep), columns=tuple(columns), rows=tuple(rows))


def _list(sweep: "Sweep", limit: int) -> Table:
    varying = [name for name in _VARYING if len({c.labels[name] for c in sweep.combinations}) > 1]
    columns = (
        *(Column(title=name, key=name, kind="count" if name == "tensor_parallel" else "text") for name in varying),
        Column(title="batch", key="batch_size", kind="count"),
        Column(title="seq_len", key="seq_len", kind="tokens"),
        Column(title="cache", key="total_bytes", kind="bytes"),
        Column(title="bytes", key="total_bytes", kind="count", optional=True),
        Column(title="B a token", key="bytes_per_token", kind="count", optional=True),
    )
    rows = tuple(tuple(row[column.key] for column in columns) for row in sweep_rows(sweep, limit))
    return Table(title=_title(sweep), columns=columns, rows=rows)
