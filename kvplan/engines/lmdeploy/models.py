"""What LMDeploy makes of a model: the only file here that looks at a model's config.

Each architecture has a builder of its own; most use the default one. All layers of a model get one K/V shape.

Source: lmdeploy 0.18.0 `pytorch/configurations/*.py`, `pytorch/config.py`, `pytorch/models/module_map.py`.
"""

from __future__ import annotations

from typing import Any, Final

from kvplan.domain.model import Index, Latent, Model, Softmax, Window
from kvplan.domain.origin import NO_SETTINGS, Settings
from kvplan.errors import Refused

#: Classes that the PyTorch engine has a model for. Source: `models/module_map.py:MODULE_MAP`.
ARCHITECTURES: Final = frozenset(
    {
        "ChatGLMForConditionalGeneration", "CogVLMForCausalLM", "DFlashDraftModel", "DeepseekForCausalLM", "DeepseekMTPModel",
        "DeepseekV2ForCausalLM", "DeepseekV32ForCausalLM", "DeepseekV32MTPModel", "DeepseekV3ForCausalLM",
        "DeepseekV4ForCausalLM", "DeepseekVLV2ForCausalLM", "Eagle3DeepseekV2ForCausalLM", "Eagle3LlamaForCausalLM",
        "EagleLlamaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "GemmaForCausalLM",
        "Glm4ForCausalLM", "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM", "Glm4MoeMTPModel", "Glm4vForConditionalGeneration",
        "GlmMoeDsaForCausalLM", "GlmMoeDsaMTPModel", "GptOssForCausalLM", "HYV3ForCausalLM", "HYV3MTP", "InternLM2ForCausalLM",
        "InternLM2ForRewardModel", "InternLM3ForCausalLM", "InternS1ForConditionalGeneration",
        "InternS1ProForConditionalGeneration", "InternS1_1_ForConditionalGeneration", "InternS2MobiusForCausalLM",
        "InternS2MobiusForConditionalGeneration", "InternS2PreviewForCausalLM", "InternS2PreviewForConditionalGeneration",
        "InternVLChatModel", "InternVLForConditionalGeneration", "KimiK25ForConditionalGeneration",
        "Kimi_K25ForConditionalGeneration", "Llama4ForConditionalGeneration", "LlamaForCausalLM",
        "LlavaForConditionalGeneration", "LlavaNextForConditionalGeneration", "MetaMoeForConditionalGeneration",
        "MiniCPM3ForCausalLM", "MiniCPMV", "MistralForCausalLM", "MixtralForCausalLM", "Phi3ForCausalLM", "Phi3VForCausalLM",
        "PhiMoEForCausalLM", "Qwen2ForCausalLM", "Qwen2ForRewardModel", "Qwen2MoeForCausalLM",
        "Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM",
        "Qwen3NextForCausalLM", "Qwen3OmniMoeForConditionalGeneration", "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration", "Qwen3_5ForConditionalGeneration", "Qwen3_5MTPModel",
        "Qwen3_5MoeForConditionalGeneration", "SDARForCausalLM", "SDARMoeForCausalLM",
    }
)  # fmt: skip
#: Classes that it once had. Source: `REMOVED_MODEL_MAP`.
_REMOVED: Final = {
    "InternLMForCausalLM": "InternLM",
    "QWenLMHeadModel": "Qwen and Qwen-VL",
    "BaiChuanForCausalLM": "Baichuan",
    "BaichuanForCausalLM": "Baichuan and Baichuan2",
    "Starcoder2ForCausalLM": "StarCoder2",
    "InternLM2VEForCausalLM": "Mono-InternVL",
    "MllamaForConditionalGeneration": "mllama",
}
#: Model types of those classes, for configs that name no class.
_TYPES: Final = frozenset(
    {
        "cogvlm", "deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_vl_v2", "gemma", "gemma2",
        "gemma3", "gemma3_text", "glm4", "glm4_moe", "glm4_moe_lite", "glm4v", "glm_moe_dsa", "gpt_oss", "hy_v3",
        "intern_s2_preview", "internlm2", "internlm3", "interns1", "interns1_pro", "interns2_mobius", "internvl",
        "internvl_chat", "kimi_k2", "kimi_k25", "llama", "llama4", "llava", "llava_next", "minicpm3", "mistral", "mixtral",
        "phi3", "qwen2", "qwen2_5_vl", "qwen2_moe", "qwen2_vl", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_moe", "qwen3_next",
        "qwen3_omni_moe", "qwen3_vl", "qwen3_vl_moe", "sdar", "sdar_moe",
    }
)  # fmt: skip
#: Types that have one latent a token and a builder for it.
MLA: Final = frozenset({"deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25", "glm4_moe_lite", "deepseek_v32", "glm_moe_dsa"})
SPARSE_MLA: Final = frozenset({"deepseek_v32", "glm_moe_dsa"})
GATED_DELTA: Final = frozenset({"qwen3_5", "qwen3_5_moe", "intern_s2_preview", "interns2_mobius"})
#: Builders that keep no window, because not every layer slides or because they do not read it.
_NO_WINDOW: Final = frozenset({"gemma3", "gpt_oss", "llava", "llava_next", *MLA})
#: Types whose config class keeps a window only where `use_sliding_window` says so, which is off by default.
_WINDOW_ON_REQUEST: Final = frozenset(
    {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_vl_text", "qwen3", "qwen3_moe"}
)
#: Wrappers whose builder copies the text part's dtype over the outer one.
_TEXT_DTYPE: Final = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "interns1_pro", "interns1_1"})
#: Vocabularies of config classes, where a config says none (transformers 5.23).
_VOCABULARIES: Final = {
    "llama": 32000, "mistral": 32000, "mixtral": 32000, "qwen2": 151936, "qwen2_moe": 151936, "qwen3": 151936,
    "qwen3_moe": 151936, "gemma": 256000, "gemma2": 256000, "gemma3_text": 262208, "phi3": 32064, "deepseek_v2": 102400,
    "deepseek_v3": 129280, "deepseek_v4": 129280, "glm4": 151552, "glm4_moe": 151552, "glm4_moe_lite": 154880,
    "glm_moe_dsa": 154880, "gpt_oss": 201088, "llama4_text": 202048, "qwen3_next": 151936, "qwen3_5_text": 248320,
    "qwen3_5_moe_text": 248320, "qwen3_vl_text": 151936, "qwen3_vl_moe_text": 151936, "qwen2_5_vl_text": 152064,
    "glm4v_text": 151552,
}  # fmt: skip
_SIXTEEN: Final = ("float16", "bfloat16")
#: What a compressed-tensors checkpoint must say of its one group of weights.
_PACKED: Final = {"num_bits": 4, "group_size": 32, "strategy": "group", "symmetric": True, "dynamic": False, "type": "int"}


