"""Phi of Microsoft: 1 to 2 and 3-small plain, 3 and 4 with a window where there is one, and Phi-4-mini-flash (SambaY).

SambaY is a self-decoder of Mamba and sliding layers, then layers that read one layer's keys. Even layers are Mamba up to
the middle one; odd layers slide up to the middle. The layer after the middle is the only one with full keys and values;
later odd layers attend to them, later even layers gate the middle layer's output and remember nothing.
Sources: `configuration_phi*.py` of transformers 5.23; arXiv 2507.06607, and `modeling_phi4flash.py` of the checkpoint
(`yoco_cross`, `mb_per_layer`).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import GPT, Row, head_dim, kv_heads, layer_count, lenient, query_heads, width
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import sliding
from kvplan.architectures.kit.states import expanded, mamba1, taps
from kvplan.domain.model import Memory, Shared, Window


@reader
def _flash(c: Config, row: Row) -> Decoder:
    """Self-decoder, then cross-decoder."""
    layers, heads = layer_count(c, row), query_heads(c, row)
    if layers % 4:
        c.refuse("num_hidden_layers", f"must be a multiple of 4 for the self- and cross-decoder, got {layers}")
    step = c.integer("mb_per_layer", default=2)
    if step != 2:
        c.refuse("mb_per_layer", f"must be 2: other layer maps are not known, got {step}")
    kv, dim = kv_heads(c, row, heads), head_dim(c, row, heads)
    inner = expanded(c, "mamba_expand", row)
    state = mamba1(inner, width(c, "mamba_d_state", default=16), taps(c, "mamba_d_conv", default=4))
    window = attention(kv, dim, Window(c.integer("sliding_window", default=512)))
    middle = layers // 2
    rows: list[tuple[Memory, ...]] = [(window,) if i % 2 else (state,) for i in range(middle)]
    rows += [(state,), (attention(kv, dim),)]
    rows += [(Shared(source=middle + 1),) if i % 2 else () for i in range(middle + 2, layers)]
    return Decoder(layers=rows, heads=heads)


_PHI3: Final = sliding(Row(32, 32, 3072))
_MULTIMODAL: Final = sliding(Row(32, 32, 3072, 8))
ROWS: Final[dict[str, Reader]] = {
    "mixformer-sequential": plain(Row(12, 12, 768, names=GPT)),  # phi-1 and phi-1.5, as first published
    "phi": plain(Row(24, 32, 2048)),
    "phi-msft": plain(Row(24, 32, 2048, names=GPT._replace(kv_heads=("n_head_kv",)))),
    "phi3": _PHI3,
    "phi3_v": _PHI3,
    "phi3small": plain(Row(32, 32, 4096, 8)),
    "phi4": _PHI3,
    "phi4_multimodal": _MULTIMODAL,
    "phi4flash": _flash(lenient(32, 40, 2560, 20)),
    "phi4mm": _MULTIMODAL,
    "phimoe": sliding(Row(32, 32, 4096, 8, refuses_null=("kv_heads",))),
}
