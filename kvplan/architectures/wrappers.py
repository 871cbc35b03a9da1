"""Wrappers, models in models: where each keeps its text part, and what it assumes of that part.

Some assume a text part of their own, where the text class by itself would assume another size. Source: `init_kwargs` in
`sub_configs_defaults` of `configuration_*.py`, transformers 5.24. They hold when the config has no text part at all; the
classes in `MERGED` also fill in what a given text part leaves out.
"""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any, Final

from kvplan.architectures.index import FAMILY_OF
from kvplan.architectures.kit.config import Config

# fmt: off
#: Wrapper model type -> (where its text part is, the text part's model type when that part does not say).
WRAPPERS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "alpamayo2_super": (("text_config",), "qwen3_vl_text"),
    **dict.fromkeys(("colqwen3", "ops_colqwen3", "qwen3_vl_nemotron_embed"), (("text_config",), "qwen3_vl_text")),
    "bagel": (("llm_config",), "qwen2"),
    "bailing_moe_v3_vl": (("text_config",), "bailing_hybrid"),
    "bailingmm_moe_v2_lite": (("llm_config",), "bailing_moe"),
    **dict.fromkeys(("eagle_2_5_vl", "locateanything", "nvila", "nvila_lite", "opencua", "rvl"), (("text_config",), "qwen2")),
    **dict.fromkeys(("bee", "funaudiochat", "interns1", "isaac", "llava_onevision2", "step_vl"), (("text_config",), "qwen3")),
    "interns1_pro": (("text_config",), "qwen3_moe"),
    "interns2_mobius": (("text_config",), "qwen3_5_text"),
    "interns2_preview": (("text_config",), "qwen3_5_moe_text"),
    **dict.fromkeys(("kanana-1.5-v", "openvla", "sarashina2_vision"), (("text_config",), "llama")),
    "llama_nemotron_vl": (("llm_config",), "llama"),
    "midashenglm": (("text_config",), "qwen2_5_omni_text"),
    "moondream3": (("config", "text"), "moondream3_text"),
    "moss_audio": (("language_config",), "qwen3"),
    "nemotron_parse": (("decoder",), "mbart"),
    "openpangu_vl": (("text_config",), "PanguEmbedded"),
    "prism_hadamard_qwen35": (("text_config",), "qwen3_5_text"),
    "points": (("llm_config",), "qwen2"),
    "skywork_chat": (("llm_config",), "qwen2"),
    "step5_vl": (("text_config",), "step5"),
    "apertus1p5": (("text_config",), "apertus1p5_text"),
    "aria": (("text_config",), "aria_text"),
    "florence2": (("text_config",), "bart"),
    **dict.fromkeys(("encoder-decoder", "speech-encoder-decoder", "vision-encoder-decoder"), (("decoder",), "bert")),
    "blip": (("text_config",), "blip_text_model"),
    "canary": (("decoder_config",), "canary_decoder"),
    **dict.fromkeys(("aya_vision", "cohere2_vision"), (("text_config",), "cohere2")),
    "cohere_compass": (("text_config",), "cohere_compass_text"),
    "cosmos3_edge": (("text_config",), "cosmos3_edge_text"),
    "deepseek_ocr2": (("text_config",), "deepseek_ocr2_text"),
    "dia": (("decoder_config",), "dia_decoder"),
    "diffusion_gemma": (("text_config",), "diffusion_gemma_text"),
    "emu3": (("text_config",), "emu3_text_model"),
    **dict.fromkeys(("ernie4_5_moe_vl", "ernie4_5_vl_moe"), (("text_config",), "ernie4_5_vl_moe_text")),
    "exaone4_5": (("text_config",), "exaone4_5_text"),
    "paligemma": (("text_config",), "gemma"),
    "pi0": (("vlm_config", "text_config"), "gemma"),
    **dict.fromkeys(("gemma3", "shieldgemma2"), (("text_config",), "gemma3_text")),
    "gemma3n": (("text_config",), "gemma3n_text"),
    **dict.fromkeys(("gemma4", "gemma4_assistant"), (("text_config",), "gemma4_text")),
    **dict.fromkeys(("gemma4_unified", "gemma4_unified_assistant"), (("text_config",), "gemma4_unified_text")),
    "glm4v_moe": (("text_config",), "glm4v_moe_text"),
    **dict.fromkeys(("glm46v", "glm4v", "glmga"), (("text_config",), "glm4v_text")),
    "glm_ocr": (("text_config",), "glm_ocr_text"),
    **dict.fromkeys(("granite_speech", "granite_speech_plus"), (("text_config",), "granite")),
    "granite4_vision": (("text_config",), "granite4_vision_text"),
    "granite_docling": (("text_config",), "granite_docling_text"),
    "hunyuan_vl": (("text_config",), "hunyuan_vl_text"),
    "hy_v4_vl": (("text_config",), "hy_v4_vl_text"),
    "hyperclovax_vision_v2": (("text_config",), "hyperclovax"),
    "internvl_chat": (("llm_config",), "internlm2"),
    "kosmos-2.5": (("text_config",), "kosmos_2_5_text_model"),
    "kosmos-2": (("text_config",), "kosmos_2_text_model"),
    **dict.fromkeys(
        (
            "deepseek_vl", "deepseek_vl_hybrid", "glmasr", "idefics3", "janus", "llava", "llava_llama", "llava_next",
            "llava_next_video", "omniasr", "perception_lm", "smolvlm", "ultravox", "video_llava", "vipllava", "voxtral",
        ),
        (("text_config",), "llama"),
    ),
    "llama4": (("text_config",), "llama4_text"),
    "h2ovl_chat": (("llm_config",), "mistral"),
    **dict.fromkeys(("idefics2", "mistral3", "pixtral"), (("text_config",), "mistral")),
    "mllama": (("text_config",), "mllama_text_model"),
    "molmo2": (("text_config",), "molmo2_text"),
    "muse_glimmer": (("text_config",), "muse_glimmer_text"),
    "muse_spark": (("text_config",), "muse_spark_text"),
    "musicgen": (("decoder",), "musicgen_decoder"),
    "musicgen_melody": (("decoder",), "musicgen_melody_decoder"),
    **dict.fromkeys(("blip-2", "instructblip", "instructblipvideo"), (("text_config",), "opt")),
    "paddleocr_vl": (("text_config",), "paddleocr_vl_text"),
    "fuyu": (("text_config",), "persimmon"),
    "pix2struct": (("text_config",), "pix2struct_text_model"),
    "pp_formulanet": (("text_config",), "pp_formulanet_text"),
    "ovis": (("llm_config",), "qwen2"),
    **dict.fromkeys(
        (
            "audioflamingo3", "dots_ocr", "fast_vlm", "got_ocr2", "internvl", "llava_onevision", "llava_qwen", "minicpmo",
            "minicpmv", "musicflamingo", "NVLM_D", "ovis2", "pp_chart2table", "qwen2_audio", "vibevoice", "vibevoice_asr",
            "video_llama_3",
        ),
        (("text_config",), "qwen2"),
    ),
    "qwen2_5_omni_thinker": (("text_config",), "qwen2_5_omni_text"),
    "qwen2_5_omni": (("thinker_config", "text_config"), "qwen2_5_omni_text"),
    "qwen2_5_vl": (("text_config",), "qwen2_5_vl_text"),
    "qwen2_vl": (("text_config",), "qwen2_vl_text"),
    "ovis2_5": (("llm_config",), "qwen3"),
    **dict.fromkeys(
        (
            "fun_asr_nano", "lighton_ocr", "moss_transcribe_diarize", "qianfan_ocr", "qwen3_asr",
        ),
        (("text_config",), "qwen3"),
    ),
    "qwen3_omni_moe_thinker": (("text_config",), "qwen3_omni_moe_text"),
    "qwen3_omni_moe": (("thinker_config", "text_config"), "qwen3_omni_moe_text"),
    "qwen3_vl_moe": (("text_config",), "qwen3_vl_moe_text"),
    **dict.fromkeys(("cosmos3_omni", "qwen3_vl"), (("text_config",), "qwen3_vl_text")),
    "step3_vl": (("text_config",), "step3_text"),
    "step3p7": (("text_config",), "step3p5"),
    "t5gemma": (("decoder",), "t5_gemma_module"),
    "t5gemma2": (("decoder",), "t5gemma2_decoder"),
    "unlimited_ocr": (("text_config",), "unlimited_ocr_text"),
    "voxtral_realtime": (("text_config",), "voxtral_realtime_text"),
    "deepseek_vl_v2": (("language_config",), "deepseek_v2"),
    **dict.fromkeys(("kimi_k25", "kimi_vl"), (("text_config",), "deepseek_v3")),
    "kimi_k3": (("text_config",), "kimi_linear"),
    "glm5_next": (("text_config",), "glm5_next_text"),
    "mistral_large4": (("text_config",), "mistral_large4_text"),
    "dots3_note": (("text_config",), "dots3_note_text"),
    "minimax_m3_vl": (("text_config",), "minimax_m3_vl_text"),
    **dict.fromkeys(("minicpm_ocr", "minicpmv4_6", "minicpmv4_7", "qwen3_5"), (("text_config",), "qwen3_5_text")),
    "qwen3_5_moe": (("text_config",), "qwen3_5_moe_text"),
    "qwen4_exp": (("text_config",), "qwen4_exp_text"),
    **dict.fromkeys(("nemo_speechlm", "nemotron_h_omni"), (("text_config",), "nemotron_h")),
    **dict.fromkeys(("lfm2-vl", "lfm2_vl"), (("text_config",), "lfm2")),
    "lfm3_vl": (("text_config",), "lfm3"),
    "inkling_mm_model": (("text_config",), "inkling_text"),
    "inkling2_loop": (("text_config",), "inkling2_loop_text"),
    "inkling2": (("text_config",), "inkling2_text"),
}
# fmt: on

