"""What a server printed of its cache, predicted from the tokens beside it; and the tokens from the sizes.

A size follows from a number of tokens to the byte; a number of tokens follows from a size, from blocks or from the memory
that was left, as an interval. Source: `releases`, `pool`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from msgspec import Struct

from kvplan.engines.kernel.cases import InvalidCase
from kvplan.engines.kernel.printed import Between, read_printed
from kvplan.engines.tensorrt_llm import releases
from kvplan.engines.tensorrt_llm.layers import Stage
from kvplan.engines.tensorrt_llm.settle import Settled
from kvplan.units import GIB, ceil_div

_NEAR: Final = Fraction(15, 1000)  # GiB: three figures that were rounded, of which a share is printed


class Near(Struct, frozen=True):
    """A number of GiB worked out from figures that were printed with two decimals."""

    gib: Fraction

    def like(self, recorded: Any) -> Any:
        """The recorded value if rounding explains it."""
        if isinstance(recorded, bool) or not isinstance(recorded, int | float) or not abs(recorded) < 10**9:
            return round(float(self.gib), 2)
        return recorded if abs(Fraction(str(recorded)) - self.gib) <= _NEAR else round(float(self.gib), 2)


class Within(Struct, frozen=True):
    """GiB from `low` to `high`: what whole blocks leave open of a figure that was printed with two decimals."""

    low: Fraction
    high: Fraction

    def like(self, recorded: Any) -> Any:
        """The recorded value if it is one of them."""
        if isinstance(recorded, bool) or not isinstance(recorded, int | float) or not abs(recorded) < 10**9:
            return round(float(self.low), 2)
        inside = self.low - _NEAR <= Fraction(str(recorded)) <= self.high + _NEAR
        return recorded if inside else round(float(self.low), 2)


def gib(value: Any, what: str) -> Fraction:
    """A printed number of GiB.

    Raises:
        InvalidCase: no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**9:
        raise InvalidCase(f"`{what}` must be a number of GiB")
    return read_printed(value, what).value


def left(memory: Mapping[str, Any]) -> Near | None:
    """What is left for the cache after the measured pass: `(total - peak + temporary) x fraction`.

    Raises:
        InvalidCase: a figure that is no number.
    """
    if any(memory.get(name) is None for name in ("device_total_gib", "peak_gib", "free_gpu_memory_fraction")):
        return None
    total, peak = gib(memory["device_total_gib"], "device_total_gib"), gib(memory["peak_gib"], "peak_gib")
    temporary = gib(memory.get("temporary_kv_gib") or 0, "temporary_kv_gib")
    return Near((total - peak + temporary) * gib(memory["free_gpu_memory_fraction"], "free_gpu_memory_fraction"))


def sizes(stage: Stage, tokens: int | None, longest: int | None) -> dict[str, Any]:
    """Bytes of every printed size that the tokens decide, and of a token."""
    each = stage.token_bytes
    found: dict[str, Any] = {"kv_bytes_per_token_printed": each}
    if tokens is not None:
        found |= {"total_gib_printed": Fraction(tokens * each), "kv_bytes": tokens * each}
    if longest is not None:
        found["temporary_kv_gib_printed"] = Fraction(longest * each)
    return found


def tokens_of(settled: Settled, stage: Stage, shown: Mapping[str, Any], memory: Mapping[str, Any]) -> Between | None:
    """The tokens that sizes, blocks, the memory that was left and a limit leave possible; None when nothing says them.

    Args:
        shown: printed sizes and blocks.
        memory: what was free, the fraction of it, and `max_tokens`.
    """
    each, block = stage.token_bytes, settled.tokens_per_block
    spans: list[tuple[int, int]] = []
    if each and shown.get("kv_bytes") is not None:
        spans.append((shown["kv_bytes"] // each, shown["kv_bytes"] // each))
    if each and shown.get("total_gib_printed") is not None:
        low, high = _interval(shown["total_gib_printed"])
        spans.append((max(0, ceil_div(int(low), each)), int(high) // each))
    if memory.get("max_tokens") is not None:
        most = _blocks(settled, memory["max_tokens"]) * block
        spans.append((most, most))
    elif each and memory.get("available_gib") is not None and memory.get("free_gpu_memory_fraction") is not None:
        low, high = _interval(memory["available_gib"])
        share = gib(memory["free_gpu_memory_fraction"], "free_gpu_memory_fraction")
        spans.append(tuple(_blocks(settled, int(amount * share) // each) * block for amount in (low, high)))  # type: ignore[arg-type]
    if not spans and shown.get("num_blocks_printed") is not None:
        spans.append((shown["num_blocks_printed"] * block, shown["num_blocks_printed"] * block))
    if not spans:
        return None
    low_tokens, high_tokens = max(low for low, _ in spans), min(high for _, high in spans)
    return Between(low_tokens, high_tokens) if low_tokens <= high_tokens else Between(*spans[0])


def blocks_of(settled: Settled, stage: Stage, free: Any, share: Any) -> Between | None:
    """The blocks of the cache that a fraction of what was free leaves possible.

    Raises:
        InvalidCase: a figure that is no number.
    """
    tokens = tokens_of(settled, stage, {}, {"available_gib": free, "free_gpu_memory_fraction": share})
    size = settled.tokens_per_block
    return None if tokens is None else Between(tokens.low // size, tokens.high // size)


def free_of(settled: Settled, stage: Stage, blocks: int, share: Any) -> Within | None:
    """What was free, of which the cache takes a fraction in that many blocks.

    Raises:
        InvalidCase: a figure that is no number.
    """
    part, size = gib(share, "the fraction of what is free"), settled.tokens_per_block
    if part <= 0:
        return None
    up = releases.ROUNDS_UP.at(settled.release)
    least, most = ((blocks - 1) * size + 1, blocks * size + 1) if up else (blocks * size, (blocks + 1) * size)
    return Within(least * stage.token_bytes / part / GIB, most * stage.token_bytes / part / GIB)


def _blocks(settled: Settled, tokens: int) -> int:
    size = settled.tokens_per_block
    return ceil_div(tokens, size) if releases.ROUNDS_UP.at(settled.release) else tokens // size


def _interval(printed: Any) -> tuple[Fraction, Fraction]:
    """The bytes that a printed number of GiB may stand for, rounded or cut."""
    shown = read_printed(printed, "a printed size")
    unit = Fraction(1, 10 ** max(shown.decimals, 2))
    return (shown.value - unit / 2) * GIB, (shown.value + unit) * GIB
