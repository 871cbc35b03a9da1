"""Families whose sliding layers have heads of their own: MiMo-V2-Flash and Step-3.

MiMo-V2-Flash keeps twice the KV heads in sliding layers, keys of 192 and values of 128 elements. Its hub config
writes 128 for the window; the library's class adds one to `sliding_window_size` (an engine convention, not kept here).
Step-3 pads `layer_types` with its MTP layers, and may give sliding layers heads in `attention_other_setting`.
Sources: `modeling_mimo_v2_flash.py` and `configuration_step3p7.py` of transformers 5.23; the hub config of MiMo-V2-Flash.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import (
    STANDARD,
    Heads,
    Row,
    count,
    draft_layers,
    layer_reach,
    optional,
    read_heads,
    read_layer_types,
    read_window,
)
from kvplan.architectures.kit.shapes import CHUNKED_NAMES, FULL_NAMES, SLIDING_NAMES, Decoder, attention
from kvplan.domain.model import Memory, Softmax

_MIMO: Final = Row(48, 64, 4096, 4, 192, rejects="kd", window=129)
_STEP: Final = Row(
    45, 64, 4096, 8, 128, rejects="kd", names=STANDARD._replace(kv_heads=("num_key_value_heads", "num_attention_groups"))
)


def read(c: Config, model_type: str) -> Decoder:
    """Full layers of one kind of heads, sliding layers of another."""
    return _read_mimo(c) if model_type == "mimo_v2_flash" else _read_step(c)


def _dividing(c: Config, key: str, query: int, kv_heads: int) -> int:
    if query % kv_heads:
        c.refuse(key, f"{kv_heads} does not divide the {query} query heads")
    return kv_heads


def _read_mimo(c: Config) -> Decoder:
    heads = read_heads(c, _MIMO)
    window = c.integer("sliding_window_size", "sliding_window", default=_MIMO.window)
    for key in ("sliding_window", "attention_chunk_size"):
        c.has(key)  # the same number again
    value_dim = count(c, ("v_head_dim",), 128)
    query = c.integer("swa_num_attention_heads", default=heads.query)
    kv_heads = c.integer("swa_num_key_value_heads", default=heads.kv * 2)
    _dividing(c, "swa_num_key_value_heads", query, kv_heads)
    swa_dim, swa_value = c.integer("swa_head_dim", default=heads.dim), c.integer("swa_v_head_dim", default=value_dim)
    kinds = read_layer_types(c, heads.layers) or _hybrid_pattern(c, heads.layers)
    full: Memory = Softmax(kv_heads=heads.kv, key_dim=heads.dim, value_dim=value_dim)
    sliding: Memory = Softmax(
        kv_heads=kv_heads, key_dim=swa_dim, value_dim=swa_value, reach=layer_reach(c, "sliding_attention", window)
    )
    layers: list[tuple[Memory, ...]] = [(sliding if kind == "sliding_attention" else full,) for kind in kinds]
    return Decoder(layers=layers, heads=heads.query, drafts=draft_layers(c, (sliding,)))


def _hybrid_pattern(c: Config, layers: int) -> list[str]:
    """`hybrid_layer_pattern` (1: sliding), else full in the first layer and each sixth."""
    given = c.integers("hybrid_layer_pattern", length=layers, maximum=1)
    slides = given or [int(i != 0 and (i + 1) % 6 != 0) for i in range(layers)]
    return ["sliding_attention" if slide else "full_attention" for slide in slides]


def _read_step(c: Config) -> Decoder:
    heads = read_heads(c, _STEP)
    drafts: int = c.integer("num_nextn_predict_layers", "num_mtp_layers", default=0, minimum=0, maximum=1_000)
    window = read_window(c, None)
    given = _padded_types(c, heads.layers, drafts)
    sliding = _other_setting(c, heads)
    memories: list[tuple[Memory, ...]] = []
    for kind in given:
        own = sliding if kind == "sliding_attention" else heads
        memories.append((attention(own.kv, own.dim, layer_reach(c, kind, window)),))
    return Decoder(layers=memories[: heads.layers], heads=heads.query, drafts=memories[heads.layers :])


def _padded_types(c: Config, layers: int, drafts: int) -> list[str]:
    """The types of all layers, then of the MTP layers: in one list, or in `mtp_layer_types`, or all full."""
    entries = c.items("layer_types")
    if entries is not None and len(entries) == layers + drafts:
        known = FULL_NAMES | SLIDING_NAMES | CHUNKED_NAMES
        return list(c.texts("layer_types", length=layers + drafts, allowed=known) or [])
    own = read_layer_types(c, layers) or ["full_attention"] * layers
    known = FULL_NAMES | SLIDING_NAMES
    return own + (c.texts("mtp_layer_types", length=drafts, allowed=known) or ["full_attention"] * drafts)


def _other_setting(c: Config, heads: Heads) -> Heads:
    """The heads of the sliding layers."""
    other = c.section("attention_other_setting")
    query = optional(c, ("num_sliding_attention_heads",), None, rejected=False)
    query = query or other.integer("num_attention_heads", default=heads.query)
    kv_heads = other.integer("num_attention_groups", "num_key_value_heads", default=heads.kv)
    _dividing(c, "num_sliding_attention_heads", query, kv_heads)
    return heads._replace(query=query, kv=kv_heads, dim=other.integer("head_dim", default=heads.dim))
