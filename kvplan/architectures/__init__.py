"""Front ends: from a hub config to what the model must remember. One small module a family.

A family module has `read(c, model_type) -> Decoder`: each layer's memories in order, under the key names and class
defaults of that family. It is imported only when a config asks for it. Third parties add families through the
entry-point group `kvplan.architectures` (name = model type, value = module).
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from kvplan.architectures.config import Config
from kvplan.architectures.shapes import Decoder
from kvplan.errors import ConfigError, UnknownArchitecture
from kvplan.model import Layer, Model, ModelError

# fmt: off
#: Family module -> the model types that it reads. A new family is one file and one row here.
FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "plain": (
        "apertus", "aquila", "arcee", "arctic", "aria_text", "baichuan", "bailing_moe", "bert", "bert-generation", "big_bird",
        "biogpt", "bitnet", "bloom", "camembert", "chameleon", "codegen", "cohere", "cosmos3_edge_text", "cpmant", "csm",
        "ctrl", "data2vec-text", "deepseek", "deepseek_ocr2_text", "diffllama", "electra", "emu3_text_model", "ernie",
        "ernie4_5", "ernie4_5_moe", "ernie4_5_vl_moe_text", "evolla", "exaone", "flex_olmo", "gemma", "git", "glm", "glm4",
        "glm4_moe", "glm4v_moe_text", "glm4v_text", "glm_ocr_text", "gpt-sw3", "gpt2", "gpt_neox", "gpt_neox_japanese", "gptj",
        "gradium_phonon_tts", "granite", "granite4_vision_text", "granite_docling_text", "granitemoe", "granitemoeshared",
        "grok-1", "helium", "higgs_audio_v2", "hy_v3", "hyperclovax", "idefics", "internlm", "internlm2", "internlm3",
        "iquestcoder", "jais", "jais2", "kosmos_2_5_text_model", "kosmos_2_text_model", "llama", "megatron-bert", "minicpm",
        "mixformer-sequential", "molmo2_text", "musicgen_melody_decoder", "nanochat", "nemotron", "olmo", "olmo2", "olmoe",
        "openai-gpt", "opt", "orion", "paddleocr_vl_text", "persimmon", "phi", "phi-msft", "phi3small", "pocket_tts", "qwen",
        "qwen3_vl_text", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "seed_oss", "skywork",
        "solar_open", "stablelm", "stablelm_epoch", "step3_text", "talkie", "telechat", "telechat3", "xglm", "xlm",
        "xlm-roberta", "xlm-roberta-xl", "xmod", "xverse", "Yi",
    ),
    "sliding": (
        "afmoe", "beam", "cohere2", "cohere2_moe", "cohere_compass_text", "cwm", "doge", "dots1", "exaone4", "exaone4_5_text",
        "exaone_moe", "flint", "gemma2", "gemma3_text", "gpt_neo", "gpt_oss", "granite_swa", "granitemoe_swa", "kolibri1",
        "kyutai_speech_to_text", "laguna", "llama4_text", "mellum", "mimo", "ministral", "ministral3", "mistral", "mixtral",
        "modernbert-decoder", "moshi", "muse_glimmer_text", "muse_spark_text", "olmo3", "phi3", "phi3_v", "phi4",
        "phi4_multimodal", "phi4mm", "phimoe", "qwen2", "qwen2_5_omni_text", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl_text",
        "qwen3", "qwen3_moe", "qwen3_omni_moe_text", "qwen3_vl_moe_text", "smollm3", "spark2_5", "starcoder2", "vaultgemma",
        "voxtral_realtime_text",
    ),
    "gemma": (
        "diffusion_gemma_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text",
    ),
    "mixed_heads": (
        "mimo_v2_flash", "step3p5",
    ),
    "kv_names": (
        "chatglm", "dbrx", "deci", "falcon", "gpt_bigcode", "jetmoe", "mpt", "openelm", "plamo", "RefinedWeb",
        "RefinedWebModel",
    ),
    "cla": (
        "hunyuan", "hunyuan_v1_dense", "hunyuan_v1_moe", "hunyuan_vl_text", "llama-cla",
    ),
    "layer_maps": (
        "afm7", "hrm_text", "iquestloopcoder", "mllama_text_model", "nemotron-nas", "unlimited_ocr_text",
    ),
    "cacheless": ("bark", "blt", "fastspeech2_conformer_with_hifigan", "reformer", "vits", "xlnet"),
    "encoder_decoder": (
        "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "blip_text_model", "canary_decoder", "cohere_asr",
        "dia_decoder", "fsmt", "led", "longt5", "m2m_100", "marian", "mbart", "moonshine", "moonshine_streaming", "mt5",
        "musicgen_decoder", "mvp", "nllb-moe", "pegasus", "pegasus_x", "pix2struct_text_model", "plbart", "pop2piano",
        "pp_formulanet_text", "prophetnet", "seamless_m4t", "seamless_m4t_v2", "speech_to_text", "speecht5",
        "switch_transformers", "t5", "t5_gemma_module", "t5gemma2_decoder", "trocr", "udop", "umt5", "whisper",
    ),
    "latent": (
        "axk1", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "kimi_k2", "longcat_flash", "minicpm3", "mistral4", "youtu",
        "youtu_llm",
    ),
    "indexed": (
        "axk2", "deepseek_v32", "dots3_note_text", "glm_moe_dsa", "hy_v4", "mistral_large4_text",
    ),
    "deepseek_v4": (
        "deepseek_ref", "deepseek_v4", "deepseek_v41",
    ),
    "kda": (
        "bailing_hybrid", "glm5_next_text", "kimi_linear",
    ),
    "delta": (
        "olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "qwen4_exp_text",
    ),
    "minimax": (
        "minimax", "minimax_m1", "minimax_m2", "minimax_m3", "minimax_m3_vl_text", "minimax_text_01",
    ),
    "mamba": (
        "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "mamba", "mamba2", "plamo2", "zamba", "zamba2",
    ),
    "nemotron_h": ("nemotron_h",),
    "sambay": ("phi4flash",),
    "convolution": (
        "inkling2_text", "inkling_text", "lfm2", "lfm2_moe", "lfm3", "zaya",
    ),
    "recurrent": (
        "recurrent_gemma", "rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm",
    ),
}
_MODULE_OF: Final[dict[str, str]] = {model_type: module for module, types in FAMILIES.items() for model_type in types}

#: Wrapper model type -> (where its text part is, the text part's model type when that part does not say).
WRAPPERS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
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
    "hyperclovax_vision_v2": (("text_config",), "hyperclovax"),
    "internvl_chat": (("llm_config",), "internlm2"),
    "kosmos-2.5": (("text_config",), "kosmos_2_5_text_model"),
    "kosmos-2": (("text_config",), "kosmos_2_text_model"),
    **dict.fromkeys(
        (
            "deepseek_vl", "deepseek_vl_hybrid", "glmasr", "idefics3", "janus", "llava", "llava_llama", "llava_next",
            "llava_next_video", "perception_lm", "smolvlm", "ultravox", "video_llava", "vipllava", "voxtral",
        ),
        (("text_config",), "llama"),
    ),
    "llama4": (("text_config",), "llama4_text"),
    "h2ovl_chat": (("llm_config",), "mistral"),
    **dict.fromkeys(("idefics2", "mistral3"), (("text_config",), "mistral")),
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
    "lfm2_vl": (("text_config",), "lfm2"),
    "lfm3_vl": (("text_config",), "lfm3"),
    "inkling_mm_model": (("text_config",), "inkling_text"),
    "inkling2": (("text_config",), "inkling2_text"),
}
# fmt: on
#: Where a wrapper that is not in the table keeps its text part, tried in this order.
_TEXT_SECTIONS: Final = ("text_config", "language_config", "llm_config", "decoder_config", "thinker_config")

_DTYPES: Final = {
    "float32": "float32", "fp32": "float32", "float16": "float16", "fp16": "float16", "half": "float16",
    "bfloat16": "bfloat16", "bf16": "bfloat16", "float64": "float32", "float8_e4m3fn": "bfloat16", "auto": "bfloat16",
}  # fmt: skip


def known_model_types() -> list[str]:
    """Every model type that a config may name, wrappers included."""
    return sorted({*_MODULE_OF, *WRAPPERS})


def read(data: Mapping[str, Any], *, source: str = "config.json", name: str = "", infer: bool = False) -> Model:
    """Read a hub config.

    Args:
        data: the parsed config.json.
        source: what errors call it.
        name: the model's name; the model type when empty.
        infer: read an unknown model type by the shape of its keys; the result is marked.

    Raises:
        ConfigError: a key is missing, of the wrong type, or contradicts another.
        UnknownArchitecture: no family claims the model type and `infer` is false.
    """
    return read_config(Config(data, source), name=name, infer=infer)


def read_config(outer: Config, *, name: str = "", infer: bool = False) -> Model:
    """As `read`, for a `Config` that the caller holds: afterwards it says which keys were read."""
    source = outer.source
    model_type = outer.text("model_type", default="") or _from_architectures(outer)
    text, text_type = _text_part(outer, model_type)
    inferred = False
    try:
        family = _family(text_type, source, infer=infer)
    except UnknownArchitecture:
        if not infer:
            raise
        inferred = True
        family = import_module("kvplan.architectures.infer")
    try:
        decoder = family.read(text, text_type)
        return _model(outer, text, (model_type, text_type), decoder, name=name or model_type, inferred=inferred)
    except ModelError as error:
        raise ConfigError(f"{source}: {error}", hint="check the config's sizes and its layer map") from error


def _from_architectures(c: Config) -> str:
    """A config without a model type may still name its class; without either there is nothing to go by."""
    if not c.data:
        c.refuse("model_type", "is missing: the config is empty", hint="give a model's real config.json")
    names = c.items("architectures") or []
    shown = f" (architectures: `{str(names[0])[:60]}`)" if names else ""
    c.refuse(
        "model_type",
        f"is missing{shown}, so the architecture is unknown",
        hint='add it, as in {"model_type": "llama", …}, or describe the layers in YAML (docs/guides/specs.md)',
    )


def _text_part(outer: Config, model_type: str) -> tuple[Config, str]:
    """The section that describes the text decoder, and its model type."""
    if model_type in WRAPPERS:
        path, implied = WRAPPERS[model_type]
        section = _section_at(outer, path)
        if section is outer:
            return outer, implied
        inner = section.text("model_type", default=implied)
        completed = import_module("kvplan.architectures.wrapper_text").with_defaults(section, model_type)
        return completed, implied if inner in WRAPPERS else inner
    if model_type in _MODULE_OF and (_describes_layers(outer) or not any(key in outer.data for key in _TEXT_SECTIONS)):
        return outer, model_type
    for key in _TEXT_SECTIONS:
        if isinstance(outer.data.get(key), Mapping):
            section = outer.section(key)
            inner = section.text("model_type", default="")
            if inner in _MODULE_OF:
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
    keys = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "num_decoder_layers")
    return any(key in c.data for key in keys)


def _family(model_type: str, source: str, *, infer: bool) -> Any:
    module = _MODULE_OF.get(model_type)
    if module is not None:
        return import_module(f"kvplan.architectures.{module}")
    from importlib.metadata import entry_points  # costs 30 ms, so only for what kvplan itself does not know

    for point in entry_points(group="kvplan.architectures"):
        if point.name == model_type:
            return point.load()
    raise UnknownArchitecture(model_type, known_model_types(), source)


def _model(outer: Config, text: Config, types: tuple[str, str], decoder: Decoder, *, name: str, inferred: bool) -> Model:
    return Model(
        name=name,
        model_type=types[0],
        layers=tuple(Layer(index=i, memories=m) for i, m in enumerate(decoder.layers)),
        drafts=tuple(Layer(index=i, memories=m) for i, m in enumerate(decoder.drafts)),
        dtype=_dtype(outer, text),
        max_tokens=_max_tokens(outer, text),
        attention_heads=decoder.heads,
        inferred=inferred,
        notes=decoder.notes,
        provenance=outer.facts,
        config=outer.data,
        text_type=types[1],
        text_config=text.data,
    )


def _dtype(outer: Config, text: Config) -> str:
    """The dtype of the activations: the text part's, else the wrapper's, else assumed bfloat16."""
    for section in (text, outer):
        value = section.text("dtype", "torch_dtype", default=None)
        if value is not None:
            found = _DTYPES.get(value.removeprefix("torch."))
            if found is None:
                section.refuse("torch_dtype", f"is not a dtype that kvplan knows: `{value[:40]}`")
            return found
    outer.note("torch_dtype", "bfloat16", "assumed: the config names no dtype")
    return "bfloat16"


def _max_tokens(outer: Config, text: Config) -> int | None:
    keys = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "model_max_length")
    for section in (text, outer):
        for key in keys:
            value = section.data.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
                section.note(key, value, "config")
                return value
    return None
