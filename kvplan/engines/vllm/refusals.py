"""What vLLM refuses before it plans anything: removed models, parallelism and cache dtypes that no backend takes.

Sources: `models/registry.py`, `config/parallel.py`, `config/model.py:verify_with_parallel_config`,
`platforms/cuda.py:get_attn_backend_cls`; recorded in `tests/golden/vllm_refusals.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Cross, Latent, Memory, Model, Recurrent, Softmax, Window
from kvplan.engines.vllm.backends import SINCE, Heads, takers
from kvplan.engines.vllm.dtypes import FP8, SPARSE_ROWS, cache_dtype
from kvplan.engines.vllm.layers import compressed, sparse_mla
from kvplan.engines.vllm.models import any_traits, mlx_checkpoint, text_traits
from kvplan.engines.vllm.options import VllmOptions
from kvplan.engines.vllm.releases import WHOLE_COMPRESSED
from kvplan.errors import NoStart, Refused

_MOST_SPLITS: Final = 8  # numbers of devices that a refusal names
_V4_SINCE: Final = (0, 20)  # models/registry.py: DeepseekV4ForCausalLM


def refuse(model: Model, options: VllmOptions, version: tuple[int, ...]) -> None:
    """Refuse what vLLM does not start with.

    Raises:
        NoStart: why it does not.
        Refused: kvplan does not know the model.
    """
    for reason in _reasons(model, options, version):
        raise NoStart(reason)


def _reasons(model: Model, options: VllmOptions, version: tuple[int, ...]) -> Iterator[str]:
    for traits in any_traits(model):
        if traits.gone_since is not None and version >= traits.gone_since:
            yield traits.gone
        if traits.one_device and options.tensor_parallel_size > 1:
            yield traits.one_device
        if traits.undescribed:
            raise Refused(f"kvplan knows no rule for it: {traits.undescribed}")
    if compressed(model) and version < _V4_SINCE:
        yield "models with compressed entries (DeepSeek V4) are served from 0.20 on"
    if mlx_checkpoint(model):
        yield "an MLX checkpoint's `quantization` names no method that it has (config/model.py:_verify_quantization)"
    memories = {memory for group in model.collapsed() for memory in group}
    yield from _parallel(model, options, memories)
    if options.device == "cuda":
        yield from _cache(model, options, version, memories)


def _parallel(model: Model, options: VllmOptions, memories: set[Memory]) -> Iterator[str]:
    tp, dcp = options.tensor_parallel_size, options.decode_context_parallel_size
    heads = [memory.kv_heads for memory in memories if isinstance(memory, Softmax)]
    latent = any(isinstance(memory, Latent) for memory in memories)
    if model.attention_heads and model.attention_heads % tp:
        fine = [str(n) for n in range(1, model.attention_heads + 1) if not model.attention_heads % n][:_MOST_SPLITS]
        yield f"{model.attention_heads} attention heads do not divide by tensor_parallel_size {tp}; use {', '.join(fine)}"
    if options.prefill_context_parallel_size > 1 and heads and not latent:
        yield "no attention backend of ordinary attention takes prefill_context_parallel_size above 1"
    if dcp > 1:
        if tp % dcp:
            yield f"tensor_parallel_size {tp} must be divisible by decode_context_parallel_size {dcp}"
        if any(isinstance(getattr(memory, "reach", None), Window) for memory in memories):
            yield "decode_context_parallel_size above 1 is not taken by sliding-window layers"
        if heads and not latent and (tp <= max(heads) or tp // max(heads) < dcp):
            yield (
                f"decode_context_parallel_size {dcp} needs that many copies of each KV head: "
                f"tensor_parallel_size {tp} over {max(heads)} heads makes {max(tp // max(heads), 1)}"
            )


#: Kind of heads -> what people call them.
_WORDS: Final[dict[Heads, str]] = {
    "softmax": "ordinary attention",
    "latent": "latent attention (MLA)",
    "sparse latent": "sparse latent attention",
}


def _heads(model: Model, memories: set[Memory]) -> Iterator[Heads]:
    """The kinds of heads that need a backend of their own; compressed entries have the model's own."""
    if compressed(model):
        return
    if any(isinstance(memory, Latent) for memory in memories) and not text_traits(model).expands_latents:
        yield "sparse latent" if sparse_mla(model) else "latent"
    if any(isinstance(memory, Softmax | Cross) for memory in memories) or text_traits(model).expands_latents:
        yield "softmax"


def _cache(model: Model, options: VllmOptions, version: tuple[int, ...], memories: set[Memory]) -> Iterator[str]:
    dtype, capability = cache_dtype(options.kv_cache_dtype), options.compute_capability
    if options.dtype != "auto" and lookup(options.dtype, what="dtype").name == "bfloat16" and not options.has_bfloat16:
        yield (
            "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your GPU has compute capability "
            f"{capability // 10}.{capability % 10}. You can use float16 instead by explicitly setting the `dtype` flag in CLI, "
            "for example: --dtype=half."
        )
    if dtype == "bfloat16" and not options.has_bfloat16:
        yield "a cache in bfloat16 needs compute capability 8.0 or later, as the activations do; leave it to follow them (auto)"
    latent = any(isinstance(memory, Latent) for memory in memories)
    since = SINCE.get(dtype, (0,))
    if version < since:
        yield f"it has no kv_cache_dtype {dtype}: vLLM {'.'.join(map(str, since))} is the first that has"
    if dtype in SPARSE_ROWS and not (sparse_mla(model) or compressed(model)):
        yield f"no attention backend takes kv_cache_dtype {dtype} without sparse latent attention"
    if dtype == "nvfp4" and capability < 100:
        yield "no attention backend takes kv_cache_dtype nvfp4 before compute capability 10.0"
    if latent and dtype in FP8 and capability < 89:
        yield "FP8 KV cache is not supported by the Triton MLA backend before compute capability 8.9"
    if dtype.startswith("turboquant") and (latent or compressed(model)):
        yield f"no attention backend takes kv_cache_dtype {dtype} with latent attention"
    heads = _heads(model, memories)
    for kind in heads:
        if not takers(kind, dtype, capability):
            card = f"{capability // 10}.{capability % 10}"
            yield f"no attention backend takes kv_cache_dtype {dtype} with {_WORDS[kind]} on compute capability {card}"
    if compressed(model) and dtype not in {"auto", "fp8_ds_mla", "bfloat16", *FP8}:
        yield f"no attention backend takes kv_cache_dtype {dtype} with compressed entries"
    if (
        options.one_group(version)
        and any(isinstance(m, Recurrent) for m in memories)
        and (latent or any(isinstance(m, Softmax) for m in memories))
    ):
        yield "Failed to promote local KV cache specs to one unified type."
    if options.one_group(version) and compressed(model) and not WHOLE_COMPRESSED.at(version):
        yield "MLAAttentionSpec.__init__() got an unexpected keyword argument 'bounded_replay' (without its hybrid manager)"
