"""MiniMax: lightning attention with softmax every eighth layer (Text-01, M1), softmax (M2), block-sparse (M3).

A lightning layer keeps one square matrix a head in the model's dtype. M3's sparse layers keep ordinary keys and values
and one index key of `index_head_dim` elements a token. Sources: arXiv 2501.08313; transformers 5.23
`modeling_minimax.py` (`MiniMaxLightningAttention`), `configuration_minimax_m3_vl.py`; the released configs.
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, lenient, read_heads, width
from kvplan.architectures.kit.layers import FULL, LINEAR, attention, draft_count, layer_types
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Index, Memory, Recurrent, State

_SPARSE: Final = "minimax_m3_sparse"


@reader
def _lightning(c: Config, row: Row, softmax: Callable[[int], bool]) -> Decoder:
    """One matrix a head; `softmax` says in which layers the class puts attention instead."""
    heads = read_heads(c, row)
    state = Recurrent(kind="linear", states=(State(name="linear", shape=(heads.query, heads.dim, heads.dim)),))
    marks = None if c.has("layer_types") else c.integers("attn_type_list", length=heads.layers, maximum=1)
    kinds = layer_types(c, heads.layers, LINEAR, FULL)
    if kinds is None:
        attends = [softmax(i) for i in range(heads.layers)] if marks is None else [mark == 1 for mark in marks]
        kinds = [FULL if each else LINEAR for each in attends]
    keys = (attention(heads.kv, heads.dim),)
    return Decoder(layers=[(state,) if kind == LINEAR else keys for kind in kinds], heads=heads.query)


@reader
def _m2(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    memory = (attention(heads.kv, heads.dim),)
    marks = c.integers("attn_type_list", length=heads.layers, maximum=1)
    if marks is not None and 0 in marks:
        c.refuse("attn_type_list", f"marks layer {marks.index(0)} as linear, but MiniMax-M2 is softmax everywhere")
    layer_types(c, heads.layers, FULL)
    modules = draft_count(c, "num_mtp_modules") * draft_count(c, "mtp_transformer_layers", default=1)
    return Decoder(layers=[memory] * heads.layers, heads=heads.query, drafts=[memory] * min(modules, heads.layers))


@reader
def _m3(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    keys = attention(heads.kv, heads.dim)
    sparse = c.section("sparse_attention_config")
    index = Index(dim=width(sparse, "sparse_index_dim", default=width(c, "index_head_dim", default=128)))
    marks = sparse.integers("sparse_attention_freq", length=heads.layers, maximum=1)
    if not sparse.flag("use_sparse_attention", default=True) or marks is None:
        marks = [0] * heads.layers
    kinds = layer_types(c, heads.layers, FULL, _SPARSE) or [_SPARSE if mark else FULL for mark in marks]
    rows: list[tuple[Memory, ...]] = [(keys, index) if kind == _SPARSE else (keys,) for kind in kinds]
    drafts = draft_count(c, "num_nextn_predict_layers", "num_mtp_modules")
    return Decoder(layers=rows, heads=heads.query, drafts=[rows[-1]] * drafts)


def _every_eighth(layer: int) -> bool:
    return (layer + 1) % 8 == 0


def _every_second(layer: int) -> bool:
    return layer % 2 == 0


_TEXT_01: Final = _lightning(lenient(80, 64, 4096, 8, 128), _every_eighth)
_M3: Final = _m3(lenient(60, 64, None, 4, 128))
ROWS: Final[dict[str, Reader]] = {
    "minimax": _lightning(lenient(32, 32, 4096, 8), _every_second),
    "minimax_m1": _TEXT_01,
    "minimax_m2": _m2(lenient(62, 48, None, 8, 128)),
    "minimax_m3": _M3,
    "minimax_m3_vl_text": _M3,
    "minimax_text_01": _TEXT_01,
}
