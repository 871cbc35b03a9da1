"""xLSTM: a matrix memory a head, its normaliser and its maximum, in every layer.

Source: `modeling_xlstm.py` of transformers 5.23 (`xLSTMCache`).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import MAX_WIDTH, Names, Row, divided, hidden_size, layer_count, lenient, query_heads
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Recurrent, State
from kvplan.units import ceil_div

_NAMES: Final = Names(("num_hidden_layers", "num_blocks"), ("num_heads",), hidden=("hidden_size", "embedding_dim"))


@reader
def _xlstm(c: Config, row: Row) -> Decoder:
    layers, heads = layer_count(c, row), query_heads(c, row)
    hidden = hidden_size(c, row)
    keys = divided(c, "num_heads", _rounded(c, "qk_dim_factor", hidden, 0.5), heads, "heads")
    values = divided(c, "num_heads", _rounded(c, "v_dim_factor", hidden, 1.0), heads, "heads")
    states = (
        State(name="matrix", shape=(heads, keys, values)),
        State(name="normalizer", shape=(heads, keys)),
        State(name="maximum", shape=(heads, 1)),
    )
    return Decoder(layers=[(Recurrent(kind="xlstm", states=states),)] * layers)


def _rounded(c: Config, key: str, hidden: int, default: float) -> int:
    """`hidden` * factor, up to the next multiple of 64 (`round_up_to_next_multiple_of`)."""
    factor = c.data[key] if c.has(key) else default
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= 64:
        c.refuse(key, "must be a number above 0 and at most 64")
    c.note(key, factor, "config" if key in c.data else "class default")
    size = ceil_div(int(hidden * factor), 64) * 64
    if not 0 < size <= MAX_WIDTH:
        c.refuse(key, f"times the hidden size is out of range: {size}")
    return size


ROWS: Final[dict[str, Reader]] = {"xlstm": _xlstm(lenient(32, 8, 4096, names=_NAMES))}
