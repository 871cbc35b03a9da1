"""Gemma of Google: 1 plain; 2 and 3 with a window; 3n and 4, whose last layers share; Vault, T5Gemma and RecurrentGemma.

The last `num_kv_shared_layers` layers of Gemma 3n and 4 read the keys and values of the last earlier layer of their own
type. Gemma 4's full layers have `global_head_dim` and, with `attention_k_eq_v`, `num_global_key_value_heads`.
The window of the sliding layers is the config's `sliding_window`. An assistant shares every layer with its target.
Sources: `configuration_gemma*.py` of transformers 5.23 (`kv_sharing_modes`, `__post_init__`); RecurrentGemma: arXiv
2402.19427 and `modeling_recurrent_gemma.py` (states live on the modules).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.encoder_decoder import encoder_decoder
from kvplan.architectures.kit.heads import (
    Heads,
    Row,
    count,
    dividing,
    head_dim,
    hidden_size,
    kv_heads,
    layer_count,
    lenient,
    optional,
    query_heads,
    read_heads,
    width,
)
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, attention, layer_types, reach, read_window
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import every, sliding
from kvplan.architectures.kit.states import conv, taps
from kvplan.domain.model import Memory, Recurrent, Shared, State, Window

_GEMMA2: Final = Row(26, 8, 2304, 4, 256, window=4096, refuses_null=("kv_heads", "head_dim"), refuses_remainder=True)
_T5: Final = Row(26, 8, 2304, 4, 256, window=4096, refuses_null=("kv_heads", "head_dim"))
_RECURRENT: Final = "recurrent"


def _halved_if_bidirectional(c: Config, window: int) -> int:
    """Both sides of the token share the window (`Gemma3TextConfig`)."""
    return window // 2 + 1 if c.flag("use_bidirectional_attention") else window


# Gemma 3n and 4.


@reader
def _gemma3n(c: Config, row: Row) -> Decoder:
    heads, window = read_heads(c, row), read_window(c, row.window)
    kinds = _kinds(c, heads.layers, 5)
    memories = {kind: attention(heads.kv, heads.dim, reach(c, kind, window)) for kind in dict.fromkeys(kinds)}
    return _shared(c, [(memories[kind],) for kind in kinds], kinds, heads.query, 15)


@reader
def _gemma4(c: Config, row: Row, *, global_heads: bool = False) -> Decoder:
    """Sliding and full layers; `global_heads`: KV heads of full layers hold without `attention_k_eq_v`."""
    heads, window = read_heads(c, row), read_window(c, row.window)
    if window and c.text("use_bidirectional_attention", default=None) == "all":
        window = window // 2 + 1  # both sides of the token share the window
    kinds = _kinds(c, heads.layers, 6)
    kinds[-1] = FULL  # the class forces it
    wide = _global_heads(c, heads, always=global_heads)
    overrides = _overrides(c, heads.layers) if c.has("per_layer_config") else None
    layers: list[tuple[Memory, ...]] = []
    for i, kind in enumerate(kinds):
        own = wide if kind == FULL and overrides is None else heads
        if overrides is not None:
            own = own._replace(**overrides.get(i, {}))
        layers.append((attention(own.kv, own.dim, reach(c, kind, window)),))
    return _shared(c, layers, kinds, heads.query, 0)


def _kinds(c: Config, layers: int, step: int) -> list[str]:
    given = layer_types(c, layers, FULL, SLIDING, CHUNKED)
    return given or [SLIDING if (i + 1) % step else FULL for i in range(layers)]


def _global_heads(c: Config, heads: Heads, *, always: bool) -> Heads:
    """The heads of Gemma 4's full layers."""
    dim = count(c, ("global_head_dim",), 512)
    kv = optional(c, ("num_global_key_value_heads",), None)
    if kv is None or not (always or c.flag("attention_k_eq_v")):
        return heads._replace(dim=dim)
    return heads._replace(kv=dividing(c, "num_global_key_value_heads", heads.query, kv), dim=dim)


