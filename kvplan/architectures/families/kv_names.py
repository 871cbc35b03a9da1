"""Families that say how many KV heads they keep in words of their own.

Falcon and StarCoder say `multi_query`; ChatGLM has `multi_query_group_num`; MPT and DBRX hide `kv_n_heads` in
`attn_config`; JetMoE multiplies KV heads by experts; PLaMo gives heads per KV head; OpenELM lists them by layer.
Sources: `configuration_falcon.py`, `configuration_gpt_bigcode.py`, `configuration_mpt.py`, `configuration_dbrx.py`,
`configuration_jetmoe.py` of transformers 5.23; the remote code of THUDM/chatglm3-6b, pfnet/plamo-13b, apple/OpenELM.
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import GPT, MHA, Heads, Names, Row, count, decoder, ignored, read_heads
from kvplan.architectures.kit.shapes import Decoder, attention, divided
from kvplan.domain.model import MAX_LAYERS


def _full(c: Config, heads: Heads) -> Decoder:
    return decoder(c, heads, ["full_attention"] * heads.layers, None)


def _with_kv_heads(c: Config, heads: Heads, kv_heads: int, key: str) -> Decoder:
    if heads.query % kv_heads:
        c.refuse(key, f"{kv_heads} does not divide the {heads.query} query heads")
    return _full(c, heads._replace(kv=kv_heads))


_FALCON: Final = Row(
    32, 71, 4544, names=MHA._replace(layers=("num_hidden_layers", "n_layer"), heads=("num_attention_heads", "n_head"))
)


def _read_falcon(c: Config) -> Decoder:
    """The new architecture has `num_kv_heads`; the old one has one KV head, or one for each query head.

    transformers broadcasts the new architecture's heads before it caches them: that is the engine's business.
    """
    heads = read_heads(c, _FALCON)
    if c.flag("new_decoder_architecture"):
        ignored(c, "multi_query", "the new decoder architecture has `num_kv_heads`")
        kv_heads = c.integer("num_kv_heads", "n_head_kv", default=heads.query)
        return _with_kv_heads(c, heads, kv_heads, "num_kv_heads")
    ignored(c, "num_kv_heads", "only the new decoder architecture reads it")
    return _full(c, heads._replace(kv=1 if c.flag("multi_query", default=True) else heads.query))


_BIGCODE: Final = Row(12, 12, 768, names=GPT)


def _read_gpt_bigcode(c: Config) -> Decoder:
    heads = read_heads(c, _BIGCODE)
    return _full(c, heads._replace(kv=1 if c.flag("multi_query", default=True) else heads.query))


_MPT_NAMES: Final = Names(
    ("n_layers", "num_hidden_layers"), ("n_heads", "num_attention_heads"), (), (), ("d_model", "hidden_size")
)
_MPT: Final = Row(24, 16, 2048, names=_MPT_NAMES)


def _read_mpt(c: Config) -> Decoder:
    """Multi-head, unless `attn_config` says otherwise (its remote code and vLLM read it; transformers does not)."""
    heads = read_heads(c, _MPT)
    inner = c.section("attn_config")
    single = inner.text("attn_type", default=None) == "multiquery_attention"
    return _with_kv_heads(inner, heads, inner.integer("kv_n_heads", default=1 if single else heads.query), "kv_n_heads")


def _read_dbrx(c: Config) -> Decoder:
    heads = read_heads(c, _MPT)
    inner = c.section("attn_config")
    return _with_kv_heads(inner, heads, count(inner, ("kv_n_heads",), 1), "kv_n_heads")


_CHATGLM: Final = Row(
    28,
    32,
    4096,
    head_dim=128,
    names=MHA._replace(layers=("num_layers", "num_hidden_layers"), head_dim=("kv_channels",)),
)


def _read_chatglm(c: Config) -> Decoder:
    heads = read_heads(c, _CHATGLM)
    if not c.flag("multi_query_attention"):
        return _full(c, heads)
    return _with_kv_heads(c, heads, c.integer("multi_query_group_num", default=1), "multi_query_group_num")


def _read_jetmoe(c: Config) -> Decoder:
    """Each expert has query heads of its own, and all experts share the KV heads."""
    kv_heads = count(c, ("num_key_value_heads",), 16)
    experts = count(c, ("num_experts_per_tok",), 2)
    dim = count(c, ("kv_channels", "head_dim"), 128)
    layers = count(c, ("num_hidden_layers",), 12, MAX_LAYERS)
    return _full(c, Heads(layers, kv_heads * experts, kv_heads, dim))


_PLAMO: Final = Row(40, 40, 5120, names=MHA)


def _read_plamo(c: Config) -> Decoder:
    """`n_shared_head` query heads share one KV head."""
    heads = read_heads(c, _PLAMO)
    shared = c.integer("n_shared_head", default=8)
    return _full(c, heads._replace(kv=divided(c, "n_shared_head", heads.query, shared, "shared heads")))


def _read_openelm(c: Config) -> Decoder:
    """Layer by layer: `num_kv_heads` and `num_query_heads` are lists."""
    layers = count(c, ("num_transformer_layers", "num_hidden_layers"), 12, MAX_LAYERS)
    query = c.integers("num_query_heads", length=layers, minimum=1)
    kv_heads = c.integers("num_kv_heads", length=layers, minimum=1)
    if query is None or kv_heads is None:
        c.refuse("num_query_heads", "and `num_kv_heads` must be lists of one number a layer")
    dim = count(c, ("head_dim",), 128)
    for i, (q, kv) in enumerate(zip(query, kv_heads, strict=True)):
        if q % kv:
            c.refuse(f"num_kv_heads[{i}]", f"{kv} does not divide the {q} query heads")
    return Decoder(layers=[(attention(kv, dim),) for kv in kv_heads], heads=query[0] if len(set(query)) == 1 else None)


_DECI: Final = Row(32, 32, 4096)


def _read_deci(c: Config) -> Decoder:
    """DeciLM: `num_key_value_heads_per_layer`."""
    heads = read_heads(c, _DECI)
    per_layer = c.integers("num_key_value_heads_per_layer", length=heads.layers, minimum=1) or [heads.kv] * heads.layers
    for i, kv in enumerate(per_layer):
        if heads.query % kv:
            c.refuse(f"num_key_value_heads_per_layer[{i}]", f"{kv} does not divide the {heads.query} query heads")
    return Decoder(layers=[(attention(kv, heads.dim),) for kv in per_layer], heads=heads.query)


_READERS: Final[dict[str, Callable[[Config], Decoder]]] = {
    "RefinedWeb": _read_falcon,
    "RefinedWebModel": _read_falcon,
    "chatglm": _read_chatglm,
    "dbrx": _read_dbrx,
    "deci": _read_deci,
    "falcon": _read_falcon,
    "gpt_bigcode": _read_gpt_bigcode,
    "jetmoe": _read_jetmoe,
    "mpt": _read_mpt,
    "openelm": _read_openelm,
    "plamo": _read_plamo,
}


def read(c: Config, model_type: str) -> Decoder:
    """KV heads under the family's own name; every layer sees everything."""
    return _READERS[model_type](c)
