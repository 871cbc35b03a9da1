"""Counts and sizes as people write them, and exact integers underneath.

`128k` tokens is 131,072; a size needs its unit, and GiB (2**30) is never GB (10**9). A comma groups digits by thousands,
`1,234,567`, or stands between the values of a list; anywhere else it is refused, because whoever typed it meant something else.
"""

import re
from typing import Final

from kvplan.errors import OptionError
from kvplan.limits import SIZE_BYTES

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
TIB: Final = 2**40

BYTE_UNITS: Final[dict[str, int]] = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB, "PiB": 2**50}
DECIMAL_UNITS: Final[dict[str, int]] = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
#: Every unit that a report can be in.
UNITS: Final = BYTE_UNITS | DECIMAL_UNITS
#: A unit as people write it, in small letters: `gib`, `Gi` (Kubernetes), `bytes`.
_SPELLINGS: Final = (
    {name.lower(): name for name in UNITS}
    | {name[:2].lower(): name for name in BYTE_UNITS if name != "B"}
    | {"byte": "B", "bytes": "B"}
)
#: Units that leave open which is meant.
_BARE: Final = frozenset({"", "k", "m", "g", "t", "p"})
_COUNT_SUFFIXES: Final[dict[str, int]] = {"": 1, "k": KIB, "m": MIB, "g": GIB}

#: No count that kvplan accepts is larger; it keeps every product printable and every grid in 64 bits.
MAX_COUNT: Final = 2**53

_MOST_PLACES: Final = 7  # decimals of a number that people read

_WHOLE: Final = "[0-9]{1,18}|[0-9]{1,3}(?:_[0-9]{3}){1,5}"
_NUMBER: Final = rf"({_WHOLE}|[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,5}})(?:\.([0-9]{{1,9}}))?\s*([A-Za-z]{{0,5}})"
_COUNT_HINT: Final = "write `8192`, or with a suffix `8k` (8,192), `1M` (1,048,576)"
_SIZE: Final = rf"({_WHOLE})(?:\.([0-9]{{1,9}}))?\s*([A-Za-z]{{0,5}})"
#: A list that could also be one number: its digits grouped by thousands, or a comma for the decimal point.
_GROUPED: Final = r"[1-9][0-9]{0,2}(?:,[0-9]{3})+"
_DECIMAL: Final = r"[0-9]{1,3},[0-9]{1,2}[kmg]"


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
    """Read a count of tokens or sequences: `8192`, `8,192`, `8k` (8,192), `1.5k` (1,536), `1M` (1,048,576).

    Raises:
        OptionError: not a whole number of at least `minimum`, several numbers, or beyond 2**53.

    >>> parse_count("128k"), parse_count("131,072")
    (131072, 131072)
    """
    match = re.fullmatch(_NUMBER, text.strip())
    unit = _COUNT_SUFFIXES.get(match[3].lower()) if match else None
    value = _scaled(_plain(match[1]), match[2], unit) if match and unit else None
    if value is None and "," in text:
        raise OptionError(
            f"{what}: one number is meant here, got {_typed(text)}",
            hint="lists are for `kvplan sweep` (`-s 4096,8192 -b 1,2,4`) and contexts of `kvplan fit`; "
            "a comma inside a number groups its digits by thousands, as in `1,234,567`",
        )
    if value is None or not minimum <= value <= MAX_COUNT:
        large = (value or 0) > MAX_COUNT or (match is None and re.fullmatch(r"[0-9]{17,}[A-Za-z]{0,5}", text.strip()) is not None)
        bounds = f"from {minimum} to 2**53" if large else f"of at least {minimum}"
        raise OptionError(f"{what}: expected a whole number {bounds}, got {_typed(text)}", hint="" if large else _COUNT_HINT)
    return value


def _plain(digits: str) -> str:
    return digits.replace(",", "").replace("_", "")


def _typed(text: str) -> str:
    return f"`{text.strip()[:40]}`"


