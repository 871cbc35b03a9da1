"""The first manager's pools: tokens of a share of free memory, or a pool for each window.

Source: TensorRT-LLM 1.4.0rc4 `_torch/pyexecutor/_util.py:KvCacheCreator`, `resource_manager.py:KVCacheManager`,
`mamba_cache_manager.py:CppMambaHybridCacheManager`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.pool import Pool
from kvplan.engines.kernel.tensors import Count, at_least, at_most, whole_blocks
from kvplan.engines.tensorrt_llm import releases
from kvplan.engines.tensorrt_llm.layers import Kept, Stage
from kvplan.engines.tensorrt_llm.settle import Settled
from kvplan.errors import Refused
from kvplan.units import ceil_div

NO_BLOCKS: Final = "Impossible to fit in any sequence in kvCache"
_EXTRA: Final = 1  # block of a window beside those that it needs: kSWAExtraBlock


class Part(Struct, frozen=True, kw_only=True):
    """One pool: its blocks, of which a request takes some for each of `windows` (None: every token).

    `state`: slots of sequences, `cross`: an encoder's output.
    """

    name: str
    blocks: int
    block_bytes: int
    windows: tuple[int | None, ...] = (None,)
    state: bool = False
    cross: bool = False

    @property
    def bytes(self) -> int:
        """Of all its blocks."""
        return self.blocks * self.block_bytes

    def needed(self, settled: Settled, tokens: int, sequences: int, encoder: int) -> int:
        """Blocks that so many requests of so many tokens take."""
        if self.cross:
            return ceil_div(encoder, settled.tokens_per_block) * sequences
        found = sum(held_blocks(settled, window, tokens) for window in self.windows) * sequences
        return found + settled.slots(sequences) * self.state


class TrtllmPool(Pool, frozen=True, kw_only=True):
    """Pools of blocks, one for each window, and slots of states. `short`: no request of `max_seq_len` tokens has room."""

    parts: tuple[Part, ...] = ()
    reserved_bytes: int = 0
    short: bool = False

    @property
    def allocated_bytes(self) -> int:
        """What the pools take."""
        return self.reserved_bytes

    @property
    def usable_bytes(self) -> int:
        """What requests can hold at once; 0 when the engine refuses to start, or cuts every long request short."""
        return 0 if self.refused or self.short else sum(part.bytes for part in self.parts)


def held_blocks(settled: Settled, window: int | None, tokens: Count) -> Count:
    """Blocks of one request in the pool of a window."""
    size = settled.tokens_per_block
    blocks = whole_blocks(tokens, size)
    if window is None:
        return blocks
    if settled.second:
        return blocks - at_least(tokens - window, 0) // size
    return at_most(blocks, ceil_div(window, size) + _EXTRA)


def budget(settled: Settled, free_bytes: int) -> int:
    """The bytes of the cache: a share of what is free, and no more than was asked."""
    found = int(free_bytes * settled.options.kv_cache_free_gpu_memory_fraction)
    most = settled.options.max_gpu_total_bytes
    return min(found, most) if most else found


def token_blocks(settled: Settled, stage: Stage, amount: int) -> int:
    """Blocks of the one pool that `amount` bytes become."""
    tokens = max(0, amount - intercept(settled, stage)) // slope(settled, stage) if slope(settled, stage) else 0
    if settled.options.max_tokens is not None:
        tokens = min(tokens, settled.options.max_tokens)
    size = settled.tokens_per_block
    return ceil_div(tokens, size) if releases.ROUNDS_UP.at(settled.release) else tokens // size


def slope(settled: Settled, stage: Stage) -> int:
    """Bytes that a token takes, snapshots of states included."""
    found = stage.token_bytes
    interval = settled.options.periodic_snapshot_interval
    if stage.states and interval and settled.options.enable_block_reuse:
        found += ceil_div(stage.state_bytes, interval)
        if interval % settled.tokens_per_block:
            found += ceil_div(settled.tokens_per_block * stage.token_bytes, interval)
    return found


def intercept(settled: Settled, stage: Stage) -> int:
    """Bytes that no token decides: the states of all sequences."""
    return settled.slots(settled.options.sequences) * stage.state_bytes


def first_pool(settled: Settled, free_bytes: int) -> tuple[tuple[Part, ...], int, str]:
    """The pools of the fullest rank, the tokens that a request may have at most, and the engine's refusal."""
    amount = budget(settled, free_bytes)
    stage = settled.worst
    if stage.cross_bytes:
        return _with_encoder(settled, stage, amount)
    if settled.windowed:
        return window_pools(settled, stage, amount)
    blocks = min(token_blocks(settled, each, amount) for each in settled.stages if each.token_bytes)
    (window,) = settled.windows
    size = settled.tokens_per_block
    parts = [Part(name=_named(window, size), blocks=blocks, block_bytes=size * stage.token_bytes, windows=(window,))]
    if stage.states:
        slots = settled.slots(settled.options.sequences)
        parts.append(Part(name="slots of states", blocks=slots, block_bytes=stage.state_bytes, windows=(), state=True))
    return tuple(parts), blocks * size, "" if blocks else NO_BLOCKS


