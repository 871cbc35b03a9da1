"""What changed between releases of `transformers`, 4.36 to 5.23: rows of data, each with its source.

A row holds from its release on, until the next row of the same field. Measured by running small models through every
release's own `generate()` (docs/reference/transformers.md lists the evidence); edges named `.0` were run on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.engines.kernel.releases import Quirk

OLDEST: Final = (4, 36)
LATEST: Final = "5.23.0"

_CACHE: Final = "cache_utils.py"
#: Behaviour of the cache classes, whatever the model.
GENERAL: Final[tuple[Quirk, ...]] = (
    Quirk((4, 36), "dynamic", "ignored", f"{_CACHE}: DynamicCache.update concatenates, windows ignored"),
    Quirk((4, 56), "dynamic", "less_one", f"{_CACHE}: DynamicSlidingWindowLayer.update keeps sliding_window - 1"),
    Quirk((4, 36), "static", "ignored", f"{_CACHE}: StaticCache.__init__, every layer max_cache_len"),
    Quirk((4, 56), "static", "kept", f"{_CACHE}: StaticCache.__init__ looks at layer_types"),
    Quirk((4, 36), "extra_len", 1, "generation/utils.py: max_cache_length = max_length"),
    Quirk((4, 49), "extra_len", 0, "generation/utils.py: max_cache_length = max_length - 1"),
    # what a requested implementation is built as
    Quirk((4, 36), "hybrid", "alternating", f"{_CACHE}: HybridCache, by (layer + 1) % sliding_window_pattern"),
    Quirk((4, 53), "hybrid", "hybrid", f"{_CACHE}: HybridCache, by layer_types; without them no layer slides"),
    Quirk((4, 56), "hybrid", "static", "generation/utils.py: alias of static"),
    Quirk((5, 0), "hybrid", "dynamic", "generation/utils.py: falls back to DynamicCache"),
    Quirk((4, 36), "hybrid_chunked", "chunked", f"{_CACHE}: HybridChunkedCache"),
    Quirk((4, 53), "hybrid_chunked", "hybrid", f"{_CACHE}: HybridChunkedCache, by layer_types"),
    Quirk((4, 36), "window_unclipped", True, f"{_CACHE}: HybridChunkedCache allocates the whole window"),
    Quirk((4, 52), "window_unclipped", False, f"{_CACHE}: HybridChunkedCache takes the smaller of window and length"),
    Quirk((4, 56), "hybrid_chunked", "static", "generation/utils.py: alias of static"),
    Quirk((4, 36), "sliding_window", "everywhere", f"{_CACHE}: SlidingWindowCache gives every layer the window"),
    Quirk((4, 56), "sliding_window", "static", "generation/utils.py: alias of static"),
    Quirk((4, 36), "sliding_bookkeeping", 0, f"{_CACHE}: no tensor beside keys and values"),
    Quirk((5, 0), "sliding_bookkeeping", 8, f"{_CACHE}: DynamicSlidingWindowLayer._sliding_window_tensor, int64"),
    Quirk((4, 36), "static_bookkeeping", 0, f"{_CACHE}: positions are arguments"),
    Quirk((5, 4), "static_bookkeeping", 8, f"{_CACHE}: StaticLayer.cumulative_length, int64"),
    Quirk((4, 36), "hybrid_bookkeeping", 1, f"{_CACHE}: HybridCache.is_sliding, one bool a layer"),
    Quirk((4, 52, 1), "hybrid_bookkeeping", 0, f"{_CACHE}: HybridCache.is_sliding_list"),
    Quirk((4, 36), "zeropoint", 1, "quanto 0.2.0: zero points are int8"),
    Quirk((4, 45), "zeropoint", 0, "optimum-quanto 0.2.7: the shift has the dtype of the scale"),
    Quirk((4, 36), "first_view", True, f"{_CACHE}: DynamicCache.update stores the first projection itself"),
    Quirk((4, 56), "first_view", False, f"{_CACHE}: DynamicLayer.lazy_initialization starts from an empty tensor"),
    Quirk((4, 36), "hybrid_early", False, f"{_CACHE}: layers are allocated by their first update, or all at once"),
    Quirk((4, 54), "hybrid_early", True, f"{_CACHE}: HybridCache.__init__ allocates even layers that never use it"),
    Quirk((4, 56), "hybrid_early", False, f"{_CACHE}: StaticLayer.lazy_initialization"),
    Quirk((4, 36), "empty_static", True, f"{_CACHE}: layers without attention get a StaticLayer too"),
    Quirk((5, 15), "empty_static", False, f"{_CACHE}: DummyLayer"),
)


def general(field: str, version: tuple[int, ...]) -> Any:
    """The value of a general row in `version`."""
    rows = [row for row in GENERAL if row.field == field and row.since <= version]
    return max(rows, key=lambda row: row.since).value


def family(field: str, text_type: str, version: tuple[int, ...], default: Any = None) -> Any:
    """The value of a model type's own row in `version`, else `default`."""
    rows = [row for row in FAMILIES.get(text_type, ()) if row.field == field and row.since <= version]
    return max(rows, key=lambda row: row.since).value if rows else default


