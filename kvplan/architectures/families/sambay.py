"""Phi-4-mini-flash (SambaY): a self-decoder of Mamba and sliding layers, then layers that read one layer's keys.

Even layers are Mamba up to the middle one; odd layers slide up to the middle. The layer after the middle is the only
one with full keys and values; later odd layers attend to them, later even layers gate the middle layer's output and
remember nothing. Source: arXiv 2507.06607, and `modeling_phi4flash.py` of the checkpoint (`yoco_cross`, `mb_per_layer`).
"""

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import Decoder, attention, grouped_heads, head_size, layer_count, query_heads
from kvplan.architectures.kit.states import mamba1, taps, width
from kvplan.domain.model import Memory, Shared, Window


def read(c: Config, model_type: str) -> Decoder:
    """Self-decoder, then cross-decoder."""
    layers, heads = layer_count(c, default=32), query_heads(c, default=40)
    if layers % 4:
        c.refuse("num_hidden_layers", f"must be a multiple of 4 for the self- and cross-decoder, got {layers}")
    every = c.integer("mb_per_layer", default=2)
    if every != 2:
        c.refuse("mb_per_layer", f"must be 2: other layer maps are not known, got {every}")
    kv_heads, head_dim = grouped_heads(c, heads, default=20), head_size(c, heads, hidden_default=2560)
    inner = c.integer("mamba_expand", default=2, maximum=4096) * width(c, "hidden_size", default=2560)
    state = mamba1(inner, width(c, "mamba_d_state", default=16), taps(c, "mamba_d_conv", default=4))
    window = attention(kv_heads, head_dim, Window(c.integer("sliding_window", default=512)))
    middle = layers // 2
    rows: list[tuple[Memory, ...]] = [(window,) if i % 2 else (state,) for i in range(middle)]
    rows += [(state,), (attention(kv_heads, head_dim),)]
    rows += [(Shared(source=middle + 1),) if i % 2 else () for i in range(middle + 2, layers)]
    return Decoder(layers=rows, heads=heads)
