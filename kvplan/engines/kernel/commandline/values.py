"""Values as the servers' parsers make them: numbers with suffixes, JSON with human numbers, lists, switches."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NoReturn

from kvplan.engines.kernel.commandline.flags import Flag
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Word
from kvplan.errors import InputError, printable

#: k = 1000, K = 1024 (vllm/utils/argparse_utils.py:human_readable_int); decimals only with the small letters.
_SMALL: Final = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_LARGE: Final = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_HUMAN: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)([kKmMgGtT])")
_HUMAN_IN_JSON: Final = re.compile(r'("(?:[^"\\]|\\.)*")|(?<![\w.])(\d{1,18}(?:\.\d{1,18})?[kKmMgGtT])(?![\w.])')
_TRUE: Final = frozenset({"true", "1", "yes", "on", "y", "t"})
_FALSE: Final = frozenset({"false", "0", "no", "off", "n", "f"})
_DIGITS: Final = 40
#: Levels of a JSON value.
_DEPTH: Final = 60


class BadValue(InputError):
    """The server's parser would refuse this value."""


def integer(text: str) -> int:
    """A whole number as Python's parsers take it.

    Raises:
        BadValue: it is none.
    """
    try:
        found = int(text) if len(text) <= _DIGITS else None
    except ValueError:
        found = None
    if found is None:
        _refuse(text, "a whole number")
    return found


def number(text: str) -> float:
    """A number.

    Raises:
        BadValue: it is none.
    """
    try:
        found = float(text)
    except ValueError:
        _refuse(text, "a number")
    if abs(found) == float("inf") or found != found:
        _refuse(text, "a number")
    return found


def human_integer(text: str) -> int:
    """A whole number with an optional suffix.

    Raises:
        BadValue: such as `1.5K`, `8GB`.

    >>> human_integer("25.6k"), human_integer("8K")
    (25600, 8192)
    """
    found = _HUMAN.fullmatch(text)
    if found is None:
        return integer(text)
    digits, letter = found[1], found[2]
    if letter in _SMALL:
        return int(Decimal(digits) * _SMALL[letter])
    if "." in digits:
        _refuse(text, "a whole number before a capital letter")
    return int(digits) * _LARGE[letter]


def json_value(text: str, *, human: bool = True) -> Any:
    """JSON, with `32k` for numbers where the server allows it.

    Raises:
        BadValue: it is none.
    """
    if human:
        text = _HUMAN_IN_JSON.sub(lambda m: m[1] or str(human_integer(m[2])), text)
    try:
        found = json.loads(text, parse_constant=lambda name: _refuse(name, "a number"))
    except (ValueError, RecursionError):
        _refuse(text, "JSON")
    if depth(found) > _DEPTH:
        _refuse(text, f"JSON of at most {_DEPTH} levels")
    return found


def depth(value: Any) -> int:
    """How deep lists and objects are nested.

    >>> depth({"a": [1]})
    3
    """
    levels, layer = 0, [value]
    while layer:
        levels += 1
        inner: list[Any] = []
        for one in layer:
            inner += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        layer = inner
    return levels


def typed(flag: Flag, words: Sequence[Word], *, human: bool = True) -> Any:
    """What a flag stores for the words after it.

    Raises:
        BadValue: the server's parser would refuse it.
    """
    if any(not word.known for word in words):
        return UNRESOLVED
    if flag.takes == "none":
        return flag.stores
    if flag.takes in {"many", "two"}:
        return [one(flag, word.text, human=human) for word in words]
    if not words:
        if flag.takes == "optional":
            return True
        _missing(flag)
    return one(flag, words[0].text, human=human)


def one(flag: Flag, text: str, *, human: bool = True) -> Any:
    """One value of a flag.

    Raises:
        BadValue: the server's parser would refuse it.
    """
    if flag.none and text in {"None", ""}:
        return None
    if flag.type in {"int", "bytes"}:
        return human_integer(text) if flag.suffix else integer(text)
    if flag.type == "float":
        return number(text)
    if flag.type == "bool":
        return switch(text)
    if flag.type == "json":
        return _json(flag, text, human=human)
    return text


def switch(text: str) -> bool:
    """True or false, as people type them.

    Raises:
        BadValue: neither.
    """
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        _refuse(text, "true or false")
    return word in _TRUE


def _json(flag: Flag, text: str, *, human: bool) -> Any:
    try:
        return json_value(text, human=human)
    except BadValue:
        if flag.or_text:
            return text
        pairs = [part.partition("=") for part in text.split(",")]
        if all(equals and key.isidentifier() and value.isdecimal() and len(value) < _DIGITS for key, equals, value in pairs):
            return {key: int(value) for key, _, value in pairs}  # `image=2,video=1`: nullable_kvs of older releases
        raise


def _missing(flag: Flag) -> NoReturn:
    raise BadValue(f"`{flag.names[0]}` needs a value")


def _refuse(text: str, wanted: str) -> NoReturn:
    raise BadValue(f"expected {wanted}, got `{printable(text, 40)}`")
