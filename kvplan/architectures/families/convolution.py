"""Short convolutions as memory: LFM2 and LFM3 (instead of attention), Inkling and ZAYA1 (inside it).

LFM layers are a gated convolution of `conv_L_cache` taps or attention. An Inkling layer has four convolutions (keys,
values, after attention, after the MLP) computed in float32. ZAYA1's compressed convolutional attention runs two
convolutions over queries and keys and takes half of each value from the token before.
Sources: transformers 5.23 `modeling_lfm2.py`, `_lfm3.py`, `_inkling.py`, `_inkling2.py`, `_zaya.py`.
"""

from typing import Final, NamedTuple

from kvplan.architectures.families.latent import draft_count
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import (
    FULL_NAMES,
    SLIDING_NAMES,
    Decoder,
    attention,
    grouped_heads,
    head_size,
    layer_count,
    pattern,
    query_heads,
    reach_of,
)
from kvplan.architectures.kit.states import short_conv, taps, width
from kvplan.domain.model import Memory, Reach, Recurrent, State, Window

_CONV_NAMES: Final = frozenset({"conv", "short_conv"})
_HYBRID: Final = frozenset({"hybrid", "hybrid_sliding"})


def read(c: Config, model_type: str) -> Decoder:
    """Dispatch by family."""
    if model_type.startswith("lfm"):
        return _lfm(c, model_type)
    return _zaya(c) if model_type == "zaya" else _inkling(c, _INKLING[model_type])


# LFM.


def _lfm(c: Config, model_type: str) -> Decoder:
    third = model_type == "lfm3"
    layers = layer_count(c, default=24 if third else 32)
    heads = query_heads(c, default=16 if third else 32)
    kv_heads = grouped_heads(c, heads, default=4 if third else 8)
    hidden = width(c, "hidden_size", default=2560 if model_type == "lfm2" else 2048)
    head_dim = head_size(c, heads, hidden_default=hidden, default=128 if third else None)
    state = short_conv(hidden, taps(c, "conv_L_cache", default=7 if third else 3))
    window = c.integer("sliding_window", default=256) if third else None
    rows: list[tuple[Memory, ...]] = [
        (state,) if kind in _CONV_NAMES else (attention(kv_heads, head_dim, reach_of(c, kind, window=window)),)
        for kind in _lfm_kinds(c, model_type, layers)
    ]
    return Decoder(layers=rows, heads=heads)


def _lfm_kinds(c: Config, model_type: str, layers: int) -> list[str]:
    if model_type == "lfm3":

        def implied(i: int) -> str:
            return "full_attention" if i % 4 == 2 else "sliding_attention" if i % 4 == 0 and i > 0 else "conv"

        return pattern(c, layers, implied, allowed=_CONV_NAMES | FULL_NAMES | SLIDING_NAMES)
    chosen = c.integers("full_attn_idxs", maximum=layers - 1)
    if model_type == "lfm2_moe" and chosen is None and not c.has("layer_types"):
        c.refuse("layer_types", "is missing, and LFM2-MoE has no default layer map")
    full = set(range(layers) if chosen is None else chosen)
    return pattern(c, layers, lambda i: "full_attention" if i in full else "conv", allowed=_CONV_NAMES | FULL_NAMES)


# Inkling.


class _InklingDefaults(NamedTuple):
    layers: int
    heads: int
    kv_heads: int
    swa_kv_heads: int
    hidden: int
    window: int


_INKLING: Final[dict[str, _InklingDefaults]] = {
    "inkling_text": _InklingDefaults(66, 64, 8, 16, 6144, 512),
    "inkling2_text": _InklingDefaults(48, 48, 8, 8, 4608, 1024),
}


def _inkling(c: Config, row: _InklingDefaults) -> Decoder:
    layers, heads = layer_count(c, default=row.layers), query_heads(c, default=row.heads)
    hidden = width(c, "hidden_size", default=row.hidden)
    kernel = taps(c, "conv_kernel_size", "sconv_kernel_size", default=4)
    window = Window(c.integer("sliding_window_size", "sliding_window", default=row.window))
    swa_heads = query_heads(c, "swa_num_attention_heads", default=row.heads)
    memories = {
        "hybrid": _inkling_layer(
            grouped_heads(c, heads, default=row.kv_heads), width(c, "head_dim", default=128), None, hidden, kernel
        ),
        "hybrid_sliding": _inkling_layer(
            grouped_heads(c, swa_heads, "swa_num_key_value_heads", default=row.swa_kv_heads),
            width(c, "swa_head_dim", default=128),
            window,
            hidden,
            kernel,
        ),
    }
    local = c.integers("local_layer_ids", maximum=layers - 1)
    sliding = {i for i in range(layers) if (i + 1) % 6} if local is None else set(local)
    kinds = pattern(c, layers, lambda i: "hybrid_sliding" if i in sliding else "hybrid", allowed=_HYBRID)
    predicted = draft_count(c, "num_mtp_layers", "num_nextn_predict_layers")
    near = set(c.integers("mtp_local_layer_ids") or ())
    drafts = [memories["hybrid_sliding" if i in near else "hybrid"] for i in range(predicted)]
    return Decoder(layers=[memories[kind] for kind in kinds], heads=heads, drafts=drafts)


def _inkling_layer(kv_heads: int, head_dim: int, reach: Reach | None, hidden: int, kernel: int) -> tuple[Memory, ...]:
    inner = kv_heads * head_dim
    names = (("conv_keys", inner), ("conv_values", inner), ("conv_attention", hidden), ("conv_mlp", hidden))
    states = tuple(State(name=name, shape=(size,), kernel=kernel, dtype="float32") for name, size in names)
    return (attention(kv_heads, head_dim, reach), Recurrent(kind="short_conv", states=states))


# ZAYA1.


def _zaya(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=40), query_heads(c, default=8)
    kv_heads, head_dim = grouped_heads(c, heads, default=2), width(c, "head_dim", default=128)
    columns = taps(c, "cca_time0", default=2) + taps(c, "cca_time1", default=2) - 2
    window = c.integer("sliding_window", default=None)
    # two convolutions in a row: what both look back at is kept, and every engine keeps exactly that
    delayed = State(name="delayed_value", shape=(max(kv_heads * head_dim // 2, 1),))
    conv = (State(name="conv", shape=((heads + kv_heads) * head_dim, columns)),) if columns else ()
    state = Recurrent(kind="short_conv", states=(*conv, delayed))
    rows: list[tuple[Memory, ...]] = []
    for kind in pattern(c, layers, lambda _: "hybrid", allowed=_HYBRID):
        reach = reach_of(c, "sliding_attention", window=window) if kind == "hybrid_sliding" else None
        rows.append((attention(kv_heads, head_dim, reach), state))
    return Decoder(layers=rows, heads=heads)
