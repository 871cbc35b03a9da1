"""Step of StepFun: Step-3 is plain; Step-3.5 and later slide, and may give sliding layers heads of their own.

Step-3.5 pads `layer_types` with its prediction layers; `attention_other_setting` holds the heads of sliding layers.
Source: `configuration_step3p7.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import STANDARD, Heads, Row, dividing, optional, read_heads
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, attention, draft_count, layer_types, reach, read_window
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Memory

_GROUPS: Final = STANDARD._replace(kv_heads=("num_key_value_heads", "num_attention_groups"))


@reader
def _step(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    drafts = draft_count(c, default=row.drafts)
    window = read_window(c, row.window)
    kinds = _padded_kinds(c, heads.layers, drafts)
    near = _other_setting(c, heads)
    memories: list[tuple[Memory, ...]] = []
    for kind in kinds:
        own = near if kind == SLIDING else heads
        memories.append((attention(own.kv, own.dim, reach(c, kind, window)),))
    return Decoder(layers=memories[: heads.layers], heads=heads.query, drafts=memories[heads.layers :])


def _padded_kinds(c: Config, layers: int, drafts: int) -> list[str]:
    """The kinds of all layers, then of the MTP layers: in one list, or in `mtp_layer_types`, or all full."""
    entries = c.items("layer_types")
    if entries is not None and len(entries) == layers + drafts:
        return layer_types(c, layers + drafts, FULL, SLIDING, CHUNKED) or []
    own = layer_types(c, layers, FULL, SLIDING, CHUNKED) or [FULL] * layers
    return own + (layer_types(c, drafts, FULL, SLIDING, keys=("mtp_layer_types",)) or [FULL] * drafts)


def _other_setting(c: Config, heads: Heads) -> Heads:
    """The heads of the sliding layers."""
    other = c.section("attention_other_setting")
    query = optional(c, ("num_sliding_attention_heads",), None)
    query = query or other.integer("num_attention_heads", default=heads.query)
    kv = other.integer("num_attention_groups", "num_key_value_heads", default=heads.kv)
    dividing(c, "num_sliding_attention_heads", query, kv)
    return heads._replace(query=query, kv=kv, dim=other.integer("head_dim", default=heads.dim))


ROWS: Final[dict[str, Reader]] = {
    "step3_text": plain(Row(61, 64, 7168, 1, 256, names=_GROUPS)),
    "step5": _step(Row(48, 40, 5120, 8, names=_GROUPS)),
    "step3p5": _step(Row(45, 64, 4096, 8, 128, names=_GROUPS, refuses_null=("kv_heads", "head_dim"))),
}
