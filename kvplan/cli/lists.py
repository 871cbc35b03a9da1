"""`kvplan dtypes`, `kvplan engines`, `kvplan gpus`: the catalogues."""

from kvplan.cli import options as o


def dtypes(fmt: o.FormatOpt = None, output: o.Output = None) -> None:
    """List the cache dtypes: bytes of a block, scales, and what each engine takes for it."""
    from kvplan.cli.output import show
    from kvplan.domain.dtypes import DTYPES
    from kvplan.report.answers.lists import dtype_listing

    show(dtype_listing(list(DTYPES.values())), fmt, output)


def engines(fmt: o.FormatOpt = None, output: o.Output = None) -> None:
    """List the engines: the version whose rules are current, and every option with its default."""
    from kvplan.cli.output import show
    from kvplan.report.answers.lists import engine_listing

    show(engine_listing(), fmt, output)


def gpus(fmt: o.FormatOpt = None, output: o.Output = None) -> None:
    """List the GPUs: memory on the box, memory as the driver reports it, and the source."""
    from kvplan.cli.output import show
    from kvplan.domain.gpus import gpus as catalogue
    from kvplan.report.answers.lists import gpu_listing

    show(gpu_listing(catalogue()), fmt, output)
