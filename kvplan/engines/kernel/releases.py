"""Rules that changed between releases: typed rows of (since, value, source), one look-up for all engines."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from msgspec import Struct

from kvplan.errors import OptionError

T = TypeVar("T")
Release = tuple[int, ...]
Row = tuple[Release, T, str]  # from this release on, this value; where that was read or run


class Quirk(Struct, Generic[T], frozen=True):
    """A rule that changed: `RULE.at(release)` is its value there."""

    rows: tuple[Row[T], ...]  # oldest first

    def at(self, release: Release) -> T:
        """The value of the latest row that is not after `release`; before the first row, the first row's."""
        value = self.rows[0][1]
        for since, later, _ in self.rows:
            if since <= release:
                value = later
        return value


def quirk(*rows: Row[T]) -> Quirk[T]:
    """A rule by its rows.

    >>> quirk(((0,), 64, "a.py"), ((0, 20), 16, "b.py")).at((0, 11))
    64
    """
    return Quirk(tuple(sorted(rows, key=lambda row: row[0])))


class ByType(Struct, Generic[T], frozen=True):
    """A rule of single model types: `RULE.at(kind, release)`; of every other type and before the first row, `default`."""

    default: T
    rows: Mapping[str, tuple[Row[T], ...]]  # model type -> oldest first

    def at(self, kind: str, release: Release) -> T:
        """The value for a model type at a release."""
        value = self.default
        for since, later, _ in self.rows.get(kind, ()):
            if since <= release:
                value = later
        return value


def by_type(default: T, rows: Mapping[tuple[str, ...], tuple[Row[T], ...]]) -> ByType[T]:
    """A rule by its rows, several model types together where they are alike.

    >>> by_type(0, {("a", "b"): (((4, 36), 1, "a.py"),)}).at("b", (5, 0))
    1
    """
    return ByType(default, {kind: tuple(sorted(alike, key=lambda r: r[0])) for kinds, alike in rows.items() for kind in kinds})


def parse_version(text: str) -> Release:
    """`0.11.0` -> (0, 11, 0); anything after the first non-numeric part is ignored.

    Raises:
        OptionError: it does not begin with a number.
    """
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
