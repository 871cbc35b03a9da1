"""LMCache under vLLM: chunks of tokens, in a server of its own for all ranks, or inside each worker.

Source: lmcache 0.5.6 `v1/kv_layer_groups.py:KVLayerGroupsManager`, `v1/memory_management.py:AddressManager`,
`v1/distributed/memory_manager/l1_memory_manager.py`, `integration/vllm/kv_cache_group_edits.py`; vllm 0.33.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.model import Latent, Model, Recurrent
from kvplan.engines.vllm.dtypes import FP8, SMALLEST_BLOCK, softmax_kernel_block
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.groups import CacheGroup
from kvplan.engines.vllm.layers import compressed
from kvplan.engines.vllm.plan import Plan
from kvplan.engines.vllm.resolved import state_mode
from kvplan.engines.vllm.specs import CrossSpec, Held, Rows, SlidingSpec, StateSpec
from kvplan.engines.vllm.tiers.native import block_tokens
from kvplan.errors import Refused
from kvplan.units import GIB, MIB, ceil_div

CHUNK_TOKENS: Final = 256
LOCAL_CPU_GIB: Final = 5.0  # max_local_cpu_size where nobody says
EVICTS_ABOVE: Final = 0.8  # of the pool: --eviction-trigger-watermark
_PAGE: Final = 4096  # bytes to which an object is rounded up
_GROWTH: Final = 64 * MIB  # by which a pool that grows as it is used ends on a multiple
_VECTORS: Final = (16, 8, 4, 2)  # bytes that a copy of a state's row moves at once


class Objects(Struct, frozen=True, kw_only=True):
    """What one chunk of tokens is in LMCache's memory."""

    chunk_tokens: int
    object_bytes: tuple[int, ...]  # one rank's objects of a chunk, not rounded
    pieces: int  # ranks whose objects a chunk has: in the server; in the worker, ranks that store

    @property
    def chunk_bytes(self) -> int:
        """One rank's bytes of a chunk."""
        return sum(self.object_bytes)

    @property
    def allocated_bytes(self) -> int:
        """The same as it is allocated."""
        return sum(ceil_div(size, _PAGE) * _PAGE for size in self.object_bytes)

    def objects(self, capacity: int) -> int:
        """Chunks of one rank in `capacity` bytes."""
        return capacity // self.allocated_bytes if self.allocated_bytes else 0


def server_bytes(size_gib: float, *, lazy: bool = True) -> int:
    """Bytes of the server's pool: `--l1-size-gb` are GiB; a pool that grows lazily ends on whole steps."""
    size = int(size_gib * GIB)
    return ceil_div(size, _GROWTH) * _GROWTH if lazy else size


def server_objects(model: Model, plan: Plan, chunk_tokens: int = CHUNK_TOKENS, *, separate: bool = False) -> Objects:
    """What the server (`LMCacheMPConnector`) keeps of a chunk.

    Args:
        model: as vLLM reads it.
        plan: vLLM's.
        chunk_tokens: `--chunk-size`.
        separate: `--separate-object-groups`: an object for each window and kind.

    Raises:
        Refused: in LMCache's words.
    """
    _check_groups(model, plan)
    for number, group in enumerate(plan.groups):
        size = block_tokens(plan, group.spec)
        if chunk_tokens % size:
            words = f"lmcache_tokens_per_chunk {chunk_tokens} must be a multiple of tokens_per_block {size}"
            raise Refused(f"group {number}: {words}")
        window = group.spec.reach if isinstance(group.spec, SlidingSpec) else chunk_tokens
        if window < chunk_tokens and window % size:
            words = f"sliding window {window} under a chunk must be a multiple of tokens_per_block {size}"
            raise Refused(f"group {number}: {words}")
    sizes: dict[object, int] = {}
    for group in plan.groups:
        key = _alike(group) if separate else None
        sizes[key] = sizes.get(key, 0) + sum(_kept_bytes(plan, group, held, chunk_tokens) for held in group.members)
    asked = plan.options
    beside = asked.pipeline_parallel_size * asked.prefill_context_parallel_size
    pieces = beside * (asked.decode_context_parallel_size if mla_only(model) else asked.tensor_parallel_size)
    return Objects(chunk_tokens=chunk_tokens, object_bytes=tuple(sizes.values()), pieces=pieces)


