"""How answers look where Python shows them: as rich tables on a terminal, as HTML in a notebook.

The values lie below and know no tables; `shown` puts the displays on, once, when an answer is first made.
"""

from collections.abc import Callable
from typing import Any

from kvplan.domain.allocation import Allocation


def _estimate(answer: Any) -> Any:
    from kvplan.report.answers.estimate import estimate_table

    return estimate_table(answer)


def _sweep(answer: Any) -> Any:
    from kvplan.report.answers.sweep import sweep_table

    return sweep_table(answer, 100)


def shown(kind: type, table: Callable[[Any], Any]) -> None:
    """Let `kind` be shown as the table that `table` makes of it."""

    def as_rich(self: Any) -> Any:
        from kvplan.report.formats.table import rich_table

        return rich_table(table(self))

    def as_html(self: Any) -> str:
        from kvplan.report.formats.html import to_html

        return to_html(table(self))

    kind.__rich__ = as_rich  # type: ignore[attr-defined]
    kind._repr_html_ = as_html  # type: ignore[attr-defined]


shown(Allocation, _estimate)


def show_sweeps() -> None:
    """As above for sweeps, whose class costs numpy."""
    from kvplan.questions.sweep.grid import Sweep

    shown(Sweep, _sweep)
