"""`kvplan reserve`: what a server makes of the memory that it has."""

from typing import Annotated

import typer

from kvplan.cli import options as o

EngineOpt = Annotated[str, typer.Option("-e", "--engine", metavar="NAME[@VERSION]", help="The server; see `kvplan engines`")]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory for the cache on each device: 16GiB, as the log's available"),
]
GpuOpt = Annotated[
    str | None, typer.Option("--gpu", metavar="NAME", help="Or a GPU of the catalogue: memory x utilization - weights - reserve")
]
Weights = Annotated[str | None, typer.Option("--weights", metavar="SIZE", help="Bytes of the weights: 16GB, 15GiB")]
WeightsDtype = Annotated[str | None, typer.Option("--weights-dtype", metavar="DTYPE", help="The parameters as bf16, fp8, int4 …")]
Reserve = Annotated[str | None, typer.Option("--reserve", metavar="SIZE", help="For activations and runtime, on each GPU")]
Utilization = Annotated[str | None, typer.Option("--utilization", metavar="SHARE", help="Share of the memory to use: 0.9")]


def reserve(
    models: o.ModelsArg,
    engine: EngineOpt = "vllm",
    memory: Memory = None,
    gpu: GpuOpt = None,
    weights: Weights = None,
    weights_dtype: WeightsDtype = None,
    reserve: Reserve = None,
    utilization: Utilization = None,
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = o.Format.table,
    output: o.Output = None,
    infer: o.Infer = False,
) -> None:
    """Print the blocks, tokens and concurrency that a server reserves, in its own words; exit 1 when it would refuse to start."""
    from kvplan.api.reserve import reserve as reserved
    from kvplan.cli.output import checked_unit, emit, terminal_width, wants_color
    from kvplan.domain.pool import Pool
    from kvplan.report.answers.reserve import render

    chosen = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
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
            infer=infer,
            **chosen,
        )
        for name in models
    ]
    color = output is None and wants_color()
    emit(render(pools, fmt.value, unit=checked_unit(unit), width=terminal_width(), color=color), output)
    if any(not isinstance(pool, Pool) or pool.refused for pool in pools):
        raise typer.Exit(1)
