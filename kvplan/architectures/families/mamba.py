"""State-space models: Mamba, Falcon-Mamba, Mamba-2, and their hybrids Jamba, Bamba, Granite 4 H, PLaMo 2, Falcon-H1, Zamba.

A Mamba layer keeps the last inputs of a short convolution and a float32 state matrix, whatever the context. Jamba,
Bamba and Granite 4 H put attention in some layers instead; Falcon-H1 has both in every layer; Zamba runs one shared
attention block at several depths, each of which needs keys and values of its own.
Sources: transformers 5.23 `configuration_*.py` and `modeling_*.py` of each (`MambaMixer`, `layers_block_type`);
PLaMo 2: vLLM `models/plamo2.py` (`is_mamba`, `Plamo2MambaMixer`).
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import is_null
from kvplan.architectures.kit.shapes import (
    FULL_NAMES,
    Decoder,
    attention,
    divided,
    grouped_heads,
    head_size,
    layer_count,
    pattern,
    query_heads,
)
from kvplan.architectures.kit.states import LINEAR_NAMES, conv, mamba1, mamba2, taps, width, width_or_auto
from kvplan.domain.model import Memory, Recurrent, Softmax, State, Window

_HYBRID_NAMES: Final = frozenset({"hybrid"})


def read(c: Config, model_type: str) -> Decoder:
    """Dispatch: each type below has its own layer map."""
    return _READERS[model_type](c)


# Pure state-space models.


def _mamba(c: Config) -> Decoder:
    """`intermediate_size` wins over `expand` * hidden size: Falcon-Mamba-7B says expand 16 and means 8,192 channels."""
    hidden = width(c, "hidden_size", default=768)
    inner = width(c, "intermediate_size", default=c.integer("expand", default=2, maximum=4096) * hidden)
    state = mamba1(inner, width(c, "state_size", default=16), taps(c, "conv_kernel", default=4))
    return Decoder(layers=[(state,)] * layer_count(c, default=32))


def _mamba2(c: Config) -> Decoder:
    hidden = width(c, "hidden_size", default=4096)
    expand = c.integer("expand", default=2, maximum=4096)
    heads, head_dim = width(c, "num_heads", default=128), width(c, "head_dim", default=64)
    if heads * head_dim != expand * hidden:
        c.refuse("num_heads", f"x `head_dim` is {heads * head_dim}, but `expand` x `hidden_size` is {expand * hidden}")
    state = mamba2(
        heads=heads,
        head_dim=head_dim,
        state_size=width(c, "state_size", default=128),
        groups=width(c, "n_groups", default=8),
        kernel=taps(c, "conv_kernel", default=4),
    )
    return Decoder(layers=[(state,)] * layer_count(c, default=64))


# Hybrids.


def _jamba(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=32), query_heads(c, default=32)
    period, offset = c.integer("attn_layer_period", default=8), c.integer("attn_layer_offset", default=4, minimum=0)
    if offset >= period:
        c.refuse("attn_layer_offset", f"must be smaller than the period {period}, got {offset}")
    kinds = _kinds(c, layers, lambda i: "attention" if i % period == offset else "mamba")
    inner = c.integer("mamba_expand", default=2, maximum=4096) * width(c, "hidden_size", default=4096)
    state = mamba1(inner, width(c, "mamba_d_state", default=16), taps(c, "mamba_d_conv", default=4))
    return _either(kinds, _attention(c, heads, kv_heads=8, hidden=4096), state, heads)


def _bamba(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=32), query_heads(c, default=32)
    chosen = set(c.integers("attn_layer_indices", maximum=layers - 1) or ())
    kinds = _kinds(c, layers, lambda i: "attention" if i in chosen else "mamba")
    return _either(kinds, _attention(c, heads, kv_heads=8, hidden=4096), _named_mamba2(c, hidden=4096), heads)


def _granite(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=32), query_heads(c, default=32)
    kinds = _kinds(c, layers, lambda _: "mamba")
    return _either(kinds, _attention(c, heads, kv_heads=None, hidden=4096), _named_mamba2(c, hidden=4096), heads)


def _falcon_h1(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=32), query_heads(c, default=32)
    memory = (_attention(c, heads, kv_heads=8, hidden=4096), _named_mamba2(c, hidden=4096, inner_key="mamba_d_ssm", inner=1024))
    return Decoder(layers=[memory] * layers, heads=heads)


def _plamo2(c: Config) -> Decoder:
    """Every `mamba_step`-th layer attends, within a window unless `full_attention_idx` names it (`is_mamba`)."""
    layers, heads = layer_count(c, default=32), query_heads(c, default=32)
    per_head = width(c, "hidden_size_per_head", default=128)
    step = c.integer("mamba_step", default=2, minimum=2)
    chosen = {layers - 1} if layers <= step // 2 else set(range(step // 2, layers, step))
    if not c.flag("mamba_enabled", default=True):
        chosen = set(range(layers))
    kv_heads = grouped_heads(c, heads, default=4)
    window = Window(c.integer("attention_window_size", default=2048))
    full = set(c.integers("full_attention_idx", maximum=layers - 1) or ())
    state_heads, state_size = width(c, "mamba_num_heads", default=64), width(c, "mamba_d_state", default=64)
    # B and C do not pass through the convolution here
    ssm = State(name="ssm", shape=(state_heads, per_head, state_size), dtype="float32")
    state = Recurrent(kind="mamba2", states=(conv(state_heads * per_head, taps(c, "mamba_d_conv", default=4)), ssm))
    rows: list[tuple[Memory, ...]] = [
        (attention(kv_heads, per_head, None if i in full else window),) if i in chosen else (state,) for i in range(layers)
    ]
    return Decoder(layers=rows, heads=heads)


def _zamba(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=76), query_heads(c, default=16)
    hidden = width(c, "hidden_size", default=3712)
    period, offset = c.integer("attn_layer_period", default=6), c.integer("attn_layer_offset", default=4, minimum=0)
    kinds = _kinds(c, layers, lambda i: "hybrid" if i == 2 or (i > 2 and (i - 3) % period == offset) else "mamba", hybrid=True)
    inner, state_heads = c.integer("mamba_expand", default=2, maximum=4096) * hidden, width(c, "n_mamba_heads", default=2)
    per_head = divided(c, "n_mamba_heads", inner, state_heads, "mamba heads")
    # Mamba's numbers, kept by head (`ZambaMambaMixer`)
    ssm = State(name="ssm", shape=(state_heads, per_head, width(c, "mamba_d_state", default=16)), dtype="float32")
    state = Recurrent(kind="mamba", states=(conv(inner, taps(c, "mamba_d_conv", default=4)), ssm))
    return _beside(kinds, _zamba_attention(c, heads, hidden, 16), state, heads)


def _zamba2(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=54), query_heads(c, default=32)
    hidden = width(c, "hidden_size", default=2560)
    depths = {6, 12, 18, 24, 30, 36, 42, 47, 51}
    if not (c.has("layers_block_type") or c.has("layer_types")) and layers != 54:
        c.refuse("layers_block_type", f"is missing: the class default is for 54 layers, not {layers}")
    kinds = _kinds(c, layers, lambda i: "hybrid" if i in depths else "mamba", hybrid=True)
    state_heads = width(c, "n_mamba_heads", default=8)
    inner = c.integer("mamba_expand", default=2, maximum=4096) * hidden
    state = mamba2(
        heads=state_heads,
        head_dim=width(c, "mamba_headdim", default=divided(c, "n_mamba_heads", inner, state_heads, "mamba heads")),
        state_size=width(c, "mamba_d_state", default=64),
        groups=width(c, "mamba_ngroups", default=1),
        kernel=taps(c, "mamba_d_conv", default=4),
    )
    return _beside(kinds, _zamba_attention(c, heads, hidden, None), state, heads)


# What they share.


def _kinds(c: Config, layers: int, implied: Callable[[int], str], *, hybrid: bool = False) -> list[str]:
    names = LINEAR_NAMES | (_HYBRID_NAMES if hybrid else FULL_NAMES)
    return pattern(c, layers, implied, "layers_block_type", "layer_types", allowed=names)


def _either(kinds: list[str], keys: Softmax, state: Recurrent, heads: int) -> Decoder:
    rows: list[tuple[Memory, ...]] = [(state,) if kind in LINEAR_NAMES else (keys,) for kind in kinds]
    return Decoder(layers=rows, heads=heads)


def _beside(kinds: list[str], keys: Softmax, state: Recurrent, heads: int) -> Decoder:
    rows: list[tuple[Memory, ...]] = [(keys, state) if kind == "hybrid" else (state,) for kind in kinds]
    return Decoder(layers=rows, heads=heads)


def _attention(c: Config, heads: int, *, kv_heads: int | None, hidden: int) -> Softmax:
    """Keys and values; Bamba and Falcon-H1 take a null `num_key_value_heads` for one a query head."""
    absent = heads if is_null(c, "num_key_value_heads") else kv_heads
    return attention(grouped_heads(c, heads, default=absent), head_size(c, heads, hidden_default=hidden))


def _zamba_attention(c: Config, heads: int, hidden: int, kv_heads: int | None) -> Softmax:
    """The shared block reads the layer's input and the embeddings side by side: heads are twice as wide."""
    head_dim = width(c, "attention_head_dim", default=max(2 * hidden // heads, 1))
    return attention(grouped_heads(c, heads, default=kv_heads), head_dim)


def _named_mamba2(c: Config, *, hidden: int, inner_key: str = "", inner: int = 0) -> Recurrent:
    """Mamba-2 under the `mamba_*` names. `inner_key` null means `mamba_expand` * hidden size, absent its default.

    Raises:
        ConfigError: heads that do not divide the inner width, or do not fill it.
    """
    expanded = c.integer("mamba_expand", default=2, maximum=4096) * width(c, "hidden_size", default=hidden)
    if inner_key:
        expanded = width(c, inner_key, default=expanded if inner_key in c.data else inner)
    heads = width(c, "mamba_n_heads", default=128)
    head_dim = width_or_auto(c, "mamba_d_head", divided(c, "mamba_n_heads", expanded, heads, "mamba heads"))
    if head_dim * heads != expanded:
        c.refuse("mamba_d_head", f"x {heads} heads is {head_dim * heads}, but the inner width is {expanded}")
    return mamba2(
        heads=heads,
        head_dim=head_dim,
        state_size=width(c, "mamba_d_state", default=256),
        groups=width(c, "mamba_n_groups", default=1),
        kernel=taps(c, "mamba_d_conv", default=4),
    )


_READERS: Final[dict[str, Callable[[Config], Decoder]]] = {
    "mamba": _mamba,
    "falcon_mamba": _mamba,
    "mamba2": _mamba2,
    "jamba": _jamba,
    "bamba": _bamba,
    "granitemoehybrid": _granite,
    "falcon_h1": _falcon_h1,
    "plamo2": _plamo2,
    "zamba": _zamba,
    "zamba2": _zamba2,
}
