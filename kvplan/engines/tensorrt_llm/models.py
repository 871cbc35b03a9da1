"""What TensorRT-LLM makes of a model: the only file here that looks at a model's config.

Source: TensorRT-LLM 1.4.0rc4 `_torch/models/_arch_index.py`, `_torch/model_config.py`, `_torch/pyexecutor/_util.py`.
"""

from __future__ import annotations

from typing import Any, Final

from kvplan.domain.model import Cross, Latent, Model, Recurrent
from kvplan.domain.origin import NO_SETTINGS, Settings
from kvplan.errors import Refused

#: Classes that the PyTorch backend has a model for.
ARCHITECTURES: Final = frozenset(
    {
        "AfmoeForCausalLM", "BartForConditionalGeneration", "Cohere2ForCausalLM", "DeciLMForCausalLM",
        "DeepseekV32ForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV4ForCausalLM", "EAGLE3LlamaForCausalLM",
        "Eagle3DeepSeekV3ForCausalLM", "Exaone4ForCausalLM", "Exaone4_5_ForConditionalGeneration", "ExaoneMoEForCausalLM",
        "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration",
        "Gemma4UnifiedForConditionalGeneration", "Glm4MoeForCausalLM", "GlmMoeDsaForCausalLM", "GptOssForCausalLM",
        "HunYuanDenseV1ForCausalLM", "HunYuanMoEV1ForCausalLM", "KimiK25ForConditionalGeneration",
        "KimiK3ForConditionalGeneration", "KimiLinearForCausalLM", "LagunaForCausalLM", "Llama4ForConditionalGeneration",
        "LlamaForCausalLM", "LlavaLlamaModel", "LlavaNextForConditionalGeneration", "MBartForConditionalGeneration",
        "MiniCPMV4_6ForConditionalGeneration", "MiniMaxM2ForCausalLM", "MiniMaxM3SparseForCausalLM",
        "MiniMaxM3SparseForConditionalGeneration", "Mistral3ForConditionalGeneration", "MistralForCausalLM",
        "MistralLarge3ForCausalLM", "MixtralForCausalLM", "MllamaForConditionalGeneration", "NemotronForCausalLM",
        "NemotronHForCausalLM", "NemotronHPuzzleForCausalLM", "NemotronH_Nano_Omni_Reasoning_V3", "NemotronH_Nano_VL_V2",
        "Phi3ForCausalLM", "Phi4MMForCausalLM", "PixtralForConditionalGeneration", "Qwen2ForCausalLM",
        "Qwen2ForProcessRewardModel", "Qwen2ForRewardModel", "Qwen2MoeForCausalLM", "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration", "Qwen3ForCausalLM", "Qwen3ForTextEmbedding", "Qwen3MoeForCausalLM",
        "Qwen3NextForCausalLM", "Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration", "Qwen3_5ForCausalLM",
        "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration",
        "QwenImageBenchForConditionalGeneration", "SeedOssForCausalLM", "Starcoder2ForCausalLM", "Step3p5ForCausalLM",
        "Step3p7ForConditionalGeneration", "T5ForConditionalGeneration", "WhisperForConditionalGeneration",
    }
)  # fmt: skip
#: Model types of those classes, for configs that name no class.
_TYPES: Final = frozenset(
    {
        "afmoe", "bart", "cohere2", "deci", "nemotron-nas", "deepseek_v3", "deepseek_v32", "deepseek_v4", "exaone4",
        "exaone4_5", "exaone_moe", "gemma3", "gemma3_text", "gemma4", "gemma4_text", "gemma4_unified", "glm4_moe",
        "glm_moe_dsa", "gpt_oss", "hunyuan_v1_dense", "hunyuan_v1_moe", "kimi_k2", "kimi_k25", "kimi_k3", "kimi_linear",
        "laguna", "llama", "llama4", "llama4_text", "llava_next", "mbart", "minimax_m2", "mistral", "mistral3", "ministral3",
        "mixtral", "mllama", "nemotron", "nemotron_h", "phi3", "phi4mm", "pixtral", "qwen2", "qwen2_moe", "qwen2_vl",
        "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe",
        "qwen3_5_text", "qwen3_5_moe_text", "seed_oss", "starcoder2", "step3p5", "t5", "whisper",
    }
)  # fmt: skip
#: What a class's model prefers from 1.4 on: the second manager for these. Source: `_torch/models/*.py`,
#: `get_preferred_kv_cache_manager`; PRs 16060, 16942, 17396, 18228, 19004, 19140.
_SECOND: Final = (
    "deepseek_v3", "deepseek_v32", "glm", "kimi_k2", "gpt_oss", "qwen", "nemotron", "minimax", "gemma3", "gemma4", "llama",
)  # fmt: skip
_SECOND_CLASSES: Final = (
    "Deepseek", "Glm", "MistralLarge3", "KimiK2", "GptOss", "Qwen", "Nemotron", "MiniMax", "Gemma3", "Gemma4", "Llama",
)  # fmt: skip
#: Managers of their own that were not read.
_UNREAD: Final = {
    "deepseek_v4": "its own cache manager for compressed entries",
    "qwen4_exp": "its own cache manager",
    "glm5_next": "pooled index keys",
    "minimax_m3": "its own cache manager for sparse layers",
    "kimi_k3": "its own mixture of states and latents",
    "mllama": "cross-attention layers between its own",
    "zamba2": "its shared blocks",
}
_QUANTISED: Final = {"fp8": "fp8_e4m3", "nvfp4": "nvfp4", "fp4": "nvfp4", "int8": "int8"}


