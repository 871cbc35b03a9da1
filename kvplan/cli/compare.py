"""`kvplan compare`: models, variants, engines and cache dtypes side by side."""

from typing import Annotated, Any

import typer

from kvplan.cli import options as o

VariantOpt = Annotated[
    str | None,
    typer.Option(
        "--variant", metavar="A,B,…", help="Also the model rewritten: mha, gqa=K, mqa, mla=R+D, window=W, full, cla=N, mqa+cla=2"
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


def compare(
    models: o.ModelsArg,
    variants: VariantOpt = None,
    seq_len: o.SeqLens = "8k",
    batch_size: o.BatchSizes = "1",
    engines: EnginesOpt = "ideal",
    kv_dtypes: KvDtypes = "auto",
    baseline: Baseline = None,
    tensor_parallel: o.TensorParallel = 1,
    encoder_len: o.EncoderLen = "0",
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Models, variants, engines and dtypes side by side.

    Each row is relative to a baseline.
    """
    from kvplan.cli.output import show
    from kvplan.domain.variants import variant
    from kvplan.loading import load
    from kvplan.questions.compare import compare as compared
    from kvplan.report.answers.compare import CompareAnswer

    originals = [load(name, infer=infer) for name in models]
    workloads = o.workloads(seq_len, batch_size, encoder_len, *originals)
    rewrites = o.listed(variants, "--variant") if variants else []
    compared_models = [model for original in originals for model in (original, *(variant(original, text) for text in rewrites))]
    asked: dict[str, Any] = {
        "engines": o.listed_engines(engines),
        "kv_dtypes": o.listed(kv_dtypes, "--kv-dtype"),
        "options": o.engine_options(settings, kv_dtype="auto", tensor_parallel=tensor_parallel),
        "baseline": baseline,
    }
    first, *more = (compared(compared_models, workload, **asked) for workload in workloads)
    show(CompareAnswer(first, more), fmt, output, unit)