def _latent(since: tuple[int, ...], source: str) -> tuple[Quirk, ...]:
    return (
        Quirk(OLDEST, "latent", False, f"{source}: every head's keys and values are cached"),
        Quirk(since, "latent", True, f"{source}: past_key_values.update(latent, rotary keys)"),
    )


def _state(source: str, *rows: tuple[tuple[int, ...], str]) -> tuple[Quirk, ...]:
    return tuple(Quirk(since, "state", value, source) for since, value in rows)


_LINEAR: Final = "cache_utils.py: LinearAttentionLayer.lazy_initialization"
_OWN_CLASS: Final = (
    Quirk(OLDEST, "static_ignored", True, "models/*: a hybrid cache class of the model's own"),
    Quirk((5, 5), "static_ignored", False, _LINEAR),
)
_MODEL_UNTIL_514: Final = _state(_LINEAR, (OLDEST, "model"), ((5, 14), "state")) + _OWN_CLASS
_MODEL_IN_55: Final = _state(_LINEAR, (OLDEST, "state"), ((5, 5), "model"), ((5, 14), "state")) + _OWN_CLASS
_GEMMA3: Final = (
    Quirk(OLDEST, "default", "hybrid", "models/gemma3: HybridCache with or without the hint"),
    Quirk((4, 53), "default", "hint", "models/gemma3: only where generation_config asks"),
    Quirk((4, 56), "default", "dynamic", "generation/utils.py: _prepare_cache_for_generation"),
)
#: Behaviour of single model types (of the text part).
FAMILIES: Final[Mapping[str, tuple[Quirk, ...]]] = {
    "gemma2": (
        Quirk(OLDEST, "default", "hybrid", "models/gemma2: HybridCache with or without the hint"),
        Quirk((4, 53), "default", "hint", "models/gemma2/modeling_gemma2.py"),
        Quirk((4, 56), "default", "dynamic", "generation/utils.py: _prepare_cache_for_generation"),
    ),
    "gemma3_text": _GEMMA3,
    "cohere2": (
        Quirk(OLDEST, "default", "hybrid", "models/cohere2: HybridCache"),
        Quirk((4, 56), "default", "dynamic", "generation/utils.py: _prepare_cache_for_generation"),
    ),
    "llama4_text": (
        Quirk(OLDEST, "default", "hybrid_chunked", "cache_utils.py: HybridChunkedCache"),
        Quirk((4, 53), "default", "dynamic", "models/llama4: DynamicCache"),
    ),
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3", "longcat_flash", "glm4_moe_lite", "minicpm3"), _latent((5, 15), "models/*/modeling_*.py")
    ),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), _latent((5, 18), "models/*/modeling_*.py")),
    **dict.fromkeys(("mamba", "mamba2", "bamba", "granitemoehybrid", "falcon_h1", "zamba2", "nemotron_h"), _MODEL_UNTIL_514),
    **dict.fromkeys(("jamba", "zamba", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _MODEL_IN_55),
    "falcon_mamba": _state(
        "models/falcon_mamba; cache_utils.py: MambaCache.update_ssm_state",
        (OLDEST, "model"),
        ((4, 49), "state"),
        ((4, 54), "model"),
        ((5, 14), "state"),
    ),
    "gpt_neox": (
        Quirk(OLDEST, "key_dtype", "", "models/gpt_neox: rotary tables in the model's dtype"),
        Quirk((4, 37), "key_dtype", "float32", "models/gpt_neox: _set_cos_sin_cache leaves float32 tables"),
        Quirk((4, 45), "key_dtype", "", "models/gpt_neox: cast again"),
    ),
    "gptj": (
        Quirk(OLDEST, "key_dtype", "", "models/gptj: sincos cast to the key's dtype"),
        Quirk((4, 45), "key_dtype", "float32", "models/gptj: sincos not cast"),
        Quirk((4, 56), "key_dtype", "", "models/gptj: sincos.to(key.dtype)"),
    ),
    "phi": (
        Quirk(OLDEST, "all_heads", True, "models/phi: num_key_value_heads is not read"),
        Quirk((4, 37), "all_heads", False, "models/phi: grouped heads"),
    ),
    "gemma3n_text": (
        Quirk(OLDEST, "shared", False, "models/gemma3n: every layer stores its own keys and values"),
        Quirk((4, 56), "shared", True, "models/gemma3n: Gemma3nTextAttention.forward"),
    ),
    "gemma4_text": (
        Quirk((5, 5), "shared_references", True, "models/gemma4: shared_layers hold the source layer's full states"),
        Quirk((5, 5, 4), "shared_references", False, "models/gemma4"),
        Quirk(OLDEST, "zero_shared", True, "cache_utils.py: layer_types[:-0] is empty, so windows are lost"),
        Quirk((5, 14), "zero_shared", False, "cache_utils.py: get_layer_types_and_kwargs looks at num_kv_shared_layers > 0"),
        Quirk(OLDEST, "static_index_error", True, "cache_utils.py: StaticCache.__init__ over no layer types at all"),
        Quirk((5, 10), "static_index_error", False, "cache_utils.py: StaticCache.__init__"),
    ),
    "mimo_v2_flash": (
        Quirk(OLDEST, "window", 128, "models/mimo_v2_flash: the cache reads sliding_window, which is the class default"),
        Quirk((5, 20), "window", "plus_one", "configuration_mimo_v2_flash.py: sliding_window_size + 1"),
    ),
    "recurrent_gemma": (
        Quirk(OLDEST, "window_on_modules", True, "models/recurrent_gemma: _setup_cache, the whole window at once"),
        Quirk((5, 4), "window_on_modules", False, "cache_utils.py: DynamicSlidingWindowLayer"),
        Quirk(OLDEST, "recurrent_slides", True, "cache_utils.py: a sliding layer object for every layer"),
        Quirk((5, 23), "recurrent_slides", False, "configuration_recurrent_gemma.py: layer_types names linear layers"),
    ),
    "xlstm": (
        Quirk(OLDEST, "counter_bytes", 0, "models/xlstm: seqlen_offset is an int"),
        Quirk((5, 13), "counter_bytes", 8, "models/xlstm: xLSTMCache.seqlen_offset, int64"),
    ),
    "bart": (
        Quirk(OLDEST, "static_ignored", True, "models/bart: legacy tuples, whatever is asked for"),
        Quirk((4, 52), "static_ignored", False, "models/bart: EncoderDecoderCache"),
    ),
    "opt": (
        Quirk(OLDEST, "static_ignored", True, "models/opt: legacy tuples, whatever is asked for"),
        Quirk((4, 49), "static_ignored", False, "models/opt: Cache"),
    ),
    **dict.fromkeys(
        ("gpt2", "gpt_bigcode"),
        (
            Quirk(OLDEST, "static_ignored", True, "models/gpt2: legacy tuples, whatever is asked for"),
            Quirk((4, 54), "static_ignored", False, "models/gpt2: Cache"),
        ),
    ),
    "mpt": (
        Quirk(OLDEST, "static_ignored", True, "models/mpt: legacy tuples, whatever is asked for"),
        Quirk((4, 56), "static_ignored", False, "models/mpt: Cache"),
    ),
    "t5_gemma_module": (
        Quirk(OLDEST, "cross_slides", False, "cache_utils.py: cross layers full"),
        Quirk((4, 56), "cross_slides", True, "generation/utils.py: the cross cache is built with the decoder's config"),
        Quirk((5, 0), "cross_slides", False, "generation/utils.py"),
        Quirk((5, 1), "cross_slides", True, "generation/utils.py: the cross cache is built with the decoder's config"),
        Quirk((5, 10), "cross_slides", False, "models/t5gemma: _prepare_cache_for_generation removes the window"),
    ),
    "t5gemma2_decoder": (Quirk(OLDEST, "cross_slides", True, "generation/utils.py: built with the decoder's config"),),
    "olmo_hybrid": (
        Quirk(OLDEST, "split_conv", True, "models/olmo_hybrid: OlmoHybridDynamicCache"),
        Quirk((5, 15), "split_conv", False, _LINEAR),
    ),
    "lfm2": (
        Quirk(OLDEST, "conv_everywhere", True, "models/lfm2: Lfm2HybridConvCache"),
        Quirk((5, 5), "conv_everywhere", False, _LINEAR),
    ),
}

#: Types whose keys and values come out of one projection: until 4.55 the first update keeps (a view of) that output.
#: Rotary keys are copies, so then only the values do. Source: the attention classes in models/*/modeling_*.py.
FUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("bloom", "mpt", "gpt2", "gpt_bigcode"), "both"),
    **dict.fromkeys(("gpt_neox", "persimmon", "dbrx", "phi3", "deepseek_v2", "deepseek_v3", "longcat_flash"), "values"),
}

