"""Python's argparse as the servers use it: abbreviations, `--flag=value`, the last wins, lists up to the next flag."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from kvplan.engines.kernel.commandline.flags import AtRelease, Flag, Named
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.values import BadValue, typed
from kvplan.engines.kernel.commandline.words import Word

_NEGATIVE: Final = re.compile(r"-\d+|-\d*\.\d+")

#: `--flag=$VALUE`: the name is there, the value is open.
_OPEN_VALUE: Final = re.compile(r"--?[A-Za-z][\w.-]*=")


class Style(Struct, frozen=True, kw_only=True):
    """How one parser differs from another.

    `spelled` makes a name's spelling the parser's own; `prefix` is the least that an abbreviation begins with; `switches_take`
    says whether `--switch=true` is read.
    """

    spelled: Callable[[str], str] = str
    abbreviations: bool = True
    equals: bool = True
    switches_take: bool = False
    human: bool = True


class Given(Struct, frozen=True):
    """A flag as it was typed, with the words that it took."""

    named: Named
    typed: str
    values: tuple[Word, ...]
    line: int


def is_flag(text: str) -> bool:
    """Whether argparse takes a word for a flag: a dash, and no negative number.

    >>> is_flag("--a"), is_flag("-1"), is_flag("-")
    (True, False, False)
    """
    return len(text) > 1 and text[0] == "-" and not _NEGATIVE.fullmatch(text) and " " not in text


def scan(rest: Sequence[Word], known: AtRelease, style: Style, told: Told, *, named_release: bool) -> Iterator[Given | Word]:
    """The flags of a command line with their words, and the words that belong to none.

    A flag that the release does not have is noted in `told`; its value is skipped with it.
    """
    at, end = 0, len(rest)
    while at < end:
        word = rest[at]
        at += 1
        begun_open = not word.known and style.equals and _OPEN_VALUE.match(word.text)
        if begun_open and known.named(style.spelled(word.text.partition("=")[0]))[0] is None:
            continue  # a name with a variable in it
        if (not word.known and not begun_open) or not is_flag(word.text):
            if word.text != "--":
                yield word
            continue
        text, equals, after = word.text.partition("=") if style.equals else (word.text, "", "")
        name = style.spelled(text)
        named, here = known.named(name)
        if not here:
            begun = known.beginning(name) if style.abbreviations and named is None else None
            if begun is None:
                told.miss(text, gone=named is not None and not named_release)
            else:
                named, here = begun, True
        if named is None:
            if not equals and at < end and not is_flag(rest[at].text):
                at += 1
            continue
        flag, values = named.flag, []
        if equals:
            values = [Word(after, word.line, word.known)]
        elif not named.negated:
            most = _most(flag, end)
            while len(values) < most and at < end and not is_flag(rest[at].text):
                values.append(rest[at])
                at += 1
        if here or not named_release:
            yield Given(named, text, tuple(values), word.line)


def _most(flag: Flag, end: int) -> int:
    return {"none": 0, "many": end, "two": 2}.get(flag.takes, 1)


def store(given: Given, told: Told, style: Style) -> None:
    """Put a flag's value into `told`; what its parser would refuse is said instead."""
    flag = given.named.flag
    if not flag.memory:
        return
    if flag.takes == "none" and given.values:
        if not style.switches_take:
            told.refused.append(f"`{given.typed}` is a switch and takes no value")
            return
        value = given.values[0].text.strip().lower()
        told.put(flag.dest, (value in {"true", "1"}) != given.named.negated, given.line)
        return
    try:
        value_of = False if given.named.negated else typed(flag, given.values, human=style.human)
    except BadValue as problem:
        told.refused.append(f"`{given.typed}`: {problem}")
        return
    told.put(flag.dest, value_of, given.line)
