"""`kvplan audit`: recorded facts against predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvplan.cli import options as o

if TYPE_CHECKING:
    from kvplan.domain.machine import Learned

FilesArg = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Recorded cases, one JSON object a line (docs/reference/audit.md), an engine's log, or http://HOST:PORT of a server",
        show_default=False,
    ),
]
GpuOpt = Annotated[str | None, typer.Option("--gpu", metavar="NAME", help="The card of a log or server that does not tell it")]
SaveOpt = Annotated[
    Path | None, typer.Option("--save", metavar="FILE", help="Keep what only that machine knows, for `--machine FILE`")
]
ModelOpt = Annotated[str | None, typer.Option("--model", metavar="MODEL", help="What a log or server is about")]
KeyOpt = Annotated[str | None, typer.Option("--api-key", metavar="KEY", help="What a server is asked with")]


def audit(
    files: FilesArg,
    model: ModelOpt = None,
    gpu: GpuOpt = None,
    save: SaveOpt = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    api_key: KeyOpt = None,
    quiet: o.Quiet = False,
) -> int:
    """Recorded cases, logs and servers against predictions.

    Exit 0 when every case is exact, else 1.
    """
    from kvplan.api.audit import audit as asked
    from kvplan.cli.output import remark, show
    from kvplan.cli.progress import progress
    from kvplan.report.answers.audit import AuditAnswer

    learn: list[Learned] | None = None if save is None else []
    addresses = [name for name in files if name.lower().startswith(("http://", "https://"))]
    paths = [Path(name) for name in files if name not in addresses]
    total = sum(path.stat().st_size for path in paths if path.is_file())
    with progress("auditing", total, shown=not quiet) as advance:
        found = asked(paths, model=model, gpu=gpu, learn=learn, progress=advance)
    if addresses:
        from kvplan.api.live import audit_live
        from kvplan.engines.kernel.verdicts import Audit

        live = [one for name in addresses for one in audit_live(name, gpu=gpu, model=model, key=api_key or "").results]
        found = Audit(results=(*found.results, *live))
    if save is not None:
        _save(save, learn or [])
    show(AuditAnswer(found), fmt, output, quiet=quiet)
    if not found.exact and not quiet:
        exact = sum(result.status == "exact" for result in found.results)
        remark(f"{len(found.results) - exact:,} of {len(found.results):,} cases are not exact")
    return 0 if found.exact else 1


def _save(path: Path, learn: "list[Learned]") -> None:
    """Write the machine file.

    Raises:
        InputError: the files tell nothing of their machine.
    """
    from kvplan.cli.output import emit, told
    from kvplan.errors import InputError
    from kvplan.loading.machine import machine_text
    from kvplan.questions.audit.learn import combined

    known = combined(learn)
    if known is None:
        raise InputError(
            "nothing to save: the files print none of what only their machine knows",
            hint="a vLLM log of 0.9 or later prints the free memory, the usage and the graphs",
        )
    emit(machine_text(known), path)
    told(path, "what only that machine knows, for --machine")
