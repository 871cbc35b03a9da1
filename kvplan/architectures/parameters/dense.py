"""Dense decoders written like Llama, one row a model type.

Source: `modeling_*.py` of each in transformers 5.23 (`__init__` of attention, MLP and decoder layer), or the remote code that
ships with the checkpoint; checked against `named_parameters()` by tools/check_parameters.py.
"""

from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, linear, vector
from kvplan.architectures.parameters.decoder import LLAMA_NORMS, Names, Row, decoder
from kvplan.architectures.parameters.drafts import with_drafts
from kvplan.architectures.parameters.mlp import Mlp
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.model import Softmax

BIASED: Final = Attention(qkv_bias="attention_bias", o_bias="attention_bias")
QKV_BIASED: Final = Attention(qkv_bias=True)
NORMED: Final = BIASED._replace(qk_norm="head")
FOUR_NORMS: Final = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip
_POST_NORMS: Final = ("post_attention_layernorm", "post_feedforward_layernorm")
GATE_UP: Final = Mlp(fused="gate_up_proj", names=("down_proj",))
_LLAMA: Final = Row(attention=BIASED, mlp=Mlp(bias="mlp_bias"))
_OLMO2: Final = Row(attention=BIASED._replace(qk_norm="all"), norms=_POST_NORMS)
GLM4_NORMS: Final = (*LLAMA_NORMS, "post_self_attn_layernorm", "post_mlp_layernorm")
_GLM4: Final = Row(attention=Attention(qkv_bias="attention_bias"), mlp=GATE_UP, norms=GLM4_NORMS)


def _lambdas(s: Sizes, memory: Softmax, heads: int) -> Tensors:
    """Differential transformer: four vectors that weigh the two attention maps."""
    for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
        yield from vector(name, memory.key_dim, component="attention")


def _doge_mask(s: Sizes, memory: Softmax, heads: int) -> Tensors:
    """Doge's dynamic mask: a decay for each KV head, and how it follows the values."""
    yield from vector("A", memory.kv_heads, component="attention")
    yield from vector("dt_proj.weight", memory.kv_heads, memory.kv_heads * memory.key_dim, component="attention")


def _doge_residuals(s: Sizes) -> Tensors:
    for name in ("input_residual", "post_attention_residual"):
        yield from vector(name, s.hidden, component="norm")


def _ada_norm(s: Sizes) -> Tensors:
    """Voxtral Realtime: a low-rank scale that follows the time condition."""
    yield from linear("ada_rms_norm.linear1", 32, s.hidden, "other", component="norm")
    yield from linear("ada_rms_norm.linear2", s.hidden, 32, "other", component="norm")


def _dory_heads(s: Sizes, memory: Softmax, heads: int) -> Tensors:
    """Dory (nGPT): a scale for each channel of the queries, and one inside the output's gate."""
    for name in ("sqk", "s_gate"):
        yield from vector(name, heads * memory.key_dim, component="attention", split="column")


def _dory_layer(s: Sizes) -> Tensors:
    """Its norms have no scales: rates of the two residual steps, and scales of the feed-forward layer's channels."""
    for name in ("mlp.suv_gate", "mlp.suv_up"):
        yield from vector(name, s.number("intermediate_size"), component="mlp", split="column")
    for name in ("lambda_1", "lambda_2"):
        yield from vector(name, s.hidden, component="norm")


def _post_norms(s: Sizes, row: Row, layer: int) -> Row:
    """HyperCLOVA X: two more norms where `use_post_norm` says so."""
    return row._replace(norms=(*LLAMA_NORMS, "post_norm1", "post_norm2")) if s.flag("use_post_norm") else row


