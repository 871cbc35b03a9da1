"""`kvplan audit`: recorded facts against predictions."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kvplan.cli import options as o

FilesArg = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="Recorded cases, one JSON object a line (docs/reference/audit.md), or an engine's log",
        show_default=False,
    ),
]
ModelOpt = Annotated[str | None, typer.Option("--model", metavar="MODEL", help="What a log is about")]


def audit(
    files: FilesArg,
    model: ModelOpt = None,
    fmt: o.FormatOpt = o.Format.table,
    output: o.Output = None,
    quiet: o.Quiet = False,
) -> int:
    """Compare recorded cases or an engine's log with predictions; exit 0 when every case is exact, else 1."""
    from kvplan.api.audit import audit as asked
    from kvplan.cli.output import emit, remark, terminal_width, wants_color
    from kvplan.report.answers.audit import render

    with _progress(files, quiet=quiet) as advance:
        found = asked(files, model=model, progress=advance)
    emit(render(found, fmt.value, width=terminal_width(), color=output is None and wants_color()), output)
    if not found.exact and not quiet:
        exact = sum(result.status == "exact" for result in found.results)
        remark(f"{len(found.results) - exact:,} of {len(found.results):,} cases are not exact")
    return 0 if found.exact else 1


@contextmanager
def _progress(files: list[Path], *, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar of the bytes read, on a terminal only; it leaves nothing behind."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    total = sum(path.stat().st_size for path in files if path.is_file())
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("auditing", total=total)
        yield lambda size: bar.advance(task, size)
