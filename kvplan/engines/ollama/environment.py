"""Ollama's environment variables, as its server reads them.

Source: ollama 0.32.15 (fb3076099), `envconfig/config.go`: `Var`, `Uint`, `BoolWithDefault`, `KeepAlive`, `Models`.
"""

import re
from collections.abc import Mapping
from posixpath import join
from typing import Final

from msgspec import Struct

#: Go's words for the two truth values (strconv.ParseBool); any other word that is set counts as true.
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
#: Characters of a value that are looked at.
_LONGEST: Final = 4096
#: Go's units of time, in nanoseconds.
_UNITS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_PART: Final = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)")
_FOREVER: Final = 2**63 - 1
_KEEP: Final = 300 * 10**9


class Environment(Struct, frozen=True, kw_only=True):
    """What the server goes by. `flash_attention` None: not set. `keep_alive` in nanoseconds, `gpu_overhead` bytes of each GPU."""

    context_length: int = 0
    num_parallel: int = 1
    kv_cache_type: str = ""
    flash_attention: bool | None = None
    gpu_overhead: int = 0
    max_loaded_models: int = 0
    sched_spread: bool = False
    models: str = ""
    keep_alive: int = _KEEP


def environment(variables: Mapping[str, str], home: str) -> Environment:
    """The variables as the server reads them.

    Args:
        variables: by name; others than Ollama's are not looked at.
        home: the folder of the user as whom the server runs.
    """
    spread = _flag(variables, "OLLAMA_SCHED_SPREAD")
    return Environment(
        context_length=_count(variables, "OLLAMA_CONTEXT_LENGTH", 0),
        num_parallel=_count(variables, "OLLAMA_NUM_PARALLEL", 1),
        kv_cache_type=_text(variables, "OLLAMA_KV_CACHE_TYPE"),
        flash_attention=_flag(variables, "OLLAMA_FLASH_ATTENTION"),
        gpu_overhead=_count(variables, "OLLAMA_GPU_OVERHEAD", 0),
        max_loaded_models=_count(variables, "OLLAMA_MAX_LOADED_MODELS", 0),
        sched_spread=bool(spread),
        models=_text(variables, "OLLAMA_MODELS") or join(home, ".ollama", "models"),
        keep_alive=_duration(_text(variables, "OLLAMA_KEEP_ALIVE")),
    )


def _text(variables: Mapping[str, str], name: str) -> str:
    """A value without blanks around it, then without quotes."""
    return str(variables.get(name, ""))[:_LONGEST].strip().strip("\"'")


def _count(variables: Mapping[str, str], name: str, default: int) -> int:
    """A whole number in base 10 below 2**64; the default (and a warning) for anything else."""
    text = _text(variables, name)
    if not text.isascii() or not text.isdigit() or len(text.lstrip("0")) > 20:
        return default
    value = int(text)
    return value if value < 2**64 else default


def _flag(variables: Mapping[str, str], name: str) -> bool | None:
    text = _text(variables, name)
    return None if not text else text not in _FALSE


def _duration(text: str) -> int:
    """`time.ParseDuration`, else seconds; below nothing means for ever."""
    if not text:
        return _KEEP
    found = _parsed_duration(text)
    if found is None:
        found = int(text) * 10**9 if re.fullmatch(r"[+-]?\d{1,12}", text, re.ASCII) else _KEEP
    return found if found >= 0 else _FOREVER


def _parsed_duration(text: str) -> int | None:
    sign, rest = (-1 if text[0] == "-" else 1), text.removeprefix("-") if text[0] == "-" else text.removeprefix("+")
    if rest == "0":
        return 0
    total, at = 0, 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None or not (part[1] or part[2]) or len(part[0]) > 24:
            return None
        fraction = part[2] or ""
        total += int(part[1] or 0) * _UNITS[part[3]] + int(fraction or 0) * _UNITS[part[3]] // 10 ** len(fraction)
        at = part.end()
    return sign * total if rest and total <= _FOREVER else None


def duration_words(nanoseconds: int) -> str:
    """A time as Go prints it.

    >>> duration_words(300 * 10**9), duration_words(1_500_000)
    ('5m0s', '1.5ms')
    """
    if nanoseconds < 10**9:
        unit = next((name for name in ("ms", "µs", "ns") if nanoseconds >= _UNITS[name]), "s")
        return f"{_decimal(nanoseconds, _UNITS[unit])}{unit}"
    seconds, rest = divmod(nanoseconds, 60 * 10**9)
    minutes = f"{seconds % 60}m" if seconds else ""
    hours = f"{seconds // 60}h" if seconds >= 60 else ""
    return f"{hours}{minutes}{_decimal(rest, 10**9)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
