"""`kvplan diff`: whose capacity changes, by how much, and by which rule."""

from typing import Annotated, Any

import typer

from kvplan.cli import options as o

_BEFORE = "NAME@VERSION of an engine; with --of, a cache dtype or a model file"
BeforeArg = Annotated[str, typer.Argument(metavar="A", help=_BEFORE, show_default=False)]
AfterArg = Annotated[str, typer.Argument(metavar="B", help="The other", show_default=False)]
ModelsArg = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL...]", help="Whose answers (default: every model of the catalogue)", callback=o.with_patterns),
]
OfOpt = Annotated[str, typer.Option("--of", metavar="KIND", help="What A and B are: engine, kv-dtype or model")]
EngineOpt = Annotated[
    str | None,
    typer.Option(
        "-e", "--engine", metavar="NAME[@VERSION]", help="With --of kv-dtype or model: whose cache (model: several with commas)"
    ),
]
BudgetOpt = Annotated[str, typer.Option("--budget", metavar="SIZE", help="What requests share on each device")]


def diff(
    before: BeforeArg,
    after: AfterArg,
    models: ModelsArg = None,
    of: OfOpt = "engine",
    engine: EngineOpt = None,
    seq_len: o.SeqLen = "8k",
    batch_size: o.BatchSize = "1",
    budget: BudgetOpt = "40GiB",
    kv_dtype: o.KvDtype = "auto",
    tensor_parallel: o.TensorParallel = 1,
    encoder_len: o.EncoderLen = "0",
    settings: o.SetOpt = None,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    infer: o.Infer = False,
    quiet: o.Quiet = False,
) -> int:
    """What an upgrade, a dtype or a new config changes.

    Whose capacity, by how much, by which rule. Exit 0 when nothing does, 1 when something does.
    """
    from kvplan.api.diff import diff as asked
    from kvplan.cli.output import show
    from kvplan.cli.progress import progress
    from kvplan.loading import catalogue
    from kvplan.report.answers.diff import DiffAnswer

    options: dict[str, Any] = o.engine_options(settings, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    with progress("comparing", len(models or catalogue.names()), of="rows", shown=not quiet and of != "model") as advance:
        found = asked(
            before,
            after,
            models or [],
            of=of,  # type: ignore[arg-type]  # refused where it is none of them
            engine=engine,
            seq_len=seq_len,
            batch_size=batch_size,
            encoder_len=encoder_len,
            budget=budget,
            infer=infer,
            advance=advance,
            **options,
        )
    show(DiffAnswer(found), fmt, output, unit, quiet=quiet)
    return 1 if found.changed else 0
