"""Cells folded to a width, for characters of one column each: what rich's tables do, without loading rich.

Source: rich 15, `table.py:Table._collapse_widths`, `_ratio.py:ratio_reduce`, `_wrap.py:divide_line`. A test holds the two equal.
"""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\s*\S+\s*")


def narrowed(widths: Sequence[int], room: int) -> list[int]:
    """The widths of columns whose sum may be `room` at most: the widest give first, down to the next widest."""
    found = [min(width, room) for width in widths]
    while sum(found) > room:
        widest = max(found)
        step = widest - max((width for width in found if width != widest), default=0)
        wide = [width == widest for width in found]
        if not step:
            break
        found = _less(found, sum(found) - room, wide, step)
    if sum(found) > room:
        found = _less(found, sum(found) - room, [True] * len(found), max(found))
    return found


def _less(widths: Sequence[int], total: int, chosen: Sequence[bool], most: int) -> list[int]:
    """Take `total` from the chosen widths evenly, `most` from each at most."""
    left, shares, found = total, sum(chosen), []
    for width, gives in zip(widths, chosen, strict=True):
        taken = min(most, width, round(left / shares)) if gives else 0
        found.append(width - taken)
        if gives:
            left, shares = left - taken, shares - 1
    return found


def folded(text: str, width: int) -> list[str]:
    """The lines of a cell: broken between words, and inside those that are longer than a line."""
    breaks: list[int] = []
    used = 0  # of the line that is being filled
    for word in _WORD.finditer(text):
        start, bare = word.start(), len(word[0].rstrip())
        if bare <= width - used:
            used += len(word[0])
        elif bare > width:
            breaks += [place for place in range(start, word.end(), width) if place]
            used = (word.end() - start - 1) % width + 1
        elif used and start:
            breaks.append(start)
            used = len(word[0])
    return [text[a:b].rstrip() for a, b in zip([0, *breaks], [*breaks, len(text)], strict=True)]


def folded_row(cells: Sequence[str], widths: Sequence[int], *, low: bool) -> list[list[str]]:
    """A row's lines, each a piece of every cell; `low` puts what is short at the bottom, as headings stand."""
    pieces = [folded(cell, width) for cell, width in zip(cells, widths, strict=True)]
    high = max(map(len, pieces))
    filled = [[*[""] * (high - len(piece)), *piece] if low else [*piece, *[""] * (high - len(piece))] for piece in pieces]
    return [list(line) for line in zip(*filled, strict=True)]