def described_by_hand(model: Model) -> bool:
    """Whether no config says what the layers are."""
    return model.origin is None


def keys(model: Model) -> Settings:
    """The text section's keys over those around it; null is absent."""
    if model.origin is None:
        return NO_SETTINGS
    sections = (model.origin.config, model.origin.text_config)
    data = {name: value for section in sections for name, value in section.items() if value is not None}
    return Settings(data, model.origin.source)


def types(model: Model) -> frozenset[str]:
    """The model's type and its text part's."""
    return frozenset({model.model_type, model.origin.text_type if model.origin else model.model_type})


def refuse(model: Model) -> None:
    """Raise what the PyTorch engine would before it counts anything.

    Raises:
        Refused: a class that it has no model for, or weights in a format that it does not load.
    """
    if model.origin is None:
        return
    names = model.origin.outer.names("architectures")
    removed = next((name for name in names if name in _REMOVED), "")
    if removed:
        raise Refused(f"{_REMOVED[removed]} ({removed}) support has been removed from LMDeploy")
    if names and not ARCHITECTURES & {*names}:
        raise Refused(f"Can not found rewrite for architectures: {[name[:60] for name in names[:4]]}")
    if not names and model.model_type not in _TYPES:
        raise Refused(f"Can not found rewrite for model type {model.model_type[:60]}")
    for section in (model.origin.outer, model.origin.text):
        _refuse_weights(section.section("quantization_config"))


def _refuse_weights(quantised: Settings) -> None:
    """Source: `config.py:QuantizationConfig.from_config`, `_parse_compressed_tensors_config`."""
    if not quantised.data:
        return
    method = quantised.text("quant_method")
    if method == "fp8":
        if quantised.text("fmt", "e4m3") not in {"e4m3", "e5m2"}:
            raise Refused(f"Unsupported fp8 fmt: {quantised.text('fmt')}")
    elif method == "compressed-tensors":
        if quantised.text("format") != "pack-quantized":
            raise Refused("Only compressed-tensors `pack-quantized` format is supported.")
        weights = quantised.section("config_groups").section("group_0").section("weights")
        for key, value in _PACKED.items():
            if weights.data and weights.data.get(key) != value:
                raise Refused(
                    f"Unsupported compressed-tensors `{key}`: expected {value!r}, got {str(weights.data.get(key))[:40]}"
                )
    elif method not in {"awq", "smooth_quant"}:
        raise Refused(f"Unsupported quant method: {method or 'none named'}")


