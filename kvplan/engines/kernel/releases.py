"""Rules that changed between releases: typed rows of (since, value, source), one look-up for all engines."""

import re
from collections.abc import Mapping
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

from msgspec import Struct

from kvplan.errors import OptionError

T = TypeVar("T")
Release = tuple[int, ...]
_BUILD: Final = re.compile(r"b(\d{3,6})(?:-\w{1,40})?")
Row = tuple[Release, T, str]  # from this release on, this value; where that was read or run


class Quirk(Struct, Generic[T], frozen=True):
    """A rule that changed: `RULE.at(release)` is its value there; `says` is the rule in words."""

    rows: tuple[Row[T], ...]  # oldest first
    says: str = ""

    def at(self, release: Release) -> T:
        """The value of the latest row that is not after `release`; before the first row, the first row's."""
        if type(release) is not tuple:
            release = _as_held(release, self, "")
        return self.row(release)[1]

    def row(self, release: Release, kind: str = "") -> Row[T]:
        """The row that holds at a release."""
        found = self.rows[0]
        for row in self.rows:
            if row[0] <= release:
                found = row
        return found


def quirk(*rows: Row[T], says: str = "") -> Quirk[T]:
    """A rule by its rows.

    >>> quirk(((0,), 64, "a.py"), ((0, 20), 16, "b.py")).at((0, 11))
    64
    """
    return Quirk(tuple(sorted(rows, key=lambda row: row[0])), says)


class ByType(Struct, Generic[T], frozen=True):
    """A rule of single model types: `RULE.at(kind, release)`; of every other type and before the first row, `default`."""

    default: T
    rows: Mapping[str, tuple[Row[T], ...]]  # model type -> oldest first
    says: str = ""

    def at(self, kind: str, release: Release) -> T:
        """The value for a model type at a release."""
        if type(release) is not tuple:
            release = _as_held(release, self, kind)
        return self.row(release, kind)[1]

    def row(self, release: Release, kind: str = "") -> Row[T]:
        """The row that holds for a model type at a release; one without a source where none does."""
        found: Row[T] = ((), self.default, "")
        for row in self.rows.get(kind, ()):
            if row[0] <= release:
                found = row
        return found


def by_type(default: T, rows: Mapping[tuple[str, ...], tuple[Row[T], ...]], *, says: str = "") -> ByType[T]:
    """A rule by its rows, several model types together where they are alike.

    >>> by_type(0, {("a", "b"): (((4, 36), 1, "a.py"),)}).at("b", (5, 0))
    1
    """
    alike = {kind: tuple(sorted(same, key=lambda row: row[0])) for kinds, same in rows.items() for kind in kinds}
    return ByType(default, alike, says)


Rule = Quirk[Any] | ByType[Any]


class Asked(NamedTuple):
    """A rule that an answer depends on, for the model type that it was asked for."""

    rule: Rule
    kind: str


class Watched(tuple[int, ...]):
    """A release that notes which rules are asked of it, and answers some of them as `other` does.

    So it is seen which rule makes the difference between two releases: everything as in one, a single rule as in the other.
    A tuple, because engines compare releases, and equal to itself alone, because what is remembered of a release is not
    to be taken for this one's.
    """

    other: Release
    held: tuple[Asked, ...]
    asked: dict[tuple[int, str], Asked]

    def __new__(cls, release: Release, other: Release, held: tuple[Asked, ...] = ()) -> Self:
        """`release`, with the rules of `held` as in `other`."""
        made = super().__new__(cls, release)
        made.other, made.held, made.asked = tuple(other), held, {}
        return made

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    @property
    def differing(self) -> tuple[Asked, ...]:
        """What was asked and is not the same in both releases, in order."""
        mine = tuple(self)
        return tuple(a for a in self.asked.values() if a.rule.row(mine, a.kind)[1] != a.rule.row(self.other, a.kind)[1])


def _as_held(release: Release, rule: Rule, kind: str) -> Release:
    """The release by which a watched one answers this rule."""
    if not isinstance(release, Watched):
        return release
    release.asked.setdefault((id(rule), kind), Asked(rule, kind))
    return release.other if any(held.rule is rule and held.kind == kind for held in release.held) else tuple(release)


def written(release: Release) -> str:
    """As people write a release; of those that are numbered by build, the build.

    >>> written((0, 11, 0)), written((0, 0, 6150)), written((0, 0, 1))
    ('0.11.0', 'b6150', '0.0.1')
    """
    if len(release) == 3 and release[:2] == (0, 0) and release[2] > 99:  # builds have three digits or more
        return f"b{release[2]}"
    return ".".join(map(str, release))


def is_build(text: str) -> bool:
    """Whether a version is the number of a build (`b6150`), not of a release."""
    return _BUILD.fullmatch(text.strip()) is not None


def parse_version(text: str) -> Release:
    """`0.11.0` -> (0, 11, 0); a build `b6150` is release 0.0.6150. What follows the first part without a number is ignored.

    Raises:
        OptionError: it does not begin with a number.
    """
    build = _BUILD.fullmatch(text.strip())
    if build:
        return (0, 0, int(build[1]))
    parts: list[int] = []
    for part in text.strip().lstrip("v").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 9:
            break
        parts.append(int(digits))
        if digits != part:
            break
    if not parts:
        raise OptionError(f"engine version: expected something like `0.11.0`, got `{text[:40]}`")
    return tuple(parts)
