"""Gemma 3n and Gemma 4: the last layers own no cache, and Gemma 4's full layers have heads of their own.

The last `num_kv_shared_layers` layers read the keys and values of the last earlier layer of their own type.
Gemma 4's full layers have `global_head_dim` and, with `attention_k_eq_v`, `num_global_key_value_heads`.
The window of the sliding layers is the config's `sliding_window`. An assistant shares every layer with its target.
Source: `configuration_gemma3n.py` and `configuration_gemma4.py` of transformers 5.23 (`kv_sharing_modes`, `__post_init__`).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Heads, Row, count, layer_reach, optional, read_heads, read_layer_types, read_window
from kvplan.architectures.kit.shapes import Decoder, attention
from kvplan.domain.model import Memory, Shared

_GEMMA4: Final = Row(30, 8, 2304, 4, 256, rejects="kd", window=512)
ROWS: Final[dict[str, Row]] = {
    "diffusion_gemma_text": _GEMMA4,
    "gemma3n_text": Row(35, 8, 2048, 2, 256, rejects="kd", window=512),
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4._replace(window=1024),
}


def read(c: Config, model_type: str) -> Decoder:
    """Sliding and full layers, the last of which share."""
    heads = read_heads(c, ROWS[model_type])
    window = read_window(c, ROWS[model_type].window)
    gemma4 = model_type != "gemma3n_text"
    if gemma4 and window and c.text("use_bidirectional_attention", default=None) == "all":
        window = window // 2 + 1  # both sides of the token share the window
    kinds = _kinds(c, heads.layers, 6 if gemma4 else 5)
    if gemma4:
        kinds[-1] = "full_attention"  # the class forces it
    full = _global_heads(c, heads, model_type) if gemma4 else heads
    overrides = _overrides(c, heads.layers) if gemma4 and c.has("per_layer_config") else None
    layers: list[tuple[Memory, ...]] = []
    for i, kind in enumerate(kinds):
        own = full if kind == "full_attention" and overrides is None else heads
        if overrides is not None:
            own = own._replace(**overrides.get(i, {}))
        layers.append((attention(own.kv, own.dim, layer_reach(c, kind, window)),))
    return _shared(c, layers, kinds, heads.query, 0 if gemma4 else 15)


def _kinds(c: Config, layers: int, step: int) -> list[str]:
    given = read_layer_types(c, layers)
    return given or ["sliding_attention" if (i + 1) % step else "full_attention" for i in range(layers)]


def _global_heads(c: Config, heads: Heads, model_type: str) -> Heads:
    """The heads of Gemma 4's full layers."""
    dim = count(c, ("global_head_dim",), 512)
    kv_heads: int | None = optional(c, ("num_global_key_value_heads",), None, rejected=False)
    if kv_heads is None or not (model_type == "diffusion_gemma_text" or c.flag("attention_k_eq_v")):
        return heads._replace(dim=dim)
    if heads.query % kv_heads:
        c.refuse("num_global_key_value_heads", f"{kv_heads} does not divide the {heads.query} query heads")
    return heads._replace(kv=kv_heads, dim=dim)


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
