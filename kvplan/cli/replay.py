"""`kvplan replay`: a trace of requests through a server's own scheduler."""

from pathlib import Path
from typing import Annotated

import typer

from kvplan.cli import options as o
from kvplan.engines import USUAL_SERVER
from kvplan.errors import OptionError
from kvplan.report.formats import FIGURES, by_ending

TraceArg = Annotated[
    str, typer.Argument(metavar="TRACE", help="CSV, JSON lines or Parquet, or a folder of Parquet files", show_default=False)
]
ModelOpt = Annotated[str, typer.Option("-m", "--model", metavar="MODEL", help=o.MODEL_HELP, show_default=False)]
GpuOpt = Annotated[
    str,
    typer.Option("--gpu", metavar="NAME[:N]", help="GPU of the catalogue (`kvplan gpus`), or h100:4", show_default=False),
]
PrefillRate = Annotated[
    float | None, typer.Option("--prefill-rate", metavar="TOK/S", help="Prompt tokens that a server computes a second")
]
DecodeRate = Annotated[float | None, typer.Option("--decode-rate", metavar="TOK/S", help="Tokens a second of each request")]
Columns = Annotated[
    str | None,
    typer.Option("--columns", metavar="ROLE=NAME,…", help="What columns hold: arrival=ts:ms,prompt=in,output=out,images=n"),
]
Rate = Annotated[float | None, typer.Option("--rate", metavar="N", help="N requests a second in place of arrival times")]
Route = Annotated[str | None, typer.Option("--route", metavar="COLUMN", help="The column that says the replica (else: in turn)")]
HashTokens = Annotated[str | None, typer.Option("--hash-tokens", metavar="N", help="Tokens of a prompt that one hash stands for")]
Host = Annotated[
    str | None, typer.Option("--host", metavar="SIZE", help="Host memory below each server's cache, from which prompts come back")
]
Search = Annotated[bool, typer.Option("--search/--no-search", help="Look for how many GPUs are needed")]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Also a figure: FILE.svg, .pdf or .png")]


def replay(
    trace: TraceArg,
    model: ModelOpt,
    gpu: GpuOpt,
    engine: o.ServerOpt = USUAL_SERVER,
    prefill_rate: PrefillRate = None,
    decode_rate: DecodeRate = None,
    columns: Columns = None,
    rate: Rate = None,
    route: Route = None,
    hash_tokens: HashTokens = None,
    images: o.Images = None,
    video: o.Video = None,
    audio: o.Audio = None,
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    weights: o.Weights = None,
    weights_dtype: o.WeightsDtype = None,
    reserve: o.Reserve = None,
    memory: o.Memory = None,
    utilization: o.Utilization = None,
    free: o.Free = None,
    machine: o.Machine = None,
    host: Host = None,
    disk: o.Disk = None,
    search: Search = True,
    workers: o.Workers = "1",
    scheduler: o.Scheduler = None,
    plot: Plot = None,
    offline: o.Offline = False,
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """A day's traffic through a server's scheduler.

    What its cache holds over time, who waits and who is displaced, and how many GPUs have room for all.
    """
    from kvplan.api.replay import replay as asked
    from kvplan.cli.output import chosen_format, show
    from kvplan.cli.progress import progress
    from kvplan.report.answers.replay import ReplayAnswer
    from kvplan.report.formats.figure import ready

    options = o.with_offline(o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel), offline)
    kind = _kind(plot) if plot is not None else chosen_format(fmt, output, quiet=True)
    if kind in FIGURES:
        ready()  # a day's traffic is not replayed for a figure that cannot be drawn
    with progress("requests", None, of="rows") as advance:
        found = asked(
            trace,
            model,
            gpu,
            engine=engine,
            prefill_rate=prefill_rate,
            decode_rate=decode_rate,
            columns=columns,
            rate=rate,
            route=route,
            hash_tokens=hash_tokens,
            images=images,
            video=video,
            audio=audio,
            weights=weights,
            weights_dtype=weights_dtype,
            reserve=reserve,
            memory=memory,
            utilization=utilization,
            free=free,
            machine=machine,
            host=host,
            disk=disk,
            search=search,
            workers=workers,
            scheduler=scheduler,
            infer=infer,
            advance=advance,
            **options,
        )
    if plot is not None:
        show(ReplayAnswer(found), kind, plot, unit)
    show(ReplayAnswer(found), fmt, output, unit)


def _kind(plot: Path) -> str:
    """The format of a figure, by its file's name.

    Raises:
        OptionError: it names none.
    """
    said = by_ending(plot)
    if said is None or said.name not in FIGURES:
        endings = ", ".join(f".{name}" for name in FIGURES)
        raise OptionError(f"«plot»: `{plot}` ends in none of {endings}", hint="name the file so")
    return said.name
