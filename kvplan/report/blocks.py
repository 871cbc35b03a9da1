"""What an answer gives to the printers: values for machines, and blocks for people. Nothing here knows a format.

An answer is one class in `kvplan.report.answers`; a format is one file in `kvplan.report.formats`. Neither knows the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.tables import Table


class View(Struct, frozen=True, kw_only=True):
    """How people want to see an answer. What an answer holds is decided before, by whoever makes it."""

    unit: str | None = None  # one unit for all bytes; None: each column's own
    width: int = 80  # columns
    color: bool = False


class Heading(Struct, frozen=True):
    """What is shown, in one line."""

    text: str


class Verdict(Struct, frozen=True):
    """The answer in one line, which begins with its word in capitals; `yes` is None where it is neither yes nor no."""

    text: str
    yes: bool | None = None


class Paragraph(Struct, frozen=True):
    """Prose under a word."""

    title: str
    text: str


class Command(Struct, frozen=True):
    """What to type to get this, and what must be there for it; never folded."""

    text: str
    needs: Sequence[str] = ()


class Steps(Struct, frozen=True):
    """What to do, in this order; never folded. A pair is words and the command that they lead to."""

    lines: Sequence[str | tuple[str, str]]


class Text(Struct, frozen=True):
    """A file's lines, to be copied as they are."""

    lines: Sequence[str]


class Fix(Struct, frozen=True):
    """Something that would help: what to change, what that gives, and the command that asks again."""

    change: str
    result: str
    command: str


class Fixes(Struct, frozen=True):
    """What would make it fit."""

    found: Sequence[Fix]


class Notes(Struct, frozen=True):
    """What a reader must know beside the numbers, one sentence each."""

    lines: Sequence[str]


class Section(Struct, frozen=True, kw_only=True):
    """Blocks that belong together: a verdict, and what stands under it without a gap.

    In markdown the items of its lists stand `apart`, or directly under each other.
    """

    blocks: Sequence["Block"]
    apart: bool = False


Block = Table | NotPredicted | Heading | Verdict | Paragraph | Command | Steps | Text | Fixes | Notes | Section
#: Column names, and rows that have values under some of them.
Rows = tuple[Sequence[str], Iterable[Mapping[str, Any]]]


class Answer(Protocol):
    """What a command shows: one class in `report/answers`.

    Every bytes value that `dicts` and `rows` give is an exact int.
    """

    @property
    def key(self) -> str:
        """Of the JSON: `{"schema": 1, KEY: dicts()}`."""
        ...

    def dicts(self) -> Any:
        """The JSON form."""
        ...

    def rows(self) -> Rows:
        """The columns of the CSV, and one mapping a row.

        Raises:
            OptionError: the answer has no such form.
        """
        ...

    def blocks(self, view: View) -> Iterable[Block]:
        """What people read, in order."""
        ...


def not_predicted_dict(answer: NotPredicted) -> dict[str, Any]:
    """The JSON form of an answer that is not known: what was asked, why not, and where to look."""
    return answer.to_dict()


def not_predicted_title(answer: NotPredicted) -> str:
    """What was asked: model, engine and release."""
    return " · ".join(filter(None, (answer.model, f"{answer.engine} {answer.engine_version}".strip())))
