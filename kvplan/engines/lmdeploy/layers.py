"""From a model to one block of its pool, and to one slot of its states.

Every layer has the same K/V shape; a block holds the keys and values of `block_size` tokens in all of them, each tensor of a
kernel block rounded up to 256 bytes. Beside it lie, unrounded, the rows of operators that ask for their own: an indexer's
keys, DeepSeek-V4's entries. States have slots of their own. Everything is for one rank.

Source: lmdeploy 0.18.0 `pytorch/engine/cache_engine/{schema,layout,plan,state}.py`, `pytorch/configurations/*.py`,
`pytorch/engine/executor/base.py:_adjust_block_size`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.domain.model import Compressed, Index, Latent, Model, Recurrent, Softmax, State
from kvplan.engines.lmdeploy import models
from kvplan.engines.lmdeploy.deepseek_v4 import deepseek_v4
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.engines.lmdeploy.plan import INDEX_SCALE, BlockTensor, Plan, StateTensor
from kvplan.errors import NoStart, Refused

_FLASH_BLOCK: Final = 64  # tokens
_WIDE: Final = 512  # elements: from this head on, blocks are narrow
_NARROW_BLOCK: Final = 32  # tokens
_FP8_MLA_ROW: Final = 656  # bytes: fp8_ds_mla
#: Elements a stored one stands for, for (keys, values), and how many scales and zeros a head has.
_FLOATS: Final = {16: "float8_e4m3fn", 17: "float8_e5m2"}
_PACKED: Final = {8: (1, 1, 2, 2), 4: (2, 2, 2, 2), 42: (2, 4, 2, 1)}


class _Heads(Struct, frozen=True, kw_only=True):
    """The one shape of keys and values that all layers get."""

    total: int
    k_dim: int
    v_dim: int
    layers: tuple[int, ...]


def make_plan(model: Model, options: LmdeployOptions) -> Plan:
    """The plan of the PyTorch engine.

    Raises:
        Refused: what the engine says instead of starting.
    """
    kernel, policy = options.kernel_block, options.policy
    models.refuse(model)
    _refuse_drafter(model, options)
    dtype = models.dtype(model, options.dtype, options.computes_bf16)
    if "deepseek_v4" in models.types(model):
        return deepseek_v4(model, options, dtype)
    heads = _heads(model, options)
    _divisible(model, heads.total, options.tp)
    mla, sparse = heads.v_dim == 0, bool(models.types(model) & models.SPARSE_MLA)
    flash = mla and options.uses_flash_mla
    if sparse:
        if not options.uses_flash_mla:
            raise Refused("DeepSeek-V3.2 requires flash_mla to be available.")
        if policy not in (0, 16):
            raise Refused(f"Sparse MLA does not support quant_policy={policy}. Use none/0 for BF16 or fp8/16 for FP8.")
    block, kernel = _block_size(options.block_size, kernel, flash=flash, wide=heads.k_dim >= _WIDE)
    tensors = (
        _sparse_tensors(model, heads, kernel, block, policy) if sparse else _tensors(heads, kernel, policy, dtype, options.tp)
    )
    return Plan(
        block_size=block,
        kernel_block_size=kernel,
        tensors=tensors,
        states=_states(model, options),
        dtype=dtype,
        kv_dtype=kv_words(policy, "bfloat16" if sparse and not policy else dtype),
        num_layers=len(heads.layers),
        kv_heads_total=heads.total,
        k_head_dim=heads.k_dim,
        v_head_dim=heads.v_dim,
        window_size=models.window(model),
        vocab_size=models.vocabulary(model),
        use_flash_mla=flash,
        sparse=sparse,
    )


def kv_words(policy: int, dtype: str) -> str:
    """A quant policy as kvplan calls such a cache; int8 and int4 keep 4 bytes a token and head beside their elements."""
    words = {16: "fp8_e4m3", 17: "fp8_e5m2", 8: "int8_per_token_head", 4: "int4_per_token_head", 42: "turbo_quant"}
    return words.get(policy, dtype)


def _block_size(block: int, kernel: int, *, flash: bool, wide: bool) -> tuple[int, int]:
    """Block sizes after the executor's adjustment. Source: `executor/base.py:_adjust_block_size`."""
    if flash:
        if block != _FLASH_BLOCK:
            raise Refused("Please set block_size to 64 for flash_mla.")
        return block, kernel
    return (_NARROW_BLOCK, _NARROW_BLOCK) if wide and block > _NARROW_BLOCK else (block, kernel)


