"""Which module counts a model type: the ROWS, by tools/make_index.py (`make index`); do not edit."""

from typing import Final

# fmt: off
#: Module of this package -> the model types (of the text part) that it counts.
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "bart": (
        "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "m2m_100", "marian", "mbart", "mvp", "nllb-moe", "pegasus",
        "pegasus_x", "plbart", "speech_to_text", "whisper",
    ),
    "bert": (
        "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
        "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl",
    ),
    "convolution": ("inkling2_loop_text", "inkling2_text", "inkling_text", "lfm2", "lfm2_moe", "lfm3", "zaya",),
    "deepseek_v4": ("deepseek_ref", "deepseek_v4", "deepseek_v41",),
    "delta": (
        "bailing_hybrid", "glm5_next_text", "kimi_linear", "lara_mini", "olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text",
        "qwen3_next", "qwen4_exp_text",
    ),
    "dense": (
        "Yi", "apertus", "apertus1p5_text", "aquila", "arcee", "baichuan", "bitnet", "chatglm", "cohere", "cohere2",
        "cohere_compass_text", "cosmos3_edge_text", "cwm", "diffllama", "doge", "dory", "emu3_text_model", "ernie4_5", "exaone",
        "exaone4", "exaone4_5_text", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "glm4v_text", "glm_ocr_text", "granite",
        "granite4_vision_text", "granite_docling_text", "granite_swa", "helium", "higgs_audio_v2", "hunyuan_v1_dense",
        "hunyuan_vl_text", "hyperclovax", "internlm", "internlm2", "internlm3", "iquestcoder", "llama", "llama-cla", "mimo",
        "ministral", "ministral3", "mistral", "molmo2_text", "muse_glimmer_text", "nanochat", "nemotron", "olmo", "olmo2",
        "olmo3", "orion", "paddleocr_vl_text", "phi3", "phi3_v", "phi4", "phi4_multimodal", "phi4mm", "qwen", "qwen2",
        "qwen2_5_omni_text", "qwen2_5_vl_text", "qwen2_vl_text", "qwen3", "qwen3_vl_text", "seed_oss", "skywork", "smollm3",
        "talkie", "telechat3", "vaultgemma", "voxtral_realtime_text", "xverse",
    ),
    "gemma": ("diffusion_gemma_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text",),
    "gpt": (
        "RefinedWeb", "RefinedWebModel", "biogpt", "bloom", "codegen", "ctrl", "falcon", "gpt-sw3", "gpt2", "gpt_bigcode",
        "gpt_neo", "gpt_neox", "gpt_neox_japanese", "gptj", "jais2", "mixformer-sequential", "modernbert-decoder", "moshi", "mpt",
        "openai-gpt", "opt", "persimmon", "phi", "phi-msft", "stablelm", "stablelm_epoch", "starcoder2", "xglm",
    ),
    "hybrids": ("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "mamba", "mamba2", "plamo2",),
    "latent": (
        "axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots3_note_text", "glm4_moe_lite", "glm_moe_dsa", "hy_v4",
        "hy_v4_vl_text", "joyai_llm_flash", "kimi_k2", "longcat_flash", "minicpm3", "mistral4", "mistral_large4_text",
        "sarvam_mla", "youtu", "youtu_llm",
    ),
    "mlx_lm": (
        "Klear", "baichuan_m1", "bailing_moe_linear", "lille-130m", "longcat_flash_ngram", "nanbeige", "plamo3", "spark2_5",
    ),
    "nemotron_h": ("nemotron_h",),
    "others": (
        "arctic", "deepseek_ocr2_text", "ernie4_5_vl_moe_text", "grok-1", "hunyuan", "hunyuan_v1_moe", "iquestloopcoder", "jais",
        "minicpm", "phi3small", "plamo", "step3_text", "unlimited_ocr_text",
    ),
    "recurrent": ("minimax", "minimax_m1", "minimax_text_01", "recurrent_gemma", "rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm",),
    "sparse": (
        "afmoe", "aria_text", "bailing_moe", "beam", "cohere2_moe", "deepseek", "dots1", "ernie4_5_moe", "exaone_moe",
        "flex_olmo", "flint", "glm4_moe", "glm4v_moe_text", "gpt_oss", "granitemoe", "granitemoe_swa", "granitemoeshared",
        "hy_v3", "kolibri1", "laguna", "llama4_text", "mellum", "mimo_v2_flash", "minimax_m2", "minimax_m3", "minimax_m3_vl_text",
        "mixtral", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe", "qwen3_omni_moe_text", "qwen3_vl_moe_text", "sarvam_moe",
        "solar_open", "step3p5",
    ),
    "t5": ("longt5", "mt5", "pop2piano", "switch_transformers", "t5", "umt5",),
    "t5gemma": ("t5_gemma_module",),
    "whole": (
        "afm7", "dbrx", "deci", "hrm_text", "jetmoe", "mllama_text_model", "muse_spark_text", "nemotron-nas", "openelm",
        "phi4flash", "telechat",
    ),
    "zamba": ("zamba", "zamba2",),
}
# fmt: on

#: Model type -> module.
MODULE_OF: Final = {model_type: module for module, types in MODULES.items() for model_type in types}

# fmt: off
#: Model types whose towers are counted beside their text part: the rows of wrappers.py.
WRAPPERS: Final = frozenset({
    "audioflamingo3", "cosmos3_edge", "cosmos3_omni", "deepseek_vl", "ernie4_5_vl_moe", "exaone4_5", "fuyu", "gemma3", "gemma3n",
    "gemma4", "gemma4_unified", "glm46v", "glm4v", "glm4v_moe", "glm5_next", "glm_ocr", "glmasr", "glmga",
    "hyperclovax_vision_v2", "idefics3", "internvl", "kimi_k25", "kimi_k3", "lfm2_vl", "lighton_ocr", "llama4", "llava",
    "llava_next", "llava_next_video", "llava_onevision", "minimax_m3_vl", "mistral3", "mistral_large4", "mllama", "molmo2",
    "muse_glimmer", "musicflamingo", "ovis2", "paddleocr_vl", "paligemma", "phi3_v", "qianfan_ocr", "qwen2_5_omni_thinker",
    "qwen2_5_vl", "qwen2_audio", "qwen2_vl", "qwen3_5", "qwen3_5_moe", "qwen3_asr", "qwen3_omni_moe_thinker", "qwen3_vl",
    "qwen3_vl_moe", "qwen4_exp", "shieldgemma2", "smolvlm", "step3p7", "video_llama_3", "vipllava", "voxtral", "voxtral_realtime",
})
# fmt: on
