"""`kvplan reserve`: what a server makes of the memory that it has."""

from typing import Annotated

import typer

from kvplan.cli import options as o
from kvplan.engines import USUAL_SERVER

Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory for the cache on each device: 16GiB, as the log's available"),
]
GpuOpt = Annotated[
    str | None, typer.Option("--gpu", metavar="NAME", help="Or a GPU of the catalogue: memory x utilization - weights - reserve")
]


def reserve(
    models: o.ModelsArg,
    engine: o.ServerOpt = USUAL_SERVER,
    memory: Memory = None,
    gpu: GpuOpt = None,
    weights: o.Weights = None,
    weights_dtype: o.WeightsDtype = None,
    reserve: o.Reserve = None,
    utilization: o.Utilization = None,
    free: o.Free = None,
    machine: o.Machine = None,
    host: o.Host = None,
    disk: o.Disk = None,
    sessions: o.Sessions = None,
    images: o.Images = None,
    video: o.Video = None,
    audio: o.Audio = None,
    offline: o.Offline = False,
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Blocks and tokens that a server makes of its memory.

    In the server's own words; exit 1 when it would refuse to start.
    """
    from kvplan.api.reserve import try_reserve as reserved
    from kvplan.cli.output import show
    from kvplan.domain.pool import Pool
    from kvplan.report.answers.reserve import ReserveAnswer

    chosen = o.with_offline(o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel), offline)
    pools = [
        reserved(
            name,
            memory=memory,
            gpu=gpu,
            engine=engine,
            weights=weights,
            weights_dtype=weights_dtype,
            reserve=reserve,
            utilization=utilization,
            free=free,
            machine=machine,
            host=host,
            disk=disk,
            sessions=sessions,
            images=images,
            video=video,
            audio=audio,
            infer=infer,
            **chosen,
        )
        for name in models
    ]
    show(ReserveAnswer(pools), fmt, output, unit)
    if any(not isinstance(pool, Pool) or pool.refused for pool in pools):
        raise typer.Exit(1)
