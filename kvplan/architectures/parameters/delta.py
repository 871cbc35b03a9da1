"""Linear attention by delta rules: Qwen3-Next, Qwen3.5, Qwen4-Exp, OLMo-Hybrid (gated DeltaNet), Kimi-Linear, Ling 3, GLM-5.3.

Sources: transformers 5.23 `modeling_qwen3_next.py` (`GatedDeltaNet`), `modeling_kimi_linear.py` and those of each other type.
"""

from collections.abc import Iterable
from functools import cache
from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, convolution, linear, norm, over_layers, under, vector
from kvplan.architectures.parameters.decoder import LLAMA_NORMS, Build, Row, decoder, layer, layer_kind
from kvplan.architectures.parameters.dense import BIASED, NORMED
from kvplan.architectures.parameters.drafts import with_drafts
from kvplan.architectures.parameters.latent import hyper_connections, indexer, latent
from kvplan.architectures.parameters.mlp import typed
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.sparse import DEEPSEEK_MOE, QWEN2_MOE, first_layers
from kvplan.domain.model import Compressed, Index, Latent, Recurrent, Softmax
from kvplan.domain.parameters import Parameter

_GATED: Final = BIASED._replace(qk_norm="head", gate="q")


def _delta(s: Sizes, memory: Recurrent, prefix: str, projections: Iterable[Parameter]) -> Tensors:
    """What every gated DeltaNet has: decay, convolution, projections, norm of the heads, output."""
    conv, matrix = memory.states[0], memory.states[1]
    heads, value = matrix.shape[0], matrix.shape[2]
    parts = [
        *vector("dt_bias", heads, role="ssm_dt", component="mixer", split="column", units=heads),
        *vector("A_log", heads, role="ssm_a", component="mixer", split="column", units=heads),
        *convolution("conv1d", conv.shape[0], 1, conv.kernel, component="mixer", split="column"),
        *projections,
        *norm("norm", value),
        *linear("out_proj", s.hidden, heads * value, "ssm_out", component="mixer", split="row"),
    ]
    yield from under(f"{prefix}.", parts, "mixer")


def _qwen3_next(s: Sizes, memory: Recurrent) -> Tensors:
    """Queries, keys, values and the output's gate in one matrix, the two gates of each head in another."""
    conv, matrix = memory.states[0], memory.states[1]
    heads, value = matrix.shape[0], matrix.shape[2]
    wide = conv.shape[0] + heads * value
    projections = [
        *linear("in_proj_qkvz", wide, s.hidden, "ssm_in", component="mixer", split="column"),
        *linear("in_proj_ba", 2 * heads, s.hidden, "ssm_gate", component="mixer", split="column"),
    ]
    return _delta(s, memory, "linear_attn", projections)


def _qwen3_5(s: Sizes, memory: Recurrent) -> Tensors:
    """The same matrices apart."""
    if memory.kind != "gated_delta":  # Qwen4-Exp's n-gram context, in `_ngram`
        return
    conv, matrix = memory.states[0], memory.states[1]
    heads, value = matrix.shape[0], matrix.shape[2]
    projections = [
        *linear("in_proj_qkv", conv.shape[0], s.hidden, "ssm_in", component="mixer", split="column"),
        *linear("in_proj_z", heads * value, s.hidden, "ssm_gate", component="mixer", split="column"),
        *linear("in_proj_b", heads, s.hidden, "ssm_gate", component="mixer", split="column"),
        *linear("in_proj_a", heads, s.hidden, "ssm_gate", component="mixer", split="column"),
    ]
    yield from _delta(s, memory, "linear_attn", projections)


