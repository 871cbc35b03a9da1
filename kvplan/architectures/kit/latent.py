"""Multi-head latent attention: one compressed vector a token, which all heads share.

Each token leaves `kv_lora_rank` + `qk_rope_head_dim` elements (arXiv 2405.04434, section 2.1); `num_key_value_heads`
and `head_dim` say nothing about the cache. Sources: transformers 5.23 `configuration_*.py` of each class.
"""

from collections.abc import Callable
from typing import NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, divided, hidden_size, layer_count, query_heads, width
from kvplan.architectures.kit.layers import draft_count
from kvplan.architectures.kit.reader import Decoder, reader
from kvplan.domain.model import Latent, Memory


class Mla(NamedTuple):
    """What a config class assumes of its latent, in elements."""

    rank: int = 512
    rope_dim: int = 64
    nope_dim: int = 128  # a head
    value_dim: int | None = 128  # a head; None: hidden size / heads


def read_latent(c: Config, row: Row, mla: Mla, heads: int) -> Latent:
    """The latent that the MLA keys describe.

    Raises:
        ConfigError: a dimension is missing or out of range.
    """
    value_dim = mla.value_dim
    if value_dim is None and not c.has("v_head_dim"):
        value_dim = divided(c, row.names.hidden[0], hidden_size(c, row), heads, "query heads")
    return Latent(
        rank=width(c, "kv_lora_rank", default=mla.rank),
        rope_dim=width(c, "qk_rope_head_dim", default=mla.rope_dim, minimum=0),
        heads=heads,
        nope_dim=width(c, "qk_nope_head_dim", default=mla.nope_dim, minimum=0),
        value_dim=width(c, "v_head_dim", default=value_dim),
    )


@reader
def latent(c: Config, row: Row, mla: Mla, *, blocks: Callable[[Config, Row], int] = layer_count) -> Decoder:
    """The same latent in every attention block, of which there are `blocks`."""
    layers, heads = blocks(c, row), query_heads(c, row)
    memory: tuple[Memory, ...] = (read_latent(c, row, mla, heads),)
    return Decoder(layers=[memory] * layers, heads=heads, drafts=[memory] * draft_count(c, default=row.drafts))
