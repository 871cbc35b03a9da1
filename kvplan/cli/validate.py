"""`kvplan validate`: the prediction against real torch allocations."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from kvplan.api.validate import Library
from kvplan.cli import options as o
from kvplan.cli.progress import progress
from kvplan.errors import InputError, KvplanError, Mismatch
from kvplan.units import MIB

if TYPE_CHECKING:
    from kvplan.domain.allocation import Allocation
    from kvplan.domain.model import Model
    from kvplan.domain.workload import Workload
    from kvplan.engines.kernel.engine import Engine
    from kvplan.questions.validate.compare import Validation
    from kvplan.questions.validate.devices import Device
    from kvplan.questions.validate.distributed import Group
    from kvplan.questions.validate.ranks import Ranks

    Opener = Callable[[], Device]

_MUCH_BYTES: Final = 512 * MIB


DeviceOpt = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:0, mps or xpu")]
Limit = Annotated[str | None, typer.Option("--limit", metavar="SIZE", help="Take at most this much: 2GiB")]
ProbeMax = Annotated[bool, typer.Option("--probe-max", help="Find the largest batch that really fits under --limit")]
Against = Annotated[
    Library | None,
    typer.Option("--against", metavar="LIBRARY", help="Compare with what the installed library keeps: transformers …"),
]
Shards = Annotated[
    int | None,
    typer.Option("--tensor-parallel", "--tp", min=1, metavar="N", help="Devices that split the heads (torchrun: all ranks)"),
]
PartsOf = Annotated[
    str | None,
    typer.Option("--gpu", metavar="NAME[,…]", help="What lies on each of these cards and on the host, part by part"),
]


def validate(
    model: o.ModelArg,
    seq_len: o.SeqLen = "4k",
    batch_size: o.BatchSize = "1",
    device: DeviceOpt = "auto",
    engine: o.EngineOpt = "ideal",
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: Shards = None,
    gpu: PartsOf = None,
    gpu_layers: o.GpuLayers = None,
    tensor_split: o.LayerSplit = None,
    no_kv_offload: o.NoKvOffload = False,
    free: o.Free = None,
    encoder_len: o.EncoderLen = "0",
    settings: o.SetOpt = None,
    limit: Limit = None,
    probe_max: ProbeMax = False,
    against: Against = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Allocate the predicted tensors; compare the bytes.

    MODEL may also be a plan of `kvplan committee`: then all its members' caches are allocated at once.
    """
    from kvplan.cli.output import remark
    from kvplan.loading.plan.read import is_plan
    from kvplan.questions.validate.choosing import open_device, parse_device
    from kvplan.questions.validate.distributed import joined
    from kvplan.questions.validate.ranks import ranks_from
    from kvplan.units import parse_size

    ranks = ranks_from(os.environ)
    parse_device(device)
    limit_bytes = None if limit is None else parse_size(limit, what="--limit")
    if is_plan(model):
        if ranks.several:
            raise InputError("a plan is validated in one process", hint="start it without torchrun")
        _validate_plan(model, device, limit_bytes, fmt, output)
        return
    where = o.placing(gpu_layers=gpu_layers, tensor_split=tensor_split, no_kv_offload=no_kv_offload)
    if gpu is not None or where or free:
        if gpu is None or ranks.several or against or probe_max or tensor_parallel:
            raise InputError(
                "where things lie is validated of one process on cards that are named",
                hint="«gpu rtx-4090,rtx-3090», without torchrun, «against», «probe_max» or «tensor_parallel»",
            )
        given = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=1)
        told = {"seq_len": seq_len, "batch_size": batch_size, "engine": engine, "free": free, "where": where, "infer": infer}
        _validate_parts(model, gpu, device, limit_bytes, {**told, **given}, (fmt, output))
        return
    with joined(ranks, device, remark) as group, _spoken_once(group):
        named = against.value if against and engine == "ideal" else engine
        made = group.each(lambda: _engine(named, settings, kv_dtype, tensor_parallel, ranks))
        loaded = group.each(lambda: _load(model, infer))
        workload = group.each(lambda: o.workload(seq_len, batch_size, encoder_len, loaded))
        library = None if against is None else _run_mlx_lm if against is Library.mlx_lm else partial(_run_library, against)
        way = library or (_probe if probe_max else _measure)
        answers = way(group, made, loaded, workload, lambda: open_device(device, ranks), limit_bytes)
        group.each(lambda: _tell(answers, ranks, fmt, output))
        failures = [answer.failure() for answer in answers if not answer.passed]
        if failures:
            raise Mismatch(failures[0], hint="prediction and reality differ: please report the command and this line")


