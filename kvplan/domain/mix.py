"""Requests of several lengths at once, as a service sees them: `70% 4k, 25% 32k, 5% 128k`."""

import re
from typing import Final

from msgspec import Struct

from kvplan.errors import OptionError, written
from kvplan.units import ceil_div, parse_count, short_count

_WHOLE: Final = 10_000  # hundredths of a percent
_PART: Final = r"(\d{1,3})(?:\.(\d{1,2}))?\s*%\s*(?:of\s+|at\s+|x\s+)?(\S{1,24})(?:\s+tokens)?"
_MOST_PARTS: Final = 64
#: Engines round a request up to whole pages, of at most so many tokens.
_PAGE: Final = 256


class Part(Struct, frozen=True):
    """A length, and how many of the requests have it, in hundredths of a percent."""

    share: int
    tokens: int


class Mix(Struct, frozen=True):
    """What the requests are like; the shares add up to the whole.

    >>> parse_mix("70% 4k, 25% 32k, 5% 128k").longest
    131072
    """

    parts: tuple[Part, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest request: what a server is started for."""
        return max(part.tokens for part in self.parts)

    @property
    def average(self) -> int:
        """Tokens that a request holds on average at most, each rounded up to whole pages."""
        return min(self.longest, ceil_div(sum(part.share * ceil_div(part.tokens, _PAGE) * _PAGE for part in self.parts), _WHOLE))

    @property
    def words(self) -> str:
        """As it is typed.

        >>> parse_mix("12.5% 1k,87.5%  4096").words
        '12.5% 1k, 87.5% 4k'
        """
        return ", ".join(f"{part.share / 100:g}% {short_count(part.tokens)}" for part in self.parts)

    def most(self, limit_bytes: int, sizes: "tuple[int, ...]") -> int | None:
        """The most requests of which each part has its share, when one of part i takes `sizes[i]` of `limit_bytes` bytes.

        None when they take nothing.
        """
        taken = sum(part.share * size for part, size in zip(self.parts, sizes, strict=True))
        return limit_bytes * _WHOLE // taken if taken else None


def parse_mix(text: str) -> Mix:
    """Read shares and lengths.

    Raises:
        OptionError: not in that form, or shares that do not add up to 100 %.
    """
    parts = written(text, 2000).split(",")
    if len(parts) > _MOST_PARTS:
        raise OptionError(f"«mix»: {len(parts)} lengths are too many", hint=f"at most {_MOST_PARTS}")
    found = tuple(_part(part) for part in parts)
    whole = sum(part.share for part in found)
    if whole != _WHOLE:
        raise OptionError(f"«mix»: the shares add up to {whole / 100:g} %", hint="they must add up to 100 %")
    return Mix(tuple(part for part in found if part.share))


def _part(text: str) -> Part:
    match = re.fullmatch(_PART, text.strip())
    if match is None:
        raise OptionError(
            f"«mix»: expected a share and a length, got `{text.strip()[:40]}`", hint='such as "70% 4k, 25% 32k, 5% 128k"'
        )
    return Part(int(match[1]) * 100 + int((match[2] or "").ljust(2, "0")), parse_count(match[3], what="«mix»"))
