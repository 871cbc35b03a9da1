"""Model types by what their layers keep, asked of small configs, so that a new row is in the right tests by itself."""

from typing import Any, Final

from kvplan import architectures
from kvplan.domain.model import Cross, Shared, Softmax
from kvplan.errors import ConfigError

_RWKV: Final = {"num_hidden_layers": 1, "hidden_size": 64}
#: Types that a bare config does not show: they need more keys, or assume no layer of the kind that they are known for.
_SAID: Final = {"num_hidden_layers": 1, "num_attention_heads": 8, "hidden_size": 64}
_ALSO: Final[dict[str, dict[str, Any]]] = {
    **dict.fromkeys(
        (
            "Keye",
            "KeyeVL1_5",
            "PanguEmbedded",
            "gear",
            "k2_horizon",
            "kimi_audio",
            "llada2_moe",
            "molmo",
            "pangu_ultra_moe",
            "param2moe",
            "phi4-siglip",
            "sdar",
            "sdar_moe",
            "solar",
            "step1",
            "teleflm",
        ),
        _SAID,
    ),
    "alice_ai": {
        "num_hidden_layers": 1,
        "num_attention_heads": 16,
        "hidden_size": 2048,
        "linear_num_key_heads": 16,
        "linear_key_head_dim": 128,
        "layer_types": ["linear_attention"],
    },
    "lfm2": {"full_attn_idxs": [0]},
    "lfm2_moe": {"full_attn_idxs": [0]},
    "minimax_m3": {"num_hidden_layers": 1, "layer_types": ["minimax_m3_sparse"]},
    "minimax_m3_vl_text": {"num_hidden_layers": 1, "layer_types": ["minimax_m3_sparse"]},
    "nemotron-nas": {"num_hidden_layers": 1, "block_configs": [{"attention": {"n_heads_in_group": 8}}]},
    "openelm": {"num_transformer_layers": 1, "num_query_heads": [8], "num_kv_heads": [8]},
    "rwkv5": _RWKV,
    "rwkv6": _RWKV,
    "rwkv7": _RWKV,
}

NO_CACHE: Final = frozenset(architectures.FAMILIES["cacheless"])
ENCODERS: Final = frozenset({"modernbert", "new", "nomic_bert"})  # keep nothing
TEXT_TYPES: Final = frozenset(t for types in architectures.FAMILIES.values() for t in types) - NO_CACHE - ENCODERS


def _kinds(model_type: str) -> set[type]:
    try:
        model = architectures.read({"model_type": model_type, **_ALSO.get(model_type, {})})
    except ConfigError as problem:
        raise LookupError(f"`{model_type}` needs a small config in _ALSO of tests/model_types.py: {problem}") from problem
    return {type(memory) for layer in model.layers for memory in layer.memories}


_KEPT: Final = {model_type: _kinds(model_type) for model_type in TEXT_TYPES}
#: Types of keys and values alone; and the rest: latents, indexers, compressed entries, recurrent states.
KEYS_AND_VALUES: Final = frozenset(t for t, kinds in _KEPT.items() if kinds <= {Softmax, Cross, Shared})
OTHER_MEMORIES: Final = TEXT_TYPES - KEYS_AND_VALUES
#: Types of keys and values alone that look at no encoder, and that a bare config describes.
DECODERS: Final = frozenset(t for t in KEYS_AND_VALUES if Cross not in _KEPT[t] and t not in _ALSO)


def with_wrappers(types: frozenset[str]) -> frozenset[str]:
    """The types, and the wrappers whose text part is one of them."""
    return types | {wrapper for wrapper, (_, text) in architectures.WRAPPERS.items() if text in types}
