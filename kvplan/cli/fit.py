"""`kvplan fit`: what a GPU can serve."""

from typing import Annotated

import typer

from kvplan.cli import options as o

GpuOpt = Annotated[
    str,
    typer.Option(
        "--gpu",
        metavar="NAME[:N][,…]",
        help="GPU of the catalogue (`kvplan gpus`), several, `all`, or `local`",
        show_default=False,
    ),
]
EngineOpt = Annotated[
    str | None,
    typer.Option("-e", "--engine", metavar="NAME[@VERSION]", help="Whose allocation: vllm, or llama.cpp for a GGUF file"),
]
Context = Annotated[
    str | None, typer.Option("-s", "--context", "--seq-len", metavar="TOKENS", help="Find the most requests of this length")
]
Batch = Annotated[
    str | None, typer.Option("-b", "--batch", "--batch-size", metavar="N", help="Find the longest context of N requests")
]
Target = Annotated[str | None, typer.Option("--target", metavar="TEXT", help='Is there room for this? "32 users at 32k"')]
Average = Annotated[
    str | None,
    typer.Option("--average", metavar="TOKENS", help="What a request holds on average: how many fit a shared pool then?"),
]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, help="How many GPUs (as NAME:N)")]
Split = Annotated[
    int | None, typer.Option("--tensor-parallel", "--tp", min=1, help="GPUs that split one model; the rest are replicas")
]


def fit(
    models: o.ModelsArg,
    gpu: GpuOpt,
    engine: EngineOpt = None,
    context: Context = None,
    batch_size: Batch = None,
    target: Target = None,
    average: Average = None,
    gpus: Gpus = None,
    tensor_parallel: Split = None,
    kv_dtype: o.KvDtype = "auto",
    weights: o.Weights = None,
    weights_dtype: o.WeightsDtype = None,
    reserve: o.Reserve = None,
    memory: o.Memory = None,
    utilization: o.Utilization = None,
    free: o.Free = None,
    machine: o.Machine = None,
    offline: o.Offline = False,
    encoder_len: o.EncoderLen = "0",
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Find the largest batch, the longest context, or the smallest GPU that serves a target."""
    from kvplan.api.fit import fit as asked
    from kvplan.cli.output import show
    from kvplan.report.answers.fit import FitAnswer

    options = o.with_offline(o.engine_options(settings, kv_dtype="auto", tensor_parallel=1), offline)
    kv_dtype = options.pop("kv_dtype", kv_dtype)
    answers = [
        asked(
            name,
            gpu,
            engine=engine,
            context=context,
            batch_size=batch_size,
            target=target,
            average=average,
            gpus=gpus,
            tensor_parallel=tensor_parallel,
            kv_dtype=kv_dtype,
            weights=weights,
            weights_dtype=weights_dtype,
            reserve=reserve,
            memory=memory,
            utilization=utilization,
            free=free,
            machine=machine,
            encoder_len=encoder_len,
            infer=infer,
            **options,
        )
        for name in models
    ]
    show(FitAnswer(answers), fmt, output, unit)
    if not all(answer.fits for answer in answers):
        raise typer.Exit(1)