#: Where a wrapper that is not in the table keeps its text part, tried in this order.
_TEXT_SECTIONS: Final = ("text_config", "language_config", "llm_config", "decoder_config", "thinker_config")
_LAYER_KEYS: Final = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "num_decoder_layers")


def text_part(outer: Config, model_type: str) -> tuple[Config, str]:
    """The section that describes the text decoder, and its model type."""
    if model_type in WRAPPERS:
        path, implied = WRAPPERS[model_type]
        section = _section_at(outer, path)
        if section is outer:
            return outer, implied
        inner = section.text("model_type", default=implied)
        return with_defaults(section, model_type), implied if inner in WRAPPERS else inner
    if model_type in FAMILY_OF and (_describes_layers(outer) or not any(key in outer.data for key in _TEXT_SECTIONS)):
        return outer, model_type
    for key in _TEXT_SECTIONS:
        if isinstance(outer.data.get(key), Mapping):
            section = outer.section(key)
            inner = section.text("model_type", default="")
            if inner in FAMILY_OF:
                outer.note("model_type", model_type, f"read through `{key}`")
                return section, inner
    return outer, model_type


def _section_at(outer: Config, path: tuple[str, ...]) -> Config:
    """The section at `path`; `outer` itself where a wrapper's config is flat, as Qwen2-VL's is."""
    section = outer
    for key in path:
        if section.has(key):
            section = section.section(key)
    if section is not outer or _describes_layers(outer):
        return section
    for key in _TEXT_SECTIONS:
        if isinstance(outer.data.get(key), Mapping):  # VibeVoice: `decoder_config` on the hub
            return outer.section(key)
    return outer.section(path[-1])  # absent: the text part is its class's defaults


