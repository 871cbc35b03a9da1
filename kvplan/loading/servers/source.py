"""One input as the forms read it, and where its words stand."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.errors import InputError


class Source(Struct, frozen=True, kw_only=True):
    """A text, the name that it came under, and the variables that its folder or the caller gives it."""

    text: str
    name: str = ""
    variables: Mapping[str, str] = {}
    dotenv: Mapping[str, str] | None = None  # of the `.env` beside it

    @property
    def file(self) -> str:
        """The last part of its name, in small letters."""
        return self.name.replace("\\", "/").rpartition("/")[2].lower()


class Read(Struct, frozen=True):
    """What a form found: processes, and what it calls the services that take cards."""

    calls: tuple[Call, ...]
    take_cards: tuple[str, ...] = ()


_NOWHERE: Final = 0


def unclosed(line: int) -> InputError:
    """A quote that nothing closes: no parser starts such a line."""
    return InputError(f"line {line}: a quote that nothing closes", hint="is it whole?")


def split(text: str, line: int) -> list[str]:
    """A command of compose, llama-swap or systemd in words, as a shell splits it; a line's end behind a backslash is a blank.

    Raises:
        InputError: a quote that nothing closes.
    """
    try:
        return shlex.split(text.replace("\\\n", " ").replace("\\\r\n", " "))
    except ValueError as problem:
        raise unclosed(line) from problem


def placed(words: Sequence[Word], lines: Sequence[str], start: int, end: int) -> tuple[Word, ...]:
    """Words with the lines that they are found on, looked for in order between two lines (from 1, both included)."""
    found: list[Word] = []
    line, column = start, 0
    for word in words:
        at_line, at_column = line, column
        while at_line <= min(end, len(lines)):
            place = lines[at_line - 1].find(word.text, at_column) if word.text else -1
            if place >= 0:
                line, column = at_line, place + len(word.text)
                break
            at_line, at_column = at_line + 1, 0
        else:
            at_line = line
        found.append(Word(word.text, at_line or _NOWHERE, word.known))
    return tuple(found)
