"""`kvplan fit`: what a GPU can serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kvplan.domain.allocation import NotPredicted
    from kvplan.questions.fit.question import Fit

from kvplan.cli import options as o
from kvplan.errors import ConfigError, InputError, OptionError

if TYPE_CHECKING:
    from kvplan.domain.allocation import NotPredicted
    from kvplan.questions.fit.question import Fit

GpuOpt = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="NAME[:N][,…]",
        help="GPU (`kvplan gpus`; 4090, 'NVIDIA L40S', 8xh100, 24GiB), several, `all`, or `local`",
        show_default=False,
    ),
]
EngineOpt = Annotated[
    str | None,
    typer.Option("-e", "--engine", metavar="NAME[@VERSION]", help="Whose allocation: vllm, or llama.cpp for a GGUF file"),
]
Context = Annotated[
    str | None,
    typer.Option(
        "-s", "--context", "--seq-len", metavar="TOKENS[,…]", help="Find the most requests of this length; of several: a table"
    ),
]
Batch = Annotated[
    str | None, typer.Option("-b", "--batch", "--batch-size", metavar="N", help="Find the longest context of N requests")
]
Target = Annotated[str | None, typer.Option("--target", metavar="TEXT", help='Is there room for this? "32 users at 32k"')]
Average = Annotated[
    str | None,
    typer.Option("--average", metavar="TOKENS", help="What a request holds on average: how many fit a shared pool then?"),
]
Mix = Annotated[str | None, typer.Option("--mix", metavar="TEXT", help='Requests of several lengths: "70% 4k, 25% 32k, 5% 128k"')]
MaxSeqs = Annotated[
    bool, typer.Option("--max-seqs", help="Also the most requests at once that the server can be told and starts")
]
AsTable = Annotated[bool, typer.Option("--table", help="Each model on each GPU, also of one context")]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, metavar="N", hidden=True, help="How many GPUs (as NAME:N)")]
Split = Annotated[
    int | None,
    typer.Option("--tensor-parallel", "--tp", min=1, metavar="N", help="GPUs that split one model; others are replicas"),
]
DataRanks = Annotated[
    str | None,
    typer.Option(
        "--data-parallel", "--dp", metavar="N|all", help="Data ranks that share one model's experts, each with a cache of its own"
    ),
]
EmitOpt = Annotated[
    str | None,
    typer.Option("--emit", metavar="FORM", help="Write the file that starts it, alone: shell, compose, k8s, systemd, modelfile"),
]
Experts = Annotated[bool, typer.Option("--expert-parallel", "--ep", help="Experts dealt out whole instead of cut")]


def fit(
    models: o.ModelsArg,
    gpu: GpuOpt = None,
    engine: EngineOpt = None,
    context: Context = None,
    batch_size: Batch = None,
    target: Target = None,
    average: Average = None,
    mix: Mix = None,
    max_seqs: MaxSeqs = False,
    table: AsTable = False,
    gpus: Gpus = None,
    tensor_parallel: Split = None,
    data_parallel: DataRanks = None,
    expert_parallel: Experts = False,
    kv_dtype: o.KvDtype = "auto",
    gpu_layers: o.GpuLayers = None,
    tensor_split: o.LayerSplit = None,
    n_cpu_moe: o.CpuMoe = None,
    override_tensor: o.Overrides = None,
    no_kv_offload: o.NoKvOffload = False,
    model_draft: o.Drafter = None,
    mmproj: o.Projector = None,
    weights: o.Weights = None,
    weights_dtype: o.WeightsDtype = None,
    reserve: o.Reserve = None,
    memory: o.Memory = None,
    utilization: o.Utilization = None,
    free: o.Free = None,
    machine: o.Machine = None,
    host: o.Host = None,
    disk: o.Disk = None,
    sessions: o.Sessions = None,
    offline: o.Offline = False,
    encoder_len: o.EncoderLen = "0",
    images: o.Images = None,
    video: o.Video = None,
    audio: o.Audio = None,
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
    workers: o.Workers = "1",
    scheduler: o.Scheduler = None,
    emit: EmitOpt = None,
) -> None:
    """What a GPU can serve, or which GPU serves a target.

    The most requests of a length, the longest context of a batch, or the smallest GPU; of several contexts a
    table. Exit 1 when it does not fit.
    """
    from kvplan.api.cards import any_card
    from kvplan.api.fit import try_fit as asked
    from kvplan.cli.output import show
    from kvplan.cli.progress import progress
    from kvplan.domain.allocation import NotPredicted
    from kvplan.engines import default_engine
    from kvplan.questions.fit.question import Fit
    from kvplan.report.answers.fit import FitAnswer

    options = o.with_offline(o.engine_options(settings, kv_dtype="auto", tensor_parallel=1), offline)
    where = o.placing(
        gpu_layers=gpu_layers,
        tensor_split=tensor_split,
        n_cpu_moe=n_cpu_moe,
        override_tensor=override_tensor,
        no_kv_offload=no_kv_offload,
        model_draft=model_draft,
        mmproj=mmproj,
    )
    if gpu is None:
        gpu, memory = any_card(memory), None
    shared: dict[str, Any] = {
        "engine": engine,
        "mix": mix,
        "gpus": gpus,
        "tensor_parallel": tensor_parallel,
        "data_parallel": data_parallel,
        "expert_parallel": expert_parallel,
        "kv_dtype": options.pop("kv_dtype", kv_dtype),
        "weights": weights,
        "weights_dtype": weights_dtype,
        "reserve": reserve,
        "memory": memory,
        "utilization": utilization,
        "free": free,
        "machine": machine,
        "encoder_len": encoder_len,
        "infer": infer,
        **options,
    }
    below: dict[str, str | None] = {"host": host, "disk": disk, "sessions": sessions}
    if table or (context is not None and any(mark in context for mark in ",:")):
        alone = {"batch": batch_size, "target": target, "average": average, "max_seqs": "" if max_seqs else None, **below}
        alone |= {"images": images, "video": video, "audio": audio}
        spread = {"workers": workers, "scheduler": scheduler}
        _table(models, gpu, context, alone, {**shared, **spread}, (fmt, output, unit))
        return
    if scheduler is not None or workers != "1":
        raise OptionError("«workers» and «scheduler» compute the cells of a table", hint="«context 8k,32k» makes one, or «table»")
    one: dict[str, Any] = {
        "context": context,
        "batch_size": batch_size,
        "target": target,
        "average": average,
        "max_seqs": max_seqs,
        **below,
        "images": images,
        "video": video,
        "audio": audio,
    }
    other = {
        "target": target, "average": average, "mix": mix, "max_seqs": max_seqs, "tensor_parallel": tensor_parallel,
        "data_parallel": data_parallel, "expert_parallel": expert_parallel, "emit": emit, **below,
    }  # fmt: skip
    given = {"reserve": reserve, "utilization": utilization, "machine": machine, "encoder_len": encoder_len.strip("0")}
    plain = not any(other.values())
    seen = {"images": images, "video": video, "audio": audio}
    laid = (gpu, context, batch_size, {**shared, **seen, "where": where}, (fmt, output, unit))
    if where or (plain and _asks_for_places(models, gpu, engine, options, supposes=any(given.values()))):
        _only_places({**other, **given})
        _places(models, *laid)
        return
    answers: list[Fit | NotPredicted] = []
    problems: list[InputError] = []
    with progress(f"trying the GPUs of `{gpu[:40]}`", None, of="", shown=_many(gpu) or len(models) > 1):
        for name in models:
            try:
                answers.append(asked(name, gpu, **one, **shared))
            except (OptionError, ConfigError) as problem:  # of several models, the one that has no answer says so
                problems.append(problem)
                no = NotPredicted(reason=str(problem), see=problem.hint, model=name, engine=engine or default_engine(name))
                answers.append(no)
    if len(problems) == len(answers):
        raise problems[0]
    if plain and not any(given.values()) and _needs_places(models, gpu, engine, answers):
        _places(models, *laid)
        return
    if emit is not None:
        _emit(answers, emit, output)
    else:
        show(FitAnswer(answers), fmt, output, unit)
    if not all(isinstance(answer, Fit) and answer.fits for answer in answers):
        raise typer.Exit(1)


def _emit(answers: "list[Fit | NotPredicted]", form: str, output: Path | None) -> None:
    """The file that starts the server, alone on stdout; the verdict goes to stderr.

    Raises:
        OptionError: several answers, or none.
    """
    from kvplan.cli.output import emit, remark, told
    from kvplan.questions.emit import emitted
    from kvplan.questions.fit.question import Fit
    from kvplan.report.answers.fit import verdict

    answer = answers[0]
    if len(answers) > 1 or not isinstance(answer, Fit) or answer.not_predicted:
        raise OptionError("«emit» writes the file of one verdict", hint="ask about one model, and an engine that serves it")
    shown = emitted(answer, form)
    remark(verdict(answer))
    emit(shown, output)
    told(output, form)


def _asks_for_places(models: list[str], gpu: str, engine: str | None, options: dict[str, Any], *, supposes: bool) -> bool:
    """Whether it is asked where things lie, of engines that deal layers out: on cards that are named, not to choose from.

    Args:
        supposes: whether a part of one card's budget is said, for which places have a rule of their own.
    """
    from kvplan.api.places import choice, places, said, together

    several = together(gpu)
    if engine is not None and places(engine) and said(engine, options):
        return True
    if choice(gpu) or (supposes and not several):
        return False
    return places(engine) if engine is not None else _deals_out(models, gpu)


def _only_places(other: dict[str, Any]) -> None:
    """Refuses what a question about places is not asked.

    Raises:
        OptionError: one of them was.
    """
    for name, value in other.items():
        if value:
            raise OptionError(
                f"«{name}» is not asked where layers are dealt out to devices: buffers and the driver's part are computed",
                hint="«context», «batch_size» and «free» (what others leave of each card) are",
            )


def _deals_out(models: list[str], gpu: str) -> bool:
    """Whether the usual engine of every model deals layers out."""
    from kvplan.api.places import places, usual_engine
    from kvplan.errors import KvplanError
    from kvplan.loading import load

    try:
        return all(places(usual_engine(name, load(name), gpu)) for name in models)
    except KvplanError:
        return False  # the question itself says what is wrong


def _needs_places(models: list[str], gpu: str, engine: str | None, answers: "list[Fit | NotPredicted]") -> bool:
    """Whether one card does not hold the model, and the engine could leave a part of it on the host."""
    from kvplan.api.places import places
    from kvplan.questions.fit.question import Fit

    if not all(isinstance(answer, Fit) and not answer.fits and not answer.not_predicted for answer in answers) or _many(gpu):
        return False
    return places(engine) if engine is not None else _deals_out(models, gpu)


#: What only a question about one budget takes; where places are asked for, `_only_places` has refused it.
_ONE_CARD = ("mix", "tensor_parallel", "data_parallel", "expert_parallel", "reserve", "utilization", "machine", "encoder_len")


def _places(
    models: list[str],
    gpu: str,
    context: str | None,
    batch_size: str | None,
    shared: dict[str, Any],
    shown: tuple[str | None, Path | None, str | None],
) -> None:
    """Where everything lies, for each model."""
    from kvplan.api.placement import place
    from kvplan.cli.output import show
    from kvplan.questions.placement.answer import Laid
    from kvplan.report.answers.placement import LaidAnswer

    told = {name: value for name, value in shared.items() if name not in _ONE_CARD}
    answers = [place(name, gpu, context=context, batch_size=batch_size, **told) for name in models]
    show(LaidAnswer(answers), *shown)
    if not all(isinstance(answer, Laid) and answer.fits for answer in answers):
        raise typer.Exit(1)


def _many(gpu: str) -> bool:
    """Whether several cards are meant, by a list or by a maker's name: that takes a while."""
    return "," in gpu or not any(character.isdigit() for character in gpu)


def _table(
    models: list[str],
    gpu: str,
    context: str | None,
    alone: dict[str, str | None],
    shared: dict[str, Any],
    shown: tuple[str | None, Path | None, str | None],
) -> None:
    """The capacity table.

    Raises:
        OptionError: what only a question about one context can be asked.
    """
    from kvplan.api.capacity import capacity
    from kvplan.cli.output import show
    from kvplan.cli.progress import progress
    from kvplan.report.answers.capacity import CapacityAnswer

    for name, value in alone.items():
        if value is not None:
            raise OptionError(f"a table finds the most requests: «{name}» is for one context", hint=f"leave out «{name}»")
    with progress("cells", None, of="rows") as advance:
        found = capacity(models, gpu, context=context, advance=lambda done, of: advance(done), **shared)
    o.remark_on_lists(context or "")
    show(CapacityAnswer(found), *shown)
    if not any(cell.fits for cell in found.cells):
        raise typer.Exit(1)
