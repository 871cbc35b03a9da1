"""`kvplan sweep`: the grid, to a table, CSV or Parquet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kvplan.cli import options as o
from kvplan.errors import OptionError

if TYPE_CHECKING:
    from kvplan.questions.sweep.grid import Sweep

SeqLens = Annotated[str, typer.Option("-s", "--seq-len", metavar="TOKENS", help="Lengths: 1k,8k or 1k:1M:x2 or 0k:64k:4k")]
BatchSizes = Annotated[str, typer.Option("-b", "--batch-size", metavar="N", help="Batch sizes: 1,2,4 or 1:64:x2")]
Engines = Annotated[str, typer.Option("-e", "--engine", metavar="NAME[@VERSION]", help="Engines, with commas between")]
KvDtypes = Annotated[str, typer.Option("--kv-dtype", metavar="DTYPE", help="Cache dtypes, with commas between")]
Devices = Annotated[str, typer.Option("--tensor-parallel", "--tp", metavar="N", help="Devices that split the heads: 1,2,4")]
SweepFormat = Annotated[
    o.Format | None, typer.Option("-f", "--format", help="Report format (default: a table, or what FILE's name says)")
]
SweepOutput = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to FILE: .csv, .parquet, .json, .md")
]

_BY_SUFFIX: Final = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".md": "markdown", ".txt": "table", "": "csv"}
_LONG: Final = 3_000_000  # rows that take about a second: worth a progress bar
_JSON_ROWS: Final = 1_000_000
_TABLE_ROWS: Final = 100


def sweep(
    models: o.ModelsArg,
    seq_lens: SeqLens = "1k:128k:x2",
    batch_sizes: BatchSizes = "1",
    engines: Engines = "ideal",
    kv_dtypes: KvDtypes = "auto",
    devices: Devices = "1",
    encoder_len: o.EncoderLen = "0",
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: SweepFormat = None,
    output: SweepOutput = None,
    infer: o.Infer = False,
    quiet: o.Quiet = False,
) -> None:
    """Evaluate a grid of lengths, batch sizes, cache dtypes and engines; print it or write it as CSV or Parquet."""
    from kvplan.cli.output import checked_unit, remark
    from kvplan.loading import load
    from kvplan.questions.sweep.grid import Sweep
    from kvplan.units import parse_count, parse_counts

    form, checked = _form(fmt, output), checked_unit(unit)
    grid = Sweep(
        models=[load(name, infer=infer) for name in models],
        seq_lens=parse_counts(seq_lens, what="--seq-len"),
        batch_sizes=parse_counts(batch_sizes, what="--batch-size"),
        kv_dtypes=o.listed(kv_dtypes, "--kv-dtype"),
        engines=o.listed(engines, "--engine"),
        tensor_parallels=parse_counts(devices, what="--tensor-parallel"),
        encoder_len=parse_count(encoder_len, what="--encoder-len", minimum=0),
        options=o.engine_options(settings, kv_dtype="auto", tensor_parallel=1),
    )
    if form in {"csv", "parquet"}:
        _stream(grid, form, output)
    else:
        _report(grid, form, checked, output)
    if form in {"csv", "parquet", "json"} and not quiet:
        for note in grid.notes:
            remark(f"note: {note}")
    if output is not None and not quiet:
        remark(f"{output}: {_shape(grid)}")


def _form(fmt: o.Format | None, output: Path | None) -> str:
    """The format asked for, or the one that the file's name says."""
    suffix = output.suffix.lower() if output is not None and str(output) != "-" else ""
    if suffix == ".parquet" and fmt is not None:
        raise OptionError(f"--format {fmt.value} and `{output}` contradict each other", hint="leave one of them out")
    if fmt is not None:
        return fmt.value
    if output is None or str(output) == "-":
        return "table"
    if suffix not in _BY_SUFFIX:
        known = ", ".join(filter(None, _BY_SUFFIX))
        raise OptionError(f"`{output}`: the name does not say which format", hint=f"end it in one of {known}, or add -f csv")
    return _BY_SUFFIX[suffix]


def _shape(grid: "Sweep") -> str:
    lengths, batches = grid.seq_lens, grid.batch_sizes
    return (
        f"{len(grid):,} rows = {len(grid.combinations):,} x {len(lengths):,} lengths "
        f"({lengths.min():,} to {lengths.max():,} tokens) x {len(batches):,} batch sizes"
    )


def _stream(grid: "Sweep", form: str, output: Path | None) -> None:
    """Write the rows to a file that appears whole or not at all, or to stdout."""
    import sys

    from kvplan.cli.output import replacing

    with _progress(len(grid)) as advance:
        if output is None or str(output) == "-":
            sys.stdout.flush()
            grid.write_csv(sys.stdout.buffer, advance)
            sys.stdout.buffer.flush()
            return
        with replacing(output) as temporary:
            write = grid.write_parquet if form == "parquet" else grid.write_csv
            write(temporary, advance)


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr when that is a terminal and the grid is long; it is gone when the work is done."""
    import sys

    if rows < _LONG or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=rows)
        yield lambda done: bar.advance(task, done)


def _report(grid: "Sweep", form: str, unit: str | None, output: Path | None) -> None:
    """A table for people, or JSON."""
    from kvplan.cli.output import emit, terminal_width, wants_color
    from kvplan.report.answers.sweep import common_unit, sweep_rows, sweep_table

    if form == "json":
        from kvplan.report.formats.json import to_json

        if len(grid) > _JSON_ROWS:
            raise OptionError(f"{len(grid):,} rows are too many for JSON", hint="write them with -o report.csv or .parquet")
        emit(to_json("sweep", sweep_rows(grid), notes=list(grid.notes)), output)
        return
    table = sweep_table(grid, _TABLE_ROWS)
    chosen = unit or common_unit(table)
    if form == "markdown":
        from kvplan.report.formats.markdown import to_markdown

        emit(to_markdown(table, unit=chosen), output)
        return
    from kvplan.report.formats.table import to_text

    emit(to_text(table, unit=chosen, width=terminal_width(), color=output is None and wants_color()), output)
