"""What `kvplan sweep` shows: a matrix of lengths and batch sizes, or one line a cell."""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import COLUMNS as CSV_COLUMNS
from kvplan.domain.tables import Cell, Column, Table
from kvplan.errors import OptionError
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.blocks import Block, Rows, View

if TYPE_CHECKING:
    from kvplan.questions.sweep.grid import Sweep
    from kvplan.report.figures import Picture

_MATRIX_WIDTH: Final = 8  # batch sizes beside each other
_VARYING: Final = ("model", "engine", "kv_dtype", "tensor_parallel")
_MOST_DICTS: Final = 1_000_000
_TABLE_ROWS: Final = 100


class SweepAnswer(Struct, frozen=True):
    """A grid. Its CSV and Parquet of any length are written by the grid itself, in bounded memory."""

    key: ClassVar[str] = "sweep"
    sweep: "Sweep"

    @property
    def beside(self) -> dict[str, Any]:
        """What the JSON holds beside the cells."""
        return {"notes": list(self.sweep.notes)}

    def dicts(self) -> list[dict[str, Any]]:
        """One object a cell.

        Raises:
            OptionError: there are more than a million.
        """
        if len(self.sweep) > _MOST_DICTS:
            raise OptionError(f"{len(self.sweep):,} rows are too many for JSON", hint="write them with -o report.csv or .parquet")
        return sweep_rows(self.sweep)

    def rows(self) -> Rows:
        """One row a cell."""
        return CSV_COLUMNS, self.dicts()

    def figures(self, view: View) -> "Sequence[Picture]":
        """The cache over the lengths, and what the next token adds."""
        from kvplan.report.answers.sweep_figures import sweep_figures

        return sweep_figures(self.sweep)

    def blocks(self, view: View) -> list[Block]:
        """One table, cut to what a person reads; its bytes in one unit, so that they can be compared across."""
        return [replace(sweep_table(self.sweep, _TABLE_ROWS), one_unit=True)]


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


def _title(sweep: "Sweep") -> str:
    same = {name: {str(c.labels[name]) for c in sweep.combinations} for name in _VARYING[:3]}
    if sweep.combinations:  # engines with their releases
        same["engine"] = {engine_words(str(c.labels["engine"]), str(c.labels["engine_version"])) for c in sweep.combinations}
    words = [next(iter(v)) if len(v) == 1 else f"{len(v)} {n.replace('_', ' ')}s" for n, v in same.items() if v]
    encoder = [f"{sweep.encoder_len:,} encoder tokens"] if sweep.encoder_len else []
    encoder += [f"text and {sweep.media}"] if sweep.media else []
    return " · ".join([*words, *encoder, f"{len(sweep):,} cells"])


def _matrix(sweep: "Sweep", limit: int) -> Table:
    width = len(sweep.batch_sizes)
    cells = sweep_rows(sweep, limit * width)
    totals = [row["total_bytes"] for row in cells]
    columns = [
        Column(title="tokens", key="seq_len", kind="tokens"),
        *(Column(title=f"batch {b:,}", key=f"batch_{b}", kind="bytes") for b in sweep.batch_sizes.tolist()),
        Column(title="B/token", key="bytes_per_token", kind="count", drop=1),
    ]
    rows: list[tuple[Cell, ...]] = [
        (cells[i]["seq_len"], *totals[i : i + width], cells[i]["bytes_per_token"]) for i in range(0, len(cells), width)
    ]
    return Table(title=_title(sweep), columns=tuple(columns), rows=tuple(rows))


def _label_column(name: str) -> Column:
    if name == "tensor_parallel":
        return Column(title="devices", key=name, kind="count")
    return Column(title=name.replace("_", " "), key=name, kind="name", once=True)


def _list(sweep: "Sweep", limit: int) -> Table:
    varying = [name for name in _VARYING if len({c.labels[name] for c in sweep.combinations}) > 1]
    limits = {str(c.labels["model"]): c.prepared.model.max_tokens for c in sweep.combinations}
    longest = max(sweep.seq_lens.tolist(), default=0)
    beyond = len(limits) > 1 and any(longest > most for most in limits.values() if most is not None)
    columns = (
        *(_label_column(name) for name in varying),
        *([Column(title="max tokens", key="max_tokens", kind="tokens", once=True, drop=1)] if beyond else []),
        Column(title="batch", key="batch_size", kind="count"),
        Column(title="tokens", key="seq_len", kind="tokens"),
        Column(title="cache", key="total_bytes", kind="bytes"),
        Column(title="bytes", key="total_bytes", kind="count", drop=2, instead=""),
        Column(title="B/token", key="bytes_per_token", kind="count", drop=1),
        Column(title="", key="bar", kind="bar", drop=3, instead=""),
    )
    shown = sweep_rows(sweep, limit)
    largest = max((row["total_bytes"] for row in shown), default=0) or 1
    cells = [{**row, "max_tokens": limits[row["model"]], "bar": row["total_bytes"] / largest} for row in shown]
    rows = tuple(tuple(row[column.key] for column in columns) for row in cells)
    return Table(title=_title(sweep), columns=columns, rows=rows)