def _heads(model: Model, options: LmdeployOptions) -> _Heads:
    """The shape that the architecture's builder reads, from the first layer with keys and values."""
    found = next((m for layer in model.layers for m in layer.memories if isinstance(m, Softmax | Latent)), None)
    everywhere = tuple(layer.index for layer in model.layers)
    if found is None:
        raise Refused(f"{model.name} has no layer with keys and values, and LMDeploy has no model for it")
    layers = _kv_layers(model) if models.types(model) & (models.GATED_DELTA | {"qwen3_next"}) else everywhere
    if isinstance(found, Latent):
        if models.expands_latents(model):
            total = _with_copies(models.expanded_heads(model, found), options.tp)
            dim = found.nope_dim + found.rope_dim
            return _Heads(total=total, k_dim=dim, v_dim=dim, layers=layers)
        width = found.rank + models.rotary_width(model, found)
        return _Heads(total=options.tp, k_dim=width, v_dim=0, layers=layers)
    if isinstance(found.reach, Compressed):
        raise Refused("LMDeploy keeps compressed entries of DeepSeek-V4 only")
    total = _with_copies(found.kv_heads, options.tp) if models.replicates_heads(model) else found.kv_heads
    # the two sizes of a head are one number to the default builder
    return _Heads(total=total, k_dim=found.key_dim, v_dim=found.value_dim or found.key_dim, layers=layers)


