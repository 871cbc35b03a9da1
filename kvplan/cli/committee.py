"""`kvplan committee`: several models on one GPU or node."""

from typing import Annotated

import typer

from kvplan.cli import options as o
from kvplan.errors import OptionError

PlanArg = Annotated[
    str | None,
    typer.Argument(metavar="[PLAN.yaml]", help="What runs on the card; see docs/guides/committee.md", show_default=False),
]
Solve = Annotated[bool, typer.Option("--solve", help="Choose the users: the most of all, in the plan's proportions")]
Scale = Annotated[str, typer.Option("--scale", metavar="FACTOR", help="Multiply every member's users: 2, 0.75 or 3/4")]
GpuOpt = Annotated[str | None, typer.Option("--gpu", metavar="NAME[:N]", help="Another card than the plan's, or NAME:N cards")]
Memory = Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Another memory than the plan's or the card's")]
Example = Annotated[bool, typer.Option("--example", help="Print a plan to begin with")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="MEMBER.KEY=VALUE", help="Another value than the plan's, such as chat.users=4"),
]


def committee(
    plan: PlanArg = None,
    solve: Solve = False,
    scale: Scale = "1",
    gpu: GpuOpt = None,
    memory: Memory = None,
    settings: Set = None,
    machine: o.Machine = None,
    example: Example = False,
    unit: o.Unit = None,
    fmt: o.FormatOpt = None,
    output: o.Output = None,
) -> None:
    """Several models on one GPU or node: does it all fit?

    Who takes what, what to type, and what would make it fit; exit 1 when it does not.
    """
    from kvplan.cli.output import emit, show

    if example:
        from kvplan.loading.plan.example import example_plan

        emit(example_plan(), output)
        return
    if plan is None:
        raise OptionError(
            "a plan is needed: `kvplan committee PLAN.yaml`", hint="`kvplan committee --example > plan.yaml` is one to begin with"
        )
    from kvplan.api.committee import committee as asked
    from kvplan.report.answers.committee import CommitteeAnswer

    answer = asked(plan, solve=solve, scale=scale, overrides=_overrides(gpu, memory, settings), machine=machine)
    show(CommitteeAnswer(answer), fmt, output, unit)
    if not answer.fits:
        raise typer.Exit(1)


def _overrides(gpu: str | None, memory: str | None, settings: list[str] | None) -> dict[str, str]:
    """What replaces the plan's values."""
    found = {key: value for key, value in (("gpu", gpu), ("memory", memory)) if value is not None}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not all(key.partition(".")):
            raise OptionError(f"--set: expected MEMBER.KEY=VALUE, got `{setting[:60]}`", hint="such as --set chat.users=4")
        if key in found:
            raise OptionError(f"--set: `{key[:60]}` is given twice")
        found[key] = value
    return found
