"""The lines that TensorRT-LLM prints of its cache, and what to type to start its server. "GiB" is GiB.

Source: TensorRT-LLM 1.4.0rc4 `batch_manager/kvCacheManager.cpp`, `_torch/pyexecutor/kv_cache_manager_v2.py`,
`commands/serve.py`, `llmapi/llm_args.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Any, Final

from kvplan.engines.tensorrt_llm.options import TrtllmOptions
from kvplan.engines.tensorrt_llm.pool import Part
from kvplan.engines.tensorrt_llm.settle import Settled
from kvplan.units import GIB, ceil_div

_DEFAULT: Final = TrtllmOptions()


def first_lines(settled: Settled, parts: tuple[Part, ...], longest: int) -> Iterator[str]:
    """What the first manager prints of its pools."""
    size = settled.tokens_per_block
    pools = [part for part in parts if not part.state and not part.cross]
    for part in pools:
        (window,) = part.windows
        limit = longest if window is None else window
        yield (
            f"Max KV cache blocks per sequence: {ceil_div(longest, size)} [window size={limit}], tokens per block={size}, "
            f"primary blocks={part.blocks}, secondary blocks={_secondary(settled, part)}, max sequence length={longest}"
        )
    total = sum(part.bytes for part in pools)
    tokens = sum(part.blocks for part in pools) * size
    yield f"[MemUsageChange] Allocated {total / GIB:.2f} GiB for max tokens in paged KV cache ({tokens})."


def _secondary(settled: Settled, part: Part) -> int:
    size, host = settled.tokens_per_block, settled.options.host_cache_size
    return host // (part.block_bytes // size) // size if host and part.block_bytes else 0


def second_lines(quota: int) -> Iterator[str]:
    """What the second manager prints."""
    yield f"KV cache manager v2 device quota set to {quota / GIB}GiB"


def command(model: str, options: TrtllmOptions, *, max_seq_len: int, max_batch_size: int, share: float) -> str:
    """`trtllm-serve …`; options at their defaults are left out. What has no flag is a line of YAML."""
    return " ".join(
        [
            f"trtllm-serve {quote(model)}" if model else "trtllm-serve",
            *_flags(options, max_seq_len=max_seq_len, max_batch_size=max_batch_size, share=share),
        ]
    )


def _flags(options: TrtllmOptions, *, max_seq_len: int, max_batch_size: int, share: float) -> Iterator[str]:
    if options.backend != _DEFAULT.backend:
        yield f"--backend {options.backend}"
    yield f"--max_seq_len {max_seq_len}"
    yield f"--max_batch_size {max_batch_size}"
    yield f"--kv_cache_free_gpu_memory_fraction {share:g}"
    if options.tp_size > 1:
        yield f"--tp_size {options.tp_size}"
    if options.pp_size > 1:
        yield f"--pp_size {options.pp_size}"
    if options.max_num_tokens != _DEFAULT.max_num_tokens:
        yield f"--max_num_tokens {options.max_num_tokens}"
    told = yaml(options)
    if told:
        yield f"--config <(echo {quote(told)})"


#: What the YAML calls an option, where its text is not the option's own.
_SAME: Final = (
    "tokens_per_block", "max_tokens", "max_gpu_total_bytes", "host_cache_size", "cross_kv_cache_fraction", "avg_seq_len",
)  # fmt: skip


def yaml(options: TrtllmOptions) -> str:
    """The YAML of what has no flag, on one line; empty where there is nothing."""
    cache: dict[str, Any] = {}
    if options.kv_cache_dtype.lower() != _DEFAULT.kv_cache_dtype:
        cache["dtype"] = _TYPED.get(options.dtype, options.dtype)
    cache |= {name: getattr(options, name) for name in _SAME if getattr(options, name) != getattr(_DEFAULT, name)}
    if options.windows:
        cache["max_attention_window"] = f"[{', '.join(map(str, options.windows))}]"
    if options.state_dtype:
        cache["mamba_ssm_cache_dtype"] = options.state_dtype
    if options.second_manager is not None:
        cache["use_kv_cache_manager_v2"] = str(options.second_manager).lower()
    if not options.enable_block_reuse:
        cache["enable_block_reuse"] = "false"
    told: dict[str, Any] = {}
    if cache:
        told["kv_cache_config"] = _line(cache)
    if options.enable_attention_dp:
        told["enable_attention_dp"] = "true"
    if options.disable_overlap_scheduler:
        told["disable_overlap_scheduler"] = "true"
    if options.num_nextn_predict_layers:
        told["speculative_config"] = _line({"decoding_type": "MTP", "num_nextn_predict_layers": options.num_nextn_predict_layers})
    return _line(told) if told else ""


_TYPED: Final = {"fp8_e4m3": "fp8"}


def _line(found: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in found.items()) + "}"
