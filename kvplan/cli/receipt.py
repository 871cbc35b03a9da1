"""`kvplan receipt`: a server's start-up before it starts."""

from typing import Annotated

import typer

from kvplan.cli import options as o
from kvplan.engines import USUAL_SERVER

GpuOpt = Annotated[str, typer.Option("--gpu", metavar="NAME", help="GPU of the catalogue (`kvplan gpus`)", show_default=False)]


def receipt(
    models: o.ModelsArg,
    gpu: GpuOpt,
    engine: o.ServerOpt = USUAL_SERVER,
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    weights: o.Weights = None,
    weights_dtype: o.WeightsDtype = None,
    reserve: o.Reserve = None,
    memory: o.Memory = None,
    utilization: o.Utilization = None,
    free: o.Free = None,
    machine: o.Machine = None,
    images: o.Images = None,
    video: o.Video = None,
    audio: o.Audio = None,
    offline: o.Offline = False,
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """A server's start-up, line by line, before it starts.

    In its own words; exit 1 when it would refuse to start.
    """
    from kvplan.api.receipt import receipt as asked
    from kvplan.cli.output import show
    from kvplan.report.answers.receipt import ReceiptAnswer

    options = o.with_offline(o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel), offline)
    answers = [
        asked(
            name,
            gpu,
            engine=engine,
            weights=weights,
            weights_dtype=weights_dtype,
            reserve=reserve,
            memory=memory,
            utilization=utilization,
            free=free,
            machine=machine,
            images=images,
            video=video,
            audio=audio,
            infer=infer,
            **options,
        )
        for name in models
    ]
    show(ReceiptAnswer(answers), fmt, output, unit)
    if not all(answer.starts for answer in answers):
        raise typer.Exit(1)
