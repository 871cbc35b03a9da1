"""`--infer`: an unknown model type, read by the shape of its keys. The result is marked as inferred.

Common key names stand for what they usually mean; a `kv_lora_rank` means latent attention as DeepSeek keeps it;
`layer_types`, `sliding_window` and `attention_chunk_size` mean what they mean everywhere. Nothing has a default: an
unknown class may assume anything. Keys of recurrent states are refused, because their shapes cannot be guessed.
"""

from collections.abc import Mapping
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import draft_layers, layer_reach, read_layer_types, read_window
from kvplan.architectures.kit.shapes import Decoder, divided, grouped_heads, layer_count, query_heads
from kvplan.domain.model import Latent, Memory, Reach, Softmax

_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_transformer_layers")
_HEADS: Final = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads", "num_query_heads",
)  # fmt: skip
_KV_HEADS: Final = (
    "num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "multi_query_group_num", "num_attention_groups",
    "num_query_groups",
)  # fmt: skip
_HEAD_DIM: Final = ("head_dim", "attention_head_dim", "kv_channels", "head_size", "d_kv", "hidden_size_per_head")
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "model_dim", "hidden_dim", "embed_dim", "dim")
_SECTIONS: Final = ("text_config", "language_config", "llm_config", "decoder_config", "decoder")
_STATES: Final = (
    "mamba_d_state", "mamba_d_conv", "ssm_state_size", "state_size", "conv_L_cache", "linear_num_value_heads",
    "linear_attn_config", "linear_conv_kernel_dim", "hybrid_override_pattern", "lru_width", "attn_layer_period", "attn_type_list",
    "index_head_dim",
)  # fmt: skip


def read(c: Config, model_type: str) -> Decoder:
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
    layers, heads = layer_count(c, *_LAYERS), query_heads(c, *_HEADS)
    window = read_window(c, None)
    chunk: int | None = c.integer("attention_chunk_size", default=None)
    local = "sliding_attention" if window else "chunked_attention" if chunk else "full_attention"
    kinds = read_layer_types(c, layers) or [local] * layers
    memories: dict[str, tuple[Memory, ...]] = {
        kind: (_memory(c, heads, layer_reach(c, kind, window, chunk)),) for kind in dict.fromkeys(kinds)
    }
    return Decoder(
        layers=[memories[kind] for kind in kinds],
        heads=heads,
        drafts=draft_layers(c, memories[kinds[-1]]),
        notes=(f"`{model_type[:60]}` is unknown: read by the shape of its keys",),
    )


def _text_section(c: Config) -> Config:
    """The text part of an unknown wrapper."""
    if any(key in c.data for key in _LAYERS):
        return c
    return next((c.section(key) for key in _SECTIONS if isinstance(c.data.get(key), Mapping)), c)


def _memory(c: Config, heads: int, reach: Reach) -> Memory:
    rank: int | None = c.integer("kv_lora_rank", default=None)
    if rank is not None:
        return Latent(
            rank=rank,
            rope_dim=c.integer("qk_rope_head_dim", minimum=0),
            heads=heads,
            nope_dim=c.integer("qk_nope_head_dim", minimum=0),
            value_dim=c.integer("v_head_dim"),
            reach=reach,
        )
    kv_heads = grouped_heads(c, heads, *_KV_HEADS)
    dim: int | None = c.integer(*_HEAD_DIM, default=None, maximum=2**20)
    if dim is None:
        dim = divided(c, _HIDDEN[0], c.integer(*_HIDDEN, maximum=2**24), heads, "query heads")
    value_dim: int = c.integer("v_head_dim", default=dim, maximum=2**20)
    return Softmax(kv_heads=kv_heads, key_dim=dim, value_dim=value_dim, reach=reach)
