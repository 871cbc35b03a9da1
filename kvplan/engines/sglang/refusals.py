"""What SGLang says instead of starting, as far as model and flags decide it; memory refuses in `pool`.

Source: sglang 0.5.23, `srt/arg_groups/` (`mamba_hook.py`, `speculative_hook.py`, `kv_cache_hook.py`, `deepseek_v4_hook.py`,
`parallel_hook.py`, `overrides.py`), `srt/configs/model_config.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvplan.engines.sglang import classes, deepseek_v4
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.backends import Card
from kvplan.engines.sglang.options import cache_dtype
from kvplan.errors import Refused

_TREE_BACKENDS: Final = ("flashinfer", "fa3", "triton")
_FP4: Final = frozenset({"nvfp4", "fp4_mx_block16"})
_INDEX_DIM: Final = 128
_TRACK_INTERVAL: Final = 256  # tokens between the states that a radix cache keeps


def refuse(args: Arguments) -> None:
    """Raise what the server would say.

    Raises:
        Refused: it does not start, or kvplan does not know its pools.
    """
    if args.reading.unknown:
        raise Refused(args.reading.unknown)
    for reason in (*_model(args), *_parallel(args), *_dtypes(args), *_states(args), *_speculation(args)):
        raise Refused(reason)


def _model(args: Arguments) -> Iterator[str]:
    reading, asked = args.reading, args.options.context_length
    if asked is not None and asked > reading.derived_context:
        yield (
            f"User-specified context_length ({asked}) is greater than the derived context_length ({reading.derived_context}). "
            "To allow overriding this maximum, set the env var SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1"
        )
    if reading.splits and not reading.sliding:
        yield "Hybrid SWA model must have at least one SWA layer"
    if reading.heads is None and reading.latent is None and not reading.stateful:
        yield "SGLang sizes its cache by attention heads, and this model has none"
    if reading.index is not None and reading.index.dim != _INDEX_DIM:
        yield f"DSATokenToKVPool asserts index_head_dim == {_INDEX_DIM}, and the model has {reading.index.dim}"
    if reading.architecture == classes.COMPRESSED:
        if args.options.disable_hybrid_swa_memory:
            yield "DeepSeek V4 has no pools without its windows: --disable-hybrid-swa-memory leaves their sizes unset"
        if reading.heads is not None and reading.heads.key_dim != deepseek_v4.HEAD:
            yield f"DeepSeek V4's layout is of heads of {deepseek_v4.HEAD} elements, not {reading.heads.key_dim}"


def _parallel(args: Arguments) -> Iterator[str]:
    options = args.options
    if options.attn_dp_size > 1 and options.dp_size > 1:
        yield (
            f"--dp-size {options.dp_size} with --attn-dp-size {options.attn_dp_size}: data-parallel replicas combined with "
            "attention data parallelism are not supported"
        )
    if options.dcp_size > options.attention_tp:
        yield f"--dcp-size {options.dcp_size} is more than the {options.attention_tp} devices of one attention group"
    if options.pp_size > args.reading.hidden_layers:
        yield f"--pp-size {options.pp_size} is more than the model's {args.reading.hidden_layers} layers"
    if args.speculation and args.groups > 1 and args.speculation.algorithm in {"NGRAM", "STANDALONE"}:
        yield f"Currently {args.speculation.algorithm.lower()} speculative decoding does not support dp attention."


def _dtypes(args: Arguments) -> Iterator[str]:
    asked, card, arch = cache_dtype(args.options.kv_cache_dtype), Card(args.options.compute_capability), args.reading.architecture
    if args.reading.index is not None and args.cache not in {"bfloat16", "fp8_e4m3"}:
        yield "DeepSeek DSA only supports bf16/bfloat16 or fp8_e4m3 kv_cache_dtype"
    if arch == classes.COMPRESSED and args.cache != "fp8_e4m3":
        if args.cache == "bfloat16":
            yield "DeepSeek V4's pool asserts a uint8 store, which --kv-cache-dtype bfloat16 is not"
        yield f"{args.cache} is not supported for {arch}"
    if asked == "mxfp8" and not card.blackwell:
        yield "--kv-cache-dtype mxfp8 requires an SM100+ (Blackwell) GPU"
    if asked == "nvfp4" and not (card.sm100 or card.generation == 12):
        yield "--kv-cache-dtype=nvfp4 requires Blackwell SM100 or SM120."
    if args.speculation and asked == "nvfp4" and card.sm100 and args.speculation.algorithm == "STANDALONE":
        yield "SM100 native NVFP4 speculative decoding supports EAGLE, EAGLE3, NEXTN, and breadth-1 NGRAM; got STANDALONE."
    if asked not in _FP4 or args.kernels.prefill != args.kernels.decode:
        return
    base, latent = args.kernels.base, args.reading.latent is not None
    known = {"flashinfer", "trtllm_mla"} if latent else {"triton", "torch_native", "flex_attention", "trtllm_mha"}
    if base not in known:
        yield f"KV4 {'MLA' if latent else 'MHA'} expects attention_backend to be one of {sorted(known)}, but got {base}"


def _states(args: Arguments) -> Iterator[str]:
    """How the radix cache may keep states."""
    arch, strategy = args.reading.architecture, args.options.mamba_radix_cache_strategy
    hybrid = arch in classes.RADIX_STATES and (arch != "GraniteMoeHybridForCausalLM" or args.reading.stateful)
    tracks = strategy in {"extra_buffer", "extra_buffer_lazy"}
    if not hybrid:
        if tracks and args.radix and arch:
            yield f"--mamba-radix-cache-strategy {strategy} needs mamba state, got {arch}."
        return
    if not args.radix:
        return
    if args.extra_buffer:
        if arch not in classes.EXTRA_BUFFER:
            yield f"extra_buffer is not supported for {arch}; use no_buffer."
        if args.options.page_size is not None and _TRACK_INTERVAL % args.options.page_size:
            yield f"mamba_track_interval {_TRACK_INTERVAL} is not a multiple of page_size {args.options.page_size}"
        if args.lazy and args.options.disaggregation_mode != "null":
            yield "extra_buffer_lazy unsupported under PD disaggregation; use --mamba-radix-cache-strategy extra_buffer."
        return
    if args.options.page_size not in {None, 1}:
        yield "no_buffer only supports page_size=1."
    if args.overlap:
        yield "no_buffer do not support overlap schedule. Try to set disable_overlap_schedule=True."
    if args.kernels.base == "trtllm_mha":
        yield "no_buffer do not support trtllm_mha attention backend."


def _speculation(args: Arguments) -> Iterator[str]:
    found, page, base = args.speculation, args.page_size, args.kernels.base
    if not found:
        return
    if args.reading.architecture == classes.COMPRESSED:
        if args.options.speculative_algorithm.upper() != "EAGLE":
            yield f"Only EAGLE and DSPARK speculative algorithms are supported for {classes.COMPRESSED}"
        if args.options.speculative_eagle_topk != 1:
            yield f"Only EAGLE speculative algorithm with topk == 1 is supported for {classes.COMPRESSED}"
    if args.reading.text_type == "zaya":
        yield "conv_state shapes of two widths cannot build the deduplicated sliding-window conv-intermediate view"
    if found.topk > 1 and "trtllm_mha" in {args.kernels.prefill, args.kernels.decode}:
        yield "trtllm_mha backend only supports topk = 1 for speculative decoding."
    if found.topk > 1 and page > 1:
        if found.algorithm == "NGRAM" and base != "flashinfer":
            yield (
                f"speculative_eagle_topk({found.topk}) > 1 with page_size({page}) > 1 is unstable and produces incorrect results "
                "for paged attention backends. This combination is only supported for the 'flashinfer' backend."
            )
        if found.algorithm != "NGRAM" and base not in _TREE_BACKENDS:
            yield (
                f"speculative_eagle_topk > 1 with page_size > 1 is only supported on {_TREE_BACKENDS}; got "
                f"attention_backend={base!r}. Use page_size == 1 or one of those backends."
            )
