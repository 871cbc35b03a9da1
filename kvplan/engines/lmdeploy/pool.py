"""From free memory to blocks: states first, then what a pass of prefill may need, then a share of the rest.

Source: lmdeploy 0.18.0 `pytorch/engine/executor/base.py`: `_reserve_state_cache_mem`, `_get_runtime_size`,
`_get_num_gpu_blocks`, `_update_num_gpu_blocks`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.engines.lmdeploy.layers import Plan
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.errors import Refused
from kvplan.units import MIB

_TOO_FEW: Final = 2  # blocks, or fewer
_ENOUGH: Final = 16  # blocks, before fewer tokens of prefill are tried
_SPARE_SLOTS: Final = 2  # one for the system, one for rolling prefill
_NO_BLOCKS: Final = "No enough gpu memory for kv cache."


class Reserved(Struct, frozen=True, kw_only=True):
    """What the executor makes of the memory that is free on each rank once the weights are loaded."""

    num_blocks: int
    max_batch_size: int
    max_prefill_token_num: int
    runtime_bytes: int
    num_state_caches: int
    state_bytes: int
    prefix_caching: bool


def jobs(options: LmdeployOptions) -> int:
    """Sequences at once."""
    return options.default_batch if options.max_batch_size is None else options.max_batch_size


def slots(options: LmdeployOptions, batch_size: int) -> int:
    """Slots of states for so many sequences at once."""
    return batch_size + _SPARE_SLOTS + options.prefix_cache_state_budget


def reserve(plan: Plan, options: LmdeployOptions, free_bytes: int) -> Reserved:
    """Blocks of `free_bytes` on each rank.

    Raises:
        Refused: what the engine says where memory does not do.
    """
    batch, size = jobs(options), plan.block_bytes
    count = slots(options, batch) if plan.states else 0
    states = count * plan.state_slot_bytes
    free = free_bytes - states
    if free <= 0:
        raise Refused("No enough gpu memory for state cache. Please reduce max_batch_size.")
    if size <= 0:
        raise Refused(_NO_BLOCKS)
    runtime, prefill = _runtime(plan, options, free, batch)
    if prefill <= 0 < options.max_prefill_token_num:
        raise Refused("No enough gpu memory for runtime.")
    blocks = options.num_gpu_blocks or _blocks(free - runtime, options, size)
    return Reserved(
        num_blocks=blocks,
        max_batch_size=batch,
        max_prefill_token_num=prefill,
        runtime_bytes=runtime,
        num_state_caches=count,
        state_bytes=states,
        prefix_caching=options.enable_prefix_caching and plan.window_size <= 0,
    )


def _blocks(free: int, options: LmdeployOptions, size: int) -> int:
    """Blocks of a share of `free` bytes, computed in floats as the engine does."""
    blocks = int(free * options.cache_max_entry_count) // size
    if blocks <= _TOO_FEW:
        raise Refused(_NO_BLOCKS)
    return blocks


def _runtime(plan: Plan, options: LmdeployOptions, free: int, batch: int) -> tuple[int, int]:
    """What a pass of prefill may need, halved until 16 blocks remain, and the tokens of such a pass.

    Two blocks or fewer are refused at once, so halving rescues 3 to 15 of them.
    """
    tokens, runtime = options.max_prefill_token_num, 0
    workspace = options.dsa_indexer_max_logits_mb * MIB if plan.sparse else 0
    while tokens > 0:
        runtime = (tokens + batch * 2) * plan.vocab_size * 2 + workspace
        if _blocks(free - runtime, options, plan.block_bytes) >= _ENOUGH:
            break
        tokens //= 2
    return runtime, tokens
