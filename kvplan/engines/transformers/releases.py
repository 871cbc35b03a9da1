"""What changed between releases of `transformers`, 4.36 to 5.24: rows of data, each with its source.

A row holds from its release on, until the next row of the same field. Measured by running small models through every
release's own `generate()` (docs/reference/transformers.md lists the evidence); edges named `.0` were run on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvplan.engines.kernel.releases import ByType, Quirk, by_type, quirk

OLDEST: Final = (4, 36)

# Behaviour of the cache classes, whatever the model.

DYNAMIC: Final[Quirk[str]] = quirk(
    ((4, 36), "ignored", "cache_utils.py: DynamicCache.update concatenates, windows ignored"),
    ((4, 56), "less_one", "cache_utils.py: DynamicSlidingWindowLayer.update keeps sliding_window - 1"),
    says="what a dynamic cache keeps of a window",
)
STATIC: Final[Quirk[str]] = quirk(
    ((4, 36), "ignored", "cache_utils.py: StaticCache.__init__, every layer max_cache_len"),
    ((4, 56), "kept", "cache_utils.py: StaticCache.__init__ looks at layer_types"),
    says="what a static cache keeps of a window",
)
EXTRA_LEN: Final[Quirk[int]] = quirk(
    ((4, 36), 1, "generation/utils.py: max_cache_length = max_length"),
    ((4, 49), 0, "generation/utils.py: max_cache_length = max_length - 1"),
    says="tokens that a static cache has beyond what generate asks for",
)
SCAN_IN_FULL: Final[Quirk[bool]] = quirk(
    ((4, 36), True, "modeling_falcon_h1.py: torch_forward multiplies C and B of every pair of positions before it sums"),
    ((5, 18), False, "modeling_falcon_h1.py: the same sum as a matrix product"),
    says="whether a Mamba-2 scan holds the products of every pair of positions at once",
)
HYBRID: Final[Quirk[str]] = quirk(
    ((4, 36), "alternating", "cache_utils.py: HybridCache, by (layer + 1) % sliding_window_pattern"),
    ((4, 53), "hybrid", "cache_utils.py: HybridCache, by layer_types; without them no layer slides"),
    ((4, 56), "static", "generation/utils.py: alias of static"),
    ((5, 0), "dynamic", "generation/utils.py: falls back to DynamicCache"),
    says="what `hybrid` builds",
)
HYBRID_CHUNKED: Final[Quirk[str]] = quirk(
    ((4, 36), "chunked", "cache_utils.py: HybridChunkedCache"),
    ((4, 53), "hybrid", "cache_utils.py: HybridChunkedCache, by layer_types"),
    ((4, 56), "static", "generation/utils.py: alias of static"),
    says="what `hybrid_chunked` builds",
)
WINDOW_UNCLIPPED: Final[Quirk[bool]] = quirk(
    ((4, 36), True, "cache_utils.py: HybridChunkedCache allocates the whole window"),
    ((4, 52), False, "cache_utils.py: HybridChunkedCache takes the smaller of window and length"),
    says="a chunked cache allocates the whole window",
)
SLIDING_WINDOW: Final[Quirk[str]] = quirk(
    ((4, 36), "everywhere", "cache_utils.py: SlidingWindowCache gives every layer the window"),
    ((4, 56), "static", "generation/utils.py: alias of static"),
    says="what `sliding_window` builds",
)
SLIDING_BOOKKEEPING: Final[Quirk[int]] = quirk(
    ((4, 36), 0, "cache_utils.py: no tensor beside keys and values"),
    ((5, 0), 8, "cache_utils.py: DynamicSlidingWindowLayer._sliding_window_tensor, int64"),
    says="bytes beside each sliding layer",
)
STATIC_BOOKKEEPING: Final[Quirk[int]] = quirk(
    ((4, 36), 0, "cache_utils.py: positions are arguments"),
    ((5, 4), 8, "cache_utils.py: StaticLayer.cumulative_length, int64"),
    says="bytes beside each layer of a static cache",
)
HYBRID_BOOKKEEPING: Final[Quirk[int]] = quirk(
    ((4, 36), 1, "cache_utils.py: HybridCache.is_sliding, one bool a layer"),
    ((4, 52, 1), 0, "cache_utils.py: HybridCache.is_sliding_list"),
    says="bytes beside each layer of a hybrid cache",
)
ZEROPOINT: Final[Quirk[int]] = quirk(
    ((4, 36), 1, "quanto 0.2.0: zero points are int8"),
    ((4, 45), 0, "optimum-quanto 0.2.7: the shift has the dtype of the scale"),
    says="bytes of quanto's zero points",
)
FIRST_VIEW: Final[Quirk[bool]] = quirk(
    ((4, 36), True, "cache_utils.py: DynamicCache.update stores the first projection itself"),
    ((4, 56), False, "cache_utils.py: DynamicLayer.lazy_initialization starts from an empty tensor"),
    says="the first update keeps the projection that it is a view of",
)
HYBRID_EARLY: Final[Quirk[bool]] = quirk(
    ((4, 36), False, "cache_utils.py: layers are allocated by their first update, or all at once"),
    ((4, 54), True, "cache_utils.py: HybridCache.__init__ allocates even layers that never use it"),
    ((4, 56), False, "cache_utils.py: StaticLayer.lazy_initialization"),
    says="a hybrid cache allocates layers that never use it",
)
SURPLUS_STATIC: Final[Quirk[bool]] = quirk(
    ((4, 36), True, "cache_utils.py: StaticCache.__init__ allocates a layer for each of the config's num_hidden_layers"),
    ((4, 49), False, "cache_utils.py: StaticCache.__init__ leaves layers on the meta device until their first update"),
    ((4, 50), True, "cache_utils.py: StaticCache.__init__ allocates at once again"),
    ((4, 56), False, "cache_utils.py: StaticLayer.lazy_initialization"),
    says="a static cache allocates layers that the model does not run",
)
EMPTY_STATIC: Final[Quirk[bool]] = quirk(
    ((4, 36), True, "cache_utils.py: layers without attention get a StaticLayer too"),
    ((5, 15), False, "cache_utils.py: DummyLayer"),
    says="layers without attention have a place in a static cache",
)

# Behaviour of single model types (of the text part); the first value is everybody else's.

DEFAULT_CACHE: Final[ByType[str]] = by_type(
    "dynamic",
    {
        ("gemma2",): (
            ((4, 36), "hybrid", "models/gemma2: HybridCache with or without the hint"),
            ((4, 53), "hint", "models/gemma2/modeling_gemma2.py"),
            ((4, 56), "dynamic", "generation/utils.py: _prepare_cache_for_generation"),
        ),
        ("gemma3_text",): (
            ((4, 36), "hybrid", "models/gemma3: HybridCache with or without the hint"),
            ((4, 53), "hint", "models/gemma3: only where generation_config asks"),
            ((4, 56), "dynamic", "generation/utils.py: _prepare_cache_for_generation"),
        ),
        ("cohere2",): (
            ((4, 36), "hybrid", "models/cohere2: HybridCache"),
            ((4, 56), "dynamic", "generation/utils.py: _prepare_cache_for_generation"),
        ),
        ("llama4_text",): (
            ((4, 36), "hybrid_chunked", "cache_utils.py: HybridChunkedCache"),
            ((4, 53), "dynamic", "models/llama4: DynamicCache"),
        ),
    },
    says="the cache that generate builds unasked",
)
LATENT: Final[ByType[bool]] = by_type(
    True,
    {
        (
            "deepseek_v2",
            "deepseek_v3",
            "longcat_flash",
            "glm4_moe_lite",
            "minicpm3",
        ): (
            ((4, 36), False, "models/*/modeling_*.py: every head's keys and values are cached"),
            ((5, 15), True, "models/*/modeling_*.py: past_key_values.update(latent, rotary keys)"),
        ),
        (
            "deepseek_v32",
            "glm_moe_dsa",
        ): (
            ((4, 36), False, "models/*/modeling_*.py: every head's keys and values are cached"),
            ((5, 18), True, "models/*/modeling_*.py: past_key_values.update(latent, rotary keys)"),
        ),
    },
    says="latent attention keeps one latent instead of every head's keys and values",
)
STATE_DTYPE: Final[ByType[str]] = by_type(
    "state",
    {
        (
            "mamba",
            "mamba2",
            "bamba",
            "granitemoehybrid",
            "falcon_h1",
            "zamba2",
            "nemotron_h",
        ): (
            ((4, 36), "model", "cache_utils.py: LinearAttentionLayer.lazy_initialization"),
            ((5, 14), "state", "cache_utils.py: LinearAttentionLayer.lazy_initialization"),
        ),
        (
            "jamba",
            "zamba",
            "qwen3_next",
            "qwen3_5_text",
            "qwen3_5_moe_text",
        ): (
            ((4, 36), "state", "cache_utils.py: LinearAttentionLayer.lazy_initialization"),
            ((5, 5), "model", "cache_utils.py: LinearAttentionLayer.lazy_initialization"),
            ((5, 14), "state", "cache_utils.py: LinearAttentionLayer.lazy_initialization"),
        ),
        ("falcon_mamba",): (
            ((4, 36), "model", "models/falcon_mamba; cache_utils.py: MambaCache.update_ssm_state"),
            ((4, 49), "state", "models/falcon_mamba; cache_utils.py: MambaCache.update_ssm_state"),
            ((4, 54), "model", "models/falcon_mamba; cache_utils.py: MambaCache.update_ssm_state"),
            ((5, 14), "state", "models/falcon_mamba; cache_utils.py: MambaCache.update_ssm_state"),
        ),
    },
    says="the dtype of recurrent states",
)
STATIC_IGNORED: Final[ByType[bool]] = by_type(
    False,
    {
        (
            "mamba",
            "mamba2",
            "bamba",
            "granitemoehybrid",
            "falcon_h1",
            "zamba2",
            "nemotron_h",
            "jamba",
            "zamba",
            "qwen3_next",
            "qwen3_5_text",
            "qwen3_5_moe_text",
        ): (
            ((4, 36), True, "models/*: a hybrid cache class of the model's own"),
            ((5, 5), False, "cache_utils.py: LinearAttentionLayer.lazy_initialization"),
        ),
        ("bart",): (
            ((4, 36), True, "models/bart: legacy tuples, whatever is asked for"),
            ((4, 52), False, "models/bart: EncoderDecoderCache"),
        ),
        (
            "t5",
            "mt5",
            "umt5",
            "longt5",
            "switch_transformers",
            "pop2piano",
            "udop",
        ): (
            ((4, 36), True, "models/t5: legacy tuples, whatever is asked for"),
            ((4, 46), False, "models/t5: EncoderDecoderCache"),
        ),
        ("opt",): (
            ((4, 36), True, "models/opt: legacy tuples, whatever is asked for"),
            ((4, 49), False, "models/opt: Cache"),
        ),
        ("gpt2",): (
            ((4, 36), True, "models/gpt2: legacy tuples, whatever is asked for"),
            ((4, 52), False, "models/gpt2: Cache"),
        ),
        ("gpt_bigcode",): (
            ((4, 36), True, "models/gpt_bigcode: legacy tuples, whatever is asked for"),
            ((4, 54), False, "models/gpt_bigcode: Cache"),
        ),
        ("mpt",): (
            ((4, 36), True, "models/mpt: legacy tuples, whatever is asked for"),
            ((4, 56), False, "models/mpt: Cache"),
        ),
    },
    says="a cache of the class's own, whatever is asked for",
)
KEY_DTYPE: Final[ByType[str]] = by_type(
    "",
    {
        ("gpt_neox",): (
            ((4, 36), "", "models/gpt_neox: rotary tables in the model's dtype"),
            ((4, 37), "float32", "models/gpt_neox: _set_cos_sin_cache leaves float32 tables"),
            ((4, 45), "", "models/gpt_neox: cast again"),
        ),
        ("gptj",): (
            ((4, 36), "", "models/gptj: sincos cast to the key's dtype"),
            ((4, 45), "float32", "models/gptj: sincos not cast"),
            ((4, 56), "", "models/gptj: sincos.to(key.dtype)"),
        ),
    },
    says="the dtype of rotary keys",
)
GATE_DTYPE: Final[ByType[str]] = by_type(
    "",
    {
        ("deepseek_v4",): (
            ((4, 36), "", "models/deepseek_v4: the gates have the model's dtype"),
            ((5, 24), "float32", "models/deepseek_v4: the compressors' position_bias, added to the gates, is float32"),
        ),
    },
    says="the dtype of compressors' gates",
)
ALL_HEADS: Final[ByType[bool]] = by_type(
    False,
    {
        ("phi",): (
            ((4, 36), True, "models/phi: num_key_value_heads is not read"),
            ((4, 37), False, "models/phi: grouped heads"),
        ),
    },
    says="one KV head for each query head",
)
SHARED: Final[ByType[bool]] = by_type(
    True,
    {
        ("gemma3n_text",): (
            ((4, 36), False, "models/gemma3n: every layer stores its own keys and values"),
            ((4, 56), True, "models/gemma3n: Gemma3nTextAttention.forward"),
        ),
    },
    says="layers that share keys and values keep none",
)
SHARED_REFERENCES: Final[ByType[bool]] = by_type(
    False,
    {
        ("gemma4_text",): (
            ((5, 5), True, "models/gemma4: shared_layers hold the source layer's full states"),
            ((5, 5, 4), False, "models/gemma4"),
        ),
    },
    says="shared layers keep the source's states whole",
)
ZERO_SHARED: Final[ByType[bool]] = by_type(
    False,
    {
        ("gemma4_text",): (
            ((4, 36), True, "cache_utils.py: layer_types[:-0] is empty, so windows are lost"),
            ((5, 14), False, "cache_utils.py: get_layer_types_and_kwargs looks at num_kv_shared_layers > 0"),
        ),
    },
    says="windows are lost where no layer shares",
)
STATIC_INDEX_ERROR: Final[ByType[bool]] = by_type(
    False,
    {
        ("gemma4_text",): (
            ((4, 36), True, "cache_utils.py: StaticCache.__init__ over no layer types at all"),
            ((5, 10), False, "cache_utils.py: StaticCache.__init__"),
        ),
    },
    says="a static cache raises where no layer shares",
)
STATIC_ERROR: Final[ByType[str]] = by_type(
    "",
    {
        ("gptj",): (
            ((4, 36), "", "models/gptj"),
            (
                (4, 45),
                "a RuntimeError: its keys are float32 and index_copy_ takes the cache's dtype",
                "cache_utils.py: StaticCache",
            ),
            ((4, 47), "", "cache_utils.py: StaticCache.update casts what it is given"),
        ),
        (
            "longt5",
            "switch_transformers",
            "pop2piano",
            "udop",
        ): (
            ((4, 36), "", "models/t5: legacy tuples, whatever is asked for"),
            (
                (4, 46),
                "a ValueError: the class does not support `cache_implementation='static'`",
                "models/*: _supports_static_cache",
            ),
            ((4, 54), "", "generation/utils.py: no flag is asked"),
        ),
    },
    says="why a static cache raises",
)
OWN_WINDOW: Final[ByType[int]] = by_type(
    0,  # the window that the config says, plus one
    {
        ("mimo_v2_flash",): (
            ((4, 36), 128, "models/mimo_v2_flash: the cache reads sliding_window, or its class default"),
            ((5, 20), 0, "configuration_mimo_v2_flash.py: sliding_window_size + 1"),
        ),
    },
    says="which key the window is read from",
)
WINDOW_ON_MODULES: Final[ByType[bool]] = by_type(
    False,
    {
        ("recurrent_gemma",): (
            ((4, 36), True, "models/recurrent_gemma: _setup_cache, the whole window at once"),
            ((5, 4), False, "cache_utils.py: DynamicSlidingWindowLayer"),
        ),
    },
    says="the window lies in the modules, whole at once",
)
RECURRENT_SLIDES: Final[ByType[bool]] = by_type(
    False,
    {
        ("recurrent_gemma",): (
            ((4, 36), True, "cache_utils.py: a sliding layer object for every layer"),
            ((5, 23), False, "configuration_recurrent_gemma.py: layer_types names linear layers"),
        ),
    },
    says="recurrent layers have a window's bookkeeping",
)
COUNTER_BYTES: Final[ByType[int]] = by_type(
    0,
    {
        ("xlstm",): (
            ((4, 36), 0, "models/xlstm: seqlen_offset is an int"),
            ((5, 13), 8, "models/xlstm: xLSTMCache.seqlen_offset, int64"),
        ),
    },
    says="bytes of a counter beside the states",
)
CROSS_SLIDES: Final[ByType[bool]] = by_type(
    False,
    {
        ("t5_gemma_module",): (
            ((4, 36), False, "cache_utils.py: cross layers full"),
            ((4, 56), True, "generation/utils.py: the cross cache is built with the decoder's config"),
            ((5, 0), False, "generation/utils.py"),
            ((5, 1), True, "generation/utils.py: the cross cache is built with the decoder's config"),
            ((5, 10), False, "models/t5gemma: _prepare_cache_for_generation removes the window"),
        ),
        ("t5gemma2_decoder",): (((4, 36), True, "generation/utils.py: built with the decoder's config"),),
    },
    says="cross-attention keeps a window of the encoder's output",
)
SPLIT_CONV: Final[ByType[bool]] = by_type(
    False,
    {
        ("olmo_hybrid",): (
            ((4, 36), True, "models/olmo_hybrid: OlmoHybridDynamicCache"),
            ((5, 15), False, "cache_utils.py: LinearAttentionLayer.lazy_initialization"),
        ),
    },
    says="a convolution's state lies in three parts",
)
INDEX_ON_MODULES: Final[ByType[bool]] = by_type(
    False,
    {
        ("glm_moe_dsa",): (
            ((4, 36), True, "models/glm_moe_dsa: GlmMoeDsaIndexer keeps its keys in a buffer of its own"),
            ((5, 11), False, "cache_utils.py: DynamicIndexedLayer"),
        ),
    },
    says="the indexer's keys lie in the modules",
)
CONV_EVERYWHERE: Final[ByType[bool]] = by_type(
    False,
    {
        (
            "lfm2",
            "lfm2_moe",
        ): (
            ((4, 36), True, "models/lfm2: Lfm2HybridConvCache"),
            ((5, 5), False, "cache_utils.py: LinearAttentionLayer.lazy_initialization"),
        ),
    },
    says="attention layers have a convolution's state, too",
)

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
    **dict.fromkeys(
        (
            "apertus1p5_text",
            "dory",
            "exaone",
            "hy_v4_vl_text",
            "inkling2_loop_text",
            "lara_mini",
            "sarvam_mla",
            "sarvam_moe",
        ),
        (5, 24),
    ),
}
