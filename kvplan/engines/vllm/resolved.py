"""What vLLM makes of flags that are left open: lengths, dtypes, whether prefixes are cached, how states are."""

from __future__ import annotations

from typing import Final, Literal

from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Cross, Latent, Model, Recurrent, Softmax
from kvplan.engines.kernel.releases import Release
from kvplan.engines.vllm import dtypes as dt
from kvplan.engines.vllm.layers import compressed, has_states, sparse_mla
from kvplan.engines.vllm.models import any_traits, described_by_hand, quantised_cache, text_traits, trained_length
from kvplan.engines.vllm.options import VllmOptions
from kvplan.engines.vllm.releases import (
    ALL_STATES_GONE,
    ALL_STATES_KNOWN,
    ALL_STATES_UNASKED,
    CHECKPOINTED,
    HYBRIDS_CACHE_PREFIXES,
    SPARSE_ROWS_UNASKED,
    STATE_MODES,
)
from kvplan.errors import OptionError

StateMode = Literal["none", "align", "all"]
_BLACKWELL: Final = 100  # sm_100
_HOPPER: Final = 90  # sm_90
_FLASHINFER_WIDTH: Final = 128  # elements of a key that its kernels for sm_10x and sm_12x take


def model_length(model: Model, options: VllmOptions) -> int:
    """`max_model_len`: the flag's, else the config's with its rope scaling, else 2,048.

    Source: `config/model.py:_get_and_verify_max_len`.
    """
    given = options.max_model_len
    if given is not None and given != -1:
        return given
    return trained_length(model)


def model_dtype(model: Model, options: VllmOptions) -> str:
    """The dtype of the activations: float32 checkpoints run in bfloat16 unless the flag says otherwise, and where a card has no
    bfloat16, in float16.

    Source: `config/model.py:_resolve_auto_dtype`, `platforms/cuda.py:supported_dtypes`.
    """
    if options.dtype != "auto":
        return lookup(options.dtype, what="dtype").name
    wanted = "bfloat16" if model.dtype == "float32" else model.dtype
    return "float16" if wanted == "bfloat16" and not options.has_bfloat16 else wanted


def resolved_cache_dtype(model: Model, options: VllmOptions, version: Release) -> str:
    """`kv_cache_dtype` as the attention backends take it: "auto" is what the checkpoint asks for, and sparse latents have a row
    format of their own for fp8.

    Source: `utils/torch_utils.py:resolve_kv_cache_dtype_string`, `model_executor/layers/attention/attention.py` (llm-compressor).
    """
    name = dt.cache_dtype(options.kv_cache_dtype)
    if name == "auto" and quantised_cache(model):
        name = "fp8"
    if name == "auto" and text_traits(model).fp8_on_blackwell and options.compute_capability >= _BLACKWELL:
        name = "fp8_e4m3"
    if compressed(model) and (name == "auto" or name in dt.FP8):
        return "fp8_ds_mla"
    own_rows = name in dt.FP8 or (name == "auto" and SPARSE_ROWS_UNASKED.at(version))
    return "fp8_ds_mla" if sparse_mla(model) and own_rows else name


def prefix_caching(model: Model, options: VllmOptions, version: Release) -> bool:
    """Whether prefixes are cached: by default in models with attention and without an encoder, later beside states too.

    Source: `config/model.py:is_prefix_caching_supported`.
    """
    if options.enable_prefix_caching is not None:
        return options.enable_prefix_caching
    kinds = {type(memory) for memories in model.collapsed() for memory in memories}
    hybrids = HYBRIDS_CACHE_PREFIXES.at(version) or not has_states(model)
    return bool(kinds & {Softmax, Latent}) and Cross not in kinds and hybrids


def state_mode(model: Model, options: VllmOptions, version: Release) -> StateMode:
    """How states are cached: not at all, copied at block boundaries, or kept for every block.

    `mamba_cache_mode` "none" is what the engine takes for "not said": only `enable_prefix_caching` turns caching off.
    Source: `models/config.py:MambaModelConfig`.
    """
    asked = options.mamba_cache_mode
    if asked == "all" and ALL_STATES_GONE.at(version):
        raise OptionError(
            "mamba_cache_mode: vLLM 0.32 and later have no `all`", hint="`align` or `none`", option="mamba_cache_mode"
        )
    known = any(traits.every_block_states for traits in any_traits(model)) or described_by_hand(model)
    if not prefix_caching(model, options, version):
        return "none"
    if not STATE_MODES.at(version):
        return "all" if known and ALL_STATES_KNOWN.at(version) else "none"
    unasked = asked in {"auto", "none"} and ALL_STATES_UNASKED.at(version) and not described_by_hand(model)
    return "all" if known and (asked == "all" or unasked) else "align"


def exported(model: Model, options: VllmOptions, version: Release, mode: StateMode) -> frozenset[str]:
    """Kinds of state whose prefill exports a checkpoint, in a block of its own.

    Source: each layer class's `get_kv_cache_spec`; `mamba/gdn/qwen_gdn_linear_attn.py:_resolve_gdn_prefill_backend`.
    """
    if mode != "align":
        return frozenset()
    kinds = {memory.kind: memory for memories in model.collapsed() for memory in memories if isinstance(memory, Recurrent)}
    exports = any(traits.exports_checkpoints for traits in any_traits(model))
    found = {kind for kind in kinds if kind in CHECKPOINTED and CHECKPOINTED[kind].at(version) and (exports or kind == "mamba2")}
    if "gated_delta" in found and not _flashinfer_delta(kinds["gated_delta"], options):
        found.discard("gated_delta")
    return frozenset(found)


def _flashinfer_delta(memory: Recurrent, options: VllmOptions) -> bool:
    """Whether FlashInfer computes the prefill of a gated delta rule: on Hopper, and on Blackwell where keys are 128 wide."""
    if options.device != "cuda":
        return False
    family = options.compute_capability // 10
    width = next((state.shape[-1] for state in memory.states if not state.kernel), 0)
    return options.compute_capability == _HOPPER or (family in {10, 12} and width == _FLASHINFER_WIDTH)
