"""Recurrent networks: RecurrentGemma (RG-LRU and a window), RWKV 4 to 7, xLSTM.

Sources: arXiv 2402.19427 and transformers 5.23 `modeling_recurrent_gemma.py` (states live on the modules); RWKV:
`modeling_rwkv.py` (five vectors a layer) and the remote code of RWKV-5 (two token shifts and a matrix a head);
xLSTM: `modeling_xlstm.py` (`xLSTMCache`).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import Decoder, attention, divided, grouped_heads, head_size, layer_count, query_heads
from kvplan.architectures.kit.states import MAX_WIDTH, conv, taps, width
from kvplan.domain.model import Memory, Recurrent, State, Window
from kvplan.units import ceil_div

_RECURRENT: Final = "recurrent"


def read(c: Config, model_type: str) -> Decoder:
    """Dispatch by family."""
    if model_type == "recurrent_gemma":
        return _recurrent_gemma(c)
    if model_type == "xlstm":
        return _xlstm(c)
    return _rwkv4(c) if model_type == "rwkv" else _rwkv(c)


def _recurrent_gemma(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=26), query_heads(c, default=10)
    head_dim = head_size(c, heads, hidden_default=2560)
    window = Window(c.integer("attention_window_size", "sliding_window", default=2048))
    keys = attention(grouped_heads(c, heads), head_dim, window)
    lru = width(c, "lru_width", default=width(c, "hidden_size", default=2560))
    states = (conv(lru, taps(c, "conv1d_width", default=4)), State(name="rg_lru", shape=(lru,), dtype="float32"))
    state = Recurrent(kind="rg_lru", states=states)
    blocks = c.texts("block_types", allowed=frozenset({_RECURRENT, "attention"})) or [_RECURRENT, _RECURRENT, "attention"]
    rows: list[tuple[Memory, ...]] = [(state,) if blocks[i % len(blocks)] == _RECURRENT else (keys,) for i in range(layers)]
    return Decoder(layers=rows, heads=heads)


def _rwkv4(c: Config) -> Decoder:
    hidden = width(c, "hidden_size", default=4096)
    inner = width(c, "attention_hidden_size", default=hidden)
    sums = tuple(State(name=name, shape=(inner,), dtype="float32") for name in ("numerator", "denominator", "maximum"))
    return Decoder(layers=[(Recurrent(kind="rwkv", states=(*_shifts(hidden), *sums)),)] * layer_count(c, default=32))


def _rwkv(c: Config) -> Decoder:
    hidden = width(c, "hidden_size")
    inner = width(c, "attention_hidden_size", default=hidden)
    size = width(c, "head_size", "head_dim", default=64)
    matrix = State(name="wkv", shape=(divided(c, "head_size", inner, size, "elements a head"), size, size), dtype="float32")
    return Decoder(layers=[(Recurrent(kind="rwkv", states=(*_shifts(hidden), matrix)),)] * layer_count(c))


def _shifts(hidden: int) -> tuple[State, State]:
    """The previous token's input of the two blocks; every device needs all of it."""
    return (State(name="shift_ffn", shape=(hidden,), shard=False), State(name="shift_attention", shape=(hidden,), shard=False))


def _xlstm(c: Config) -> Decoder:
    layers, heads = layer_count(c, "num_hidden_layers", "num_blocks", default=32), width(c, "num_heads", default=8)
    hidden = width(c, "hidden_size", "embedding_dim", default=4096)
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
