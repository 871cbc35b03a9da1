"""Models whose code ships with their checkpoints and that mlx-lm reads: class defaults as in its modules.

- Nanbeige runs its layers `num_loops` times, and each run keeps its own keys and values.
- Baichuan M1 mixes each key and value with the one before, so it keeps the last of both beside its cache.
- Bailing's linear model ends each group of linear layers with a softmax one.
- PLaMo 3 slides in all layers but each eighth.

Source: mlx-lm 0.32.2 `Klear.py`, `lille-130m.py`, `nanbeige.py`, `baichuan_m1.py`, `bailing_moe_linear.py`, `plamo3.py`.
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import DERIVED, STANDARD, Names, Row, decoder, read_heads, read_row
from kvplan.architectures.kit.shapes import Decoder, attention, divided, grouped_heads
from kvplan.architectures.kit.states import width
from kvplan.domain.model import MAX_LAYERS, Memory, Reach, Recurrent, State, Window

_BASE: Final = Row(32, 32, 4096)
_LILLE: Final = Row(24, 10, 640, 5, names=Names(("n_layer",), ("n_head",), ("n_kv_heads",), (), ("n_embd",)))
_KLEAR: Final = _BASE._replace(names=DERIVED)
_PLAMO3: Final = Row(32, 32, 4096, 4, 128)


def _nanbeige(c: Config) -> Decoder:
    heads = read_heads(c, _BASE)
    weights = c.items("loop_loss_weights")
    loops = len(weights) + 1 if weights else c.integer("num_loops", default=1, maximum=1_000)
    if heads.layers * loops > MAX_LAYERS:
        c.refuse("num_loops", f"{heads.layers} layers in {loops} loops are more than {MAX_LAYERS:,} layers")
    return Decoder(layers=[(attention(heads.kv, heads.dim),)] * (heads.layers * loops), heads=heads.query)


def _baichuan_m1(c: Config) -> Decoder:
    heads = read_heads(c, _BASE._replace(names=DERIVED))
    hidden = width(c, "hidden_size", default=4096)
    sliding = set(c.integers("sliding_window_layers", maximum=heads.layers - 1) or ())
    query = c.integer("num_swa_attention_heads", default=heads.query)
    swa_heads = grouped_heads(c, query, "num_swa_key_value_heads", default=heads.kv)
    full = _mixed(heads.kv, heads.dim, None)
    if not sliding:
        return Decoder(layers=[full] * heads.layers, heads=heads.query)
    window = Window(c.integer("sliding_window"))
    slides = _mixed(swa_heads, divided(c, "hidden_size", hidden, query, "query heads"), window)
    return Decoder(layers=[slides if i in sliding else full for i in range(heads.layers)], heads=heads.query)


def _mixed(kv_heads: int, dim: int, reach: Reach | None) -> tuple[Memory, ...]:
    """Keys and values, and the last of each before it was mixed."""
    last = tuple(State(name=f"last_{name}", shape=(kv_heads, dim)) for name in ("key", "value"))
    return (Recurrent(kind="short_conv", states=last), attention(kv_heads, dim, reach))


def _bailing_linear(c: Config) -> Decoder:
    heads = read_heads(c, Row(20, 16, 2048, names=STANDARD))
    group = c.integer("layer_group_size", default=1)
    whole = heads.layers // group * group
    softmax: tuple[Memory, ...] = (attention(heads.kv, heads.dim),)
    state = State(name="state", shape=(heads.query, heads.dim, heads.dim), dtype="float32")
    linear: tuple[Memory, ...] = (Recurrent(kind="linear", states=(state,)),)
    layers = [softmax if (i + 1) % group == 0 or i >= whole else linear for i in range(heads.layers)]
    return Decoder(layers=layers, heads=heads.query)


def _plamo3(c: Config) -> Decoder:
    heads = read_heads(c, _PLAMO3)
    window = c.integer("sliding_window", "window_size", default=2048)
    every = c.integer("sliding_window_pattern", default=8)
    kinds = ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(heads.layers)]
    return decoder(c, heads, kinds, window)


_READERS: Final[dict[str, Callable[[Config], Decoder]]] = {
    "Klear": lambda c: read_row(c, _KLEAR),
    "baichuan_m1": _baichuan_m1,
    "bailing_moe_linear": _bailing_linear,
    "lille-130m": lambda c: read_row(c, _LILLE),
    "nanbeige": _nanbeige,
    "plamo3": _plamo3,
}


def read(c: Config, model_type: str) -> Decoder:
    """Layers as the module of that name builds them."""
    return _READERS[model_type](c)
