"""Mamba and its hybrids: Mamba, Mamba-2, Jamba, Bamba and Zamba. (Falcon-Mamba is in `falcon`, Granite 4 H in `granite`.)

Jamba and Bamba put attention in some layers instead; Zamba runs one shared attention block at several depths, each of
which needs keys and values of its own. Sources: transformers 5.23 `configuration_*.py` and `modeling_*.py` of each.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, divided, hidden_size, kv_heads, layer_count, lenient, query_heads, width
from kvplan.architectures.kit.layers import FULL, LINEAR, attention
from kvplan.architectures.kit.mamba import block_types, either, grouped, mamba, read_mamba2
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import conv, expanded, mamba1, mamba2, taps
from kvplan.domain.model import Memory, Recurrent, Softmax, State

_HYBRID: Final = "hybrid"


@reader
def _mamba2(c: Config, row: Row) -> Decoder:
    hidden = hidden_size(c, row)
    expand = c.integer("expand", default=2, maximum=4096)
    heads, dim = width(c, "num_heads", default=128), width(c, "head_dim", default=64)
    if heads * dim != expand * hidden:
        c.refuse("num_heads", f"x `head_dim` is {heads * dim}, but `expand` x `hidden_size` is {expand * hidden}")
    state = mamba2(
        heads=heads,
        head_dim=dim,
        state_size=width(c, "state_size", default=128),
        groups=width(c, "n_groups", default=8),
        kernel=taps(c, "conv_kernel", default=4),
    )
    return Decoder(layers=[(state,)] * layer_count(c, row))


@reader
def _jamba(c: Config, row: Row) -> Decoder:
    layers, heads = layer_count(c, row), query_heads(c, row)
    period, offset = c.integer("attn_layer_period", default=8), c.integer("attn_layer_offset", default=4, minimum=0)
    if offset >= period:
        c.refuse("attn_layer_offset", f"must be smaller than the period {period}, got {offset}")
    implied = [FULL if i % period == offset else LINEAR for i in range(layers)]
    kinds = block_types(c, layers, LINEAR, FULL) or implied
    inner = expanded(c, "mamba_expand", row)
    state = mamba1(inner, width(c, "mamba_d_state", default=16), taps(c, "mamba_d_conv", default=4))
    return either(kinds, grouped(c, row, heads), state, heads)


@reader
def _bamba(c: Config, row: Row) -> Decoder:
    layers, heads = layer_count(c, row), query_heads(c, row)
    chosen = set(c.integers("attn_layer_indices", maximum=layers - 1) or ())
    kinds = block_types(c, layers, LINEAR, FULL) or [FULL if i in chosen else LINEAR for i in range(layers)]
    return either(kinds, grouped(c, row, heads), read_mamba2(c, row), heads)


@reader
def _zamba(c: Config, row: Row) -> Decoder:
    layers, heads = layer_count(c, row), query_heads(c, row)
    hidden = hidden_size(c, row)
    period, offset = c.integer("attn_layer_period", default=6), c.integer("attn_layer_offset", default=4, minimum=0)
    attends = {i for i in range(layers) if i == 2 or (i > 2 and (i - 3) % period == offset)}
    kinds = _zamba_kinds(c, layers, attends)
    inner, state_heads = expanded(c, "mamba_expand", row), width(c, "n_mamba_heads", default=2)
    per_head = divided(c, "n_mamba_heads", inner, state_heads, "mamba heads")
    # Mamba's numbers, kept by head (`ZambaMambaMixer`)
    ssm = State(name="ssm", shape=(state_heads, per_head, width(c, "mamba_d_state", default=16)), dtype="float32")
    state = Recurrent(kind="mamba", states=(conv(inner, taps(c, "mamba_d_conv", default=4)), ssm))
    return _beside(kinds, _zamba_attention(c, row, heads, hidden), state, heads)


@reader
def _zamba2(c: Config, row: Row) -> Decoder:
    layers, heads = layer_count(c, row), query_heads(c, row)
    hidden = hidden_size(c, row)
    if not (c.has("layers_block_type") or c.has("layer_types")) and layers != row.layers:
        c.refuse("layers_block_type", f"is missing: the class default is for {row.layers} layers, not {layers}")
    kinds = _zamba_kinds(c, layers, {6, 12, 18, 24, 30, 36, 42, 47, 51})
    state_heads = width(c, "n_mamba_heads", default=8)
    inner = expanded(c, "mamba_expand", row)
    state = mamba2(
        heads=state_heads,
        head_dim=width(c, "mamba_headdim", default=divided(c, "n_mamba_heads", inner, state_heads, "mamba heads")),
        state_size=width(c, "mamba_d_state", default=64),
        groups=width(c, "mamba_ngroups", default=1),
        kernel=taps(c, "mamba_d_conv", default=4),
    )
    return _beside(kinds, _zamba_attention(c, row, heads, hidden), state, heads)


def _zamba_kinds(c: Config, layers: int, attends: set[int]) -> list[str]:
    return block_types(c, layers, LINEAR, _HYBRID) or [_HYBRID if i in attends else LINEAR for i in range(layers)]


def _zamba_attention(c: Config, row: Row, heads: int, hidden: int) -> Softmax:
    """The shared block reads the layer's input and the embeddings side by side: heads are twice as wide."""
    dim = width(c, "attention_head_dim", default=max(2 * hidden // heads, 1))
    return attention(kv_heads(c, row, heads), dim)


def _beside(kinds: list[str], keys: Softmax, state: Recurrent, heads: int) -> Decoder:
    rows: list[tuple[Memory, ...]] = [(keys, state) if kind == _HYBRID else (state,) for kind in kinds]
    return Decoder(layers=rows, heads=heads)


ROWS: Final[dict[str, Reader]] = {
    "bamba": _bamba(lenient(32, 32, 4096, 8)),
    "jamba": _jamba(lenient(32, 32, 4096, 8)),
    "mamba": mamba(lenient(32, hidden=768)),
    "mamba2": _mamba2(lenient(64, hidden=4096)),
    "zamba": _zamba(lenient(76, 16, 3712, 16)),
    "zamba2": _zamba2(lenient(54, 32, 2560)),
}
