"""Decoders of the generation of GPT-2: layer norms with biases, feed-forward layers without a gate, learned positions.

Sources as in `dense`.
"""

from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, table, under, vector
from kvplan.architectures.parameters.decoder import LLAMA_NORMS, Names, Row, decoder
from kvplan.architectures.parameters.mlp import Mlp
from kvplan.architectures.parameters.sizes import Sizes

_NAMES: Final = Names(root="transformer.", embed="wte", layers="h", final="ln_f")
_FC: Final = Mlp(names=("c_fc", "c_proj"), bias=True, width=("n_inner",), times=4)
_LN: Final = ("ln_1", "ln_2")
_IN_TURN: Final = ("norm0", "mixer", "norm1", "mlp")
_GPT2: Final = Row(
    attention=Attention(prefix="attn", names=("", "", "", "c_proj"), fused="c_attn", qkv_bias=True, o_bias=True),
    mlp=_FC, norms=_LN, norm_bias=True, order=_IN_TURN, names=_NAMES, positions="wpe", position_rows=("n_positions",), tied=True,
)  # fmt: skip
_NEOX_ATTENTION: Final = Attention(
    prefix="attention", names=("", "", "", "dense"), fused="query_key_value", qkv_bias="attention_bias", o_bias="attention_bias"
)
_NEOX_MLP: Final = Mlp(names=("dense_h_to_4h", "dense_4h_to_h"), bias=True)
_OPT_ATTENTION: Final = Attention(names=("q_proj", "k_proj", "v_proj", "out_proj"), qkv_bias=True, o_bias=True, order="kvqo")


def _falcon(s: Sizes, row: Row, layer: int) -> Row:
    """Falcon's norms: one for a parallel block, two for a sequential one, two of other names since Falcon-40B."""
    bias = s.flag("bias")
    norms: tuple[str, ...] = ("input_layernorm",)
    if not s.c.flag("parallel_attn", default=True) and not s.c.flag("new_decoder_architecture"):
        norms = ("post_attention_layernorm", "input_layernorm")
    elif s.c.flag("new_decoder_architecture") and (s.maybe("num_ln_in_parallel_attn") or 2) == 2:
        norms = ("ln_attn", "ln_mlp")
    changed = row._replace(norms=norms, attention=row.attention._replace(qkv_bias=bias, o_bias=bias))
    return changed.with_mlp(bias=bias)


def _stablelm(s: Sizes, row: Row, layer: int) -> Row:
    return row._replace(norms=LLAMA_NORMS[:1]) if s.flag("use_parallel_residual") else row


def _opt(s: Sizes, row: Row, layer: int) -> Row:
    """OPT: biases and the scales of its norms are switches."""
    bias = s.c.flag("enable_bias", default=True)
    attention = row.attention._replace(qkv_bias=bias, o_bias=bias)
    scales = s.c.flag("layer_norm_elementwise_affine", default=True)
    return row.with_mlp(bias=bias)._replace(attention=attention, norm_scales=scales)


def _neox_japanese(s: Sizes, row: Row, layer: int) -> Row:
    """The last layer alone has a bias for the output of attention."""
    row = row.with_mlp(times=s.number("intermediate_multiple_size", default=4))
    if layer != s.layers - 1:
        return row
    return row._replace(
        attention=row.attention._replace(more=lambda s, *_: vector("dense_bias", s.hidden, component="attention"))
    )


def _modernbert(s: Sizes, row: Row, layer: int) -> Row:
    """The first layer's input is normed by the embedding."""
    return row._replace(norms=("mlp_norm",)) if layer == 0 else row


def _word_biases(s: Sizes) -> Tensors:
    """CTRL's head is the table of words, and a bias for each."""
    yield from vector("lm_head.bias", s.number("vocab_size"), component="head", split="vocab")


