"""Quantities as papers and logs print them: `800 KB`, `110.6K`, `15.62`: exact rationals, never floats.

A printed number stands for every value that rounds *or truncates* to it, because papers do both, at times in one
table (327.68 KB as 328 and 192.512 KB as 192; 15.625 as 15.62): from half a unit of its last digit below, included, to one
unit above, excluded.
"""

import re
from fractions import Fraction
from typing import Any, Final, Literal

from msgspec import Struct

from kvplan.engines.kernel.cases import InvalidCase

_QUANTITY: Final = re.compile(r"([~≈]?)\s*(\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.(\d{1,20}))?\s*([A-Za-z]{0,8})(?:\s*/\s*tok(?:en)?)?")
_POWER: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

#: Whether a unit without an `i` means powers of 1,000 or of 1,024; `open` when the source does not say.
Convention = Literal["decimal", "binary", "open"]


class Between(Struct, frozen=True):
    """Any whole number from `low` to `high`: what a rounded size leaves open."""

    low: int
    high: int

    def like(self, recorded: Any) -> Any:
        """The recorded value if it is one of them, else the nearest."""
        if isinstance(recorded, bool) or not isinstance(recorded, int):
            return self.low
        return min(max(recorded, self.low), self.high)


class Printed(Struct, frozen=True):
    """A printed number: its value in its own unit, the decimals shown, and the unit (`KB`, `GiB`, `K` or nothing)."""

    value: Fraction
    decimals: int
    unit: str

    def scales(self, convention: Convention) -> tuple[int, ...]:
        """How many bytes (or elements) one unit may be.

        Raises:
            InvalidCase: a unit that is not one of bytes or a count.
        """
        prefix, is_bytes, explicit = _unit(self.unit)
        power = _POWER[prefix]
        if explicit:
            return (1024**power,)
        if not is_bytes:  # `110.6K` elements: a plain thousand
            return (1000**power,)
        if convention == "open":
            return (1024**power, 1000**power) if power else (1,)
        return ((1000 if convention == "decimal" else 1024) ** power,)

    def holds(self, amount: Fraction) -> bool:
        """Whether `amount`, in this unit, rounds or truncates to what is printed."""
        units_above = (amount - self.value) * 10**self.decimals
        return bool(Fraction(-1, 2) <= units_above < 1)

    def write(self, amount: Fraction) -> str:
        """`amount`, in this unit, with as many decimals as are printed, rounded half up; the unit as printed."""
        scaled = int(amount * 10**self.decimals + Fraction(1, 2))
        whole, part = divmod(scaled, 10**self.decimals)
        return f"{whole}" + (f".{part:0{self.decimals}d}" if self.decimals else "")


def _unit(text: str) -> tuple[str, bool, bool]:
    """A unit's prefix, whether it counts bytes, and whether it is spelled binary (`GiB`)."""
    match = re.fullmatch(r"([kmgtp]?)(i?)(b|bytes?)?", text.lower())
    if match is None or (match[2] and not match[1]):
        raise InvalidCase(f"`{text[:20]}` is not a unit of bytes or a count")
    return match[1], bool(match[3]), bool(match[2])


def read_printed(value: object, what: str) -> Printed:
    """A printed quantity: a text such as `800 KB`, or a bare number (its unit is in the fact's name).

    Raises:
        InvalidCase: neither.

    >>> read_printed("70.272 KB", "x").decimals
    3
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = "" if abs(value) >= 10**30 else str(value)
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) and len(value) < 80 else None
    if match is None:
        raise InvalidCase(f"`{what}` is not a printed quantity: `{str(value)[:40]}`")
    digits = match[3] or ""
    _unit(match[4])
    return Printed(Fraction(int(match[2].replace(",", "") + digits), 10 ** len(digits)), len(digits), match[4])


def written_like(recorded: object, amounts: tuple[Fraction, ...], what: str, *, unit: str, convention: Convention) -> Any:
    """A predicted amount written as `recorded` is printed: `recorded` itself when it is printed so.

    Args:
        recorded: what was printed.
        amounts: the predicted bytes (or elements); several when the source leaves a count open (`16k` tokens).
        unit: the unit of a bare number, from the fact's name (`kv_gb_printed`: `GB`).
        convention: what the source says about units without an `i`.
    """
    printed = read_printed(recorded, what)
    unit = printed.unit or unit
    scaled = [amount / scale for amount in amounts for scale in Printed(printed.value, printed.decimals, unit).scales(convention)]
    if any(printed.holds(amount) for amount in scaled):
        return recorded
    text = printed.write(scaled[0])
    if isinstance(recorded, str):
        return f"{text} {printed.unit}" if " " in recorded.strip() else f"{text}{printed.unit}"
    return int(text) if isinstance(recorded, int) else float(text)