def dtype(model: Model, asked: str, bf16: bool) -> str:
    """The dtype of activations, so of an unquantised cache. Source: `config.py:_update_torch_dtype`."""
    if model.origin is None:
        told = model.dtype
    else:
        if model.origin.outer.section("quantization_config").text("quant_method") == "awq":
            return "float16"
        told = _told_dtype(model)
    if not told:
        return "float16" if asked == "auto" else asked
    if asked != "auto":
        return asked
    if told == "bfloat16" and not bf16:
        return "float16"
    return told if told in _SIXTEEN else "float16"


def names_no_dtype(model: Model) -> bool:
    """Whether a config is silent about the dtype of activations."""
    return model.origin is not None and not _told_dtype(model)


def _told_dtype(model: Model) -> str:
    """What the config says, the outer section first; `dtype` and `torch_dtype` are one key of the config class."""
    if model.origin is None:
        return ""
    outer, text = (_dtype_of(section) for section in (model.origin.outer, model.origin.text))
    if model.model_type in _TEXT_DTYPE:
        return text
    if model.model_type == "kimi_k25":
        return text or outer
    return outer or text


def _dtype_of(section: Settings) -> str:
    return (section.text("dtype") or section.text("torch_dtype")).removeprefix("torch.")


def trained_tokens(model: Model) -> int | None:
    """The longest request that the model takes."""
    return model.max_tokens


def vocabulary(model: Model) -> int:
    """Entries of the vocabulary, by which memory is set aside; 0 where nothing says it."""
    told = keys(model).whole("padded_vocab_size") if "chatglm" in types(model) else 0
    return told or keys(model).whole("vocab_size") or next((_VOCABULARIES[t] for t in types(model) if t in _VOCABULARIES), 0)


def window(model: Model) -> int:
    """The window that lets the block manager drop old blocks, -1 for none; it never saves memory.

    Source: `configurations/default.py`, and builders that set it back.
    """
    if types(model) & _NO_WINDOW and model.model_type != "gemma3_text":
        return -1
    found = keys(model)
    if not found.flag("use_sliding_window", not types(model) & _WINDOW_ON_REQUEST):
        return -1
    told = _raw(model, "sliding_window")
    if told is not None:
        return found.whole("sliding_window") or -1
    if told is None and _has_null(model, "sliding_window"):
        return -1
    reaches = (m.reach for layer in model.layers for m in layer.memories if isinstance(m, Softmax))
    return next((reach.size for reach in reaches if isinstance(reach, Window)), -1)


def _raw(model: Model, name: str) -> Any:
    return keys(model).data.get(name)


def _has_null(model: Model, name: str) -> bool:
    return model.origin is not None and any(
        name in section and section[name] is None for section in (model.origin.text_config, model.origin.config)
    )


def output_gate(model: Model) -> bool:
    """Whether attention heads are counted twice, for their gates (Qwen3.5). Source: `configurations/qwen3_5.py`."""
    return bool(types(model) & GATED_DELTA) and keys(model).flag("attn_output_gate")


def query_heads(model: Model) -> int | None:
    """Heads of queries, which tensor parallelism must divide; None where the model does not say."""
    told = keys(model).whole("num_attention_heads") or model.attention_heads
    return None if told is None else told * (2 if output_gate(model) else 1)


def interval(model: Model) -> int:
    """Qwen3-Next: each so many layers one is full attention."""
    return keys(model).whole("full_attention_interval", 4, least=1)


def rotary_width(model: Model, memory: Latent) -> int:
    """Width of the rotary key; GLM's builder trusts `qk_head_dim`. Source: `configurations/glm_moe_dsa.py`."""
    found = keys(model)
    if "glm_moe_dsa" in types(model) and found.has("qk_head_dim") and found.has("qk_nope_head_dim"):
        return max(found.whole("qk_head_dim") - found.whole("qk_nope_head_dim"), 0)
    return memory.rope_dim


def expands_latents(model: Model) -> bool:
    """Whether latents are stored as heads (MiniCPM3). Source: `configurations/minicpm3.py`."""
    return "minicpm3" in types(model)


def expanded_heads(model: Model, memory: Latent) -> int:
    """Heads of keys and values where latents are stored as heads."""
    return keys(model).whole("num_key_value_heads", memory.heads, least=1)


def indexers(model: Model) -> tuple[int, ...]:
    """Layers that build an indexer. Source: `models/deepseek_v32.py`, `models/glm_moe_dsa.py`."""
    return tuple(layer.index for layer in model.layers if any(isinstance(memory, Index) for memory in layer.memories))


def replicates_heads(model: Model) -> bool:
    """Whether the builder copies heads where there are fewer than cards. Source: `configurations/llava_hf.py` does not."""
    return not types(model) & {"llava", "llava_next"}