ROWS: Final[dict[str, Row]] = {
    **dict.fromkeys(
        (
            "llama", "Yi", "aquila", "skywork", "granite", "granite4_vision_text", "granite_docling_text", "xverse",
            "iquestcoder", "cwm", "emu3_text_model", "higgs_audio_v2", "smollm3", "llama-cla",
            "telechat3", "talkie",
        ),
        _LLAMA,
    ),
    **dict.fromkeys(("mistral", "ministral3", "phi4"), Row()),
    "ministral": Row(),
    "voxtral_realtime_text": Row(more=_ada_norm),
    "hyperclovax": _LLAMA._replace(vary=_post_norms),
    "helium": Row(attention=Attention(qkv_bias="attention_bias")),
    "paddleocr_vl_text": Row(attention=Attention(qkv_bias="use_bias", o_bias="use_bias"), mlp=Mlp(bias="use_bias")),
    "ernie4_5": Row(attention=Attention(qkv_bias="use_bias", o_bias="use_bias"), mlp=Mlp(bias="use_bias")),
    "seed_oss": Row(attention=Attention(qkv_bias="attention_bias", o_bias="attention_out_bias"), mlp=Mlp(bias="mlp_bias")),
    "olmo": Row(attention=BIASED, norm_scales=False),
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "arcee": Row(attention=BIASED, mlp=Mlp(names=("up_proj", "down_proj"), bias="mlp_bias")),
    "nemotron": Row(attention=BIASED, mlp=Mlp(names=("up_proj", "down_proj"), bias="mlp_bias"), norm_bias=True),
    **dict.fromkeys(("apertus", "apertus1p5_text"), Row(
        attention=NORMED,
        mlp=Mlp(names=("up_proj", "down_proj"), scalars=("act_fn.alpha_p", "act_fn.alpha_n")),
        norms=("attention_layernorm", "feedforward_layernorm"),
    )),
    "dory": Row(
        attention=BIASED._replace(gate="all", gate_name="gate_proj", more=_dory_heads), mlp=Mlp(bias="mlp_bias"),
        norm_scales=False, more=_dory_layer,
    ),
    "bitnet": Row(attention=BIASED._replace(inner_norm="attn_sub_norm"), mlp=Mlp(inner_norm="ffn_sub_norm"), tied=True),
    "baichuan": Row(attention=Attention(fused="W_pack")),
    "orion": Row(attention=BIASED, norm_bias=True),
    "internlm": Row(attention=Attention(qkv_bias="bias", o_bias="bias")),
    "internlm2": Row(
        attention=Attention(prefix="attention", names=("", "", "", "wo"), fused="wqkv", qkv_bias="bias", o_bias="bias"),
        mlp=Mlp(prefix="feed_forward", names=("w1", "w3", "w2")),
        norms=("attention_norm", "ffn_norm"),
        names=Names(embed="tok_embeddings", head="output"),
    ),
    "internlm3": Row(attention=Attention(qkv_bias="qkv_bias", o_bias="bias"), mlp=Mlp(bias="bias")),
    "granite_swa": Row(attention=BIASED._replace(sinks="sinks"), mlp=Mlp(bias="mlp_bias")),
    "diffllama": Row(attention=BIASED._replace(more=_lambdas, extra_first=True)),
    "doge": Row(attention=NORMED._replace(more=_doge_mask), mlp=Mlp(bias="mlp_bias"), more=_doge_residuals),
    **dict.fromkeys(("qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "mimo"), Row(attention=QKV_BIASED)),
    **dict.fromkeys(("qwen3", "qwen3_vl_text"), Row(attention=NORMED)),
    "qwen": Row(  # the config's width counts gate and up together
        attention=Attention(prefix="attn", names=("", "", "", "c_proj"), fused="c_attn", qkv_bias=True, o_bias="!no_bias"),
        mlp=Mlp(names=("w2", "w1", "c_proj"), half=True, bias="!no_bias"),
        norms=("ln_1", "ln_2"),
        names=Names(root="transformer.", embed="wte", layers="h", final="ln_f"),
    ),
    "gemma": Row(attention=BIASED),
    "gemma2": Row(attention=BIASED, norms=FOUR_NORMS),
    "gemma3_text": Row(attention=NORMED, norms=FOUR_NORMS),
    "vaultgemma": Row(attention=BIASED, norms=("input_layernorm", "pre_feedforward_layernorm")),
    "phi3": Row(attention=Attention(fused="qkv_proj", order="oqkv"), mlp=GATE_UP),
    "phi3_v": Row(attention=Attention(fused="qkv_proj", order="oqkv"), mlp=GATE_UP),
    "phi4_multimodal": Row(attention=Attention(fused="qkv_proj", order="oqkv"), mlp=GATE_UP),
    "phi4mm": Row(attention=Attention(fused="qkv_proj", order="oqkv"), mlp=GATE_UP),
    "glm": Row(attention=Attention(qkv_bias="attention_bias"), mlp=GATE_UP),
    "glm4": _GLM4,
    "glm4v_text": _GLM4._replace(attention=Attention(qkv_bias=True)),
    "glm_ocr_text": _GLM4._replace(attention=Attention()),
    "chatglm": Row(
        attention=Attention(
            prefix="self_attention", names=("", "", "", "dense"), fused="query_key_value", qkv_bias="add_qkv_bias",
            o_bias="add_bias_linear",
        ),
        mlp=Mlp(fused="dense_h_to_4h", names=("dense_4h_to_h",), width=("ffn_hidden_size",), bias="add_bias_linear"),
        names=Names(
            root="transformer.", embed="embedding.word_embeddings", layers="encoder.layers", final="encoder.final_layernorm",
            head="transformer.output_layer",
        ),
        vocabulary=("padded_vocab_size", "vocab_size"),
    ),
    "cohere": Row(attention=BIASED._replace(qk_norm="heads", norm_key="use_qk_norm"), norms=("input_layernorm",)),
    "cohere2": Row(attention=BIASED, norms=("input_layernorm",)),
    "cohere_compass_text": Row(attention=BIASED, norms=("input_layernorm",)),
    "exaone": Row(
        attention=Attention(prefix="attn.attention", names=("q_proj", "k_proj", "v_proj", "out_proj")),
        mlp=Mlp(names=("c_fc_0", "c_fc_1", "c_proj")),
        norms=("ln_1", "ln_2"),
        names=Names(root="transformer.", embed="wte", layers="h", final="ln_f"),
    ),
    "exaone4": Row(attention=Attention(qk_norm="head"), norms=_POST_NORMS),
    "exaone4_5_text": Row(attention=Attention(qk_norm="head"), norms=_POST_NORMS),
    "hunyuan_v1_dense": Row(attention=BIASED._replace(qk_norm="head", norm_names=("query_layernorm", "key_layernorm"))),
    "hunyuan_vl_text": Row(attention=BIASED._replace(qk_norm="head", norm_names=("query_layernorm", "key_layernorm"))),
    "nanochat": Row(attention=BIASED, mlp=Mlp(names=("fc1", "fc2")), norm_scales=False),
    "muse_glimmer_text": Row(attention=Attention(gate="all", gate_name="gate_proj"), norms=FOUR_NORMS),
    "cosmos3_edge_text": Row(attention=BIASED, mlp=Mlp(names=("fc1", "fc2"), bias="mlp_bias")),
    "molmo2_text": Row(
        attention=Attention(qk_norm="head", qkv_bias="qkv_bias"), vocabulary_extra=("additional_vocab_size",)
    ),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors, prediction layers at the end."""
    row = ROWS[s.model_type]
    yield from with_drafts(s, row, decoder(s, row, root), root)
    if s.model_type == "dory":
        yield from vector("lm_head.logit_scale", s.number("vocab_size"), component="head", split="column")
