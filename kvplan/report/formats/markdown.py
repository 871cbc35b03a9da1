"""GitHub markdown that also reads well as it is: headings, code spans for names, and no more escapes than are needed."""

import re
from collections.abc import Iterator
from typing import Final, assert_never

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.tables import Column, Table, printed
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
    Text,
    Verdict,
    View,
    not_predicted_title,
)

_RIGHT: Final = {"bytes", "tokens", "count", "ratio"}
#: What would mean something: the start of a tag, a link or an entity, emphasis (not inside a word), a formula, code.
_MEANT: Final = re.compile(r"[\\`*<\[$|]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|~(?=~)|(?<=~)~")
#: The same in a sentence of kvplan's own, which has code spans.
_MEANT_IN_PROSE: Final = re.compile(r"[*<\[$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
_CODE: Final = re.compile(r"(`[^`]*`)")
_CAPITALS: Final = re.compile(r"^[A-Z]+(?: [A-Z]+)*(?: on \S+?)?(?=[ :])")


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
            return f"### {_words(not_predicted_title(block))}\n\nnot predicted: {_prose(block.reason, MESSAGE)}{more}\n"
        case Heading():
            return f"## {_words(block.text)}\n"
        case Verdict():
            said = _CAPITALS.match(block.text)
            end = said.end() if said else len(block.text)
            return f"**{_prose(block.text[:end])}**{_prose(block.text[end:])}\n"
        case Paragraph():
            return f"**{_prose(block.title)}.** {_prose(block.text, len(block.text) + 1)}\n"
        case Command():
            needed = "".join(f"\n{_prose(line)}\n" for line in block.needs)
            return f"```sh\n{printable(block.text)}\n```\n{needed}"
        case Steps():
            return "".join(
                f"- {_prose(line.strip())}\n" if isinstance(line, str) else f"- {_prose(line[0])}: {_code(line[1])}\n"
                for line in block.lines
            )
        case Text():
            return "".join(f"{line}\n" for line in ("```yaml", *map(printable, block.lines), "```"))
        case Notes():
            return "".join(f"- {_prose(line)}\n" for line in block.lines)
        case Fixes():
            return "".join(f"- FIX: {_prose(fix.change)} -> {_prose(fix.result)}: {_code(fix.command)}\n" for fix in block.found)
        case Section():
            return "\n".join(_parts(block, view))
        case _:
            assert_never(block)


def _prose(text: str, most: int = 400) -> str:
    """A sentence of kvplan's, with its code spans; names in it make no link, no tag and no emphasis."""
    parts = _CODE.split(printable(text, most))
    return "".join(part if i % 2 else _MEANT_IN_PROSE.sub(r"\\\g<0>", part) for i, part in enumerate(parts))


def _code(text: str) -> str:
    """A code span, whatever is in it."""
    shown = printable(text)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    return f"`{shown}`" if not longest else f"{'`' * (longest + 1)} {shown} {'`' * (longest + 1)}"


def _words(text: str) -> str:
    """Text in which nothing is meant as markdown."""
    return _MEANT.sub(r"\\\g<0>", printable(text))


def _cell(text: str, column: Column) -> str:
    """A name as a code span, anything else as it is; a `|` ends no cell."""
    if column.kind == "name" and text:
        return _code(text).replace("|", "\\|")
    return _words(text)


def to_markdown(table: Table, *, unit: str | None = None) -> str:
    """The table under its heading, the row that was asked for and the total bold, and the notes as a list."""
    shown = printed(table, unit)
    keep = [i for i, column in enumerate(table.columns) if column.kind not in {"bar", "mark"}]
    columns = [table.columns[i] for i in keep]
    rules = ["---:" if column.kind in _RIGHT else "---" for column in columns]
    lines = [f"### {_words(shown.title)}", ""] if shown.title else []
    rows = []
    for number, row in enumerate(shown.rows):
        cells = [_cell(row[i], column) for i, column in zip(keep, columns, strict=True)]
        rows.append(_bold(cells) if table.stands_out(number) else cells)
    if shown.total:
        rows.append(_bold([_words(shown.total[i]) for i in keep]))
    headers = [_words(shown.headers[i]) for i in keep]
    lines += [f"| {' | '.join(row)} |" for row in (headers, rules, *rows)]
    if table.notes:
        lines += ["", *(f"- {_prose(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _bold(cells: list[str]) -> list[str]:
    return [f"**{cell}**" if cell else "" for cell in cells]