def worker_objects(engine: Vllm, model: Model, chunk_tokens: int = CHUNK_TOKENS) -> Objects:
    """What each worker (`LMCacheConnectorV1`) keeps of a chunk: vLLM's hybrid manager goes off, every layer is stored in full.

    Raises:
        Refused: in vLLM's words.
    """
    on = Vllm(replace(engine.options, disable_hybrid_kv_cache_manager=True), engine.version).on(model)
    size = sum(_whole_bytes(held, chunk_tokens) for group in on.plan.groups for held in group.members)
    once = any(isinstance(memory, Latent) for memories in on.read.collapsed() for memory in memories)
    asked = on.plan.options
    ranks = asked.tensor_parallel_size * asked.pipeline_parallel_size * asked.prefill_context_parallel_size
    return Objects(chunk_tokens=chunk_tokens, object_bytes=(size,), pieces=1 if once else ranks)


def mla_only(model: Model) -> bool:
    """Whether every rank of tensor parallelism holds the same: latents, and nothing else."""
    memories = [memory for memories in model.collapsed() for memory in memories]
    states = any(isinstance(memory, Recurrent) for memory in memories)
    return not states and (any(isinstance(m, Latent) for m in memories) or compressed(model))


def _alike(group: CacheGroup) -> tuple[str, int]:
    spec = group.spec
    return ("state" if isinstance(spec, StateSpec) else "rows", spec.reach if isinstance(spec, SlidingSpec) else 0)


def _check_groups(model: Model, plan: Plan) -> None:
    """Source: `integration/vllm/kv_cache_group_edits.py`."""
    faults = list(_faults(model, plan))
    if faults:
        raise Refused(f"LMCache cannot serve this model's KV cache groups: {'; '.join(faults)}.")


def _faults(model: Model, plan: Plan) -> Iterator[str]:
    mode = state_mode(model, plan.options, plan.version)
    for number, group in enumerate(plan.groups):
        if isinstance(group.spec, CrossSpec):
            yield f"group {number}: CrossAttentionSpec"
        if isinstance(group.spec, StateSpec) and mode == "none":
            words = "MambaSpec with mamba_cache_mode='none' (only 'align' and 'all' keep reusable state snapshots)"
            yield f"group {number}: {words}"


def _kept_bytes(plan: Plan, group: CacheGroup, held: Held, chunk_tokens: int) -> int:
    """Bytes that one cache keeps of a chunk in the server."""
    spec = held.spec
    if isinstance(spec, StateSpec):
        return spec.block_size * _state_row(spec)
    tokens = min(chunk_tokens, spec.reach) if isinstance(spec, SlidingSpec) else chunk_tokens
    tokens //= plan.scheduling.context_parallel
    return tokens // spec.tokens_per_entry // _taken_for_compressed(plan, group, spec) * spec.entry_bytes


def _state_row(spec: StateSpec) -> int:
    """Bytes of a row: a state's page as rows, one a token of a block, wide enough for it and easy to copy."""
    row = ceil_div(spec.state_bytes, spec.block_size)
    for step in _VECTORS:
        wide = ceil_div(row, step) * step
        if not spec.page_bytes % step and wide * spec.block_size <= spec.page_bytes:
            return wide
    return row


def _taken_for_compressed(plan: Plan, group: CacheGroup, spec: Rows) -> int:
    """How many times too few rows are stored: where the attention kernel's pages are shorter than vLLM's blocks, LMCache takes
    the rest of a block for tokens that one row stands for.
    """
    width = max((part for part in spec.content[1:3] if isinstance(part, int)), default=0)
    if spec.latent or plan.cache_dtype not in FP8 or spec.content[-1] not in FP8:
        return 1
    kernel = softmax_kernel_block(width, plan.cache_dtype, plan.options.compute_capability)
    return 1 if kernel == SMALLEST_BLOCK else max(1, group.spec.block_size // kernel)


def _whole_bytes(held: Held, chunk_tokens: int) -> int:
    """Bytes that one cache keeps of a chunk in the worker: of a state, one for every token."""
    spec = held.spec
    if isinstance(spec, StateSpec):
        return chunk_tokens * spec.state_bytes
    return chunk_tokens // spec.tokens_per_entry * spec.entry_bytes
