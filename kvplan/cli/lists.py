"""`kvplan dtypes`, `kvplan engines`, `kvplan gpus`: the catalogues."""

from collections.abc import Iterable
from typing import Annotated

import typer

from kvplan.cli import options as o

Pattern = Annotated[
    str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a pattern such as 'h100*'", show_default=False)
]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Engines whose options are shown", show_default=False)
]


def dtypes(pattern: Pattern = "", fmt: o.FormatOpt = None, output: o.Output = None) -> None:
    """Cache dtypes, their bytes, and what engines call them."""
    from kvplan.cli.output import show
    from kvplan.domain.dtypes import ALIASES, DTYPES, lookup
    from kvplan.report.answers.lists import dtype_listing

    alias = ALIASES.get(pattern.lower())
    found = [alias] if alias and pattern.lower() not in " ".join(DTYPES) else _matching(pattern, DTYPES) or [lookup(pattern).name]
    show(dtype_listing([DTYPES[name] for name in found]), fmt, output)


def engines(names: Names = None, fmt: o.FormatOpt = None, output: o.Output = None) -> None:
    """Engines and their releases; of one, its options.

    With NAME, every option with its default.
    """
    from kvplan.cli.output import show
    from kvplan.engines import ABOUTS, about
    from kvplan.report.answers.lists import engine_listing

    wanted = [about(name) for name in names or ()]
    show(engine_listing(wanted or tuple(ABOUTS.values()), options=bool(wanted)), fmt, output)


def gpus(pattern: Pattern = "", fmt: o.FormatOpt = None, output: o.Output = None) -> None:
    """GPUs: memory on the box and as the driver reports it."""
    from kvplan.cli.output import show
    from kvplan.domain.gpus import gpus as catalogue
    from kvplan.domain.gpus import more_gpus
    from kvplan.report.answers.lists import gpu_listing

    every = {entry.id: entry for entry in (*catalogue(), *more_gpus())}
    found = [every[name] for name in _matching(pattern, every)]
    if not found:  # a name as a driver prints it, or in words
        from kvplan.domain.gpus import gpu

        found = [gpu(pattern)]
    show(gpu_listing(found), fmt, output)


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that have `pattern` in them, or match it where it has a `*`."""
    from fnmatch import fnmatchcase

    wanted = pattern.lower()
    return [name for name in names if fnmatchcase(name, wanted if "*" in wanted else f"*{wanted}*")]
