"""Columns narrowed to a line, and their cells folded: no name inside, no word but in a line that is narrower than it."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_WORD: Final = r"\S+\s*"
#: Where a path or a sum may be broken: after these; and where a part of it may that is still long.
_PARTS: Final = r"[^/:,;=|&)\]}]*[/:,;=|&)\]}]+|[^/:,;=|&)\]}]+"
_PIECES: Final = r"[^._-]*[._-]+|[^._-]+"
#: Characters of a word that is broken at its marks rather than make its column wide.
_LONG: Final = 22
Measure = Callable[[str], int]


def least(text: str, *, name: bool, measure: Measure = len) -> int:
    """The narrowest column that a cell can be folded into without harm.

    >>> least("printed totals of this card", name=False), least("gemma-3-27b", name=True)
    (7, 11)
    """
    return max((measure(piece.rstrip()) for word in _words(text) for piece in _pieces(word, name=name)), default=0)


def folded(text: str, width: int, *, name: bool = False, measure: Measure = len) -> list[str]:
    """The lines of a cell: broken between words, at the marks of a long word, and anywhere in what is wider than a line.

    >>> folded("v1/worker/utils.py:request_memory", 18)
    ['v1/worker/', 'utils.py:', 'request_memory']
    """
    lines, line = [], ""
    for word in _words(text):
        pieces = _pieces(word, name=name and measure(word.rstrip()) <= width)
        if measure(line + word.rstrip()) > width and measure(word.rstrip()) <= width:
            pieces = [word]
        for piece in pieces:
            if line and measure(line + piece.rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            rest = piece
            while measure(rest.rstrip()) > width:
                head = _head(rest, width, measure)
                lines.append(head)
                rest = rest[len(head) :]
            line += rest
    return [*lines, line.rstrip()]


def _words(text: str) -> Iterator[str]:
    return (found[0] for found in re.finditer(_WORD, text))


def _pieces(word: str, *, name: bool) -> list[str]:
    if name or len(word.rstrip()) <= _LONG:
        return [word]
    parts = re.findall(_PARTS, word)
    return [piece for part in parts for piece in (re.findall(_PIECES, part) if len(part.rstrip()) > _LONG else [part])]


def _head(text: str, width: int, measure: Measure) -> str:
    """As much of `text` as a line holds, and one character at least."""
    size = 1
    while size < len(text) and measure(text[: size + 1]) <= width:
        size += 1
    return text[:size]


def widened(low: Sequence[int], high: Sequence[int], room: int) -> list[int]:
    """Widths from `low` up to `high` in `room`: those that need least to be whole are served first.

    >>> widened([5, 5, 5], [6, 30, 9], 26)
    [6, 11, 9]
    """
    found, left = list(low), room - sum(low)
    for index in sorted(range(len(found)), key=lambda i: high[i] - low[i]):
        more = max(0, min(high[index] - found[index], left))
        found[index], left = found[index] + more, left - more
    return found


def narrowed(widths: Sequence[int], low: Sequence[int], room: int) -> list[int]:
    """Widths whose sum may be `room` at most: the widest give first, down to `low` each, and below it only if they must.

    >>> narrowed([20, 8, 12], [4, 8, 6], 30)
    [10, 8, 12]
    """
    found = list(widths)
    for floor in (low, [1] * len(found)):
        while (over := sum(found) - room) > 0:
            giving = [i for i, width in enumerate(found) if width > floor[i]]
            if not giving:
                break
            widest = max(giving, key=lambda i: found[i])
            next_widest = max((found[i] for i in giving if found[i] < found[widest]), default=0)
            found[widest] -= max(1, min(over, found[widest] - max(next_widest, floor[widest])))
    return found
