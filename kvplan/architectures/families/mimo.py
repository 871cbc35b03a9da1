"""MiMo of Xiaomi: 7B as Qwen2, and V2-Flash, whose sliding layers have heads of their own.

V2-Flash keeps twice the KV heads in sliding layers, keys of 192 and values of 128 elements. Its hub config writes 128
for the window; the library's class adds one to `sliding_window_size` (an engine convention, not kept here).
Sources: `modeling_mimo_v2_flash.py` of transformers 5.23; the hub config of MiMo-V2-Flash.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, count, dividing, read_heads
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, draft_count, layer_types, reach
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import from_layer, sliding
from kvplan.domain.model import Memory, Softmax


@reader
def _flash(c: Config, row: Row) -> Decoder:
    """Full layers of one kind of heads, sliding layers of another."""
    heads = read_heads(c, row)
    window = c.integer("sliding_window_size", "sliding_window", default=row.window)
    for key in ("sliding_window", "attention_chunk_size"):
        c.has(key)  # the same number again
    value_dim = count(c, ("v_head_dim",), 128)
    query = c.integer("swa_num_attention_heads", default=heads.query)
    kv = dividing(c, "swa_num_key_value_heads", query, c.integer("swa_num_key_value_heads", default=heads.kv * 2))
    dim, swa_value = c.integer("swa_head_dim", default=heads.dim), c.integer("swa_v_head_dim", default=value_dim)
    kinds = layer_types(c, heads.layers, FULL, SLIDING, CHUNKED) or _hybrid_pattern(c, heads.layers)
    far: tuple[Memory, ...] = (Softmax(kv_heads=heads.kv, key_dim=heads.dim, value_dim=value_dim),)
    near: tuple[Memory, ...] = (Softmax(kv_heads=kv, key_dim=dim, value_dim=swa_value, reach=reach(c, SLIDING, window)),)
    drafts = [near] * draft_count(c, default=None)
    return Decoder(layers=[near if kind == SLIDING else far for kind in kinds], heads=heads.query, drafts=drafts)


def _hybrid_pattern(c: Config, layers: int) -> list[str]:
    """`hybrid_layer_pattern` (1: sliding), else full in the first layer and each sixth."""
    given = c.integers("hybrid_layer_pattern", length=layers, maximum=1)
    slides = given or [int(i != 0 and (i + 1) % 6 != 0) for i in range(layers)]
    return [SLIDING if each else FULL for each in slides]


ROWS: Final[dict[str, Reader]] = {
    "mimo": sliding(Row(36, 32, 4096, 8), from_layer(36), gated=True),
    "mimo_v2_flash": _flash(Row(48, 64, 4096, 4, 192, window=129, refuses_null=("kv_heads", "head_dim"))),
}