ROWS: Final[dict[str, Row]] = {
    **dict.fromkeys(("gpt2", "gpt-sw3", "mixformer-sequential"), _GPT2),
    "gpt_bigcode": _GPT2,
    "gpt_neo": _GPT2._replace(
        attention=Attention(
            prefix="attn.attention", names=("q_proj", "k_proj", "v_proj", "out_proj"), o_bias=True, order="kvqo"
        ),
        mlp=_FC._replace(width=("intermediate_size",)),
        position_rows=("max_position_embeddings",),
    ),
    "gptj": Row(
        attention=Attention(prefix="attn", names=("q_proj", "k_proj", "v_proj", "out_proj"), order="kvqo"),
        mlp=_FC._replace(names=("fc_in", "fc_out")),
        norms=("ln_1",), norm_bias=True, order=("norm0", "mixer", "mlp"), names=_NAMES, head_bias=True,
    ),
    "codegen": Row(
        attention=Attention(prefix="attn", names=("", "", "", "out_proj"), fused="qkv_proj"),
        mlp=_FC._replace(names=("fc_in", "fc_out")),
        norms=("ln_1",), norm_bias=True, order=("norm0", "mixer", "mlp"), names=_NAMES, head_bias=True,
    ),
    "openai-gpt": _GPT2._replace(
        names=Names(root="transformer.", embed="tokens_embed", layers="h", final=""), positions="positions_embed",
        order=("mixer", "norm0", "mlp", "norm1"),
    ),
    "bloom": Row(
        attention=_NEOX_ATTENTION._replace(prefix="self_attention", qkv_bias=True, o_bias=True),
        mlp=_NEOX_MLP._replace(width=(), times=4),
        norms=LLAMA_NORMS, norm_bias=True, order=_IN_TURN,
        names=Names(root="transformer.", embed="word_embeddings", layers="h", final="ln_f"),
        embed_norm="word_embeddings_layernorm", tied=True,
    ),
    "gpt_neox": Row(
        attention=_NEOX_ATTENTION, mlp=_NEOX_MLP, norms=LLAMA_NORMS, norm_bias=True, order=("norms", "mixer", "mlp"),
        names=Names(root="gpt_neox.", embed="embed_in", final="final_layer_norm", head="embed_out"),
    ),
    "gpt_neox_japanese": Row(
        attention=_NEOX_ATTENTION._replace(qkv_bias=False, o_bias=False),
        mlp=_NEOX_MLP._replace(bias=False, width=(), times=4),
        norms=LLAMA_NORMS, norm_bias=True, order=("norms", "mixer", "mlp"), vary=_neox_japanese, tied=True,
        names=Names(root="gpt_neox_japanese.", embed="embed_in", final="final_layer_norm", head="embed_out"),
    ),
    "persimmon": Row(
        attention=_NEOX_ATTENTION._replace(
            prefix="self_attn", qkv_bias=True, o_bias=True, qk_norm="head", norm_key="qk_layernorm", norm_bias=True,
            norm_names=("q_layernorm", "k_layernorm"),
        ),
        mlp=_NEOX_MLP, norms=LLAMA_NORMS, norm_bias=True, names=Names(final="final_layernorm"),
    ),
    **dict.fromkeys(
        ("falcon", "RefinedWeb", "RefinedWebModel"),
        Row(
            attention=_NEOX_ATTENTION._replace(prefix="self_attention"),
            mlp=_NEOX_MLP._replace(width=("ffn_hidden_size",), times=4),
            norm_bias=True, vary=_falcon, tied=True,
            names=Names(root="transformer.", embed="word_embeddings", layers="h", final="ln_f"),
        ),
    ),
    "mpt": Row(
        attention=Attention(prefix="attn", names=("", "", "", "out_proj"), fused="Wqkv"),
        mlp=Mlp(prefix="ffn", names=("up_proj", "down_proj"), width=(), times=4),
        norms=("norm_1", "norm_2"), order=_IN_TURN,
        names=Names(root="transformer.", embed="wte", layers="blocks", final="norm_f"),
        tied=True,
    ),
    "opt": Row(
        attention=_OPT_ATTENTION, mlp=Mlp(prefix="", names=("fc1", "fc2"), bias=True, width=("ffn_dim",)),
        norms=("self_attn_layer_norm", "final_layer_norm"), norm_bias=True, order=("mixer", "norm0", "mlp", "norm1"),
        names=Names(root="model.decoder.", final="final_layer_norm"), final_first=True,
        positions="embed_positions", position_rows=("max_position_embeddings",), position_offset=2, tied=True, vary=_opt,
    ),
    "biogpt": Row(
        attention=_OPT_ATTENTION, mlp=Mlp(prefix="", names=("fc1", "fc2"), bias=True),
        norms=("self_attn_layer_norm", "final_layer_norm"), norm_bias=True, order=("mixer", "norm0", "mlp", "norm1"),
        names=Names(root="biogpt.", final="layer_norm", head="output_projection"),
        positions="embed_positions", position_rows=("max_position_embeddings",), position_offset=2, tied=True,
    ),
    "xglm": Row(
        attention=_OPT_ATTENTION, mlp=Mlp(prefix="", names=("fc1", "fc2"), bias=True, width=("ffn_dim",)),
        norms=("self_attn_layer_norm", "final_layer_norm"), norm_bias=True, order=("mixer", "norm0", "mlp", "norm1"),
        names=Names(final="layer_norm"), tied=True,
    ),
    "starcoder2": Row(
        attention=Attention(qkv_bias="use_bias", o_bias="use_bias"), mlp=Mlp(names=("c_fc", "c_proj"), bias="use_bias"),
        norm_bias=True,
    ),
    **dict.fromkeys(
        ("stablelm", "stablelm_epoch"),
        Row(
            attention=Attention(
                qkv_bias="use_qkv_bias", qk_norm="heads", norm_key="qk_layernorm", norm_names=("q_layernorm", "k_layernorm")
            ),
            norm_bias=True, vary=_stablelm,
        ),
    ),
    "ctrl": Row(
        attention=Attention(prefix="multi_head_attention", names=("Wq", "Wk", "Wv", "dense"), qkv_bias=True, o_bias=True),
        mlp=Mlp(prefix="ffn", names=("0", "2"), bias=True, width=("dff",)), norms=("layernorm1", "layernorm2"), norm_bias=True,
        names=Names(root="transformer.", embed="w", layers="h", final="layernorm"), tied=True, after=_word_biases,
    ),
    "phi": Row(
        attention=Attention(
            names=("q_proj", "k_proj", "v_proj", "dense"), qkv_bias=True, o_bias=True, qk_norm="head", norm_key="qk_layernorm",
            norm_names=("q_layernorm", "k_layernorm"), norm_bias=True,
        ),
        mlp=Mlp(names=("fc1", "fc2"), bias=True), norms=("input_layernorm",), norm_bias=True,
        names=Names(final="final_layernorm"), head_bias=True,
    ),
    "phi-msft": Row(
        attention=Attention(prefix="mixer", names=("", "", "", "out_proj"), fused="Wqkv", qkv_bias=True, o_bias=True),
        mlp=_FC._replace(names=("fc1", "fc2")), norms=("ln",), norm_bias=True, order=("norm0", "mixer", "mlp"),
        names=Names(root="transformer.", embed="embd.wte", layers="h", final="", head="lm_head.linear"), head_bias=True,
        vocabulary=("vocab_size",),
    ),
    "jais2": Row(
        attention=Attention(qkv_bias="attention_bias", o_bias="attention_bias"),
        mlp=Mlp(names=("up_proj", "down_proj"), bias="mlp_bias"), norm_bias=True,
    ),
    "modernbert-decoder": Row(
        attention=Attention(
            prefix="attn", names=("q_proj", "k_proj", "v_proj", "Wo"), qkv_bias="attention_bias", o_bias="attention_bias"
        ),
        mlp=Mlp(fused="Wi", names=("Wo",), bias="mlp_bias"), norms=("mlp_norm", "attn_norm"), norm_bias="norm_bias",
        order=("mixer", "norm0", "mlp", "norm1"), vary=_modernbert,
        names=Names(embed="embeddings.tok_embeddings", final="final_norm"), embed_norm="embeddings.norm", tied=True,
    ),
    "moshi": Row(
        attention=Attention(names=("q_proj.linear", "k_proj.linear", "v_proj.linear", "o_proj.linear")),
        mlp=Mlp(fused="fc1", names=("fc2",), width=("ffn_dim",), half=True), vocabulary_extra=1,
    ),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    row = ROWS[s.model_type]
    yield from decoder(s, row, root)
    if s.model_type == "phi-msft":  # the final norm is part of the head
        yield from norm("lm_head.ln", s.hidden, bias=True)
    if s.model_type == "modernbert-decoder":
        yield from linear("lm_head.dense", s.hidden, s.hidden, "other", component="head", bias=s.flag("classifier_bias"))
        yield from norm("lm_head.norm", s.hidden, bias=s.flag("norm_bias"))
        if s.c.flag("decoder_bias", default=True):
            yield from vector("decoder.bias", s.number("vocab_size"), role="head", component="head", split="vocab")


__all__ = ["ROWS", "read", "table", "under"]