#: First release that ships a model type, where it is later than the oldest release known here.
FIRST_RELEASE: Final[Mapping[str, tuple[int, ...]]] = {
    **dict.fromkeys(("qwen2",), (4, 37)),
    **dict.fromkeys(("gemma", "stablelm"), (4, 38)),
    **dict.fromkeys(("cohere", "starcoder2", "mamba"), (4, 39)),
    **dict.fromkeys(("jamba", "recurrent_gemma", "dbrx", "qwen2_moe"), (4, 40)),
    "phi3": (4, 41),
    "gemma2": (4, 42),
    **dict.fromkeys(("mamba2", "nemotron"), (4, 44)),
    **dict.fromkeys(("falcon_mamba", "granite", "granitemoe"), (4, 45)),
    **dict.fromkeys(("zamba", "phimoe"), (4, 46)),
    "olmo2": (4, 47),
    **dict.fromkeys(("bamba", "cohere2"), (4, 48)),
    "zamba2": (4, 49),
    "gemma3_text": (4, 50),
    **dict.fromkeys(("qwen3", "qwen3_moe", "llama4_text", "deepseek_v3"), (4, 51)),
    "granitemoehybrid": (4, 52),
    **dict.fromkeys(("gemma3n_text", "falcon_h1", "minimax", "t5_gemma_module", "smollm3"), (4, 53)),
    **dict.fromkeys(("deepseek_v2", "lfm2", "exaone4", "modernbert-decoder", "glm4_moe", "ernie4_5"), (4, 54)),
    "gpt_oss": (4, 55),
    "seed_oss": (4, 56),
    **dict.fromkeys(("qwen3_next", "longcat_flash", "olmo3"), (4, 57)),
    **dict.fromkeys(("glm4_moe_lite", "minimax_m2"), (5, 0)),
    **dict.fromkeys(("qwen3_5_text", "glm_moe_dsa"), (5, 2)),
    "olmo_hybrid": (5, 3),
    **dict.fromkeys(("gemma4_text", "nemotron_h"), (5, 5)),
    "deepseek_v4": (5, 8),
    "deepseek_v32": (5, 11),
    **dict.fromkeys(("mimo_v2_flash", "minicpm3"), (5, 13)),
    "kimi_linear": (5, 17),
}
