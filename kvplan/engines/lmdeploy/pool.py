"""From free memory to blocks: states first, then what a pass of prefill may need, then a share of the rest.

Source: lmdeploy 0.18.0 `pytorch/engine/executor/base.py`: `_reserve_state_cache_mem`, `_get_runtime_size`,
`_get_num_gpu_blocks`, `_update_num_gpu_blocks`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.pool import Pool
from kvplan.engines.kernel.tensors import Count, at_most, whole_blocks
from kvplan.engines.lmdeploy.about import ABOUT
from kvplan.engines.lmdeploy.log import adjusted, fewer_tokens
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.engines.lmdeploy.plan import Plan
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


def slots(options: LmdeployOptions, batch_size: Count) -> Count:
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


def runtime_bytes(plan: Plan, options: LmdeployOptions, batch: int, tokens: int | None = None) -> int:
    """What a pass of prefill of `tokens` tokens may need, `max_prefill_token_num` where not said."""
    tokens = options.max_prefill_token_num if tokens is None else tokens
    workspace = options.dsa_indexer_max_logits_mb * MIB if plan.sparse else 0
    return (tokens + batch * 2) * plan.vocab_size * 2 + workspace


def request_blocks(plan: Plan, options: LmdeployOptions, tokens: Count) -> Count:
    """Blocks that one request of `tokens` tokens holds at most.

    Where every layer slides alike, blocks that the window has left behind are given back between passes, so a request holds its
    window's and those of a pass of prefill. Source: `paging/block_manager/window_block_manager.py`.
    """
    blocks = whole_blocks(tokens, plan.block_size)
    if plan.window_size <= 0:
        return blocks
    return at_most(blocks, whole_blocks(plan.window_size + options.max_prefill_token_num, plan.block_size) + 1)


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
    while tokens > 0:
        runtime = runtime_bytes(plan, options, batch, tokens)
        if _blocks(free - runtime, options, plan.block_bytes) >= _ENOUGH:
            break
        tokens //= 2
    return runtime, tokens


class ServedPool(Pool, frozen=True, kw_only=True):
    """Blocks, and slots of states beside them, which are not blocks. `short`: no request of `session_len` tokens has room."""

    state_bytes: int = 0
    short: bool = False

    @property
    def allocated_bytes(self) -> int:
        """What blocks and slots take."""
        return self.num_blocks * self.block_bytes + self.state_bytes

    @property
    def usable_bytes(self) -> int:
        """What requests can hold at once; 0 when the engine refuses to start, or cuts every long request short."""
        if self.refused or self.short:
            return 0
        return max(0, self.num_blocks - self.null_blocks) * self.block_bytes + self.state_bytes


#: One block is for padding: CacheConfig.num_reserved_gpu_blocks.
NULL_BLOCKS: Final = 1


def served(plan: Plan, options: LmdeployOptions, trained: int | None, free_bytes: int) -> ServedPool:
    """What a server makes of `free_bytes` on each rank, once its weights are loaded.

    Args:
        trained: the longest request that the model takes, where it is known.

    Raises:
        Refused: the vocabulary is not known, so neither is what is set aside for prefill.
    """
    if not plan.vocab_size:
        raise Refused(
            "nothing says how many entries the vocabulary has, and LMDeploy sets memory aside by them",
            see="give the model's config.json, or estimate a workload instead",
        )
    empty = ServedPool(
        engine=ABOUT.name, budget_bytes=free_bytes, num_blocks=0, block_bytes=plan.block_bytes, num_tokens=0, max_model_len=0,
        concurrency=0.0, null_blocks=NULL_BLOCKS,
    )  # fmt: skip
    try:
        found = reserve(plan, options, free_bytes)
    except Refused as problem:
        return replace(empty, refused=problem.reason)
    longest, short = _longest(plan, options, trained, found.num_blocks)
    one = request_blocks(plan, options, longest)
    lines = (*adjusted(plan, options),)
    if found.max_prefill_token_num != options.max_prefill_token_num:
        lines += (fewer_tokens(found.max_prefill_token_num),)
    return replace(
        empty,
        num_blocks=found.num_blocks,
        num_tokens=found.num_blocks * plan.block_size,
        max_model_len=longest,
        concurrency=min(float(found.max_batch_size), (found.num_blocks - NULL_BLOCKS) / one) if one else 0.0,
        state_bytes=found.state_bytes,
        short=short,
        groups=_parts(plan, found, free_bytes),
        log=lines,
    )


def _longest(plan: Plan, options: LmdeployOptions, trained: int | None, blocks: int) -> tuple[int, bool]:
    """The longest request, and whether that is less than what was asked. Source: `engine/engine.py:_get_max_session_len`."""
    room = (blocks - NULL_BLOCKS) * plan.block_size
    slides = 0 < plan.window_size <= room
    asked = options.session_len or trained
    longest = asked if slides and asked else max(0, room - plan.block_size)
    if asked is None:
        return longest, False
    return min(asked, longest), options.session_len is not None and longest < options.session_len


def _parts(plan: Plan, found: Reserved, free_bytes: int) -> tuple[dict[str, int | str], ...]:
    """Where the free memory goes."""
    kv = found.num_blocks * plan.block_bytes
    left = free_bytes - kv - found.state_bytes - found.runtime_bytes
    return (
        {
            "part": f"slots of states for {found.max_batch_size:,} sequences",
            "count": found.num_state_caches,
            "each_bytes": plan.state_slot_bytes,
            "bytes": found.state_bytes,
        },
        {"part": "set aside for prefill", "count": 1, "each_bytes": found.runtime_bytes, "bytes": found.runtime_bytes},
        {
            "part": f"blocks of {plan.block_size:,} tokens",
            "count": found.num_blocks,
            "each_bytes": plan.block_bytes,
            "bytes": kv,
        },
        {"part": "beyond cache_max_entry_count", "count": 1, "each_bytes": left, "bytes": left},
    )
