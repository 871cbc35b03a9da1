"""The theory: the least that a model must keep, tensor by tensor. The `ideal` engine, and every engine's yardstick.

Each token's key and value elements once at the cache dtype; windows and chunks capped; MLA absorbed (rank + rope); the
indexer's keys; compressed entries; states in their own dtype, a short convolution's kernel - 1 columns; cross-attention
for the encoder's length; nothing for layers that share.

Sources: Vaswani et al. 2017 (keys and values per token), GQA 2305.13245, MLA 2405.04434 section 2.1,
Cross-Layer Attention 2405.12981 section 2.2, Mamba-2 2405.21060, gated DeltaNet 2412.06464.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import assert_never

from kvplan.domain.allocation import Per
from kvplan.domain.dtypes import DType, item_bytes, lookup, torch_name
from kvplan.domain.model import Cross, Index, Latent, Memory, Model, Recurrent, Shared, Softmax
from kvplan.domain.words import memory_words
from kvplan.engines.kernel.heads import split_heads
from kvplan.engines.kernel.retention import cross_tokens, kept_tokens
from kvplan.engines.kernel.states import state_shape
from kvplan.engines.kernel.tensors import At, Count, Piece


def theory(model: Model, cache: DType, tensor_parallel: int, at: At[Count]) -> Iterator[Piece[Count]]:
    """Every tensor of one device's share, one entry for each distinct memory.

    Args:
        cache: the dtype of keys and values.
        tensor_parallel: devices that split the KV heads.
    """
    for memories, layers in model.collapsed().items():
        for memory in memories:
            yield from memory_tensors(memory, layers, model, cache, tensor_parallel, at)


def memory_tensors(
    memory: Memory, layers: tuple[int, ...], model: Model, cache: DType, tensor_parallel: int, at: At[Count]
) -> Iterator[Piece[Count]]:
    """The tensors of one memory that all of `layers` have."""
    kind = memory_words(memory, model.attention_heads)

    def rows(name: str, heads: int, dim: int, tokens: Count, dtype: DType, per: Per = "token") -> Piece[Count]:
        row = dtype.row_bytes(heads, dim)
        size = tokens * (at.batch_size * row)
        as_bytes = dtype.packed or dtype.head_scale_bytes > 0
        return Piece(
            layers=layers,
            name=name,
            kind=kind,
            shape=(at.batch_size, tokens, row) if as_bytes else (at.batch_size, heads, tokens, dim),
            dtype="uint8" if as_bytes else dtype.torch,
            payload=size,
            padded=size,
            per=per,
        )

    match memory:
        case Softmax():
            heads, tokens = split_heads(memory.kv_heads, tensor_parallel), kept_tokens(memory.reach, at.seq_len)
            yield rows("keys" if memory.value_dim else "keys and values", heads, memory.key_dim, tokens, cache)
            if memory.value_dim:
                yield rows("values", heads, memory.value_dim, tokens, cache)
        case Latent():
            tokens = kept_tokens(memory.reach, at.seq_len)
            yield rows("latent", 1, memory.rank, tokens, cache)
            if memory.rope_dim:
                yield rows("rope keys", 1, memory.rope_dim, tokens, cache)
        case Index():
            dtype = lookup(memory.dtype) if memory.dtype else cache
            yield rows("index keys", memory.heads, memory.dim, kept_tokens(memory.reach, at.seq_len), dtype)
        case Cross():
            heads = split_heads(memory.kv_heads, tensor_parallel)
            tokens = at.seq_len * 0 + cross_tokens(memory, at.encoder_len)
            yield rows("cross keys", heads, memory.key_dim, tokens, cache, "encoder")
            yield rows("cross values", heads, memory.value_dim, tokens, cache, "encoder")
        case Recurrent():
            yield from _states(memory, layers, kind, model, tensor_parallel, at)
        case Shared():
            return
        case _:
            assert_never(memory)


def _states(
    memory: Recurrent, layers: tuple[int, ...], kind: str, model: Model, tensor_parallel: int, at: At[Count]
) -> Iterator[Piece[Count]]:
    for state in memory.states:
        shape: tuple[int, ...] = state_shape(state, tensor_parallel)
        dtype = state.dtype or model.dtype
        size = at.batch_size * (prod(shape) * item_bytes(dtype)) + at.seq_len * 0
        yield Piece(
            layers=layers,
            name=state.name,
            kind=kind,
            shape=(at.batch_size, *shape),
            dtype=torch_name(dtype),
            payload=size,
            padded=size,
            per="sequence",
        )
