"""Decoders of one kind of block, one row a model type: the llama-like, their mixtures of experts, and older classes.

Source: `modeling_*.py` of each in transformers 5.23 (`__init__` of attention, MLP and decoder layer), or the remote code that
ships with the checkpoint; checked against `named_parameters()` by tools/check_parameters.py.
"""

from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors
from kvplan.architectures.parameters.decoder import LLAMA_NORMS, Names, Row, decoder
from kvplan.architectures.parameters.mlp import Experts, Mlp, first_dense, sparse_step, typed
from kvplan.architectures.parameters.sizes import Sizes

_BIASED: Final = Attention(qkv_bias="attention_bias", o_bias="attention_bias")
_QKV_BIASED: Final = Attention(qkv_bias=True)
_NORMED: Final = Attention(qkv_bias="attention_bias", o_bias="attention_bias", qk_norm="head")
_LLAMA: Final = Row(attention=_BIASED, mlp=Mlp(bias="mlp_bias"))
_PLAIN: Final = Row()
_FOUR_NORMS: Final = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip
_POST_NORMS: Final = ("post_attention_layernorm", "post_feedforward_layernorm")
_OLMO2: Final = Row(attention=_BIASED._replace(qk_norm="all"), norms=_POST_NORMS)
_GPT_NAMES: Final = Names(root="transformer.", embed="wte", layers="h", final="ln_f")
_GLM4_NORMS: Final = (*LLAMA_NORMS, "post_self_attn_layernorm", "post_mlp_layernorm")

_EXPERTS: Final = Experts()
_MIXTRAL: Final = Experts(
    prefix="block_sparse_moe", number=("num_local_experts",), width=("intermediate_size",), names=("w1", "w3", "w2")
)
_QWEN_MOE: Final = Experts(number=("num_experts",), dense=sparse_step)
_DEEPSEEK_MOE: Final = Experts(
    number=("n_routed_experts",), width=("moe_intermediate_size",), correction="gate.e_score_correction_bias",
    shared="shared_experts", shared_number=("n_shared_experts",), order=("experts", "router", "shared"),
    dense=typed(first_dense("first_k_dense_replace")),
)  # fmt: skip

ROWS: Final[dict[str, Row]] = {
    # Llama and what is written like it
    **dict.fromkeys(
        (
            "llama", "Yi", "aquila", "skywork", "hyperclovax", "deepseek_ocr2_text", "granite", "granite4_vision_text",
            "granite_docling_text", "xverse", "internlm3", "iquestcoder", "cwm", "emu3_text_model", "csm", "higgs_audio_v2",
        ),
        _LLAMA,
    ),
    **dict.fromkeys(("mistral", "ministral", "ministral3", "voxtral_realtime_text"), _PLAIN),
    "smollm3": _LLAMA,
    "helium": Row(attention=Attention(qkv_bias="attention_bias")),
    "ernie4_5": Row(attention=Attention(qkv_bias="use_bias", o_bias="use_bias"), mlp=Mlp(bias="use_bias")),
    "seed_oss": Row(attention=Attention(qkv_bias="attention_bias", o_bias="attention_out_bias"), mlp=Mlp(bias="mlp_bias")),
    "olmo": Row(attention=_BIASED, norm_scales=False),
    "arcee": Row(attention=_BIASED, mlp=Mlp(names=("up_proj", "down_proj"), bias="mlp_bias")),
    "baichuan": Row(attention=Attention(fused="W_pack")),
    # Qwen
    **dict.fromkeys(
        ("qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "mimo"), Row(attention=_QKV_BIASED)
    ),
    **dict.fromkeys(("qwen3", "qwen3_vl_text"), Row(attention=_NORMED)),
    "qwen2_moe": Row(
        attention=Attention(qkv_bias="qkv_bias"),
        experts=_QWEN_MOE._replace(
            shared="shared_expert", shared_width=("shared_expert_intermediate_size",), shared_gate="shared_expert_gate"
        ),
    ),
    **dict.fromkeys(
        ("qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"),
        Row(attention=_NORMED, experts=_QWEN_MOE._replace(order=("experts", "router", "shared"))),
    ),
    # Gemma
    "gemma": Row(attention=_BIASED, tied=True),
    "gemma2": Row(attention=_BIASED, norms=_FOUR_NORMS, tied=True),
    "vaultgemma": Row(attention=_BIASED, norms=("input_layernorm", "pre_feedforward_layernorm"), tied=True),
    "gemma3_text": Row(attention=_NORMED, norms=_FOUR_NORMS, tied=True),
    # Phi, GLM, Cohere, OLMo
    "phi3": Row(
        attention=Attention(fused="qkv_proj"), mlp=Mlp(fused="gate_up_proj", names=("down_proj",)),
    ),
    "glm": Row(attention=Attention(qkv_bias="attention_bias"), mlp=Mlp(fused="gate_up_proj", names=("down_proj",))),
    "glm4": Row(
        attention=Attention(qkv_bias="attention_bias"), mlp=Mlp(fused="gate_up_proj", names=("down_proj",)), norms=_GLM4_NORMS
    ),
    "cohere": Row(attention=_BIASED._replace(norm_key="use_qk_norm"), norms=("input_layernorm",), tied=True),
    "cohere2": Row(attention=_BIASED, norms=("input_layernorm",), tied=True),
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "olmoe": Row(
        attention=_BIASED._replace(qk_norm="all"), experts=_EXPERTS._replace(number=("num_experts",), width=("intermediate_size",))
    ),
    "flex_olmo": _OLMO2._replace(experts=_EXPERTS._replace(number=("num_experts",), width=("intermediate_size",))),
    "exaone4": Row(attention=Attention(qk_norm="head"), norms=_POST_NORMS),
    # mixtures of experts
    "mixtral": Row(experts=_MIXTRAL),
    "minimax_m2": Row(
        attention=Attention(qk_norm="all", norm_key="use_qk_norm"),
        experts=_MIXTRAL._replace(correction="e_score_correction_bias", correction_key="use_routing_bias"),
    ),
    "gpt_oss": Row(
        attention=Attention(qkv_bias="attention_bias", o_bias="attention_bias", sinks="sinks"),
        experts=Experts(
            number=("num_local_experts",), width=("intermediate_size",), experts="experts", fused="gate_up_proj",
            names=("down_proj",), bias=True, router="router", router_bias=True,
        ),
    ),
    "glm4_moe": Row(
        attention=Attention(qkv_bias="attention_bias", qk_norm="head", norm_key="use_qk_norm"), experts=_DEEPSEEK_MOE
    ),
    # GPT-2's generation
    "gpt_neox": Row(
        attention=Attention(
            prefix="attention", names=("", "", "", "dense"), fused="query_key_value", qkv_bias="attention_bias",
            o_bias="attention_bias",
        ),
        mlp=Mlp(names=("dense_h_to_4h", "dense_4h_to_h"), bias=True),
        norms=LLAMA_NORMS, norm_bias=True, norms_first=True,
        names=Names(root="gpt_neox.", embed="embed_in", final="final_layer_norm", head="embed_out"),
    ),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    return decoder(s, ROWS[s.model_type], root)
