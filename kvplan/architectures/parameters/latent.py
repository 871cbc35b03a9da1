"""Latent attention (MLA), with and without an indexer: DeepSeek V2 and V3 and what follows them.

Sources: transformers 5.23 `modeling_deepseek_v3.py`, `modeling_deepseek_v32.py` and those of each other type.
"""

from functools import cache
from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.decoder import Build, Row, decoder, head
from kvplan.architectures.parameters.dense import BIASED
from kvplan.architectures.parameters.drafts import with_drafts
from kvplan.architectures.parameters.mlp import Experts, Mlp, feed_forward
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.sparse import DEEPSEEK_MOE, first_layers
from kvplan.domain.model import Index, Latent


def latent(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    """Queries (low-rank where `q_lora_rank` is set), the latent and its expansion, output, and the indexer if there is one."""
    yield from under("self_attn.", _attention(s, memory, index), "attention")


def _attention(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    yield from queries(s, memory)
    yield from keys_and_values(s, memory)
    if index is not None:
        yield from indexer(s, index)


def queries(s: Sizes, memory: Latent) -> Tensors:
    """The query projection, in two steps where the config has a rank for it."""
    rank, bias = s.maybe("q_lora_rank"), s.c.flag("attention_bias")
    width = memory.heads * (memory.nope_dim + memory.rope_dim)
    if rank:
        yield from linear("q_a_proj", rank, s.hidden, "q_a", component="attention", bias=bias)
        yield from norm("q_a_layernorm", rank)
        yield from linear("q_b_proj", width, rank, "q_b", component="attention", split="column", units=memory.heads)
    else:
        yield from linear("q_proj", width, s.hidden, "q", component="attention", split="column", units=memory.heads)


def keys_and_values(s: Sizes, memory: Latent) -> Tensors:
    """The latent, its expansion to keys and values of each head, and the output."""
    bias, heads = s.c.flag("attention_bias"), memory.heads
    yield from linear("kv_a_proj_with_mqa", memory.rank + memory.rope_dim, s.hidden, "kv_a", component="attention", bias=bias)
    yield from norm("kv_a_layernorm", memory.rank)
    wide = heads * (memory.nope_dim + memory.value_dim)
    yield from linear("kv_b_proj", wide, memory.rank, "kv_b", component="attention", split="column", units=heads)
    yield from linear("o_proj", s.hidden, heads * memory.value_dim, "o", component="attention", split="row", bias=bias)


def indexer(s: Sizes, index: Index, inputs: int = 0) -> Tensors:
    """The lightning indexer: queries from the low-rank query, one key a token, a weight for each of its heads."""
    heads = s.number("index_n_heads")
    inputs = inputs or s.maybe("q_lora_rank") or s.hidden
    yield from linear("indexer.wq_b", heads * index.dim, inputs, "index", component="attention")
    yield from linear("indexer.wk", index.dim, s.hidden, "index", component="attention")
    yield from norm("indexer.k_norm", index.dim, bias=True)
    yield from linear("indexer.weights_proj", heads, s.hidden, "index", component="attention", quantised=False)


def _hy_v4(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    wide = memory.heads * memory.value_dim
    yield from vector("self_attn.sinks", memory.heads, role="sinks", component="attention", split="column", units=memory.heads)
    yield from latent(s, memory, index)
    yield from linear("self_attn.gate_proj", wide, s.hidden, "attn_gate", component="attention", split="column")


def hyper_connections(s: Sizes, rows: int, scales: int) -> Tensors:
    """The mixing matrices of a residual stream of `hc_mult` copies, one set before attention, one before the feed-forward."""
    streams = s.number("hc_mult")
    for name in ("attn_hc", "ffn_hc"):
        yield from vector(f"{name}.fn", rows, streams * s.hidden, component="norm", dtype="float32")
        yield from vector(f"{name}.base", rows, component="norm", dtype="float32")
        yield from vector(f"{name}.scale", scales, component="norm", dtype="float32")


def hyper_head(s: Sizes) -> Tensors:
    """What folds the copies of the residual stream into one before the head."""
    streams = s.number("hc_mult")
    yield from vector("hc_head.hc_fn", streams, streams * s.hidden, component="norm", dtype="float32")
    yield from vector("hc_head.hc_base", streams, component="norm", dtype="float32")
    yield from vector("hc_head.hc_scale", 1, component="norm", dtype="float32")


def _axk2(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    """A.X-K2: queries and the output's gate are one matrix over both halves of the low-rank query."""
    rank, bias, heads = s.number("q_lora_rank"), s.c.flag("attention_bias"), memory.heads
    wide = heads * (memory.nope_dim + memory.rope_dim + memory.value_dim)
    parts = [
        *linear("q_a_proj", rank, s.hidden, "q_a", component="attention", bias=bias),
        *norm("q_a_layernorm", rank),
        *linear("q_gate_proj", wide, 2 * rank, "q_b", component="attention", split="column", units=heads),
        *keys_and_values(s, memory),
        *(indexer(s, index) if index is not None else ()),
    ]
    yield from under("self_attn.", parts, "attention")


def _axk2_norms(s: Sizes, row: Row, layer: int) -> Row:
    """A.X-K2's norms are gated by a small network, but for the one before a dense feed-forward layer."""
    dense = row.experts is not None and row.experts.dense is not None and row.experts.dense(s, layer)
    return row._replace(more=_gated_norms(("input_layernorm",) if dense else ("input_layernorm", "post_attention_layernorm")))


@cache
def _gated_norms(names: tuple[str, ...]) -> Build:
    def gates(s: Sizes) -> Tensors:
        rank = s.number("gated_norm_rank")
        for name in names:
            yield from linear(f"{name}.mlp.fc1", rank, s.hidden, "other", component="norm")
            yield from linear(f"{name}.mlp.fc2", s.hidden, rank, "other", component="norm")

    return gates


def _dots3(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    """dots3-note: a norm of the rotary key, and a gate for each head."""
    yield from latent(s, memory, index)
    yield from norm("self_attn.k_rope_only_layernorm", memory.rope_dim)
    yield from linear("self_attn.g_proj", memory.heads, s.hidden, "attn_gate", component="attention", split="column")


def _large4(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    """Mistral Large 4: whole queries, an indexer over normed inputs, a scale and a bias for each head's scores."""
    width = memory.heads * (memory.nope_dim + memory.rope_dim)
    parts = [
        *keys_and_values(s, memory),
        *linear("q_proj", width, s.hidden, "q", component="attention", split="column", units=memory.heads),
        *vector("softmax_scaling.scale", memory.heads, component="attention", split="column"),
        *vector("softmax_scaling.bias", memory.heads, component="attention", split="column"),
    ]
    if index is not None:
        heads = s.number("index_n_heads")
        parts += [
            *indexer(s, index, s.hidden),
            *norm("indexer.q_input_norm", s.hidden, bias=True),
            *vector("indexer.softmax_scaling.scale", heads, component="attention"),
            *vector("indexer.softmax_scaling.bias", heads, component="attention"),
        ]
    yield from under("self_attn.", parts, "attention")


_V3: Final = Row(attention=BIASED, experts=DEEPSEEK_MOE, latent=latent)
_GLM_DSA: Final = _V3._replace(experts=DEEPSEEK_MOE._replace(dense=first_layers(3)))
ROWS: Final[dict[str, Row]] = {
    "deepseek_v2": _V3._replace(experts=DEEPSEEK_MOE._replace(correction="")),
    **dict.fromkeys(("deepseek_v3", "kimi_k2", "deepseek_v32", "joyai_llm_flash"), _V3),
    "sarvam_mla": _V3._replace(experts=DEEPSEEK_MOE._replace(dense=first_layers(1))),
    "glm_moe_dsa": _V3,
    "glm4_moe_lite": _V3._replace(experts=DEEPSEEK_MOE._replace(dense=first_layers(1))),
    "mistral4": _V3._replace(experts=DEEPSEEK_MOE._replace(correction="")),
    "axk1": _V3._replace(
        experts=DEEPSEEK_MOE._replace(after="post_mlp_layernorm", dense=first_layers(1)),
    ),
    "axk2": _V3._replace(latent=_axk2, vary=_axk2_norms, experts=DEEPSEEK_MOE._replace(dense=first_layers(1))),
    **dict.fromkeys(("hy_v4", "hy_v4_vl_text"), _V3._replace(
        latent=_hy_v4, more=lambda s: hyper_connections(s, 2 * s.number("hc_mult"), 2), after=hyper_head,
        experts=DEEPSEEK_MOE._replace(dense=first_layers(1)),
    )),
    "dots3_note_text": _V3._replace(latent=_dots3, experts=DEEPSEEK_MOE._replace(dense=first_layers(1))),
    "mistral_large4_text": _V3._replace(latent=_large4, experts=DEEPSEEK_MOE._replace(correction="", dense=first_layers(1))),
    **dict.fromkeys(("minicpm3", "youtu", "youtu_llm"), Row(latent=latent, mlp=Mlp(bias="mlp_bias"))),
    "longcat_flash": Row(latent=latent),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors, prediction layers at the end."""
    row = ROWS[s.model_type]
    if s.model_type == "longcat_flash":
        return longcat(s, root)
    return with_drafts(s, row, decoder(s, row, root), root)


# LongCat-Flash: two attention blocks and two dense feed-forward layers a layer, and experts some of which do nothing.


def longcat(s: Sizes, root: str | None = None) -> Tensors:
    """LongCat-Flash: a layer of two blocks shares one mixture of experts; the router also chooses among `zero_expert_num`."""
    prefix = "model." if root is None else root
    yield from table(f"{prefix}embed_tokens", s.number("vocab_size"), s.hidden)
    yield from longcat_layers(s, prefix)
    yield from norm(f"{prefix}norm", s.hidden)
    if not s.tied():
        yield from head(s, Row())
    yield from under("model.mtp.", _longcat_drafts(s, s.need(0, Latent)), "draft")


def longcat_layers(s: Sizes, prefix: str) -> Tensors:
    """LongCat's layers: two blocks each, and experts beside them."""
    memory = s.need(0, Latent)

    def layer(_: int) -> Tensors:
        wide = s.number("expert_ffn_hidden_size", "moe_intermediate_size")
        number = s.number("n_routed_experts")
        choices = number + (s.maybe("zero_expert_num") or 0)
        yield from feed_forward_experts(s, wide, number)
        yield from linear(
            "mlp.router.classifier", choices, s.hidden, "router", component="experts", quantised=False,
            bias=s.c.flag("router_bias"),
        )  # fmt: skip
        yield from vector(
            "mlp.router.e_score_correction_bias", choices, role="router", component="experts", dtype="float32", buffer=True
        )
        for block in (0, 1):
            yield from under(f"self_attn.{block}.", _attention(s, memory, None), "attention")
        for block in (0, 1):
            yield from under(f"mlps.{block}.", feed_forward(s.hidden, s.number("ffn_hidden_size"), Mlp()), "mlp")
        for name in ("input_layernorm", "post_attention_layernorm"):
            for block in (0, 1):
                yield from norm(f"{name}.{block}", s.hidden)

    yield from over_layers(f"{prefix}layers", [0] * (s.layers // 2), layer)


def _longcat_drafts(s: Sizes, memory: Latent) -> Tensors:
    """LongCat's prediction layers: one attention block and one dense feed-forward layer each, one more embedding."""

    def draft(_: int) -> Tensors:
        yield from norm("enorm.m", s.hidden)
        yield from norm("hnorm.m", s.hidden)
        yield from linear("eh_proj", s.hidden, 2 * s.hidden, "other", component="draft", quantised=False)
        yield from under("transformer_layer.self_attn.", _attention(s, memory, None))
        yield from under("transformer_layer.mlp.", feed_forward(s.hidden, s.number("ffn_hidden_size"), Mlp()))
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield from norm(f"transformer_layer.{name}", s.hidden)

    if s.drafts:
        yield from table("embed_tokens", s.number("vocab_size"), s.hidden)
        yield from over_layers("layers", [0] * len(s.drafts), draft)
        yield from norm("norm", s.hidden)


def feed_forward_experts(s: Sizes, width: int, number: int) -> Tensors:
    """Routed experts of `width`, `number` of them, under `mlp.experts`."""
    yield from under("mlp.experts.{expert}.", feed_forward(s.hidden, width, Mlp(), component="experts", experts=number))


__all__ = [
    "ROWS",
    "Attention",
    "Experts",
    "hyper_connections",
    "hyper_head",
    "indexer",
    "keys_and_values",
    "latent",
    "queries",
    "read",
]
