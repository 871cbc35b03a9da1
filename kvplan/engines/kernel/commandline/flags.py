"""An engine's flags at one release, from the table in its folder (`flags.json`, written by `tools/make_flags.py`)."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from msgspec import Struct, convert
from msgspec.structs import replace

_NUMBER: Final = re.compile(r"\d{1,9}")


def release_key(text: str) -> tuple[int, ...]:
    """A release as numbers that compare: a candidate comes before, a post-release after.

    >>> release_key("0.9.2") < release_key("0.10.0rc1") < release_key("0.10.0") < release_key("0.10.0.post1")
    True
    """
    head, mark, after = re.sub(r"^[^\d]*(?=\d)", "", text[:60]), 0, 0
    for name, sign in (("rc", -1), ("post", 1)):
        if name in head:
            head, _, rest = head.partition(name)
            mark, after = sign, int((_NUMBER.match(rest) or re.match("", ""))[0] or 0)  # type: ignore[index]
            break
    numbers = [int(part) for part in _NUMBER.findall(head)[:4]]
    return (*numbers, *[0] * (4 - len(numbers)), mark, after)


class Changed(Struct, frozen=True, kw_only=True):
    """What a flag was like up to a release."""

    up_to: str
    names: tuple[str, ...] | None = None
    negated: tuple[str, ...] | None = None
    takes: str | None = None
    type: str | None = None


class Flag(Struct, frozen=True, kw_only=True):
    """One flag, variable or key: its names, what it sets, and what it takes (none, one, two, many, optional, json)."""

    names: tuple[str, ...]
    dest: str
    takes: str = "one"
    type: str = "str"
    memory: bool = False
    choices: tuple[str, ...] = ()
    negated: tuple[str, ...] = ()
    env: str = ""
    key: str = ""
    where: str = ""
    hint: str = ""
    list: str = ""
    suffix: bool = False
    none: bool = False
    or_text: bool = False
    repeats: bool = False
    removed: bool = False
    stores: bool = True
    since: str = ""
    until: str = ""
    not_in: Mapping[str, tuple[str, ...]] = {}
    changed: tuple[Changed, ...] = ()
    programs: tuple[str, ...] = ()


class Named(Struct, frozen=True):
    """A flag under one of its names."""

    flag: Flag
    negated: bool = False


class Flags(Struct, frozen=True):
    """A table: the releases that were read, oldest first, and every flag that one of them has."""

    releases: tuple[str, ...]
    flags: tuple[Flag, ...]

    @property
    def latest(self) -> str:
        """The newest release that was read."""
        return self.releases[-1]


class AtRelease(Struct, frozen=True):
    """The names that a release has, and those that only others have."""

    names: Mapping[str, Named]
    elsewhere: Mapping[str, Named]
    release: str

    def named(self, name: str) -> tuple[Named | None, bool]:
        """(the flag of that name, whether this release has it); (None, False): no release has."""
        found = self.names.get(name)
        return (found, True) if found is not None else (self.elsewhere.get(name), False)

    def beginning(self, name: str, prefix: str = "--") -> Named | None:
        """The one flag of this release whose name begins so; None where there is none, or several."""
        if not name.startswith(prefix) or name == prefix:
            return None
        found = {(id(one.flag), one.negated): one for full, one in self.names.items() if full.startswith(name)}
        return next(iter(found.values())) if len(found) == 1 else None


@cache
def flags_of(folder: str) -> Flags:
    """The table in an engine's folder (a package's name)."""
    data = json.loads(files(folder).joinpath("flags.json").read_text(encoding="utf-8"))
    return Flags(tuple(data["releases"]), tuple(convert(data["flags"], tuple[Flag, ...])))


@cache
def at_release(folder: str, release: str, numbered: bool = True) -> AtRelease:
    """The names at a release; with none named, at the newest that was read.

    Args:
        folder: the engine's package.
        release: as an image tag or a pinned install names it; empty: none is named.
        numbered: whether the release can be compared with those of the table; else nothing is known to be missing.
    """
    table = flags_of(folder)
    wanted = release or table.latest
    here: dict[str, Named] = {}
    elsewhere: dict[str, Named] = {}
    for flag in table.flags:
        there = _has(table, flag, wanted) if numbered or not release else None
        view = _view(flag, wanted) if numbered or not release else flag
        missing = set(flag.not_in.get(wanted, ()))
        for name, named in _names(view):
            if there is not False and name not in missing and not (flag.removed and not release):
                here.setdefault(name, named)
        for name, named in _names(flag):
            elsewhere.setdefault(name, named)
    return AtRelease(here, {name: named for name, named in elsewhere.items() if name not in here}, wanted)


def _names(flag: Flag) -> Iterator[tuple[str, Named]]:
    for name in flag.names:
        yield name, Named(flag)
    for name in flag.negated:
        yield name, Named(flag, negated=True)


def _view(flag: Flag, release: str) -> Flag:
    """The flag as it was at a release."""
    wanted, view = release_key(release), flag
    for change in flag.changed:
        if wanted <= release_key(change.up_to):
            for name in ("names", "negated", "takes", "type"):
                if getattr(change, name) is not None:
                    view = replace(view, **{name: getattr(change, name)})
    return view


def _has(table: Flags, flag: Flag, release: str) -> bool | None:
    """Whether a release has a flag; None where the releases that were read do not tell."""
    wanted = release_key(release)
    keys = [release_key(one) for one in table.releases]

    def has(key: tuple[int, ...]) -> bool:
        return (not flag.since or release_key(flag.since) <= key) and (not flag.until or key <= release_key(flag.until))

    before = [key for key in keys if key <= wanted]
    after = [key for key in keys if key >= wanted]
    said = {has(key) for key in (*before[-1:], *after[:1])}
    if not before:
        return True if True in said else None
    return said.pop() if len(said) == 1 else None


def release_seen(folder: str, name: str) -> str:
    """Which of the releases that were read have a name, in words: `since 0.14.0`, `until 0.9.2`; empty: all."""
    for flag in flags_of(folder).flags:
        if name in (*flag.names, *flag.negated):
            said = [*([f"since {flag.since}"] if flag.since else []), *([f"until {flag.until}"] if flag.until else [])]
            return ", ".join(said)
    return ""


def field_of(data: Mapping[str, Any]) -> Flag:
    """A flag from a row of a table."""
    return convert(dict(data), Flag)
