"""One row for each architecture that ExLlamaV3 1.6.5 has a class for: what cannot be told from a model's layers.

Source: exllamav3 1.6.5, `architecture/*.py` (the config class of each, the `caps` of its model class).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

_SILU: Final = {"hidden_act": "silu"}
_SIGMOID: Final = {**_SILU, "scoring_func": "sigmoid", "topk_method": "noaux_tc"}


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine reads one architecture.

    `types` are model types that mean it where a config names no class. `rings`: sliding layers keep a ring (else full pages);
    `less_one`: the ring is told one token less than the config's window. `splits`: may be cut over cards, `splits_rings`: with
    rings too. `draft_tokens`: what its own prediction layers draft at a time (None: it has no such component).
    `expects` are keys that must have that value where they are given, `needs` keys that released models may lack.
    `kinds` are the layer types that the class takes, one for each layer (empty: it does not look). `grouped`: experts chosen
    by groups are refused; `groups_key` says how many groups.
    """

    types: tuple[str, ...] = ()
    rings: bool = False
    less_one: bool = False
    splits: bool = True
    splits_rings: bool = True
    direct_gates: bool = False  # linear layers whose gates are not cut
    draft_tokens: int | None = None
    single_draft: bool = False  # more than one prediction layer is refused
    expects: Mapping[str, Any] = {}
    needs: tuple[str, ...] = ()
    grouped: bool = False
    groups_key: str = "n_group"
    kinds: tuple[str, ...] = ()


_PLAIN: Final = Architecture(expects=_SILU)
_SLIDING: Final = ("sliding_attention", "full_attention")
_LINEAR: Final = ("linear_attention", "full_attention")
_CONV: Final = ("conv", "full_attention")


def _plain(*types: str, **more: Any) -> Architecture:
    return msgspec.structs.replace(_PLAIN, types=types, **more)


