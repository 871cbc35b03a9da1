"""Rules that changed between releases: rows with their source."""

from typing import Any

from msgspec import Struct

from kvplan.errors import OptionError


class Quirk(Struct, frozen=True):
    """A rule that changed between versions: from `since` on, option or behaviour `field` is `value`."""

    since: tuple[int, ...]
    field: str
    value: Any
    source: str


def parse_version(text: str) -> tuple[int, ...]:
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


def rule_for(quirks: tuple[Quirk, ...], name: str, version: tuple[int, ...]) -> Any:
    """The value of quirk `name` in `version`: the row with the latest `since` that is not after it."""
    rows = [q for q in quirks if q.field == name and q.since <= version]
    return max(rows, key=lambda q: q.since).value
