"""`kvplan audit`: recorded facts against predictions."""

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
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    quiet: o.Quiet = False,
) -> int:
    """Compare recorded cases or an engine's log with predictions; exit 0 when every case is exact, else 1."""
    from kvplan.api.audit import audit as asked
    from kvplan.cli.output import remark, show
    from kvplan.cli.progress import progress
    from kvplan.report.answers.audit import AuditAnswer

    total = sum(path.stat().st_size for path in files if path.is_file())
    with progress("auditing", total, shown=not quiet) as advance:
        found = asked(files, model=model, progress=advance)
    show(AuditAnswer(found), fmt, output, quiet=quiet)
    if not found.exact and not quiet:
        exact = sum(result.status == "exact" for result in found.results)
        remark(f"{len(found.results) - exact:,} of {len(found.results):,} cases are not exact")
    return 0 if found.exact else 1
