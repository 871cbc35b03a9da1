"""Counts and sizes as people write them, and exact integers underneath.

`128k` tokens is 131,072; a size needs its unit, and GiB (2**30) is never GB (10**9).
"""

import re
from typing import Final

from kvplan.errors import OptionError

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
TIB: Final = 2**40

BYTE_UNITS: Final[dict[str, int]] = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB, "PiB": 2**50}
_DECIMAL_UNITS: Final[dict[str, int]] = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
_COUNT_SUFFIXES: Final[dict[str, int]] = {"": 1, "k": KIB, "m": MIB, "g": GIB}

#: No count that kvplan accepts is larger; it keeps every product printable and every grid in 64 bits.
MAX_COUNT: Final = 2**53

_NUMBER = re.compile(r"(\d{1,18})(?:\.(\d{1,9}))?\s*([A-Za-z]{0,3})")


def ceil_div(amount: int, size: int) -> int:
    """The number of whole pieces of `size` that hold `amount`, rounded up.

    >>> ceil_div(17, 16)
    2
    """
    return -(-amount // size)


def _scaled(whole: str, fraction: str | None, unit: int) -> int | None:
    """`whole.fraction` times `unit` where that is a whole number, without going through floats."""
    digits = fraction or ""
    value, rest = divmod(int(whole + digits) * unit, 10 ** len(digits))
    return None if rest else value


def parse_count(text: str, *, what: str = "count", minimum: int = 1) -> int:
    """Read a count of tokens or sequences: `8192`, `8k` (8,192), `1.5k` (1,536), `1M` (1,048,576).

    Raises:
        OptionError: not a whole number of at least `minimum`, or beyond 2**53.

    >>> parse_count("128k")
    131072
    """
    match = _NUMBER.fullmatch(text.strip().replace("_", "").replace(",", ""))
    unit = _COUNT_SUFFIXES.get(match[3].lower()) if match else None
    value = _scaled(match[1], match[2], unit) if match and unit else None
    if value is None or not minimum <= value <= MAX_COUNT:
        raise OptionError(
            f"{what}: expected a whole number of at least {minimum}, got `{text[:40]}`",
            hint="write tokens as `8192`, `8k` (8,192) or `1M` (1,048,576)",
        )
    return value


def parse_counts(text: str, *, what: str = "count", most: int = 10**7) -> tuple[int, ...]:
    """Read a list or range of counts: `1,2,4`, `1k:1M:x2` (doubling), `0:64k:4k` (steps), or a mixture.

    A range includes its end when the steps reach it.

    Raises:
        OptionError: a bad count, an empty range, a step that does not move, or more than `most` values.

    >>> parse_counts("1k:8k:x2,10k")
    (1024, 2048, 4096, 8192, 10240)
    """
    values: list[int] = []
    for part in text.split(","):
        start, colon, rest = part.partition(":")
        if not colon:
            values.append(parse_count(start, what=what))
            continue
        values.extend(_range(start, rest, part, what, most))
    if len(values) > most:
        raise OptionError(f"{what}: {len(values):,} values are too many", hint=f"use at most {most:,}")
    return tuple(values)


def _range(start_text: str, rest: str, part: str, what: str, most: int) -> list[int]:
    end_text, _, step_text = rest.partition(":")
    start, end = parse_count(start_text, what=what), parse_count(end_text, what=what)
    step_text = step_text or "x2"
    factor = step_text.startswith("x")
    step = parse_count(step_text[1:] if factor else step_text, what=f"{what} step")
    if start > end or (factor and step < 2):
        raise OptionError(f"{what}: `{part}` is an empty or endless range", hint="write start:end:step or start:end:x2")
    if not factor:
        if (end - start) // step >= most:
            raise OptionError(f"{what}: `{part}` has too many values", hint="use a larger step")
        return list(range(start, end + 1, step))
    values = []
    while start <= end:
        values.append(start)
        start *= step
    return values


def parse_size(text: str, *, what: str = "size") -> int:
    """Read a size in bytes; the unit is required: `80GiB` is 80 * 2**30, `80GB` is 80 * 10**9.

    Raises:
        OptionError: no unit, an unknown unit, or not a whole number of bytes.

    >>> parse_size("1.5GiB")
    1610612736
    """
    match = _NUMBER.fullmatch(text.strip().replace("_", "").replace(",", ""))
    unit = (BYTE_UNITS | _DECIMAL_UNITS).get(match[3]) if match else None
    value = _scaled(match[1], match[2], unit) if match and unit else None
    if value is None or value > 2**62:
        raise OptionError(
            f"{what}: expected a size with its unit, got `{text[:40]}`",
            hint="write `80GiB` (2**30 bytes each) or `80GB` (10**9 bytes each)",
        )
    return value


def parse_rounded_size(text: str, *, what: str = "size") -> int:
    """Read a size that somebody rounded, such as a log's `6.51 GiB`: the whole bytes in it.

    Raises:
        OptionError: no unit, or an unknown unit.

    >>> parse_rounded_size("6.51GiB")
    6990059274
    """
    match = _NUMBER.fullmatch(text.strip().replace("_", "").replace(",", ""))
    unit = (BYTE_UNITS | _DECIMAL_UNITS).get(match[3]) if match else None
    if match is None or unit is None:
        return parse_size(text, what=what)
    digits = match[2] or ""
    whole: int = int(match[1] + digits) * unit // 10 ** len(digits)
    return whole


def byte_unit(largest: int) -> str:
    """The largest binary unit that is not above `largest` bytes.

    >>> byte_unit(3 * 2**30)
    'GiB'
    """
    return max((unit for unit, size in BYTE_UNITS.items() if size <= max(largest, 1)), key=BYTE_UNITS.__getitem__)


def in_unit(amount: int, unit: str) -> str:
    """`amount` bytes in `unit`, two decimals, thousands separated; bytes themselves are whole.

    >>> in_unit(4294967296, "GiB")
    '4.00'
    """
    if unit == "B":
        return f"{amount:,}"
    hundredths = (abs(amount) * 200 + BYTE_UNITS[unit]) // (2 * BYTE_UNITS[unit])
    return f"{'-' if amount < 0 and hundredths else ''}{hundredths // 100:,}.{hundredths % 100:02d}"


def human_bytes(amount: int) -> str:
    """`amount` in its natural binary unit.

    >>> human_bytes(4294967296)
    '4.00 GiB'
    """
    unit = byte_unit(abs(amount))
    return f"{in_unit(amount, unit)} {unit}"


def short_count(amount: int) -> str:
    """A count as short as it can be typed exactly.

    >>> short_count(32768), short_count(32609)
    ('32k', '32609')
    """
    return f"{amount // 1024}k" if amount % 1024 == 0 and amount else str(amount)


def short_size(amount_bytes: int) -> str:
    """A size as short as it can be typed exactly.

    >>> short_size(2 * 2**30)
    '2GiB'
    """
    unit = max(
        (u for u, n in BYTE_UNITS.items() if amount_bytes % n == 0 and amount_bytes >= n), key=BYTE_UNITS.__getitem__, default="B"
    )
    return f"{amount_bytes // BYTE_UNITS[unit]}{unit}"
