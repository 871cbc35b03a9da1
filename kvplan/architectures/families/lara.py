"""Lara of Translated: of five layers two are gated DeltaNet, two attend within a window and one to everything.

Source: transformers 5.24 `configuration_lara_mini.py`, `modeling_lara_mini.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, read_heads, width
from kvplan.architectures.kit.layers import FULL, LINEAR, SLIDING, attention, layer_types, reach
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import gated_delta, taps
from kvplan.domain.model import Memory

_PERIOD: Final = (LINEAR, SLIDING, LINEAR, FULL, SLIDING)


@reader
def _lara(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    window = c.integer("sliding_window", default=row.window)
    kinds = layer_types(c, heads.layers, *dict.fromkeys(_PERIOD))
    if kinds is None:
        kinds = [_PERIOD[i % len(_PERIOD)] for i in range(heads.layers)]
    key_heads = width(c, "linear_num_key_heads", default=8)
    value_heads = width(c, "linear_num_value_heads", default=16)
    if value_heads % key_heads:
        c.refuse("linear_num_value_heads", f"{value_heads} is not a multiple of the {key_heads} key heads")
    state = gated_delta(
        key_heads=key_heads,
        key_dim=width(c, "linear_key_head_dim", default=128),
        value_heads=value_heads,
        value_dim=width(c, "linear_value_head_dim", default=128),
        kernel=taps(c, "linear_conv_kernel_dim", default=4),
    )
    kept: dict[str, tuple[Memory, ...]] = {
        kind: (state,) if kind == LINEAR else (attention(heads.kv, heads.dim, reach(c, kind, window)),)
        for kind in dict.fromkeys(kinds)
    }
    return Decoder(layers=[kept[kind] for kind in kinds], heads=heads.query)


ROWS: Final[dict[str, Reader]] = {
    "lara_mini": _lara(Row(34, 16, 1024, 4, 128, window=512, refuses_null=("kv_heads", "head_dim"))),
}
