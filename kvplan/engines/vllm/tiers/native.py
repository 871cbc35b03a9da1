"""The native connector (`OffloadingConnector`): chunks of blocks in one region of host memory, which all ranks share.

Source: `distributed/kv_transfer/kv_connector/v1/offloading/config.py:build_offloading_config`, `v1/kv_offload/cpu/spec.py`,
`v1/kv_offload/cpu/common.py:_kv_cache_size_tokens`; 0.33.0.
"""

from __future__ import annotations

from math import lcm
from typing import Final

from msgspec import Struct

from kvplan.domain.model import Model
from kvplan.engines.vllm.plan import Plan
from kvplan.engines.vllm.resolved import prefix_caching
from kvplan.engines.vllm.specs import ChunkedSpec, CrossSpec, FullSpec, Rows, SlidingSpec, Spec, StateSpec
from kvplan.errors import Refused
from kvplan.units import ceil_div

#: Bytes to which a chunk is rounded up: rows of the region begin at pages of the operating system.
_PAGE: Final = 4096


class ChunkOptions(Struct, frozen=True, kw_only=True):
    """What `kv_connector_extra_config` says beside the budget, and whether the ranks are processes of one node."""

    block_size: int | None = None  # tokens of a chunk
    blocks_per_chunk: int | None = None
    canonical_layout: bool = False
    one_node: bool = True  # the executor is `mp`: every rank maps the same region


class Chunks(Struct, frozen=True, kw_only=True):
    """How this connector lays a model's cache out in host memory."""

    block_bytes: int  # of a GPU block on one worker of the first stage
    blocks_per_chunk: int
    copies: int  # slices of a chunk, one a rank that stores
    replicated: bool  # every rank holds the same bytes, which are stored once
    chunk_bytes: int  # all ranks
    stage_chunk_bytes: tuple[int, ...]
    request_chunks: int  # of one request of `max_model_len` tokens
    max_model_len: int

    def chunks(self, budget_bytes: int) -> int:
        """Chunks that the scheduler hands out."""
        return budget_bytes // self.chunk_bytes if self.chunk_bytes else 0

    def stage_chunks(self, budget_bytes: int) -> list[int]:
        """Chunks that the workers of each stage make room for: by the bytes of their own blocks."""
        return [budget_bytes // size if size else 0 for size in self.stage_chunk_bytes]

    def tokens(self, budget_bytes: int) -> int:
        """What vLLM reports as `cpu_kv_cache_size_tokens`: tokens of requests as long as `max_model_len`."""
        return self.chunks(budget_bytes) * self.max_model_len // self.request_chunks if self.request_chunks else 0


def chunked(model: Model, plan: Plan, options: ChunkOptions, max_model_len: int) -> Chunks:
    """How a plan's blocks become chunks.

    Raises:
        Refused: in vLLM's words.
    """
    if any(isinstance(group.spec, CrossSpec) for group in plan.groups):
        raise Refused("AssertionError in get_sliding_window_size_in_chunks: assert isinstance(kv_cache_spec, FullAttentionSpec)")
    tokens = [block_tokens(plan, group.spec) for group in plan.groups]
    if not prefix_caching(model, plan.options, plan.version):
        _check_hashes(tokens)
    per_chunk = _blocks_per_chunk(tokens, options)
    parallel = plan.options
    world = parallel.tensor_parallel_size * parallel.pipeline_parallel_size * parallel.prefill_context_parallel_size
    once = _stored_once(plan, options)
    copies = 1 if once else world
    sizes = tuple(ceil_div(size * copies * per_chunk, _PAGE) * _PAGE for size in plan.block_bytes)
    return Chunks(
        block_bytes=plan.block_bytes[0],
        blocks_per_chunk=per_chunk,
        copies=copies,
        replicated=once,
        chunk_bytes=sizes[0],
        stage_chunk_bytes=sizes,
        request_chunks=request_chunks(plan, per_chunk, max_model_len),
        max_model_len=max_model_len,
    )


def block_tokens(plan: Plan, spec: Spec) -> int:
    """Tokens of one block of a group: more where ranks of decode context parallelism share them out."""
    return spec.block_size * (1 if isinstance(spec, StateSpec) else plan.scheduling.context_parallel)


def request_chunks(plan: Plan, per_chunk: int, tokens: int) -> int:
    """Chunks of all groups that a request of `tokens` tokens leaves behind."""
    return sum(group_chunks(plan, group.spec, per_chunk, tokens) for group in plan.groups)


def group_chunks(plan: Plan, spec: Spec, per_chunk: int, tokens: int) -> int:
    """Chunks of one group: all, or what its reach needs of them."""
    size = block_tokens(plan, spec) * per_chunk
    kept = kept_chunks(spec, size)
    return ceil_div(tokens, size) if kept is None else min(ceil_div(tokens, size), kept)


def kept_chunks(spec: Spec, size: int) -> int | None:
    """Chunks of `size` tokens that a request's hit may need at most; None for all."""
    if isinstance(spec, SlidingSpec):
        return max(ceil_div(spec.reach, size), ceil_div(spec.reach - 1 + spec.lookahead, size))
    if isinstance(spec, ChunkedSpec):
        return ceil_div(spec.reach, size)
    return 1 if isinstance(spec, StateSpec) else None


def _check_hashes(tokens: list[int]) -> None:
    """Without prefix caching a hash covers the least that all groups' blocks divide, and blocks are found by hashes."""
    one = lcm(*tokens) if tokens else 1
    for size in tokens:
        if size % one:
            raise Refused(
                f"tokens_per_block={size} not divisible by tokens_per_hash={one}. Hybrid models (e.g. Mamba+Attention) need "
                "--enable-prefix-caching to align block sizes."
            )


def _blocks_per_chunk(tokens: list[int], options: ChunkOptions) -> int:
    if options.blocks_per_chunk is not None and options.block_size is not None:
        raise Refused("Specify only one of 'block_size' or 'blocks_per_chunk' in kv_connector_extra_config.")
    if options.blocks_per_chunk is not None:
        return options.blocks_per_chunk
    if options.block_size is None:
        return 1
    if len(set(tokens)) != 1:
        raise Refused(
            "If 'block_size' is specified in kv_connector_extra_config, there must be at least one KV cache group, "
            "and all groups must have the same block size."
        )
    size = tokens[0]
    if options.block_size % size:
        raise Refused(
            f"'block_size'={options.block_size} in kv_connector_extra_config must be a multiple of the GPU KV cache block size "
            f"({size} tokens). Use {ceil_div(options.block_size, size) * size} instead, or set 'blocks_per_chunk' to express the "
            "chunk size in blocks."
        )
    return options.block_size // size


def _stored_once(plan: Plan, options: ChunkOptions) -> bool:
    """Whether every rank holds the same bytes, latents and nothing else, which are then stored once.

    `canonical_layout` takes that layout for one rank too, where every latent is kept of every token.
    """
    specs = [held.spec for group in plan.groups for held in group.members]
    asked = plan.options
    apart = asked.pipeline_parallel_size * asked.prefill_context_parallel_size * asked.decode_context_parallel_size > 1
    if apart or not specs or not all(isinstance(spec, Rows) and spec.latent for spec in specs):
        return False
    several = asked.tensor_parallel_size > 1 and options.one_node
    return several or (options.canonical_layout and all(isinstance(spec, FullSpec) for spec in specs))
