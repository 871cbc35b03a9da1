"""ZAYA1 of Zyphra: keys and values, and what compressed convolutional attention looks back at.

Two convolutions run over queries and keys, and half of each value is taken from the token before.
Source: transformers 5.23 `modeling_zaya.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, lenient, read_heads
from kvplan.architectures.kit.layers import FULL, SLIDING, attention, layer_types, reach
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import taps
from kvplan.domain.model import Memory, Recurrent, State

_FULL: Final = "hybrid"
_SLIDING: Final = "hybrid_sliding"


@reader
def _zaya(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    columns = taps(c, "cca_time0", default=2) + taps(c, "cca_time1", default=2) - 2
    window = c.integer("sliding_window", default=row.window)
    # two convolutions in a row: what both look back at is kept, and every engine keeps exactly that
    delayed = State(name="delayed_value", shape=(max(heads.kv * heads.dim // 2, 1),))
    conv = (State(name="conv", shape=((heads.query + heads.kv) * heads.dim, columns)),) if columns else ()
    state = Recurrent(kind="short_conv", states=(*conv, delayed))
    rows: list[tuple[Memory, ...]] = []
    for kind in layer_types(c, heads.layers, _FULL, _SLIDING) or [_FULL] * heads.layers:
        seen = reach(c, SLIDING if kind == _SLIDING else FULL, window)
        rows.append((attention(heads.kv, heads.dim, seen), state))
    return Decoder(layers=rows, heads=heads.query)


ROWS: Final[dict[str, Reader]] = {"zaya": _zaya(lenient(40, 8, None, 2, 128))}