def as_one_number(text: str) -> str:
    """A list of counts as the one number that it could also be; empty where it cannot.

    >>> as_one_number("8,192"), as_one_number("1,5k"), as_one_number("1,2,4"), as_one_number("4096,8192")
    ('8192', '1.5k', '', '')
    """
    plain = text.strip()
    if re.fullmatch(_GROUPED, plain):
        return plain.replace(",", "")
    return plain.replace(",", ".") if re.fullmatch(_DECIMAL, plain, re.IGNORECASE) else ""


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
        if re.match(r"\s*0[0-9]", start):
            raise OptionError(
                f"{what}: {_typed(text)} is a list here, and `{part.strip()[:20]}` in it begins with 0",
                hint=f"one number is written without commas: `{text.strip().replace(',', '')[:20]}`",
            )
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
    """Read a size; the unit is required: `80GiB` is 80 * 2**30, `80GB` is 80 * 10**9.

    Of a size that somebody rounded, such as a log's `6.51 GiB`, the whole bytes in it.

    Raises:
        OptionError: no unit, an unknown one, or a comma.

    >>> parse_size("1.5GiB"), parse_size("6.51 GiB"), parse_size("16Gi")
    (1610612736, 6990059274, 17179869184)
    """
    match = re.fullmatch(_SIZE, text.strip())
    unit = UNITS.get(_SPELLINGS.get(match[3].lower(), "")) if match else None
    if match is None or unit is None:
        hint = "write `80GiB` (2**30 bytes each) or `80GB` (10**9 bytes each)"
        if "," in text:
            hint = "write a point, and no commas: `1.5GiB`"
        elif match is not None and match[3].lower() in _BARE:
            number, letter = text.strip()[: match.end(2) if match[2] else match.end(1)], match[3].upper()
            said = (f"`{number}{letter}iB`", f"`{number}{letter}B`") if letter else (f"`{number}GiB`", f"`{number}GB`")
            hint = f"{said[0]} (powers of 1024) or {said[1]} (powers of 1000)?"
        raise OptionError(f"{what}: expected a size with its unit, got {_typed(text)}", hint=hint)
    digits = match[2] or ""
    value: int = int(_plain(match[1]) + digits) * unit // 10 ** len(digits)
    if value > SIZE_BYTES:
        raise OptionError(f"{what}: {_typed(text)} is more than any memory", hint="sizes are at most 2**60 bytes, 1,048,576 TiB")
    return value


def parse_unit(text: str, *, what: str = "unit") -> str:
    """A unit in its own spelling: `gib` is GiB, `gb` is GB.

    Raises:
        OptionError: there is no such unit.

    >>> parse_unit("gib"), parse_unit("GB")
    ('GiB', 'GB')
    """
    found = _SPELLINGS.get(text.strip().lower())
    if found is None:
        raise OptionError(f"{what}: unknown unit {_typed(text)}", hint=f"one of {', '.join(UNITS)}")
    return found


def byte_unit(largest: int) -> str:
    """The largest binary unit that is not above `largest` bytes.

    >>> byte_unit(3 * 2**30)
    'GiB'
    """
    return max((unit for unit, size in BYTE_UNITS.items() if size <= max(largest, 1)), key=BYTE_UNITS.__getitem__)


def in_unit(amount: int, unit: str) -> str:
    """`amount` bytes in `unit`: two decimals, below one as many as show three digits; bytes themselves are whole.

    >>> in_unit(4294967296, "GiB"), in_unit(8388608, "GiB"), in_unit(0, "GiB")
    ('4.00', '0.00781', '0')
    """
    if unit == "B" or not amount:
        return f"{amount:,}"
    if abs(amount) < UNITS[unit]:
        return significant(amount / UNITS[unit])
    hundredths = (abs(amount) * 200 + UNITS[unit]) // (2 * UNITS[unit])
    return f"{'-' if amount < 0 else ''}{hundredths // 100:,}.{hundredths % 100:02d}"


def significant(value: float) -> str:
    """A number below one with three significant digits, and at least two decimals.

    >>> significant(0.125), significant(0.25), significant(0.0625), significant(-0.00781)
    ('0.125', '0.25', '0.0625', '-0.00781')
    """
    places = 2
    while places < _MOST_PLACES and abs(value) * 10**places < 100:
        places += 1
    shown = f"{value:.{places}f}"
    if not float(shown):
        return f"{'-' if value < 0 else ''}<{10**-_MOST_PLACES:.{_MOST_PLACES}f}"
    while len(shown.partition(".")[2]) > 2 and shown.endswith("0"):
        shown = shown[:-1]
    return shown


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
