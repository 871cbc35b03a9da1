"""LFM2 and LFM3 of Liquid AI: a gated short convolution of `conv_L_cache` taps in most layers, attention in the others.

Source: transformers 5.23 `modeling_lfm2.py`, `_lfm3.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Heads, Row, head_dim, hidden_size, kv_heads, layer_count, lenient, query_heads
from kvplan.architectures.kit.layers import CONVOLUTION, FULL, SLIDING, attention, layer_types, reach
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import short_conv, taps
from kvplan.domain.model import Memory, Recurrent


@reader
def _lfm2(c: Config, row: Row, *, map_required: bool = False) -> Decoder:
    """Attention where `layer_types` or `full_attn_idxs` says; without either everywhere, or a refusal."""
    heads, state = _read(c, row, kernel=3)
    chosen = c.integers("full_attn_idxs", maximum=heads.layers - 1)
    if map_required and chosen is None and not c.has("layer_types"):
        c.refuse("layer_types", "is missing, and LFM2-MoE has no default layer map")
    attending = set(range(heads.layers) if chosen is None else chosen)
    kinds = layer_types(c, heads.layers, CONVOLUTION, FULL)
    if kinds is None:
        kinds = [FULL if i in attending else CONVOLUTION for i in range(heads.layers)]
    return _decoder(c, heads, state, kinds, None)


@reader
def _lfm3(c: Config, row: Row) -> Decoder:
    """Two convolutions, attention and attention within a window, in turn."""
    heads, state = _read(c, row, kernel=7)
    window = c.integer("sliding_window", default=row.window)
    kinds = layer_types(c, heads.layers, CONVOLUTION, FULL, SLIDING)
    if kinds is None:
        kinds = [FULL if i % 4 == 2 else SLIDING if i % 4 == 0 and i > 0 else CONVOLUTION for i in range(heads.layers)]
    return _decoder(c, heads, state, kinds, window)


def _read(c: Config, row: Row, kernel: int) -> tuple[Heads, Recurrent]:
    layers, query = layer_count(c, row), query_heads(c, row)
    kv, hidden = kv_heads(c, row, query), hidden_size(c, row)
    return Heads(layers, query, kv, head_dim(c, row, query)), short_conv(hidden, taps(c, "conv_L_cache", default=kernel))


def _decoder(c: Config, heads: Heads, state: Recurrent, kinds: list[str], window: int | None) -> Decoder:
    rows: list[tuple[Memory, ...]] = [
        (state,) if kind == CONVOLUTION else (attention(heads.kv, heads.dim, reach(c, kind, window)),) for kind in kinds
    ]
    return Decoder(layers=rows, heads=heads.query)


ROWS: Final[dict[str, Reader]] = {
    "lfm2": _lfm2(lenient(32, 32, 2560, 8)),
    "lfm2_moe": _lfm2(lenient(32, 32, 2048, 8), map_required=True),
    "lfm3": _lfm3(lenient(24, 16, 2048, 4, 128, window=256)),
}
