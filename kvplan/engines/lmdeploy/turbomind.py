"""TurboMind's blocks, by reading its C++: one region for blocks, states and prefix objects.

Source: lmdeploy 1263d5cd (0.16.0 and later), `src/turbomind/kernels/attention/block.h`,
`models/llama/unified_attention_layer.cc`, `turbomind.cc:CreateEngine`, `lmdeploy/turbomind/supported_models.py`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.domain.model import Latent, Model, Recurrent, Softmax
from kvplan.domain.pool import Pool
from kvplan.engines.lmdeploy import models
from kvplan.engines.lmdeploy.about import ABOUT
from kvplan.engines.lmdeploy.layers import kv_words
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.errors import Refused
from kvplan.units import ceil_div

SOURCE: Final = "lmdeploy 1263d5cd, src/turbomind"
_SHARED_DIM: Final = 576  # elements: a latent that is key and value in one
_PARAM_BITS: Final = 16  # of a scale, and of a zero
#: Model types that TurboMind has a model for.
_TYPES: Final = frozenset(
    {
        "qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_5", "qwen3_5_moe", "intern_s2_preview",
        "interns2_mobius", "internvl", "internvl_chat", "interns1", "llama", "internlm2", "internlm3", "glm4_moe_lite", "gpt_oss",
        "mixtral",
    }
)  # fmt: skip


class LayerBlock(Struct, frozen=True, kw_only=True):
    """One layer's share of a block, on one rank."""

    head_data_bytes: int
    head_param_bytes: int
    heads: int
    planes: int  # keys and values, or both in one

    @property
    def bytes(self) -> int:
        """Bytes of the layer's share."""
        return self.heads * self.planes * (self.head_data_bytes + self.head_param_bytes)


def layer_block(head_dim: int, heads: int, tokens: int, policy: int) -> LayerBlock:
    """A layer's share of a block of `tokens` tokens for `heads` heads of one rank. Source: `block.h:Layout::layer_size`.

    Raises:
        Refused: a policy that TurboMind does not have.
    """
    if policy not in (0, 4, 8):
        raise Refused("invalid quant_policy for TurboMind, FP8 quantization is not supported")
    bits = policy or _PARAM_BITS
    return LayerBlock(
        head_data_bytes=tokens * (bits * head_dim // 8),
        head_param_bytes=tokens * (_PARAM_BITS * 2 // 8) if policy else 0,
        heads=heads,
        planes=1 if head_dim == _SHARED_DIM else 2,
    )


def refuse(model: Model) -> None:
    """Raise for a model that TurboMind does not have.

    Raises:
        Refused: it does not.
    """
    if not models.described_by_hand(model) and not models.types(model) & _TYPES:
        raise Refused(f"TurboMind has no model for {model.model_type[:60]}", see="use backend=pytorch")


def blocks_of(model: Model, options: LmdeployOptions) -> tuple[tuple[int, LayerBlock], ...]:
    """Each attention layer's share of a block; heads are copied where there are fewer than ranks.

    Raises:
        Refused: a model, or a policy, that TurboMind does not have.
    """
    refuse(model)
    found: list[tuple[int, LayerBlock]] = []
    for layer in model.layers:
        for memory in layer.memories:
            if isinstance(memory, Latent):
                heads, dim = 1, memory.rank + memory.rope_dim
            elif isinstance(memory, Recurrent):
                raise Refused("TurboMind's states of recurrent layers were not studied", see="use backend=pytorch")
            elif isinstance(memory, Softmax):
                if max(memory.kv_heads, options.tp) % min(memory.kv_heads, options.tp):
                    raise Refused(f"{memory.kv_heads} key and value heads cannot be divided by tp {options.tp}")
                heads, dim = max(1, memory.kv_heads // options.tp), memory.key_dim
            else:
                continue
            found.append((layer.index, layer_block(dim, heads, options.cache_block_seq_len, options.policy)))
    if not found:
        raise Refused(f"{model.name} has no layer with keys and values")
    return tuple(found)


def kv_dtype(model: Model, options: LmdeployOptions) -> str:
    """The dtype of keys and values, scales included."""
    return kv_words(options.policy, models.dtype(model, options.dtype, options.computes_bf16))


def served(block_bytes: int, options: LmdeployOptions, trained: int | None, free_bytes: int) -> Pool:
    """Blocks that the region would hold if nothing else lay in it.

    Args:
        trained: the longest request that the model takes, where it is known.
    """
    count = region_bytes(options, free_bytes) // block_bytes
    tokens = count * options.cache_block_seq_len
    longest = min(options.session_len or trained or tokens, tokens)
    one = ceil_div(longest, options.cache_block_seq_len)
    return Pool(
        engine=ABOUT.name,
        budget_bytes=free_bytes,
        num_blocks=count,
        block_bytes=block_bytes,
        num_tokens=tokens,
        max_model_len=longest,
        concurrency=min(float(options.max_batch_size or options.default_batch), count / one) if one else 0.0,
        groups=(
            {
                "part": f"blocks of {options.cache_block_seq_len:,} tokens",
                "count": count,
                "each_bytes": block_bytes,
                "bytes": count * block_bytes,
            },
        ),
        refused="" if count else "No enough gpu memory for kv cache.",
        log=(log_line(options, free_bytes),),
    )


def region_bytes(options: LmdeployOptions, free_bytes: int) -> int:
    """The region that blocks, state checkpoints and prefix objects share, of what is free once the weights are loaded."""
    return int(float(free_bytes) * options.cache_max_entry_count)


def log_line(options: LmdeployOptions, free_bytes: int) -> str:
    """The line that TurboMind prints; its MB are 2**20 bytes."""
    size = region_bytes(options, free_bytes) / 1048576
    ratio = options.cache_max_entry_count
    return f"Object cache budget: {size:.2f} MB from free {free_bytes / 1048576:.2f} MB and ratio {ratio:.3f}"
