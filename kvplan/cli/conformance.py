"""`kvplan conformance`: recorded cases for any calculator, and its answers judged."""

from pathlib import Path
from typing import Annotated

import typer

from kvplan.cli import options as o

ActionArg = Annotated[str, typer.Argument(metavar="export|score", help="Write questions, or judge answers", show_default=False)]
FilesArg = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FILE...]", help="score: the answers; export: recorded cases (default: those that kvplan carries)"),
]
CasesOpt = Annotated[
    list[Path] | None, typer.Option("--cases", metavar="FILE", help="score: recorded cases, where they are not kvplan's own")
]


def conformance(
    action: ActionArg,
    given: FilesArg = None,
    cases: CasesOpt = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
    quiet: o.Quiet = False,
) -> int:
    """Recorded cases for any calculator, and its score.

    Export writes JSON lines; score exits 0 when every answer is right, else 1.
    """
    from kvplan.api.conformance import conformance as judged
    from kvplan.api.conformance import conformance_cases, lines
    from kvplan.cli.output import emit, show, told
    from kvplan.errors import OptionError
    from kvplan.report.answers.conformance import ScoreAnswer

    if action == "export":
        if fmt is not None or cases:
            raise OptionError(
                "`export` writes JSON lines and takes no other format or cases", hint="kvplan conformance export -o FILE"
            )
        items = conformance_cases(given or ())
        emit("\n".join(lines(items)) + "\n", output)
        if not quiet:
            told(output, f"{len(items):,} cases")
        return 0
    if action != "score":
        raise OptionError(f"`kvplan conformance` has no `{action[:40]}`", hint="export or score")
    if not given or len(given) > 1:
        raise OptionError("one file of answers is judged at a time", hint="kvplan conformance score ANSWERS.jsonl")
    found = judged(given[0], recorded=cases or ())
    show(ScoreAnswer(found), fmt, output, quiet=quiet)
    return 0 if found.right else 1
