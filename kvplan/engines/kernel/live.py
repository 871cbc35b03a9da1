"""What a running server says of itself: which addresses are asked, and what is read out of their answers."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

_METRIC: Final = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]{0,120})\{(.{0,20000}?)\}\s+([-+0-9.eE]{1,40})", re.MULTILINE)
_LABEL: Final = re.compile(r'([A-Za-z_][A-Za-z0-9_]{0,120})="((?:[^"\\]|\\.){0,5000})"')


class Printed(Struct, frozen=True, kw_only=True):
    """A number that a server says: `of` is its kind (num_blocks, num_tokens, length, context, sequences, taken_bytes)."""

    name: str
    value: int
    of: str


class Live(Struct, frozen=True, kw_only=True):
    """A running server: its release, model, options by their `dest`, and the numbers that it says.

    `on_host` are options beside those with which its numbers follow without a card, and `cache_bytes` what it was told to keep
    for the cache there; None where a card decides.
    """

    model: str
    version: str = ""
    options: Mapping[str, Any] = {}
    printed: tuple[Printed, ...] = ()
    notes: tuple[str, ...] = ()
    on_host: Mapping[str, Any] | None = None
    cache_bytes: int = 0


#: The answers of a server, by path; an address that gave none is not among them.
Answers = Mapping[str, str]


class Asking(Struct, frozen=True):
    """How an engine's server is asked: paths, the first of which only it answers, and what their answers give to ask further.

    A path is `/a`, or `/a {"b": 1}` to send that; answers are kept under the same words.
    """

    paths: tuple[str, ...]
    read: "Callable[[Answers], tuple[Live, ...]]"
    further: "Callable[[Answers], tuple[str, ...]] | None" = None


def data(answers: Answers, path: str) -> Any:
    """An answer as JSON; an empty mapping where there is none."""
    try:
        found = json.loads(answers.get(path, "{}"), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict | list) else {}


def text(value: Any) -> str:
    """A short text; empty where it is none."""
    return value[:400] if isinstance(value, str) else ""


def count(value: Any) -> int | None:
    """A count, also as a text; None where it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value < 10**18 else None
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    return None


def gauge(answers: Answers, metric: str) -> int | None:
    """A metric that is a whole number, in Prometheus' text; None where there is none."""
    for found in _METRIC.finditer(answers.get("/metrics", "")):
        if found[1] == metric:
            try:
                value = float(found[3])
            except ValueError:
                return None
            return int(value) if 0 <= value < 2**53 and value == int(value) else None
    return None


def labels(answers: Answers, metric: str) -> dict[str, str]:
    """The labels of a metric in Prometheus' text."""
    for found in _METRIC.finditer(answers.get("/metrics", "")):
        if found[1] == metric:
            return {name: value.replace('\\"', '"') for name, value in _LABEL.findall(found[2])}
    return {}