def _describes_layers(c: Config) -> bool:
    return any(key in c.data for key in _LAYER_KEYS)


def _sizes(layers: int, heads: int, kv_heads: int, hidden: int, **others: int | None) -> dict[str, int | None]:
    sizes: dict[str, int | None] = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return sizes | {"hidden_size": hidden} | others


_PAIR: Final[dict[str, Any]] = {"is_decoder": True, "add_cross_attention": True}
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("encoder-decoder", "speech-encoder-decoder", "vision-encoder-decoder"), _PAIR),
    "nemo_speechlm": {
        "hidden_size": 2688,
        "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        "mamba_num_heads": 64,
        "num_key_value_heads": 2,
    },
    "fast_vlm": _sizes(28, 28, 4, 3584),
    "fun_asr_nano": _sizes(28, 16, 8, 1024),
    "glmasr": _sizes(28, 16, 4, 2048),
    "got_ocr2": _sizes(24, 16, 16, 1024),
    "lighton_ocr": _sizes(28, 16, 8, 1024, head_dim=128, sliding_window=None),
    "mistral3": _sizes(40, 32, 8, 5120, head_dim=128, sliding_window=None),
    "moss_transcribe_diarize": _sizes(28, 16, 8, 1024),
    "omniasr": _sizes(12, 8, 8, 4096),
    "paligemma": _sizes(18, 8, 1, 2048),
    "pp_chart2table": _sizes(24, 16, 16, 1024),
    "qwen3_asr": _sizes(28, 16, 8, 2048, head_dim=128),
    "voxtral": {"num_hidden_layers": 30, "num_key_value_heads": 8, "hidden_size": 3072, "head_dim": 128},
    "voxtral_realtime": _sizes(26, 32, 8, 3072, head_dim=128, sliding_window=8192),
}
MERGED: Final = frozenset({"glmasr", "voxtral", "voxtral_realtime"})


def with_defaults(section: Config, wrapper: str) -> Config:
    """The text part as the wrapper's class completes it."""
    extra = DEFAULTS.get(wrapper, {})
    if not extra or (section.data and wrapper not in MERGED):
        return section
    for key, value in extra.items():
        if key not in section.data:
            section.note(key, value, f"default of `{wrapper}`")
    return section.replaced(ChainMap(section.data, extra))  # type: ignore[arg-type]  # read, never written