def _touching(ranks: "Ranks", total_bytes: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """A bar of rank 0 where there is much to touch; None is an unknown total."""
    much = total_bytes is None or total_bytes >= _MUCH_BYTES
    return progress("touching memory", total_bytes, shown=much and not ranks.rank)


@contextmanager
def _spoken_once(group: "Group") -> Iterator[None]:
    """All ranks meet the same error; rank 0 says it, and none leaves before it is said: torchrun ends the rest at once."""
    try:
        yield
    except KvplanError as problem:
        if not group.ranks.several:
            raise
        if group.ranks.rank == 0:
            from kvplan.cli.output import remark

            remark(problem.render(o.flag))
        group.each(lambda: None)
        raise typer.Exit(problem.exit_code) from problem


def _load(model: str, infer: bool) -> "Model":
    from kvplan.loading import load

    return load(model, infer=infer)


def _engine(name: str, settings: list[str] | None, kv_dtype: str, tensor_parallel: int | None, ranks: "Ranks") -> "Engine":
    """The engine; unless told otherwise, torchrun's ranks are its tensor-parallel devices."""
    from kvplan.engines import about, make_engine

    given = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel or 1)
    own = about(name).roles.get("tensor_parallel", "tensor_parallel")
    if tensor_parallel is None and ranks.several and own not in given and "tensor_parallel" not in given:
        given["tensor_parallel"] = ranks.world_size
    return make_engine(name, given)


def _measure(
    group: "Group", engine: "Engine", model: "Model", workload: "Workload", opened: "Opener", limit_bytes: int | None
) -> "list[Validation]":
    """Every rank allocates once all have seen that it fits."""
    from kvplan.domain.allocation import NotPredicted
    from kvplan.questions.estimate import predict as predicted
    from kvplan.questions.validate.session import check_fits, measure

    def predict() -> "Allocation":
        answer = predicted(engine, model, workload)
        if isinstance(answer, NotPredicted):
            raise InputError(f"not predicted: {answer.reason}", hint=answer.see)
        return answer

    allocation = group.each(predict)
    place = group.each(opened)
    ceiling = group.each(lambda: check_fits(allocation, place, limit_bytes))
    with _touching(group.ranks, allocation.allocated_bytes) as watch:
        return group.together(lambda: measure(allocation, place, ceiling, ranks=group.ranks, watch=watch))


def _probe(
    group: "Group", engine: "Engine", model: "Model", workload: "Workload", opened: "Opener", limit_bytes: int | None
) -> "list[Validation]":
    """Every rank searches for its own largest batch, once all have seen that the limit is free."""
    from kvplan.questions.validate.probe import chosen_limit, probe_largest_batch

    place = group.each(opened)
    limit = group.each(lambda: chosen_limit(place, limit_bytes))
    with _touching(group.ranks, None) as watch:
        return group.together(lambda: probe_largest_batch(engine, model, workload, place, limit, ranks=group.ranks, watch=watch))


def _run_library(
    library: Library,
    group: "Group",
    engine: "Engine",
    model: "Model",
    workload: "Workload",
    opened: "Opener",
    limit_bytes: int | None,
) -> "list[Validation]":
    """One process runs the library's own model and cache."""
    from kvplan.api.validate import run_library

    if group.ranks.several:
        raise InputError("--against runs in one process", hint="start it without torchrun")
    place = opened()
    with _touching(group.ranks, 0):
        return [run_library(library, model, workload, engine, place)]


def _run_mlx_lm(
    group: "Group", engine: "Engine", model: "Model", workload: "Workload", opened: "Opener", limit_bytes: int | None
) -> "list[Validation]":
    """One process runs mlx-lm's own model and cache; nothing is computed, so no device is opened."""
    from kvplan.questions.validate.against_mlx_lm import validate_against_mlx_lm

    if group.ranks.several:
        raise InputError("--against runs in one process", hint="start it without torchrun")
    return [validate_against_mlx_lm(model, workload, engine)]


def _tell(answers: "list[Validation]", ranks: "Ranks", fmt: str | None, output: Path | None) -> None:
    """Rank 0 writes the report of all."""
    from kvplan.cli.output import show
    from kvplan.report.answers.validate import ValidateAnswer

    if ranks.rank == 0:
        show(ValidateAnswer(answers), fmt, output)


def _validate_parts(
    model: str,
    gpu: str,
    device: str,
    limit_bytes: int | None,
    told: dict[str, Any],
    shown: tuple[str | None, Path | None],
) -> None:
    """What each of several cards and the host keep, in turn."""
    from kvplan.api.validate import validate_parts
    from kvplan.cli.output import show
    from kvplan.questions.validate.ranks import Ranks
    from kvplan.report.answers.validate import ValidateAnswer

    with _touching(Ranks(), None) as watch:
        answers = validate_parts(model, gpu, device=device, limit=limit_bytes, watch=watch, **told)
    show(ValidateAnswer(answers), *shown)
    failures = [answer.failure() for answer in answers if not answer.passed]
    if failures:
        raise Mismatch(failures[0], hint="prediction and reality differ: please report the command and this line")


def _validate_plan(plan: str, device: str, limit_bytes: int | None, fmt: str | None, output: Path | None) -> None:
    """What `kvplan validate PLAN.yaml` does: all members' caches at once on the device, each against its prediction."""
    from kvplan.api.committee import committee as asked
    from kvplan.cli.output import show
    from kvplan.questions.validate.choosing import open_device
    from kvplan.questions.validate.ranks import Ranks
    from kvplan.questions.validate.together import validate_together
    from kvplan.report.answers.validate_plan import TogetherAnswer

    place, planned = open_device(device, Ranks()), asked(plan, advise=False)
    with _touching(Ranks(), None) as watch:
        answer = validate_together(planned, place, limit_bytes=limit_bytes, watch=watch)
    show(TogetherAnswer(answer), fmt, output)
    if not answer.passed:
        raise Mismatch(answer.failure(), hint="prediction and reality differ: please report the plan and this line")