def _olmo_hybrid(s: Sizes, memory: Recurrent) -> Tensors:
    """OLMo-Hybrid: all projections apart; the checkpoint has one convolution for each of queries, keys and values."""
    conv, matrix = memory.states[0], memory.states[1]
    heads, _, value = matrix.shape
    keys = (conv.shape[0] - heads * value) // 2
    parts = [
        *vector("A_log", heads, role="ssm_a", component="mixer", split="column", units=heads),
        *vector("dt_bias", heads, role="ssm_dt", component="mixer", split="column", units=heads),
        *linear("q_proj", keys, s.hidden, "ssm_in", component="mixer", split="column"),
        *linear("k_proj", keys, s.hidden, "ssm_in", component="mixer", split="column"),
        *linear("v_proj", heads * value, s.hidden, "ssm_in", component="mixer", split="column"),
        *linear("a_proj", heads, s.hidden, "ssm_gate", component="mixer", split="column"),
        *linear("b_proj", heads, s.hidden, "ssm_gate", component="mixer", split="column"),
        *linear("g_proj", heads * value, s.hidden, "ssm_gate", component="mixer", split="column"),
        *linear("o_proj", s.hidden, heads * value, "ssm_out", component="mixer", split="row"),
        *convolution("conv1d", conv.shape[0], 1, conv.kernel, component="mixer", split="column"),
        *norm("o_norm", value),
    ]
    yield from under("linear_attn.", parts, "mixer")


def _olmo_norms(s: Sizes, row: Row, index: int) -> Row:
    """Attention layers norm what leaves a block, linear ones what enters it."""
    if s.attention(index) is None:
        return row._replace(norms=LLAMA_NORMS)
    return row


def kimi_delta(s: Sizes, memory: Recurrent, *, low_rank: str) -> Tensors:
    """Kimi Delta Attention: square heads, a forget gate for each channel, and a gate of the output.

    `low_rank` names the gates that are two narrow matrices: `f` (forget), `g` (output).
    """
    conv, matrix = memory.states
    heads, dim = matrix.shape[0], matrix.shape[1]
    wide = heads * dim
    decay = [
        *vector("forget_gate.dt_bias", wide, role="ssm_dt", component="mixer", split="column", units=heads),
        *vector("forget_gate.A_log", heads, role="ssm_a", component="mixer", split="column", units=heads),
    ]

    def gate(name: str) -> Tensors:
        if name in low_rank:
            first, second = (
                (f"forget_gate.{name}_a_proj", f"forget_gate.{name}_b_proj")
                if name == "f"
                else (f"{name}_a_proj", f"{name}_b_proj")
            )
            yield from linear(first, dim, s.hidden, "ssm_gate", component="mixer")
            yield from linear(second, wide, dim, "ssm_gate", component="mixer", split="column")
        else:
            whole = "forget_gate.f_proj" if name == "f" else "g_proj"
            yield from linear(whole, wide, s.hidden, "ssm_gate", component="mixer", split="column")

    parts = [
        *(part for name in "qkv" for part in linear(f"{name}_proj", wide, s.hidden, "ssm_in", component="mixer", split="column")),
        *convolution("conv1d", conv.shape[0], 1, conv.kernel, component="mixer", split="column"),
        *decay,
        *gate("f"),
        *linear("b_proj", heads, s.hidden, "ssm_gate", component="mixer", split="column"),
        *gate("g"),
        *norm("o_norm", dim),
        *linear("o_proj", s.hidden, wide, "ssm_out", component="mixer", split="row"),
    ]
    yield from under("self_attn.", parts, "mixer")


def _bailing(s: Sizes, memory: Recurrent) -> Tensors:
    """Ling 3: whole gates. Ling 2.5 shares the type, with lightning attention."""
    if memory.kind == "linear":
        yield from _lightning(s, memory)
    else:
        yield from kimi_delta(s, memory, low_rank="")


def _lightning(s: Sizes, memory: Recurrent) -> Tensors:
    """Ling 2.5: lightning attention with norms of queries and keys and a gate over groups of the output."""
    heads, dim = memory.states[0].shape[0], memory.states[0].shape[1]
    wide = heads * dim
    parts = [
        *linear("query_key_value", 3 * wide, s.hidden, "qkv", component="mixer", split="column", bias=s.c.flag("use_qkv_bias")),
        *linear("dense", s.hidden, wide, "o", component="mixer", split="row", bias=s.c.flag("use_bias")),
        *linear("g_proj", wide, s.hidden, "ssm_gate", component="mixer", split="column"),
        *norm("g_norm", wide),
    ]
    if s.c.flag("use_qk_norm", default=True):
        parts += [*norm("query_layernorm", dim), *norm("key_layernorm", dim)]
    yield from under("attention.", parts, "mixer")


