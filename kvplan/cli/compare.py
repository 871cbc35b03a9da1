"""`kvplan compare`: models, variants, engines and cache dtypes side by side."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvplan.cli import options as o

if TYPE_CHECKING:
    from kvplan.domain.model import Model
    from kvplan.domain.workload import Workload
    from kvplan.questions.compare import Comparison

VariantOpt = Annotated[
    str | None,
    typer.Option(
        "--variant",
        metavar="A,B,…",
        help="Also the model rewritten: mha, gqa=K, mqa, mla=R+D, state, window=W, full, index=D, cla=N, loop=N, mqa+cla=2; "
        "window=1k:5/6, window=1k:sliding and state:3/4 for some of the layers",
    ),
]
EnginesOpt = Annotated[
    str, typer.Option("-e", "--engine", metavar="A,B,…", help="Engines, each NAME[@VERSION]; see `kvplan engines`")
]
KvDtypes = Annotated[
    str, typer.Option("--kv-dtype", metavar="A,B,…", help="Cache dtypes; `all` shows what each one saves; see `kvplan dtypes`")
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="NAME|N", help="The row that is 1.00x: a model's name or a row's number")
]


Budget = Annotated[
    str | None,
    typer.Option("--budget", metavar="SHARE", help="Designs that keep at most this of one model's cache: 25%, 1/4, 2GiB"),
]


def compare(
    models: o.ModelsArg,
    variants: VariantOpt = None,
    budget: Budget = None,
    seq_len: o.SeqLens = "8k",
    batch_size: o.BatchSizes = "1",
    engines: EnginesOpt = "ideal",
    kv_dtypes: KvDtypes = "auto",
    baseline: Baseline = None,
    tensor_parallel: o.TensorParallel = 1,
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
) -> None:
    """Models, variants, engines and dtypes side by side.

    Each row is relative to a baseline.
    """
    from kvplan.cli.output import drawn, remark, show
    from kvplan.domain.media.asked import parse_media
    from kvplan.domain.variants import variant
    from kvplan.loading import load
    from kvplan.loading.processor_files import processor_files
    from kvplan.questions.compare import compare as compared
    from kvplan.report.answers.compare import CompareAnswer

    originals = [load(name, infer=infer) for name in models]
    workloads = o.workloads(seq_len, batch_size, encoder_len, *originals)
    asked: dict[str, Any] = {
        "engines": o.listed_engines(engines),
        "kv_dtypes": o.listed(kv_dtypes, "--kv-dtype"),
        "options": o.engine_options(settings, kv_dtype="auto", tensor_parallel=tensor_parallel),
        "baseline": baseline,
    }
    media = parse_media(images, video, audio)
    if budget is not None:
        found = _designs(originals, workloads, budget, variants, {**asked, "media": media})
        answer = CompareAnswer(found)
        show(answer, drawn(answer, plots, fmt, output, unit), output, unit)
        if len(found.rows) == 1:
            remark(f"none of {found.tried:,} designs keeps at most {found.budget}")
            raise typer.Exit(1)
        return
    rewrites = o.listed(variants, "--variant") if variants else []
    compared_models = [model for original in originals for model in (original, *(variant(original, text) for text in rewrites))]
    files = {model.name: processor_files(source) for source, model in zip(models, originals, strict=True)} if media else {}
    first, *more = (compared(compared_models, workload, media=media, files=files, **asked) for workload in workloads)
    answer = CompareAnswer(first, more)
    show(answer, drawn(answer, plots, fmt, output, unit), output, unit)


def _designs(
    models: "list[Model]", workloads: "list[Workload]", budget: str, variants: str | None, asked: dict[str, Any]
) -> "Comparison":
    """`--budget`: one model at one workload, and the designs that keep less."""
    from kvplan.errors import OptionError
    from kvplan.questions.compare import designs

    given = {
        "models": len(models) > 1,
        "lengths or batches": len(workloads) > 1,
        "engines": len(asked["engines"]) > 1,
        "cache dtypes": asked["kv_dtypes"] == ["all"] or len(asked["kv_dtypes"]) > 1,
        "variants": bool(variants),
        "a baseline": asked["baseline"] is not None,
        "images, video or audio": bool(asked["media"]),
    }
    several = next((name for name, many in given.items() if many), None)
    if several is not None:
        raise OptionError(
            f"«budget» searches designs of one model at one workload, and {several} were given", hint="leave out the others"
        )
    engine, dtype = asked["engines"][0], asked["kv_dtypes"][0]
    return designs(models[0], workloads[0], budget, engine=engine, kv_dtype=dtype, options=asked["options"])
