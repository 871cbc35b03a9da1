"""`kvplan.committee`: a plan read, answered, and what would make it fit."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from time import process_time
from typing import Any

from msgspec.structs import replace

from kvplan.domain.plan import Plan
from kvplan.errors import OptionError
from kvplan.limits import ADVICE_SECONDS
from kvplan.loading.machine import read_machine
from kvplan.loading.plan.read import load_plan, overridden
from kvplan.questions.committee.answer import answered, parse_scale
from kvplan.questions.committee.changes import changes
from kvplan.questions.committee.result import Committee
from kvplan.report.notebook import displayed

displayed(Committee, "kvplan.report.answers.committee:CommitteeAnswer", several=False)


def committee(
    plan: str | Path | Mapping[str, Any] | Plan,
    *,
    solve: bool = False,
    scale: Fraction | float | int | str = 1,
    overrides: Mapping[str, str] | None = None,
    advise: bool = True,
    machine: str | Path | None = None,
) -> Committee:
    """Several models on one card or node: the budget of each, the verdict, flags, a start order, and changes that would help.

    Args:
        plan: a YAML file, a mapping of the same form, or a `Plan`.
        solve: choose the users: as many as fit in the plan's proportions, what is left to members in the plan's order.
        scale: multiply every member's users (rounded up).
        overrides: `gpu`, `memory`, or `MEMBER.KEY`, and the value that replaces the plan's.
        machine: a file of what only this machine knows (`kvplan audit LOG --save FILE`), for members with a ledger.
        advise: look for changes when it does not fit.

    Returns:
        A `Committee`: `.fits`, `.parts`, `.cards`, `.order`, `.scale`, `.changes`, `.to_dict()`.

    Raises:
        SpecError: a bad plan; the message names the line.
        KvplanError: see `kvplan.errors`.
    """
    loaded = overridden(plan, overrides or {}) if isinstance(plan, Plan) else load_plan(plan, overrides)
    if machine is not None:
        loaded = replace(loaded, learned=read_machine(machine))
    factor = parse_scale(scale)
    answer = answered(loaded, solve=solve, factor=factor)
    if answer.fits or solve or not advise:
        return answer
    until, late = process_time() + ADVICE_SECONDS, False

    def ask(changed: Plan) -> Committee:
        nonlocal late
        if process_time() > until:
            late = True
            raise OptionError("no time is left to try this")
        return answered(changed, factor=factor)

    found = tuple(changes(answer, overrides or {}, factor, ask))
    notes = (*answer.notes, f"changes were looked for {ADVICE_SECONDS:g} s long; not all were tried") if late else answer.notes
    return replace(answer, changes=found, notes=notes)