def _bailing_latent(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    yield from latent(s, memory, index)
    yield from linear("self_attn.g_proj", memory.heads, s.hidden, "attn_gate", component="attention", split="column")


def _glm5_latent(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    """GLM-5.3: the indexer scores pools of tokens, which it compresses with a gate and a position for each token of a pool."""
    yield from latent(s, memory, None)
    if index is None:
        return
    pool = index.reach.ratio if isinstance(index.reach, Compressed) else s.number("index_kpool", default=16)
    parts = [
        *vector("indexer.index_kpool_compress_ape", pool, index.dim, role="index", component="attention"),
        *vector("indexer.index_kpool_compress_gate", index.dim, s.hidden, role="index", component="attention"),
        *indexer(s, index),
    ]
    yield from under("self_attn.", parts, "attention")


def _qwen4_layer(s: Sizes, row: Row, index: int) -> Row:
    """Qwen4-Exp: layers of `ple_layer_ids` (from 1) hold an embedding of n-grams besides."""
    listed = sorted(set(s.c.integers("ple_layer_ids") or []))
    place = listed.index(index + 1) if index + 1 in listed else -1
    return row._replace(more=_qwen4_extra(place))


@cache
def _qwen4_extra(place: int) -> Build:
    def more(s: Sizes) -> Tensors:
        if place >= 0:
            yield from under("ple.", _ngrams(s, place))
        for name in ("attn_hyper_connection", "mlp_hyper_connection"):
            yield from under(f"{name}.", _gated_residual(s, combine=True))

    return more


def _gated_residual(s: Sizes, *, combine: bool) -> Tensors:
    streams = s.number("hc_count")
    wide, rank = streams * s.hidden, s.number("hc_lowrank")
    yield from norm("hc_norm", wide)
    yield from linear("input_mix_weight_down", rank, wide, "other", component="norm")
    yield from linear("input_mix_weight_up", wide, rank, "other", component="norm")
    if combine:
        yield from linear("block_inject_weight", streams, wide, "other", component="norm")


def _ngrams(s: Sizes, place: int) -> Tensors:
    """The n-gram embedding of one layer: a table of each head's prime size, padded, and what mixes it into the streams."""
    width = s.maybe("ple_embed_dim") or s.hidden
    heads = (s.number("ngram_size") - 1) * s.number("heads_per_ngram")
    base = s.number("ngram_vocab_size_base")
    rows = sum(_primes(base - 1, place * heads, heads))
    padding = s.number("make_ngram_vocab_size_divisible_by")
    wide = s.number("hc_count") * s.hidden
    rows = -(-rows // padding) * padding
    yield from vector("ple_embedding.ngram_embedding.weight", rows, width // heads, role="embed", component="embed", split="row")
    yield from linear("key_proj", wide, width, "other", component="embed")
    yield from linear("value_proj", s.hidden, width, "other", component="embed")
    for name in ("norm_key", "norm_query", "norm_conv"):
        yield from norm(name, wide)
    yield from convolution("conv1d", wide, 1, s.number("ple_conv_kernel_size"), component="embed")


def _primes(after: int, skip: int, count: int) -> list[int]:
    """`count` primes above `after`, the first `skip` left out."""
    found: list[int] = []
    number = after
    while len(found) < skip + count:
        number += 1
        if number > 1 and all(number % d for d in range(2, int(number**0.5) + 1)):
            found.append(number)
    return found[skip:]


def _qwen4_indexer(s: Sizes, memory: Softmax, heads: int) -> Tensors:
    """Qwen4-Exp's attention picks blocks of tokens by an indexer, where the config has one."""
    dim = s.maybe("indexer_head_dim")
    if not dim:
        return
    number = s.number("indexer_n_heads") + s.number("indexer_kv_heads", default=1)
    yield from linear("indexer.index_qk_proj", number * dim, s.hidden, "index", component="attention")
    yield from norm("indexer.q_layernorm", dim)
    yield from norm("indexer.k_layernorm", dim)


def _kimi(s: Sizes, row: Row, layer: int) -> Row:
    """Kimi K3: experts in a narrower space, gates of the whole rank, queries of a low rank, a gate of latent attention."""
    width = s.maybe("routed_expert_hidden_size")
    if width:
        row = row.with_experts(latent=("routed_expert_hidden_size",))
    if s.maybe("attn_res_block_size"):
        row = row._replace(more=_attention_residuals)
    if s.c.section("linear_attn_config").flag("use_full_rank_gate"):
        row = row._replace(recurrent=_kimi_full_rank)
    return row._replace(latent=_bailing_latent_wide) if s.c.flag("mla_use_output_gate") else row


def _attention_residuals(s: Sizes) -> Tensors:
    """Kimi K3: a query and a norm before each half of a layer, which attend over the outputs of earlier blocks."""
    for place in ("attn_res", "mlp_res"):
        yield from vector(f"{place}.query", s.hidden, component="norm")
        yield from norm(f"{place}.norm", s.hidden)


def _kimi_full_rank(s: Sizes, memory: Recurrent) -> Tensors:
    return kimi_delta(s, memory, low_rank="f")


def _bailing_latent_wide(s: Sizes, memory: Latent, index: Index | None) -> Tensors:
    yield from latent(s, memory, index)
    wide = memory.heads * memory.value_dim
    yield from linear("self_attn.g_proj", wide, s.hidden, "attn_gate", component="attention", split="column")


def _first_dense(s: Sizes, layer: int) -> bool:
    return layer < s.number("first_k_dense_replace", default=1)


ROWS: Final[dict[str, Row]] = {
    "qwen3_next": Row(
        attention=_GATED, experts=QWEN2_MOE._replace(dense=None), recurrent=_qwen3_next,
    ),
    "qwen3_5_text": Row(attention=_GATED, recurrent=_qwen3_5),
    "qwen3_5_moe_text": Row(attention=_GATED, experts=QWEN2_MOE._replace(dense=None), recurrent=_qwen3_5),
    "lara_mini": Row(attention=NORMED, experts=QWEN2_MOE._replace(shared_gate="", dense=None), recurrent=_qwen3_5),
    "qwen4_exp_text": Row(
        attention=_GATED._replace(more=_qwen4_indexer), experts=QWEN2_MOE._replace(dense=None), recurrent=_qwen3_5,
        norms=(), vary=_qwen4_layer, after=lambda s: under("hyper_connection_mixer.", _gated_residual(s, combine=False)),
    ),
    "olmo_hybrid": Row(
        attention=BIASED._replace(qk_norm="all"), recurrent=_olmo_hybrid, vary=_olmo_norms,
        norms=("post_attention_layernorm", "post_feedforward_layernorm"), order=("mlp", "norms", "mixer"),
    ),
    "kimi_linear": Row(
        attention=Attention(), latent=latent,
        experts=DEEPSEEK_MOE._replace(
            shared_number=("num_shared_experts", "n_shared_experts"), dense=typed(_first_dense)
        ),
        recurrent=lambda s, memory: kimi_delta(s, memory, low_rank="fg"), vary=_kimi,
    ),
    "bailing_hybrid": Row(
        experts=DEEPSEEK_MOE._replace(shared_number=("num_shared_experts", "n_shared_experts")), latent=_bailing_latent,
        recurrent=_bailing,
    ),
    "glm5_next_text": Row(
        experts=DEEPSEEK_MOE._replace(dense=first_layers(3)), latent=_glm5_latent,
        recurrent=lambda s, memory: kimi_delta(s, memory, low_rank="fg"),
        more=lambda s: hyper_connections(s, (2 + s.number("hc_mult")) * s.number("hc_mult"), 3),
    ),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors, prediction layers at the end."""
    row = ROWS[s.model_type]
    tensors = decoder(s, row, root)
    if s.model_type in {"qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"}:
        yield from tensors
        yield from qwen_drafts(s, row)
    else:
        yield from with_drafts(s, row, tensors, root)


def qwen_drafts(s: Sizes, row: Row) -> Tensors:
    """`mtp.*`: a projection of both inputs, norms, and layers of the attention kind."""
    if not s.drafts:
        return
    full = next((index for index in range(s.layers) if s.attention(index) is not None), None)
    if full is None:
        return
    yield from under(
        "mtp.",
        [
            *linear("fc", s.hidden, 2 * s.hidden, "other", component="draft"),
            *over_layers("layers", [layer_kind(s, row, full)] * len(s.drafts), lambda kind: layer(s, kind)),
            *norm("norm", s.hidden),
            *norm("pre_fc_norm_embedding", s.hidden),
            *norm("pre_fc_norm_hidden", s.hidden),
        ],
        "draft",
    )
