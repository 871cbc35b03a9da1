"""State-space layers, alone or beside attention.

A Mamba layer keeps the last inputs of a short convolution and a float32 state matrix, whatever the context.
Sources: transformers 5.23 `configuration_*.py` and `modeling_*.py` of each (`MambaMixer`, `layers_block_type`).
"""

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import (
    Row,
    divided,
    head_dim,
    hidden_size,
    is_null,
    kv_heads,
    layer_count,
    width,
)
from kvplan.architectures.kit.layers import LINEAR, attention, layer_types
from kvplan.architectures.kit.reader import Decoder, reader
from kvplan.architectures.kit.states import expanded, mamba1, mamba2, taps, width_or_auto
from kvplan.domain.model import Memory, Recurrent, Softmax


@reader
def mamba(c: Config, row: Row) -> Decoder:
    """`intermediate_size` wins over `expand` * hidden size: Falcon-Mamba-7B says expand 16 and means 8,192 channels."""
    hidden_size(c, row)  # first, so that `explain` shows it first
    inner = width(c, "intermediate_size", default=expanded(c, "expand", row))
    state = mamba1(inner, width(c, "state_size", default=16), taps(c, "conv_kernel", default=4))
    return Decoder(layers=[(state,)] * layer_count(c, row))


def block_types(c: Config, layers: int, *kinds: str) -> list[str] | None:
    """Each layer's kind, where the config lists them."""
    return layer_types(c, layers, *kinds, keys=("layers_block_type", "layer_types"))


def either(kinds: list[str], keys: Softmax, state: Recurrent, heads: int) -> Decoder:
    """The state in linear layers, keys and values in the others."""
    rows: list[tuple[Memory, ...]] = [(state,) if kind == LINEAR else (keys,) for kind in kinds]
    return Decoder(layers=rows, heads=heads)


def grouped(c: Config, row: Row, query: int) -> Softmax:
    """Keys and values; a null `num_key_value_heads` means one head a query head, whatever the class assumes."""
    if is_null(c, *row.names.kv_heads):
        row = row._replace(kv_heads=None)
    return attention(kv_heads(c, row, query), head_dim(c, row, query))


def read_mamba2(c: Config, row: Row, *, inner_key: str = "", inner: int = 0) -> Recurrent:
    """Mamba-2 under the `mamba_*` names. `inner_key` null means `mamba_expand` * hidden size, absent its default.

    Raises:
        ConfigError: heads that do not divide the inner width, or do not fill it.
    """
    wide = expanded(c, "mamba_expand", row)
    if inner_key:
        wide = width(c, inner_key, default=wide if inner_key in c.data else inner)
    heads = width(c, "mamba_n_heads", default=128)
    head_dim = width_or_auto(c, "mamba_d_head", divided(c, "mamba_n_heads", wide, heads, "mamba heads"))
    if head_dim * heads != wide:
        c.refuse("mamba_d_head", f"x {heads} heads is {head_dim * heads}, but the inner width is {wide}")
    return mamba2(
        heads=heads,
        head_dim=head_dim,
        state_size=width(c, "mamba_d_state", default=256),
        groups=width(c, "mamba_n_groups", default=1),
        kernel=taps(c, "mamba_d_conv", default=4),
    )
