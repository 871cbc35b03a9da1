"""A transformer over patches or frames: what most vision and audio towers are, from one row a class."""

from collections.abc import Callable
from typing import NamedTuple

from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.mlp import Mlp, feed_forward
from kvplan.architectures.parameters.sizes import HIDDEN, Section
from kvplan.domain.parameters import Component


class Tower(NamedTuple):
    """One class of tower. A switch is a constant or the config key that holds it; names are under the tower's own prefix."""

    patch: str = "embeddings.patch_embedding"
    patch_kind: str = "conv2d"  # conv2d, conv3d (frames too), linear (flat patches), none
    patch_bias: bool | str = True
    channels: tuple[str, ...] = ("num_channels", "in_channels", "in_chans")
    positions: str = "embeddings.position_embedding"  # a table; empty: none
    position_rows: Callable[[Section], int] | None = None  # None: one a patch of the image
    class_vector: str = ""  # the name of a vector; it has a position too
    before: str = ""  # a norm before the layers
    after: str = "post_layernorm"  # a norm after them
    hidden: tuple[str, ...] = HIDDEN
    layers: tuple[str, ...] = ("num_hidden_layers", "depth", "encoder_layers")
    stack: str = "encoder.layers"
    norms: tuple[str, str] = ("layer_norm1", "layer_norm2")
    norm_bias: bool = True
    attention: str = "self_attn"
    names: tuple[str, ...] = ("k_proj", "v_proj", "q_proj", "out_proj")  # or ("qkv", "proj")
    bias: bool | str = True  # of queries and values
    k_bias: bool | str | None = None
    o_bias: bool | str | None = None
    qk_norm: tuple[str, str] | None = None
    mlp: str = "mlp"
    mlp_names: tuple[str, ...] = ("fc1", "fc2")
    mlp_bias: bool | str = True
    width: tuple[str, ...] = ("intermediate_size", "encoder_ffn_dim", "mlp_dim")
    by_ratio: bool = False  # `mlp_ratio` decides the width even where the config has one
    heads: tuple[str, ...] = ("num_attention_heads", "num_heads", "encoder_attention_heads", "attention_heads")
    kv_heads: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()  # vectors of the hidden size in each layer
    more: Callable[[Section], Tensors] | None = None  # more tensors outside the layers
    fewer: Callable[[Section], int] | None = None  # how many layers are built
    linear_suffix: str = ""  # what a layer's matrices are called inside


def tower(s: Section, row: Tower, prefix: str, component: Component) -> Tensors:
    """The tower's tensors under `prefix`, all of them of one component."""
    yield from under(prefix, modules(s, row), component)


def modules(s: Section, row: Tower) -> Tensors:
    """The tower's tensors without a prefix."""
    hidden = s.number(*row.hidden)
    if row.class_vector:
        yield from vector(row.class_vector, hidden, component="vision")
    if row.patch_kind != "none":
        yield from _patch(s, row, hidden)
    if row.positions:
        rows = row.position_rows(s) if row.position_rows is not None else patches(s) + bool(row.class_vector)
        yield from table(row.positions, rows, hidden, "positions", split="none")
    if row.before:
        yield from norm(row.before, hidden, bias=row.norm_bias)
    number = row.fewer(s) if row.fewer is not None else s.number(*row.layers)
    yield from over_layers(row.stack, [0] * number, lambda _: _layer(s, row, hidden))
    if row.after:
        yield from norm(row.after, hidden, bias=row.norm_bias)
    if row.more is not None:
        yield from row.more(s)


def patches(s: Section) -> int:
    """Patches of one image at the config's size."""
    image, patch = _side(s, "image_size"), _side(s, "patch_size", "spatial_patch_size")
    return (image // patch) ** 2


def _side(s: Section, *keys: str) -> int:
    for key in keys:
        value = s.c.data.get(key)
        if isinstance(value, list) and value and isinstance(value[0], int):
            return int(value[0])
    return s.number(*keys, minimum=1)


def _patch(s: Section, row: Tower, hidden: int) -> Tensors:
    side = _side(s, "patch_size", "spatial_patch_size")
    channels = s.number(*row.channels, default=3)
    frames = s.number("temporal_patch_size", default=2) if row.patch_kind == "conv3d" else 0
    shape: tuple[int, ...]
    if row.patch_kind == "linear":
        shape = (hidden, channels * side * side * s.number("patch_temporal", default=1))
    else:
        shape = (hidden, channels, *((frames,) if frames else ()), side, side)
    yield from vector(f"{row.patch}.weight", *shape, role="patch", component="vision")
    if s.flag(row.patch_bias):
        yield from vector(f"{row.patch}.bias", hidden, role="patch", component="vision")


def _layer(s: Section, row: Tower, hidden: int) -> Tensors:
    yield from norm(row.norms[0], hidden, bias=row.norm_bias)
    prefix = f"{row.attention}." if row.attention else ""
    yield from under(prefix, _attention(s, row, hidden))
    yield from norm(row.norms[1], hidden, bias=row.norm_bias)
    ratio = _ratio(s, row)
    width = int(hidden * ratio) if ratio else s.number(*row.width)
    inner = feed_forward(
        hidden, width, Mlp(names=tuple(f"{n}{row.linear_suffix}" for n in row.mlp_names)), bias=s.flag(row.mlp_bias)
    )
    yield from under(f"{row.mlp}." if row.mlp else "", inner)
    for name in row.scales:
        yield from vector(name, hidden, component="vision")


def _ratio(s: Section, row: Tower) -> float:
    """The width of the feed-forward layers as a multiple, where the config has no width (Qwen2-VL)."""
    value = s.c.data.get("mlp_ratio")
    has_width = any(isinstance(s.c.data.get(key), int) for key in ("intermediate_size", "encoder_ffn_dim", "mlp_dim"))
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if row.by_ratio or not has_width else 0.0


def _attention(s: Section, row: Tower, hidden: int) -> Tensors:
    heads = s.number(*row.heads, minimum=1)
    dim = s.maybe("head_dim", "attention_head_dim") or hidden // heads
    kv = (s.maybe(*row.kv_heads) if row.kv_heads else None) or heads
    bias = s.flag(row.bias)
    o_bias = bias if row.o_bias is None else s.flag(row.o_bias)
    k_bias = bias if row.k_bias is None else s.flag(row.k_bias)
    suffix = row.linear_suffix
    if len(row.names) == 2:
        wide = (heads + 2 * kv) * dim
        yield from linear(row.names[0], wide, hidden, "qkv", component="vision", split="column", bias=bias, units=kv)
    else:
        k, v, q, _ = row.names
        yield from linear(f"{k}{suffix}", kv * dim, hidden, "k", component="vision", split="column", bias=k_bias, units=kv)
        yield from linear(f"{v}{suffix}", kv * dim, hidden, "v", component="vision", split="column", bias=bias, units=kv)
        yield from linear(f"{q}{suffix}", heads * dim, hidden, "q", component="vision", split="column", bias=bias, units=heads)
    yield from linear(f"{row.names[-1]}{suffix}", hidden, heads * dim, "o", component="vision", split="row", bias=o_bias)
    for name in row.qk_norm or ():
        yield from norm(name, dim)
