"""GitHub markdown, with the same units as on a terminal."""

from collections.abc import Iterator
from typing import assert_never

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.tables import Table, printed
from kvplan.errors import printable
from kvplan.limits import HINT, MESSAGE
from kvplan.report.blocks import (
    Answer,
    Block,
    Command,
    Fixes,
    Heading,
    Notes,
    Paragraph,
    Section,
    Steps,
    Verdict,
    View,
    not_predicted_title,
)

_ESCAPED = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>|#"})

_LINKS = str.maketrans({"[": "\\[", "<": "\\<"})


def text(answer: Answer, view: View) -> str:
    """The answer's blocks, an empty line between each two."""
    return "\n".join(part for block in answer.blocks(view) for part in _parts(block, view))


def _parts(block: Block, view: View) -> Iterator[str]:
    """One block in parts between which an empty line may stand."""
    if not isinstance(block, Section):
        yield _block(block, view)
        return
    items: list[str] = []
    for inner in block.blocks:
        shown = _block(inner, view)
        if isinstance(inner, Steps | Fixes | Notes):
            items += shown.splitlines(keepends=True)
        else:
            yield shown
    yield from items if block.apart or not items else ["".join(items)]


def _block(block: Block, view: View) -> str:
    match block:
        case Table():
            return to_markdown(block, unit=view.unit)
        case NotPredicted():
            more = f" See: {_prose(block.see, HINT)}." if block.see else ""
            return f"**{_cell(printable(not_predicted_title(block)))}**\n\nnot predicted: {_prose(block.reason, MESSAGE)}{more}\n"
        case Heading():
            return f"**{_cell(printable(block.text))}**\n"
        case Verdict():
            return f"**{_prose(block.text)}**\n"
        case Paragraph():
            return f"**{_prose(block.title)}.** {_prose(block.text, len(block.text) + 1)}\n"
        case Command():
            return f"```sh\n{printable(block.text)}\n```\n"
        case Steps() | Notes():
            return "".join(f"- {_prose(line)}\n" for line in block.lines)
        case Fixes():
            return "".join(f"- FIX: {_prose(fix.change)} -> {_prose(fix.result)}: {_code(fix.command)}\n" for fix in block.found)
        case Section():
            return "\n".join(_parts(block, view))
        case _:
            assert_never(block)


def _prose(text: str, most: int = 400) -> str:
    """A sentence of kvplan's, with its code spans; names in it make no link and no tag."""
    return printable(text, most).translate(_LINKS)


def _code(text: str) -> str:
    shown = printable(text)
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _cell(text: str) -> str:
    return text.translate(_ESCAPED)


def to_markdown(table: Table, *, unit: str | None = None) -> str:
    """The table, a bold total row, and the notes as a list."""
    shown = printed(table, unit)
    keep = [i for i, column in enumerate(table.columns) if column.kind != "bar"]
    rules = ["---" if table.columns[i].kind in {"text", "verdict"} else "---:" for i in keep]
    lines = [f"**{_cell(printable(table.title))}**", ""] if table.title else []
    rows = [[_cell(row[i]) for i in keep] for row in shown.rows]
    if shown.total:
        rows.append([f"**{_cell(shown.total[i])}**" if shown.total[i] else "" for i in keep])
    headers = [_cell(shown.headers[i]) for i in keep]
    lines += [f"| {' | '.join(row)} |" for row in (headers, rules, *rows)]
    if table.notes:
        lines += ["", *(f"- {_cell(printable(note))}" for note in table.notes)]
    return "\n".join(lines) + "\n"
