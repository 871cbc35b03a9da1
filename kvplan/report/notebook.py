"""How answers look where Python shows them: as the command's report on a terminal (`rich.print`), as HTML in a notebook.

The values lie below and know no report; `displayed` puts the displays on a class, when answers of that kind are first made.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvplan.report.blocks import Answer


def displayed(kind: type, where: str, *, several: bool = True) -> None:
    """Let values of `kind` show what their command shows.

    Args:
        kind: the class of a value.
        where: `module:class` of what shows it.
        several: that class takes a list of such values.
    """

    def answer(value: Any) -> "Answer":
        module, _, name = where.partition(":")
        made: Answer = getattr(import_module(module), name)([value] if several else value)
        return made

    def on_console(self: Any, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        from kvplan.report.blocks import View
        from kvplan.report.formats.table import text

        view = View(width=options.max_width, color=console.is_terminal and not console.no_color)
        yield Text.from_ansi(text(answer(self), view).rstrip("\n"))

    def as_html(self: Any) -> str:
        from kvplan.report.blocks import View
        from kvplan.report.formats.html import cell

        return cell(answer(self), View())

    kind.__rich_console__ = on_console  # type: ignore[attr-defined]
    kind._repr_html_ = as_html  # type: ignore[attr-defined]
