"""MiniMax: lightning attention with softmax every eighth layer (Text-01, M1), softmax (M2), block-sparse (M3).

A lightning layer keeps one square matrix a head in the model's dtype. M3's sparse layers keep ordinary keys and values
and one index key of `index_head_dim` elements a token. Sources: arXiv 2501.08313; transformers 5.23
`modeling_minimax.py` (`MiniMaxLightningAttention`), `configuration_minimax_m3_vl.py`; the released configs.
"""

from typing import Final

from kvplan.architectures.families.latent import draft_count
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import (
    FULL_NAMES,
    Decoder,
    attention,
    grouped_heads,
    head_size,
    layer_count,
    pattern,
    query_heads,
)
from kvplan.architectures.kit.states import LINEAR_NAMES, width
from kvplan.domain.model import Index, Memory, Recurrent, State

_SPARSE: Final = "minimax_m3_sparse"


def read(c: Config, model_type: str) -> Decoder:
    """Dispatch by generation."""
    if model_type in {"minimax", "minimax_text_01", "minimax_m1"}:
        return _lightning(c, model_type)
    return _m2(c) if model_type == "minimax_m2" else _m3(c)


def _lightning(c: Config, model_type: str) -> Decoder:
    original = model_type != "minimax"
    layers = layer_count(c, default=80 if original else 32)
    heads = query_heads(c, default=64 if original else 32)
    kv_heads = grouped_heads(c, heads, default=8)
    head_dim = head_size(c, heads, hidden_default=4096, default=128 if original else None)
    state = Recurrent(kind="linear", states=(State(name="linear", shape=(heads, head_dim, head_dim)),))
    marks = None if c.has("layer_types") else c.integers("attn_type_list", length=layers, maximum=1)

    def implied(i: int) -> str:
        softmax = marks[i] == 1 if marks is not None else (i + 1) % 8 == 0 if original else i % 2 == 0
        return "full_attention" if softmax else "linear_attention"

    kinds = pattern(c, layers, implied, allowed=LINEAR_NAMES | FULL_NAMES)
    full = (attention(kv_heads, head_dim),)
    return Decoder(layers=[(state,) if kind in LINEAR_NAMES else full for kind in kinds], heads=heads)


def _m2(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=62), query_heads(c, default=48)
    memory = (attention(grouped_heads(c, heads, default=8), head_size(c, heads, default=128)),)
    marks = c.integers("attn_type_list", length=layers, maximum=1)
    if marks is not None and 0 in marks:
        c.refuse("attn_type_list", f"marks layer {marks.index(0)} as linear, but MiniMax-M2 is softmax everywhere")
    pattern(c, layers, lambda _: "full_attention", allowed=FULL_NAMES)
    modules = draft_count(c, "num_mtp_modules") * draft_count(c, "mtp_transformer_layers", default=1)
    return Decoder(layers=[memory] * layers, heads=heads, drafts=[memory] * min(modules, layers))


def _m3(c: Config) -> Decoder:
    layers, heads = layer_count(c, default=60), query_heads(c, default=64)
    keys = attention(grouped_heads(c, heads, default=4), head_size(c, heads, default=128))
    sparse = c.section("sparse_attention_config")
    index = Index(dim=width(sparse, "sparse_index_dim", default=width(c, "index_head_dim", default=128)))
    marks = sparse.integers("sparse_attention_freq", length=layers, maximum=1)
    if not sparse.flag("use_sparse_attention", default=True):
        marks = None
    kinds = pattern(
        c, layers, lambda i: _SPARSE if marks is not None and marks[i] else "full_attention", allowed=FULL_NAMES | {_SPARSE}
    )
    rows: list[tuple[Memory, ...]] = [(keys, index) if kind == _SPARSE else (keys,) for kind in kinds]
    drafts = draft_count(c, "num_nextn_predict_layers", "num_mtp_modules")
    return Decoder(layers=rows, heads=heads, drafts=[rows[-1]] * drafts)
