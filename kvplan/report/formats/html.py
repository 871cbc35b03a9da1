"""HTML: a table for notebooks, and an answer as a page that stands alone."""

from html import escape
from itertools import repeat
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
#: For a page of its own and for a notebook's cell, in its colours; a page with a style of its own has these classes, too.
_STYLE: Final = """.kvplan { font: 0.95rem/1.45 system-ui, sans-serif; overflow-x: auto; }
.kvplan table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.6em 0 0.2em; }
.kvplan caption { font-weight: 600; padding: 0.2em 0; text-align: left; }
.kvplan th, .kvplan td { border-bottom: 1px solid #8c959f66; padding: 0.2em 0.7em; text-align: left; vertical-align: top; }
.kvplan thead th { border-bottom: 2px solid #8c959f; vertical-align: bottom; }
.kvplan tfoot th, .kvplan tfoot td { font-weight: 600; border-bottom: 0; border-top: 2px solid #8c959f; }
.kvplan .r { text-align: right; white-space: nowrap; }
.kvplan .name { white-space: nowrap; }
.kvplan .marked td { font-weight: 600; }
.kvplan .share { display: block; fill: #4f8fd0; height: 0.9em; width: 8em; }
.kvplan .yes { border-left: 4px solid #1a7f37; padding-left: 0.6em; }
.kvplan .no { border-left: 4px solid #cf222e; padding-left: 0.6em; }
.kvplan pre { overflow-x: auto; white-space: pre-wrap; }
"""
_PAGE: Final = """html { color-scheme: light dark; }
body { margin: 1em auto; max-width: 75em; padding: 0 1em; }
"""
_HEAD: Final = (
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>kvplan</title>\n'
    f"<style>{_PAGE}{_STYLE}</style></head>\n"
)


def text(answer: Answer, view: View) -> str:
    """The answer's blocks as one page, or the page that the answer itself makes."""
    made: str | None = getattr(answer, "page", None)
    return made or f'{_HEAD}<body class="kvplan">\n{body(answer, view)}\n</body>\n</html>\n'


def cell(answer: Answer, view: View) -> str:
    """The answer's blocks for a notebook's cell, with their style."""
    made: str | None = getattr(answer, "page", None)
    if made is not None:  # a page with a script of its own: beside the notebook, not in it
        return f'<iframe title="kvplan" sandbox="allow-scripts" width="100%" height="900" srcdoc="{escape(made)}"></iframe>'
    return f'<div class="kvplan"><style>{_STYLE}</style>\n{body(answer, view)}\n</div>'


def body(answer: Answer, view: View) -> str:
    """The answer's blocks, to stand in a page or a notebook's cell."""
    return "\n".join(block_html(block, view) for block in answer.blocks(view))


def block_html(block: Block, view: View) -> str:
    """One block."""
    match block:
        case Table():
            return to_html(block, unit=view.unit)
        case NotPredicted():
            see = f" See: {_text(block.see, HINT)}." if block.see else ""
            return f"<h2>{_text(not_predicted_title(block))}</h2>\n<p>not predicted: {_text(block.reason, MESSAGE)}{see}</p>"
        case Heading():
            return f"<h2>{_text(block.text)}</h2>"
        case Verdict():
            told = "" if block.yes is None else ' class="yes"' if block.yes else ' class="no"'
            return f"<p{told}><strong>{_text(block.text)}</strong></p>"
        case Paragraph():
            return f"<p><strong>{escape(block.title)}.</strong> {escape(block.text)}</p>"
        case Command():
            return "".join((f"<pre>{_text(block.text)}</pre>", *(f"<p>{_text(line)}</p>" for line in block.needs)))
        case Steps() if _printed(block):
            first, *rest = (_text(line) for line in block.lines if isinstance(line, str))
            return f"<p>{first}</p>\n<pre>" + "\n".join(line.removeprefix("  ") for line in rest) + "</pre>"
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
            return "<section>\n" + "\n".join(block_html(inner, view) for inner in block.blocks) + "\n</section>"
        case _:
            assert_never(block)


def _printed(steps: Steps) -> bool:
    """Whether they are what a program prints, under a line that says so."""
    words = [line for line in steps.lines if isinstance(line, str)]
    return len(words) == len(steps.lines) > 1 and words[0].endswith(":") and all(line.startswith("  ") for line in words[1:])


def _list(tag: str, items: list[str]) -> str:
    return f"<{tag}>{''.join(f'<li>{item}</li>' for item in items)}</{tag}>"


def _text(words: str, most: int = 400) -> str:
    return escape(printable(words, most))


def to_html(table: Table, *, unit: str | None = None) -> str:
    """A plain `<table>`: numbers are right-aligned (class `r`), shares are bars, what was asked for stands out."""
    shown = printed(table, unit)
    head = "".join(_cell(column, "th", escape(words), "col") for column, words in zip(table.columns, shown.headers, strict=True))
    rows = []
    for number, (cells, raw) in enumerate(zip(shown.rows, table.rows, strict=True)):
        inner = (
            _share(value) if column.kind == "bar" and isinstance(value, int | float) else escape(words)
            for column, words, value in zip(table.columns, cells, raw, strict=True)
        )
        marked = ' class="marked"' if table.stands_out(number) else ""
        rows.append(f"<tr{marked}>{''.join(map(_cell, table.columns, repeat('td'), inner))}</tr>")
    foot = ""
    if shown.total:
        first, *rest = map(escape, shown.total)
        sums = _cell(table.columns[0], "th", first, "row") + "".join(map(_cell, table.columns[1:], repeat("td"), rest))
        foot = f"<tfoot><tr>{sums}</tr></tfoot>"
    notes = "".join(f"<p><small>{escape(printable(note))}</small></p>" for note in table.notes)
    caption = f"<caption>{escape(printable(shown.title))}</caption>" if shown.title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>{foot}</table>{notes}"


def _cell(column: Column, tag: str, inner: str, scope: str = "") -> str:
    kind = "r" if column.kind in _RIGHT else "name" if column.kind == "name" else ""
    if tag == "th" and not inner:  # a heading says something to whoever hears it
        tag, scope = "td", ""
    attributes = (f' class="{kind}"' if kind else "") + (f' scope="{scope}"' if scope else "")
    return f"<{tag}{attributes}>{inner}</{tag}>"


def _share(share: float) -> str:
    """A share of 1 as a bar; what is more than nothing shows."""
    width = max(100 * share, 0.5) if share > 0 else 0
    shape = 'class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"'
    return f'<svg {shape}><rect width="{width:.2f}" height="10"/></svg>'
