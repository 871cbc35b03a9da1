"""`kvplan sweep`: the grid, to a table, CSV or Parquet."""

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kvplan.cli import options as o
from kvplan.errors import OptionError

if TYPE_CHECKING:
    from kvplan.questions.sweep.grid import Sweep

SeqLens = Annotated[
    str, typer.Option("-s", "--seq-len", "--context", metavar="TOKENS", help="Lengths: 1k,8k or 1k:max:x2 or 4k:64k:4k")
]
BatchSizes = Annotated[str, typer.Option("-b", "--batch-size", "--batch", metavar="N", help="Batch sizes: 1,2,4 or 1:64:x2")]
Engines = Annotated[str, typer.Option("-e", "--engine", metavar="NAME[@VERSION]", help="Engines, with commas between")]
KvDtypes = Annotated[str, typer.Option("--kv-dtype", metavar="DTYPE", help="Cache dtypes, with commas between")]
Devices = Annotated[str, typer.Option("--tensor-parallel", "--tp", metavar="N", help="Devices that split the heads: 1,2,4")]

#: What may vary in a grid -> how several of it are called.
_VARYING: Final = {"model": "models", "engine": "engines", "kv_dtype": "kv dtypes", "tensor_parallel": "device counts"}
#: Formats that the grid writes itself, at any length.
_STREAMED: Final = ("csv", "parquet")
_LONG: Final = 3_000_000  # rows that take about a second: worth a progress bar


def sweep(
    models: o.ModelsArg,
    seq_lens: SeqLens = "1k:128k:x2",
    batch_sizes: BatchSizes = "1",
    engines: Engines = "ideal",
    kv_dtypes: KvDtypes = "auto",
    devices: Devices = "1",
    encoder_len: o.EncoderLen = "0",
    images: o.Images = None,
    video: o.Video = None,
    audio: o.Audio = None,
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    plots: o.Plots = None,
    infer: o.Infer = False,
    workers: o.Workers = "1",
    scheduler: o.Scheduler = None,
    quiet: o.Quiet = False,
) -> None:
    """A grid of lengths, batches, dtypes and engines.

    It is printed, or written as CSV or Parquet.
    """
    from kvplan.api.workers import runner
    from kvplan.cli.output import checked_unit, drawn, remark, show, told
    from kvplan.domain.media.asked import parse_media
    from kvplan.domain.workload import with_longest
    from kvplan.loading import load
    from kvplan.loading.processor_files import processor_files
    from kvplan.questions.sweep.grid import Sweep
    from kvplan.report.answers.sweep import SweepAnswer
    from kvplan.units import parse_count, parse_counts

    form, checked = _form(fmt, output, quiet=quiet), checked_unit(unit)
    loaded = [load(name, infer=infer) for name in models]
    media = parse_media(images, video, audio)
    grid = Sweep(
        models=loaded,
        seq_lens=parse_counts(with_longest(seq_lens, loaded, "--seq-len"), what="--seq-len"),
        batch_sizes=parse_counts(batch_sizes, what="--batch-size"),
        kv_dtypes=o.listed(kv_dtypes, "--kv-dtype"),
        engines=o.listed_engines(engines),
        tensor_parallels=parse_counts(devices, what="--tensor-parallel"),
        encoder_len=parse_count(encoder_len, what="--encoder-len", minimum=0),
        options=o.engine_options(settings, kv_dtype="auto", tensor_parallel=1),
        media=media,
        files={model.name: processor_files(name) for name, model in zip(models, loaded, strict=True)} if media else {},
        run=runner(workers, scheduler),
    )
    if not quiet:
        o.remark_on_lists(seq_lens, batch_sizes)
    if plots is not None:
        form = _form(drawn(SweepAnswer(grid), plots, fmt, output, unit), output, quiet=True)
    if form in _STREAMED:
        _stream(grid, form, output)
    else:
        show(SweepAnswer(grid), form, output, checked, quiet=True)
    if form in {*_STREAMED, "json"} and not quiet:
        for note in grid.notes:
            remark(f"note: {note}")
    if not quiet:
        told(output, f"{form}, {_shape(grid)}")


def _form(fmt: str | None, output: Path | None, *, quiet: bool) -> str:
    """The format asked for, or the one that the file's name says; a name without an ending is a CSV.

    Raises:
        OptionError: the name says something else.
    """
    from kvplan.cli.output import chosen_format
    from kvplan.report.formats import FORMATS, by_ending

    plain = output is None or str(output) == "-"
    if fmt is None and output is not None and not plain and output.suffix and by_ending(output) is None:
        known = ", ".join(ending for row in FORMATS for ending in row.endings)
        raise OptionError(f"`{output}`: the name does not say which format", hint=f"end it in one of {known}, or add -f csv")
    return chosen_format(fmt, output, otherwise="table" if plain else "csv", quiet=quiet)


def _shape(grid: "Sweep") -> str:
    """How many rows of what: `176 rows: 2 models x 2 kv dtypes x 11 lengths x 4 batch sizes`."""
    lengths, batches = grid.seq_lens, grid.batch_sizes
    varying = {name: len({combination.labels[name] for combination in grid.combinations}) for name in _VARYING}
    parts = [f"{count:,} {words}" for name, words in _VARYING.items() if (count := varying[name]) > 1]
    if prod(varying.values()) != len(grid.combinations):  # some engines do not have some dtypes
        parts = [f"{len(grid.combinations):,} combinations"]
    parts += [f"{len(lengths):,} lengths ({lengths.min():,} to {lengths.max():,} tokens)"] if len(lengths) > 1 else []
    parts += [f"{len(batches):,} batch sizes"] if len(batches) > 1 else []
    rows = f"{len(grid):,} row{'s' if len(grid) != 1 else ''}"
    return f"{rows}: {' x '.join(parts)}" if parts else rows


def _stream(grid: "Sweep", form: str, output: Path | None) -> None:
    """Write the rows to a file that appears whole or not at all, or to stdout."""
    import sys

    from kvplan.cli.output import replacing, stdout_for_bytes
    from kvplan.cli.progress import progress

    write = grid.write_parquet if form == "parquet" else grid.write_csv
    with progress("rows", len(grid), of="rows", shown=len(grid) >= _LONG) as advance:
        if output is None or str(output) == "-":
            sys.stdout.flush()
            write(stdout_for_bytes() if form == "parquet" else sys.stdout.buffer, advance)
            sys.stdout.buffer.flush()
            return
        with replacing(output) as temporary:
            write(temporary, advance)
