"""HTML: a table for notebooks, and an answer as a page that stands alone."""

from html import escape
from typing import Final, assert_never

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
    Text,
    Verdict,
    View,
    not_predicted_title,
)

_RIGHT: Final = {"bytes", "tokens", "count", "ratio"}
_HEAD: Final = '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>kvplan</title></head>\n'


def text(answer: Answer, view: View) -> str:
    """The answer's blocks as one page."""
    return f"{_HEAD}<body>\n{body(answer, view)}\n</body>\n</html>\n"


def body(answer: Answer, view: View) -> str:
    """The answer's blocks, to stand in a page or a notebook's cell."""
    return "\n".join(_block(block, view) for block in answer.blocks(view))


def _block(block: Block, view: View) -> str:
    match block:
        case Table():
            return to_html(block, unit=view.unit)
        case NotPredicted():
            see = f" See: {_text(block.see, HINT)}." if block.see else ""
            return f"<h2>{_text(not_predicted_title(block))}</h2>\n<p>not predicted: {_text(block.reason, MESSAGE)}{see}</p>"
        case Heading():
            return f"<h2>{_text(block.text)}</h2>"
        case Verdict():
            return f"<p><strong>{_text(block.text)}</strong></p>"
        case Paragraph():
            return f"<p><strong>{escape(block.title)}.</strong> {escape(block.text)}</p>"
        case Command():
            return "".join((f"<pre>{_text(block.text)}</pre>", *(f"<p>{_text(line)}</p>" for line in block.needs)))
        case Steps():
            pairs = ((line, "") if isinstance(line, str) else line for line in block.lines)
            return _list("ol", [_text(words) + (f": <code>{_text(told)}</code>" if told else "") for words, told in pairs])
        case Text():
            return "<pre>" + "\n".join(_text(line) for line in block.lines) + "</pre>"
        case Notes():
            return _list("ul", [_text(line) for line in block.lines])
        case Fixes():
            items = ((_text(fix.change), _text(fix.result), _text(fix.command)) for fix in block.found)
            return _list("ul", [f"FIX: {change} → {result}: <code>{command}</code>" for change, result, command in items])
        case Section():
            return "<section>\n" + "\n".join(_block(inner, view) for inner in block.blocks) + "\n</section>"
        case _:
            assert_never(block)


def _list(tag: str, items: list[str]) -> str:
    return f"<{tag}>{''.join(f'<li>{item}</li>' for item in items)}</{tag}>"


def _text(words: str, most: int = 400) -> str:
    return escape(printable(words, most))


def to_html(table: Table, *, unit: str | None = None) -> str:
    """A plain `<table>`; numbers are right-aligned, everything is escaped."""
    shown = printed(table, unit)

    def line(cells: list[str], tag: str) -> str:
        parts = []
        for column, cell in zip(table.columns, cells, strict=True):
            style = "" if column.kind not in _RIGHT else ' style="text-align:right"'
            parts.append(f"<{tag}{style}>{escape(cell)}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in shown.rows)
    foot = f"<tfoot>{line(shown.total, 'th')}</tfoot>" if shown.total else ""
    notes = "".join(f"<p><small>{escape(printable(note))}</small></p>" for note in table.notes)
    caption = f"<caption>{escape(printable(shown.title))}</caption>"
    return f"<table>{caption}<thead>{line(shown.headers, 'th')}</thead><tbody>{body}</tbody>{foot}</table>{notes}"