def described_by_hand(model: Model) -> bool:
    """Whether no config says what the layers are."""
    return model.origin is None


def types(model: Model) -> frozenset[str]:
    """The model's type and its text part's."""
    return frozenset({model.model_type, model.origin.text_type if model.origin else model.model_type})


def classes(model: Model) -> tuple[str, ...]:
    """The classes that the config names."""
    return model.origin.outer.names("architectures") if model.origin is not None else ()


def _sections(model: Model) -> tuple[Settings, ...]:
    return (NO_SETTINGS,) if model.origin is None else (model.origin.text, model.origin.outer)


def refuse(model: Model) -> None:
    """Raise what the PyTorch backend would before it counts anything, or that its rule was not read.

    Raises:
        Refused: a class that it has no model for; a manager that was not read.
    """
    known = types(model)
    unread = next((why for name in known for prefix, why in _UNREAD.items() if name.startswith(prefix)), "")
    if unread:
        raise Refused(f"kvplan has not read {unread}")
    if described_by_hand(model):
        return
    names = classes(model)
    if names and not ARCHITECTURES & {*names}:
        raise Refused(f"Unknown architecture for AutoModelForCausalLM: {names[0][:60]}")
    if not names and not known & _TYPES:
        raise Refused(f"Unknown architecture for AutoModelForCausalLM: {model.model_type[:60]}")


def prefers_second(model: Model) -> bool:
    """Whether the model's class asks for the second manager where nobody says."""
    names = classes(model)
    if names:
        return names[0].startswith(_SECOND_CLASSES)
    return any(name.startswith(_SECOND) for name in types(model))


def needs_second(model: Model) -> bool:
    """Whether heads differ between layers, which the first manager cannot hold (Gemma 4)."""
    if not any(name.startswith("gemma4") for name in types(model)):
        return False
    widths = {getattr(m, "key_dim", 0) for layer in model.layers for m in layer.memories} - {0}
    return len(widths) > 1


def stored_dtype(model: Model) -> str:
    """The cache dtype that the checkpoint asks for, or the model's own. Source: `_torch/model_config.py`."""
    for section in _sections(model):
        quantised = section.section("quantization_config")
        told = quantised.data.get("kv_cache_quant_algo")
        if isinstance(told, str) and told.lower() in _QUANTISED:
            return _QUANTISED[told.lower()]
        scheme = quantised.data.get("kv_cache_scheme")
        if isinstance(scheme, dict) and scheme.get("num_bits") == 8 and scheme.get("type") == "float":
            return "fp8_e4m3"
    return model.dtype if model.dtype in {"bfloat16", "float16", "float32"} else "bfloat16"


def state_dtype(model: Model) -> str:
    """The dtype of recurrent states where nobody says: a key of the config, or the model's.

    Source: `_torch/pyexecutor/config_utils.py`; a KDA layer's states are float32.
    """
    if any(isinstance(m, Recurrent) and m.kind == "kda" for layer in model.layers for m in layer.memories):
        return "float32"
    for section in _sections(model):
        told = section.data.get("mamba_ssm_cache_dtype")
        if isinstance(told, str) and told in {"bfloat16", "float16", "float32"}:
            return told
    return _activations(model)


def _activations(model: Model) -> str:
    return model.dtype if model.dtype in {"bfloat16", "float16", "float32"} else "bfloat16"


def activations(model: Model) -> str:
    """The dtype of activations."""
    return _activations(model)


def query_heads(model: Model) -> int | None:
    """Heads of queries, which tensor parallelism must divide; None where the model does not say."""
    for section in _sections(model):
        told = section.data.get("num_attention_heads")
        if isinstance(told, int) and not isinstance(told, bool):
            return told
    return model.attention_heads


def has_latents(model: Model) -> bool:
    """Whether it stores latents."""
    return any(isinstance(m, Latent) for layer in model.layers for m in layer.memories)


def has_encoder(model: Model) -> bool:
    """Whether decoder layers look at an encoder's output."""
    return any(isinstance(m, Cross) for layer in model.layers for m in layer.memories)


def index_in_fp4(model: Model) -> bool:
    """Whether index keys take four bits."""
    return any(section.data.get("index_k_dtype") == "fp4" for section in _sections(model))


def drops_windows(model: Model) -> bool:
    """Whether the config says that its windows are not used. Source: `get_layer_attention_window`."""
    return any(section.data.get("use_sliding_window") is False for section in _sections(model))


def memories(model: Model, index: int) -> tuple[Any, ...]:
    """What layer `index` keeps, with what it shares taken from the layer that owns it: every layer has buffers of its own."""
    from kvplan.domain.model import Shared

    return tuple(
        next((own for own in model.layers[m.source].memories if not isinstance(own, Shared)), m) if isinstance(m, Shared) else m
        for m in model.layers[index].memories
    )
