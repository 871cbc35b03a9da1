"""Baichuan M1: each key and value is mixed with the one before, so the last of both is kept beside the cache.

Source: mlx-lm 0.32 `models/baichuan_m1.py` (`Attention._custom_convolution`), after the remote code of the checkpoint.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import DERIVED, MAX_HEADS, Row, divided, dividing, hidden_size, read_heads
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Memory, Reach, Recurrent, State, Window


@reader
def _m1(c: Config, row: Row) -> Decoder:
    """The layers of `sliding_window_layers` slide, with heads of their own."""
    heads = read_heads(c, row)
    sliding = set(c.integers("sliding_window_layers", maximum=heads.layers - 1) or ())
    query = c.integer("num_swa_attention_heads", default=heads.query, maximum=MAX_HEADS)
    kept = c.integer("num_swa_key_value_heads", default=heads.kv, maximum=MAX_HEADS)
    full = _mixed(heads.kv, heads.dim, None)
    if not sliding:
        return Decoder(layers=[full] * heads.layers, heads=heads.query)
    dim = divided(c, "hidden_size", hidden_size(c, row), query, "query heads")
    slides = _mixed(dividing(c, "num_swa_key_value_heads", query, kept), dim, Window(c.integer("sliding_window")))
    return Decoder(layers=[slides if i in sliding else full for i in range(heads.layers)], heads=heads.query)


def _mixed(kv_heads: int, dim: int, reach: Reach | None) -> tuple[Memory, ...]:
    """Keys and values, and the last of each before it was mixed."""
    last = tuple(State(name=f"last_{name}", shape=(kv_heads, dim)) for name in ("key", "value"))
    return (Recurrent(kind="short_conv", states=last), attention(kv_heads, dim, reach))


ROWS: Final[dict[str, Reader]] = {"baichuan_m1": _m1(Row(32, 32, 4096, names=DERIVED))}
