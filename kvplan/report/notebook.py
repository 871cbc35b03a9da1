"""How answers look where Python shows them: as on a terminal with rich, as HTML in a notebook.

The values lie below and know no tables; `shown` puts the displays on, once, when an answer is first made.
"""

from collections.abc import Callable, Iterator
from typing import Any

from kvplan.domain.allocation import Allocation
from kvplan.report.blocks import Answer, View


def _estimate(answer: Any) -> Answer:
    from kvplan.report.answers.estimate import EstimateAnswer

    return EstimateAnswer([answer])


def _sweep(answer: Any) -> Answer:
    from kvplan.report.answers.sweep import SweepAnswer

    return SweepAnswer(answer)


def shown(kind: type, report: Callable[[Any], Answer]) -> None:
    """Let `kind` be shown as the report that `report` makes of it."""

    def on_console(self: Any, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        from kvplan.report.formats.table import text

        view = View(width=options.max_width, color=console.is_terminal and not console.no_color)
        yield Text.from_ansi(text(report(self), view).rstrip("\n"))

    def as_html(self: Any) -> str:
        from kvplan.report.formats.html import body

        return body(report(self), View())

    kind.__rich_console__ = on_console  # type: ignore[attr-defined]
    kind._repr_html_ = as_html  # type: ignore[attr-defined]


shown(Allocation, _estimate)


def show_sweeps() -> None:
    """As above for sweeps, whose class costs numpy."""
    from kvplan.questions.sweep.grid import Sweep

    shown(Sweep, _sweep)
