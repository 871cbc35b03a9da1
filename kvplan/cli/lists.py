"""`kvplan dtypes`, `kvplan engines`, `kvplan gpus`: the catalogues."""

from pathlib import Path
from typing import TYPE_CHECKING

from kvplan.cli import options as o

if TYPE_CHECKING:
    from kvplan.report.answers.lists import Listing


def dtypes(fmt: o.FormatOpt = o.Format.table, output: o.Output = None) -> None:
    """List the cache dtypes: bytes of a block, scales, and what each engine takes for it."""
    from kvplan.domain.dtypes import DTYPES
    from kvplan.report.answers.lists import dtype_listing

    _show(dtype_listing(list(DTYPES.values())), fmt, output)


def engines(fmt: o.FormatOpt = o.Format.table, output: o.Output = None) -> None:
    """List the engines: the version whose rules are current, and every option with its default."""
    from kvplan.report.answers.lists import engine_listing

    _show(engine_listing(), fmt, output)


def gpus(fmt: o.FormatOpt = o.Format.table, output: o.Output = None) -> None:
    """List the GPUs: memory on the box, memory as the driver reports it, and the source."""
    from kvplan.domain.gpus import gpus as catalogue
    from kvplan.report.answers.lists import gpu_listing

    _show(gpu_listing(catalogue()), fmt, output)


def _show(listing: "Listing", fmt: o.Format, output: Path | None) -> None:
    from kvplan.cli.output import emit, terminal_width, wants_color
    from kvplan.report.answers.lists import render

    emit(render(listing, fmt.value, width=terminal_width(), color=output is None and wants_color()), output)
