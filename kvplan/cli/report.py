"""`kvplan report`: a page to look at."""

from typing import Annotated

import typer

from kvplan.cli import options as o

GpuOpt = Annotated[
    str, typer.Option("--gpu", metavar="NAME[:N][,…]", help="GPUs to choose between on the page, as `kvplan fit` takes them")
]
EnginesOpt = Annotated[
    str, typer.Option("-e", "--engine", metavar="A,B,…", help="Engines to choose between, each NAME[@VERSION]; `all`")
]
KvDtypes = Annotated[str, typer.Option("--kv-dtype", metavar="A,B,…", help="Cache dtypes to choose between")]


def report(
    models: o.ModelsArg,
    gpu: GpuOpt = "rtx-4090,h100-80gb,h200,h200:8",
    engines: EnginesOpt = "vllm,llama.cpp,transformers,ideal",
    seq_len: o.SeqLens = "2k:128k:x2",
    batch_size: o.BatchSizes = "1:64:x2",
    kv_dtypes: KvDtypes = "auto,fp8,q8_0,q4_0",
    weights: o.Weights = None,
    weights_dtype: o.WeightsDtype = None,
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """One page to look at: every setting, exact, offline.

    Written with `-o report.html`: bytes by kind of layer, growth, waste, a start's memory, what fits where, and why.
    """
    from kvplan.api.page import page
    from kvplan.cli.output import show
    from kvplan.cli.progress import progress
    from kvplan.report.answers.page import PageAnswer

    options = o.engine_options(settings, kv_dtype="auto", tensor_parallel=1)
    o.remark_on_lists(seq_len, batch_size)
    with progress("reckoning", None, of="") as advance:
        made = page(
            models,
            gpu,
            seq_len=seq_len,
            batch_size=batch_size,
            kv_dtype=kv_dtypes,
            engine=o.listed_engines(engines),
            weights=weights,
            weights_dtype=weights_dtype,
            infer=infer,
            advance=lambda done, _: advance(done),
            **options,
        )
    show(PageAnswer(made), fmt, output, unit)
