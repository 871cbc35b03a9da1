"""`--infer`: an unknown model type, read by the shape of its keys. The result is marked as inferred.

Common key names stand for what they usually mean; a `kv_lora_rank` means latent attention as DeepSeek keeps it;
`layer_types`, `sliding_window` and `attention_chunk_size` mean what they mean everywhere. Nothing has a default: an
unknown class may assume anything. Keys of recurrent states are refused, because their shapes cannot be guessed.
"""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import (
    MAX_HEADS,
    Names,
    head_dim,
    kv_heads,
    layer_count,
    lenient,
    query_heads,
    width,
)
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, draft_count, layer_types, reach, read_window
from kvplan.architectures.kit.loops import MAX_PASSES, looped
from kvplan.architectures.kit.reader import Decoder, reader
from kvplan.domain.model import Latent, Memory, Reach, Softmax

_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_transformer_layers")
_ROW: Final = lenient(
    names=Names(
        layers=_LAYERS,
        heads=(
            "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads",
            "num_query_heads",
        ),
        kv_heads=(
            "num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "multi_query_group_num",
            "num_attention_groups", "num_query_groups",
        ),
        head_dim=("head_dim", "attention_head_dim", "kv_channels", "head_size", "d_kv", "hidden_size_per_head"),
        hidden=("hidden_size", "n_embd", "d_model", "model_dim", "hidden_dim", "embed_dim", "dim"),
    )
)  # fmt: skip
_SECTIONS: Final = ("text_config", "language_config", "llm_config", "decoder_config", "decoder")
_STATES: Final = (
    "mamba_d_state", "mamba_d_conv", "ssm_state_size", "state_size", "conv_L_cache", "linear_num_value_heads",
    "linear_attn_config", "linear_conv_kernel_dim", "hybrid_override_pattern", "lru_width", "attn_layer_period", "attn_type_list",
    "index_head_dim",
)  # fmt: skip

#: Words in the names of keys that count how often layers run.
_REPEATS: Final = ("num_loop", "n_loop", "loop_num", "_loops", "_passes", "ut_steps", "recurrent_loops", "num_recur")


@reader
def by_shape(c: Config, model_type: str) -> Decoder:
    """Layers of equal heads, with the reach that the config names.

    Raises:
        ConfigError: layers, heads or head size cannot be found, or there are keys of states or indexers.
    """
    c = _text_section(c)
    for key in _STATES:
        if c.has(key):
            c.refuse(
                key,
                f"cannot be read by shape: no family claims `{model_type[:60]}`",
                hint="describe its layers in YAML (docs/guides/specs.md)",
            )
    layers, heads = layer_count(c, _ROW), query_heads(c, _ROW)
    window = read_window(c, None)
    chunk = c.integer("attention_chunk_size", default=None)
    local = SLIDING if window else CHUNKED if chunk else FULL
    kinds = layer_types(c, layers, FULL, SLIDING, CHUNKED) or [local] * layers
    memories: dict[str, tuple[Memory, ...]] = {
        kind: (_memory(c, heads, reach(c, kind, window, chunk)),) for kind in dict.fromkeys(kinds)
    }
    key, passes = _passes(c)
    found = looped(c, key, [memories[kind] for kind in kinds], passes, heads=heads)
    drafts = [memories[kinds[-1]]] * draft_count(c, default=None)
    note = f"`{model_type[:60]}` is unknown: read by the shape of its keys"
    return replace(found, drafts=drafts, notes=(note, *found.notes))


def _passes(c: Config) -> tuple[str, int]:
    """The most that a key of loops could mean: every layer runs so often, and each time keeps a cache of its own."""
    most = ("num_loops", 1)
    for section in (c, c.section("loop_config") if isinstance(c.data.get("loop_config"), Mapping) else c):
        for key in section.data:
            if isinstance(key, str) and any(word in key for word in _REPEATS) and isinstance(section.data[key], int):
                passes = section.integer(key, default=1, minimum=0)
                most = max(most, (key, passes), key=lambda pair: pair[1])
    if most[1] > MAX_PASSES:
        c.refuse(most[0], f"of {most[1]:,} passes is more than {MAX_PASSES:,}")
    return most


def _text_section(c: Config) -> Config:
    """The text part of an unknown wrapper."""
    if any(key in c.data for key in _LAYERS):
        return c
    return next((c.section(key) for key in _SECTIONS if isinstance(c.data.get(key), Mapping)), c)


def _memory(c: Config, heads: int, reach: Reach) -> Memory:
    rank = c.integer("kv_lora_rank", default=None)
    if rank is not None:
        return Latent(
            rank=rank,
            rope_dim=c.integer("qk_rope_head_dim", minimum=0),
            heads=heads,
            nope_dim=c.integer("qk_nope_head_dim", minimum=0),
            value_dim=c.integer("v_head_dim"),
            reach=reach,
        )
    kv, dim = kv_heads(c, _ROW, heads), head_dim(c, _ROW, heads)
    value_dim = width(c, "v_head_dim", default=dim, maximum=MAX_HEADS)
    return Softmax(kv_heads=kv, key_dim=dim, value_dim=value_dim, reach=reach)