ARCHITECTURES: Final[dict[str, Architecture]] = {
    "AfmoeForCausalLM": Architecture(
        types=("afmoe",),
        rings=True,
        splits_rings=False,
        needs=("layer_types",),
        expects={**_SILU, "score_func": "sigmoid", "topk_group": 1, "n_group": 1},
    ),
    "ApertusForCausalLM": _plain("apertus", expects={"hidden_act": "xielu"}),
    "ArceeForCausalLM": _plain("arcee", expects={"hidden_act": "relu2"}),
    "BailingMoeV3ForCausalLM": Architecture(
        types=("bailing_hybrid",),
        direct_gates=True,
        draft_tokens=1,
        single_draft=True,
        needs=("layer_group_size", "short_conv_kernel_size"),
        expects={**_SILU, "no_kda_lora": True, "score_function": "sigmoid", "norm_topk_prob": True},
    ),
    "Cohere2ForCausalLM": _plain("cohere2", kinds=_SLIDING),
    "CohereForCausalLM": _plain("cohere"),
    "DFlash2DraftModel": _plain(rings=True, less_one=True, splits=False),
    "DFlashDraftModel": _plain(rings=True, less_one=True, splits=False),
    "DFlashLagunaForCausalLM": _plain(splits=False, expects={**_SILU, "gating": "per-head"}),
    "DeciLMForCausalLM": _plain("nemotron-nas", needs=("block_configs",)),
    "DeepseekV3ForCausalLM": Architecture(types=("deepseek_v3", "kimi_k2"), grouped=True, expects=_SIGMOID),
    "DeepseekV4ForCausalLM": Architecture(
        types=("deepseek_v4", "deepseek_ref"),
        draft_tokens=0,
        expects={"scoring_func": "sqrtsoftplus", "topk_method": "noaux_tc"},
    ),
    "Dots1ForCausalLM": _plain("dots1", expects={**_SILU, "scoring_func": "noaux_tc", "norm_topk_prob": True}),
    "Ernie4_5_ForCausalLM": _plain("ernie4_5"),
    "Ernie4_5_MoeForCausalLM": _plain("ernie4_5_moe", expects={**_SILU, "moe_gate_act": "softmax", "moe_layer_interval": 1}),
    "Exaone4ForCausalLM": _plain("exaone4", kinds=_SLIDING),
    "Gemma2ForCausalLM": _plain("gemma2", expects={"hidden_act": "gelu_pytorch_tanh"}),
    "Gemma3ForCausalLM": Architecture(types=("gemma3_text",), kinds=_SLIDING),
    "Gemma3ForConditionalGeneration": Architecture(types=("gemma3",)),
    "Gemma4ForConditionalGeneration": Architecture(
        types=("gemma4", "gemma4_text"),
        rings=True,
        less_one=True,
        needs=("layer_types", "head_dim"),
        expects={"hidden_activation": "gelu_pytorch_tanh"},
        kinds=_SLIDING,
    ),
    "Gemma4UnifiedForConditionalGeneration": Architecture(
        rings=True,
        less_one=True,
        needs=("layer_types", "head_dim"),
        expects={"hidden_activation": "gelu_pytorch_tanh"},
        kinds=_SLIDING,
    ),
    "Glm4ForCausalLM": _plain("glm4"),
    "Glm4MoeForCausalLM": _plain("glm4_moe", expects={**_SILU, "norm_topk_prob": True}),
    "Glm4MoeLiteForCausalLM": Architecture(
        types=("glm4_moe_lite",),
        splits=False,
        expects={**_SILU, "topk_method": "noaux_tc", "norm_topk_prob": True},
        draft_tokens=2,
        grouped=True,
    ),
    "Glm4vForConditionalGeneration": _plain("glm4v"),
    "Glm4vMoeForConditionalGeneration": _plain("glm4v_moe", expects={**_SILU, "norm_topk_prob": True}),
    "Glm5NextForConditionalGeneration": Architecture(
        types=("glm5_next",),
        draft_tokens=3,
        grouped=True,
        needs=("layer_types", "indexer_types", "index_kpool"),
        expects={**_SIGMOID, "index_kpool_compress": True, "mhc": True, "norm_topk_prob": True},
    ),
    "GlmMoeDsaForCausalLM": Architecture(
        types=("glm_moe_dsa",),
        needs=("indexer_types",),
        expects={**_SIGMOID, "rope_interleave": True, "indexer_rope_interleave": True, "norm_topk_prob": True},
        draft_tokens=2,
        grouped=True,
    ),
    "GptOssForCausalLM": Architecture(types=("gpt_oss",), rings=True, less_one=True, needs=("layer_types", "sliding_window")),
    "HCXVisionV2ForCausalLM": _plain("hyperclovax_vlm", expects={**_SILU, "residual_multiplier": 1.0}),
    "HYV3ForCausalLM": _plain(
        "hy_v3",
        draft_tokens=2,
        expects={**_SILU, "moe_router_use_sigmoid": True, "moe_router_enable_expert_bias": True, "route_norm": True},
    ),
    "HyperCLOVAXForCausalLM": _plain("hyperclovax", expects={**_SILU, "residual_multiplier": 1.0}),
    "IQuestCoderForCausalLM": _plain("iquestcoder"),
    "KimiLinearForCausalLM": Architecture(
        types=("kimi_linear",),
        grouped=True,
        groups_key="num_expert_group",
        expects={
            **_SILU,
            "mla_use_nope": True,
            "moe_router_activation_func": "sigmoid",
            "moe_renormalize": True,
            "num_nextn_predict_layers": 0,
        },
    ),
    "LagunaForCausalLM": Architecture(
        types=("laguna",),
        rings=True,
        needs=("layer_types", "head_dim", "num_key_value_heads"),
        expects={
            "gating": "per-head",
            "swa_attention_sink_enabled": False,
            "decoder_sparse_step": 1,
            "norm_topk_prob": True,
            "moe_apply_router_weight_on_input": False,
            "moe_router_logit_softcapping": 0.0,
        },
    ),
    "Lfm2ForCausalLM": _plain("lfm2", splits=False, kinds=_CONV),
    "Lfm2MoeForCausalLM": _plain("lfm2_moe", splits=False, expects={**_SILU, "norm_topk_prob": True}, kinds=_CONV),
    "Lfm2VlForConditionalGeneration": _plain("lfm2_vl", splits=False, kinds=_CONV),
    "LlamaForCausalLM": _plain("llama"),
    "MiMoForCausalLM": _plain("mimo"),
    "MiMoV2ForCausalLM": Architecture(
        types=("mimo_v2",),
        rings=True,
        less_one=True,
        draft_tokens=-1,
        grouped=True,
        expects={**_SIGMOID, "attention_projection_layout": "fused_qkv"},
    ),
    "MiniMaxM2ForCausalLM": _plain("minimax_m2", expects={**_SILU, "qk_norm_type": "per_layer", "norm_topk_prob": True}),
    "Ministral3ForCausalLM": _plain("ministral3"),
    "Mistral3ForConditionalGeneration": _plain("mistral3"),
    "MistralForCausalLM": _plain("mistral"),
    "MixtralForCausalLM": _plain("mixtral"),
    "MuseGlimmerAssistantModel": _plain(rings=True, less_one=True, splits=False),
    "MuseGlimmerForConditionalGeneration": Architecture(
        types=("muse_glimmer", "muse_glimmer_text"),
        rings=True,
        less_one=True,
        splits_rings=False,
        needs=("layer_types",),
        expects={"hidden_activation": "silu"},
        kinds=_SLIDING,
    ),
    "NemotronHForCausalLM": Architecture(
        types=("nemotron_h",), draft_tokens=2, expects={"mamba_hidden_act": "silu", "mlp_hidden_act": "relu2"}
    ),
    "NemotronH_Omni_Reasoning_V3": Architecture(draft_tokens=2, expects={"mamba_hidden_act": "silu", "mlp_hidden_act": "relu2"}),
    "Olmo3ForCausalLM": _plain("olmo3", splits=False, kinds=_SLIDING),
    "OlmoHybridForCausalLM": _plain("olmo_hybrid", splits=False, kinds=_LINEAR),
    "Phi3ForCausalLM": _plain("phi3", "phi4"),
    "Qwen2ForCausalLM": _plain("qwen2"),
    "Qwen2_5_VLForConditionalGeneration": _plain("qwen2_5_vl", "qwen2_5_vl_text"),
    "Qwen3ForCausalLM": _plain("qwen3"),
    "Qwen3MoeForCausalLM": _plain("qwen3_moe", expects={**_SILU, "norm_topk_prob": True}),
    "Qwen3NextForCausalLM": _plain(
        "qwen3_next", splits=False, expects={**_SILU, "use_sliding_window": False, "norm_topk_prob": True}
    ),
    "Qwen3VLForConditionalGeneration": _plain("qwen3_vl", "qwen3_vl_text"),
    "Qwen3VLMoeForConditionalGeneration": _plain("qwen3_vl_moe", "qwen3_vl_moe_text", expects={**_SILU, "norm_topk_prob": True}),
    "Qwen3_5ForCausalLM": _plain("qwen3_5_text", kinds=_LINEAR),
    "Qwen3_5ForConditionalGeneration": _plain("qwen3_5", draft_tokens=4, kinds=_LINEAR),
    "Qwen3_5MoeForCausalLM": _plain("qwen3_5_moe_text", expects={**_SILU, "norm_topk_prob": True}, kinds=_LINEAR),
    "Qwen3_5MoeForConditionalGeneration": _plain(
        "qwen3_5_moe", draft_tokens=4, expects={**_SILU, "norm_topk_prob": True}, kinds=_LINEAR
    ),
    "Qwen4ExpForConditionalGeneration": _plain(
        "qwen4_exp", "qwen4_exp_text", draft_tokens=4, expects={**_SILU, "norm_topk_prob": True}, kinds=_LINEAR
    ),
    "SeedOssForCausalLM": _plain("seed_oss"),
    "SmolLM3ForCausalLM": _plain("smollm3"),
    "SolarOpenForCausalLM": _plain("solar_open", expects={**_SILU, "norm_topk_prob": True}),
    "Spark2_5ForCausalLM": Architecture(rings=True, expects={"hidden_act": "gelu"}, kinds=_SLIDING),
    "Step3p5ForCausalLM": Architecture(
        types=("step3p5",), rings=True, needs=("layer_types",), expects={"norm_expert_weight": True}
    ),
    "Step3p7ForConditionalGeneration": Architecture(
        types=("step3p7",), rings=True, needs=("layer_types",), expects={"norm_expert_weight": True}
    ),
}
#: A model that no config describes (written by hand, or changed by a variant): every layer is kept as it says.
GENERAL: Final = Architecture()
#: Model type -> architecture, for configs that name no class.
BY_TYPE: Final = {model_type: name for name, row in ARCHITECTURES.items() for model_type in row.types}