def _overrides(c: Config, layers: int) -> dict[int, dict[str, int]]:
    """`per_layer_config`, as the library writes it back: layer -> the values that differ there."""
    section = c.section("per_layer_config")
    found: dict[int, dict[str, int]] = {}
    for key in section.data:
        if not (isinstance(key, str) and key.isdecimal() and len(key) <= 5 and int(key) < layers):
            c.refuse("per_layer_config", f"names a layer that is not there: `{str(key)[:20]}`")
        inner = section.section(key)
        values = {"dim": inner.integer("head_dim", default=None), "kv": inner.integer("num_key_value_heads", default=None)}
        found[int(key)] = {name: value for name, value in values.items() if value is not None}
    return found


def _shared(c: Config, layers: list[tuple[Memory, ...]], kinds: list[str], query: int, default: int) -> Decoder:
    """The last layers read what the last owner of their own type keeps."""
    sharing = c.integer("num_kv_shared_layers", default=default, minimum=0)
    owners = len(layers) - sharing
    if owners == 0:
        return Decoder(
            layers=[()] * len(layers), heads=query, notes=("an assistant: every layer reads its target model's cache",)
        )
    if owners < 0 or {*kinds[:owners]} != {*kinds}:
        c.refuse("num_kv_shared_layers", f"{sharing} of {len(layers)} layers leaves no owner for some type of layer")
    last = {kind: i for i, kind in enumerate(kinds[:owners])}
    return Decoder(layers=[*layers[:owners], *((Shared(source=last[kind]),) for kind in kinds[owners:])], heads=query)


# RecurrentGemma.


@reader
def _recurrent(c: Config, row: Row) -> Decoder:
    """RG-LRU states, and attention within a window in every third layer."""
    layers, heads = layer_count(c, row), query_heads(c, row)
    dim = head_dim(c, row, heads)
    window = Window(c.integer("attention_window_size", "sliding_window", default=2048))
    keys = attention(kv_heads(c, row, heads), dim, window)
    lru = width(c, "lru_width", default=hidden_size(c, row))
    states = (conv(lru, taps(c, "conv1d_width", default=4)), State(name="rg_lru", shape=(lru,), dtype="float32"))
    state = Recurrent(kind="rg_lru", states=states)
    blocks = c.texts("block_types", allowed=frozenset({_RECURRENT, "attention"})) or [_RECURRENT, _RECURRENT, "attention"]
    rows: list[tuple[Memory, ...]] = [(state,) if blocks[i % len(blocks)] == _RECURRENT else (keys,) for i in range(layers)]
    return Decoder(layers=rows, heads=heads)


_GEMMA4: Final = Row(30, 8, 2304, 4, 256, window=512, refuses_null=("kv_heads", "head_dim"))
ROWS: Final[dict[str, Reader]] = {
    "gemma": plain(Row(28, 16, 3072, 16, 256, refuses_null=("kv_heads", "head_dim"))),
    "gemma2": sliding(_GEMMA2, every(2)),
    "gemma3_text": sliding(_GEMMA2, every(6, "sliding_window_pattern"), window=_halved_if_bidirectional),
    "gemma3n_text": _gemma3n(Row(35, 8, 2048, 2, 256, window=512, refuses_null=("kv_heads", "head_dim"))),
    "gemma4_text": _gemma4(_GEMMA4),
    "gemma4_unified_text": _gemma4(_GEMMA4._replace(window=1024)),
    "diffusion_gemma_text": _gemma4(_GEMMA4, global_heads=True),
    "recurrent_gemma": _recurrent(lenient(26, 10, 2560)),
    "t5_gemma_module": encoder_decoder(_T5, full_every=2),
    "t5gemma2_decoder": encoder_decoder(_T5, full_every=6),
    "vaultgemma": sliding(_GEMMA2, every(2)),
}