def _named(window: int | None, size: int) -> str:
    return f"blocks of {size:,} tokens" + ("" if window is None else f", window {window:,}")


def _with_encoder(settled: Settled, stage: Stage, amount: int) -> tuple[tuple[Part, ...], int, str]:
    """A part of the budget for an encoder's output, the rest for the decoder's tokens."""
    size = settled.tokens_per_block
    beside = int(amount * (settled.options.cross_kv_cache_fraction or 0.5))
    blocks = (amount - beside) // stage.token_bytes // size if stage.token_bytes else 0
    other = beside // stage.cross_bytes // size
    parts = (
        Part(name=_named(None, size), blocks=blocks, block_bytes=size * stage.token_bytes),
        Part(name="blocks of an encoder's output", blocks=other, block_bytes=size * stage.cross_bytes, cross=True),
    )
    return parts, blocks * size, "" if blocks and other else NO_BLOCKS


def window_pools(settled: Settled, stage: Stage, amount: int) -> tuple[tuple[Part, ...], int, str]:
    """A pool for each window: equal shares of the bytes, or those of TRTLLM_WINDOW_SIZE_SHARES, scales not counted.

    Raises:
        Refused: as many shares as windows are needed.
    """
    by_window = of_windows(stage.kept)
    windows = list(by_window)
    shares = settled.options.shares or tuple(1 / len(windows) for _ in windows)
    if len(shares) != len(windows):
        raise Refused(
            f"Number of shares in TRTLLM_WINDOW_SIZE_SHARES ({len(shares)}) must match number of window sizes ({len(windows)})"
        )
    lowered = fitting_windows({_size(window, settled): kv_bytes(kept) for window, kept in by_window.items()}, amount)
    size, parts = settled.tokens_per_block, []
    for window, share, told in zip(windows, shares, lowered, strict=True):
        kept = by_window[window]
        blocks = int(amount * share / kv_bytes(kept) // size)
        limit = window if window is None and told >= _size(window, settled) else told
        each = size * sum(one.token_bytes for one in kept)
        parts.append(Part(name=_named(limit, size), blocks=blocks, block_bytes=each, windows=(limit,)))
    longest = parts[-1].blocks * size if parts[-1].windows == (None,) else lowered[-1]
    return tuple(parts), longest, "" if all(part.blocks for part in parts) else NO_BLOCKS


def kv_bytes(kept: Iterable[Kept]) -> int:
    """Bytes that a token takes in such layers, without block scales."""
    return sum(one.kv_bytes + one.index_bytes for one in kept)


def of_windows(kept: Iterable[Kept]) -> dict[int | None, list[Kept]]:
    """Layers by their window, the smallest first."""
    found: dict[int | None, list[Kept]] = {}
    for one in sorted(kept, key=lambda one: (one.window is None, one.window or 0)):
        if not one.cross:
            found.setdefault(one.window, []).append(one)
    return found


def _size(window: int | None, settled: Settled) -> int:
    return window if window is not None else settled.longest or 2**40


def fitting_windows(bytes_of: dict[int, int], amount: int) -> list[int]:
    """The windows after those that one request cannot fill are lowered, from the smallest to the largest.

    What lies between two windows is shared by the layers whose windows are larger.
    Source: `resource_manager.py:adjust_window_sizes_for_vswa`.
    """
    windows = sorted(bytes_of)
    if sum(window * bytes_of[window] for window in windows) < amount:
        return windows
    left, before, reached, found = amount, 0, 0, []
    for position, window in enumerate(windows):
        each = sum(bytes_of[later] for later in windows[position:])
        step = min(left // each, window - before)
        left -= step * each
        reached += step
        before = window
        found.append(reached)
    return found


def groups(parts: Iterable[Part], left: int) -> tuple[dict[str, Any], ...]:
    """The parts as tables show them, and what is left."""
    rows: list[dict[str, Any]] = [
        {"part": part.name, "count": part.blocks, "each_bytes": part.block_bytes, "bytes": part.bytes} for part in parts
    ]
    rows.append({"part": "left free", "count": 1, "each_bytes": left, "bytes": left})
    return tuple(rows)
