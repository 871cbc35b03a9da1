"""Plain decoders: every layer keeps keys and values of the same heads; only key names and class defaults differ.

One row a model type. Source: the `configuration_*.py` of each in transformers 5.23 (class defaults), or the
remote code that ships with the checkpoint where the library has none.
"""

from typing import Final

from kvplan.architectures.config import Config
from kvplan.architectures.shapes import Decoder, attention, grouped_heads, head_size, layer_count, query_heads
from kvplan.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The names one model type uses, and what its config class assumes when a key is absent (None: derive)."""

    layers: tuple[str, ...] = ("num_hidden_layers",)
    heads: tuple[str, ...] = ("num_attention_heads",)
    kv_heads: tuple[str, ...] = ("num_key_value_heads",)  # empty: one for each query head
    head_dim: tuple[str, ...] = ("head_dim",)  # empty: hidden size / heads
    hidden: tuple[str, ...] = ("hidden_size",)
    default_layers: int
    default_heads: int
    default_kv_heads: int | None = None
    default_head_dim: int | None = None
    default_hidden: int


_GPT2: Final = {
    "layers": ("n_layer", "num_hidden_layers"),
    "heads": ("n_head", "num_attention_heads"),
    "hidden": ("n_embd", "hidden_size"),
    "kv_heads": (),
    "head_dim": (),
}
ROWS: Final[dict[str, Keys]] = {
    "llama": Keys(default_layers=32, default_heads=32, default_hidden=4096),
    "gpt2": Keys(default_layers=12, default_heads=12, default_hidden=768, **_GPT2),  # type: ignore[arg-type]
}


def read(c: Config, model_type: str) -> Decoder:
    """The same attention in every layer."""
    row = ROWS[model_type]
    layers = layer_count(c, *row.layers, default=row.default_layers)
    heads = query_heads(c, *row.heads, default=row.default_heads)
    kv_heads = grouped_heads(c, heads, *row.kv_heads, default=row.default_kv_heads) if row.kv_heads else heads
    head_dim = head_size(
        c, heads, keys=row.head_dim, hidden=row.hidden, hidden_default=row.default_hidden, default=row.default_head_dim
    )
    return Decoder(layers=[(attention(kv_heads, head_dim),)] * layers, heads=heads)