def _kv_layers(model: Model) -> tuple[int, ...]:
    """Layers of a linear hybrid that have keys and values."""
    kept = tuple(layer.index for layer in model.layers if not any(isinstance(m, Recurrent) for m in layer.memories))
    if "qwen3_next" in models.types(model):
        return kept[: len(model.layers) // models.interval(model)]
    return kept


def _with_copies(heads: int, ranks: int) -> int:
    """Heads over all ranks: copied where there are fewer than ranks. Source: `configurations/builder.py:update_num_kv_heads`."""
    if ranks <= heads:
        return heads
    if ranks % heads:
        raise NoStart(f"tp {ranks} is no multiple of {heads} key and value heads")
    return ranks


def _divisible(model: Model, heads: int, ranks: int) -> None:
    """Source: `config.py:ModelConfig.from_hf_config`, `schema.py:_resolve_key_block_shape`."""
    queries = models.query_heads(model)
    if queries is not None and queries % ranks:
        raise NoStart(f"{queries} attention heads cannot be divided by tp {ranks}")
    if heads % ranks:
        raise NoStart(f"{heads} key and value heads cannot be divided by tp {ranks}")


def _tensors(heads: _Heads, kernel: int, policy: int, dtype: str, ranks: int) -> tuple[BlockTensor, ...]:
    """Keys and values of a kernel block, and their scales and zeros in the model's dtype."""
    own, layers = heads.total // ranks, heads.layers
    if policy not in _PACKED:
        stored = _FLOATS.get(policy, dtype)
        return (
            BlockTensor(name="keys", shape=(kernel, own, heads.k_dim), dtype=stored, layers=layers),
            BlockTensor(name="values", shape=(kernel, own, heads.v_dim), dtype=stored, layers=layers),
        )
    k_each, v_each, k_scales, v_scales = _PACKED[policy]
    if heads.k_dim % k_each or heads.v_dim % v_each:
        raise Refused(f"head_size: {heads.k_dim}, quant_policy: {policy}: elements do not fill whole bytes")
    return (
        BlockTensor(name="keys", shape=(kernel, own, heads.k_dim // k_each), dtype="uint8", layers=layers),
        BlockTensor(name="values", shape=(kernel, own, heads.v_dim // v_each), dtype="uint8", layers=layers),
        BlockTensor(name="key scales", shape=(kernel, own, k_scales), dtype=dtype, layers=layers),
        BlockTensor(name="value scales", shape=(kernel, own, v_scales), dtype=dtype, layers=layers),
    )


def _sparse_tensors(model: Model, heads: _Heads, kernel: int, block: int, policy: int) -> tuple[BlockTensor, ...]:
    """A sparse latent in bf16, or 656 bytes a token, and the indexer's keys with a scale each."""
    if policy:
        latent = BlockTensor(name="latent", shape=(kernel, 1, _FP8_MLA_ROW), dtype="float8_e4m3fn", layers=heads.layers)
    else:
        latent = BlockTensor(name="latent", shape=(kernel, 1, heads.k_dim), dtype="bfloat16", layers=heads.layers)
    owners = models.indexers(model)
    dims = {memory.dim for layer in model.layers for memory in layer.memories if isinstance(memory, Index)}
    if not owners:
        return (latent,)
    if block != kernel:
        raise Refused(f"DSA indexer cache requires equal logical and kernel block sizes, got {block} and {kernel}.")
    keys = BlockTensor(
        name="index keys", shape=(kernel, 1, max(dims) + INDEX_SCALE), dtype="uint8", layers=owners, contiguous=True
    )
    return (latent, keys)


def _states(model: Model, options: LmdeployOptions) -> tuple[StateTensor, ...]:
    """Convolution and recurrent state of gated delta layers, their heads divided by the ranks.

    Source: `configurations/qwen3_5.py`, `qwen3_next.py`.
    """
    owners = tuple(layer.index for layer in model.layers if any(isinstance(m, Recurrent) for m in layer.memories))
    if not owners:
        return ()
    if not models.types(model) & (models.GATED_DELTA | {"qwen3_next"}):
        raise Refused(f"LMDeploy has no model with such recurrent layers as {model.name}'s")
    next_ = "qwen3_next" in models.types(model)
    if next_ and int(options.transformers.partition(".")[0] or 0) >= 5:
        raise Refused(
            "'Qwen3NextConfig' object has no attribute 'full_attention_interval'", see="with transformers 4.57 it starts"
        )
    memory = next(m for layer in model.layers for m in layer.memories if isinstance(m, Recurrent))
    match memory.states:
        case (State(shape=(channels,), kernel=kernel), State(shape=(heads, key_dim, value_dim))) if kernel:
            pass
        case _:
            raise Refused(f"LMDeploy has no model with such states as {model.name}'s")
    key_heads = (channels - heads * value_dim) // (2 * key_dim)
    own_keys, own = key_heads // options.tp, heads // options.tp
    drafted = 0 if next_ else options.drafted
    sixteen = "bfloat16" if options.computes_bf16 or next_ else "float16"
    recurrent = "float32" if options.fp32_mamba_ssm_dtype and not next_ else sixteen
    if next_:
        full = len(model.layers) // models.interval(model)
        owners = owners[: full * (models.interval(model) - 1)]
    width = 2 * own_keys * key_dim + own * value_dim
    rows = (1 + drafted,) if drafted else ()
    return (
        StateTensor(name="conv", shape=(width, kernel + drafted), dtype=sixteen, layers=owners),
        StateTensor(name="state", shape=(*rows, own, value_dim, key_dim), dtype=recurrent, layers=owners),
    )


#: Methods of drafting that a builder takes; others take any. Source: `configurations/*.py`.
_DRAFTERS: Final = {
    "deepseek_v2": {"deepseek_mtp"}, "deepseek_v3": {"deepseek_mtp"}, "deepseek_v32": {"deepseek_mtp"},
    "glm_moe_dsa": {"deepseek_mtp"}, "glm4_moe_lite": {"deepseek_mtp"}, "glm4_moe": {"deepseek_mtp"},
    "kimi_k2": {"deepseek_mtp", "eagle3"}, "kimi_k25": {"deepseek_mtp", "eagle3"}, "hy_v3": {"hy3_mtp"},
    "qwen3_5": {"qwen3_5_mtp", "dflash"}, "qwen3_5_moe": {"qwen3_5_mtp", "dflash"},
}  # fmt: skip


def _refuse_drafter(model: Model, options: LmdeployOptions) -> None:
    known = _DRAFTERS.get(model.model_type)
    if options.speculative_algorithm and known and options.speculative_algorithm not in known:
        raise Refused(f"Unsupported speculative method for {model.model_type}: {options.speculative_algorithm[:40]}")
