"""`kvplan validate`: the prediction against real torch allocations."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvplan.cli import options as o
from kvplan.errors import InputError, KvplanError, Mismatch
from kvplan.units import MIB

if TYPE_CHECKING:
    from kvplan.engines.base import Engine
    from kvplan.model import Model
    from kvplan.validation.compare import Validation
    from kvplan.validation.ranks import Ranks
    from kvplan.workload import Workload

DeviceOpt = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:0, mps or xpu")]
Limit = Annotated[str | None, typer.Option("--limit", metavar="SIZE", help="Take at most this much: 2GiB")]
ProbeMax = Annotated[bool, typer.Option("--probe-max", help="Find the largest batch that really fits under --limit")]
Shards = Annotated[
    int | None,
    typer.Option("--tensor-parallel", "--tp", min=1, help="Devices that split the KV heads (under torchrun: all ranks)"),
]


def validate(
    model: o.ModelArg,
    seq_len: o.SeqLen = "4k",
    batch_size: o.BatchSize = "1",
    device: DeviceOpt = "auto",
    engine: o.EngineOpt = "ideal",
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: Shards = None,
    encoder_len: o.EncoderLen = "0",
    settings: o.SetOpt = None,
    limit: Limit = None,
    probe_max: ProbeMax = False,
    fmt: o.FormatOpt = o.Format.table,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Allocate every predicted tensor on a device, and compare the bytes to the prediction."""
    from kvplan.loaders import load
    from kvplan.units import parse_count, parse_size
    from kvplan.validation.ranks import ranks_from
    from kvplan.workload import Workload

    ranks = ranks_from(os.environ)
    with _spoken_once(ranks):
        workload = Workload(
            batch_size=parse_count(batch_size, what="--batch-size"),
            seq_len=parse_count(seq_len, what="--seq-len"),
            encoder_len=parse_count(encoder_len, what="--encoder-len", minimum=0),
        )
        limit_bytes = None if limit is None else parse_size(limit, what="--limit")
        made = _engine(engine, settings, kv_dtype, tensor_parallel, ranks)
        job = _probe if probe_max else _measure
        answers = job(made, load(model, infer=infer), workload, device, limit_bytes, ranks)
        _tell(answers, ranks, fmt, output)


@contextmanager
def _spoken_once(ranks: "Ranks") -> Iterator[None]:
    """All ranks meet the same error; one on each machine says it, the others only leave with its code."""
    try:
        yield
    except KvplanError as problem:
        if ranks.local_rank:
            raise typer.Exit(problem.exit_code) from problem
        raise


def _engine(name: str, settings: list[str] | None, kv_dtype: str, tensor_parallel: int | None, ranks: "Ranks") -> "Engine":
    """The engine; unless told otherwise, torchrun's ranks are its tensor-parallel devices."""
    from kvplan.engines import engine_class, make_engine

    given = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel or 1)
    own = engine_class(name.partition("@")[0]).aliases.get("tensor_parallel", "tensor_parallel")
    if tensor_parallel is None and ranks.several and own not in given and "tensor_parallel" not in given:
        given["tensor_parallel"] = ranks.world_size
    return make_engine(name, given)


def _measure(
    engine: "Engine", model: "Model", workload: "Workload", device: str, limit_bytes: int | None, ranks: "Ranks"
) -> "list[Validation]":
    """Every rank allocates once all have seen that it fits."""
    from kvplan.allocation import NotPredicted
    from kvplan.validation.choosing import open_device
    from kvplan.validation.distributed import joined
    from kvplan.validation.session import check_fits, measure

    allocation = engine.footprint(model, workload)
    if isinstance(allocation, NotPredicted):
        raise InputError(f"not predicted: {allocation.reason}", hint=allocation.see)
    place = open_device(device, ranks)
    with joined(ranks, place) as group:
        ceiling = group.together(lambda: check_fits(allocation, place, limit_bytes))[ranks.rank]
        with _progress(ranks, allocation.allocated_bytes) as watch:
            return group.together(lambda: measure(allocation, place, ceiling, ranks=ranks, watch=watch))


def _probe(
    engine: "Engine", model: "Model", workload: "Workload", device: str, limit_bytes: int | None, ranks: "Ranks"
) -> "list[Validation]":
    """Every rank searches for its own largest batch."""
    from kvplan.validation.choosing import open_device
    from kvplan.validation.distributed import joined
    from kvplan.validation.probe import chosen_limit, probe_largest_batch

    place = open_device(device, ranks)
    with joined(ranks, place) as group:
        limit = group.together(lambda: chosen_limit(place, limit_bytes))[ranks.rank]
        with _progress(ranks, None) as watch:
            return group.together(
                lambda: probe_largest_batch(engine, model, workload, place, ranks=ranks, limit_bytes=limit, watch=watch)
            )


def _tell(answers: "list[Validation]", ranks: "Ranks", fmt: o.Format, output: Any) -> None:
    """Rank 0 prints; every rank fails when one of them differs."""
    from kvplan.cli.output import emit, terminal_width, wants_color
    from kvplan.report.validate import render

    if ranks.rank == 0:
        emit(render(answers, fmt.value, width=terminal_width(), color=output is None and wants_color()), output)
    for answer in answers:
        if not answer.passed:
            raise Mismatch(answer.failure(), hint="prediction and reality differ: please report the command and this line")


@contextmanager
def _progress(ranks: "Ranks", total_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr when it is a terminal and there is much to touch; `None` is an unknown total."""
    small = total_bytes is not None and total_bytes < 512 * MIB
    if ranks.rank or small or not sys.stderr.isatty():
        yield lambda touched_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("touching memory"), BarColumn(), DownloadColumn(binary_units=True), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=total_bytes)
        yield lambda touched_bytes: bar.advance(task, touched_bytes)
