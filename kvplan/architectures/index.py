"""Which family reads which model type: the families' ROWS, by tools/make_index.py (`make index`); do not edit."""

from typing import Final

# fmt: off
#: Family file -> the model types that it reads.
FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "alice": ("alice_ai",),
    "apple": ("afm7", "openelm",),
    "axk": ("axk1", "axk2",),
    "baichuan": ("baichuan_m1",),
    "bert": (
        "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
        "modernbert-decoder", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm", "xlm-roberta",
        "xlm-roberta-xl", "xmod",
    ),
    "cacheless": ("bark", "blt", "fastspeech2_conformer", "fastspeech2_conformer_with_hifigan", "reformer", "vits", "xlnet",),
    "cohere": ("cohere", "cohere2", "cohere2_moe", "cohere_asr", "cohere_compass_text",),
    "deepseek": (
        "deepseek", "deepseek_ocr2_text", "deepseek_ref", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4",
        "deepseek_v41", "deepseek_v41_text", "joyai_llm_flash",
    ),
    "dory": ("dory",),
    "dots": ("dots1", "dots3_note_text",),
    "encoder_decoder": (
        "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "blip_text_model", "canary_decoder", "dia_decoder", "fsmt",
        "led", "longt5", "m2m_100", "marian", "mbart", "moonshine", "moonshine_streaming", "mt5", "musicgen_decoder", "mvp",
        "nllb-moe", "pegasus", "pegasus_x", "pix2struct_text_model", "plbart", "pop2piano", "pp_formulanet_text", "prophetnet",
        "seamless_m4t", "seamless_m4t_v2", "speech_to_text", "speecht5", "switch_transformers", "t5", "trocr", "udop", "umt5",
        "whisper",
    ),
    "encoders": (
        "albert", "clip_text_model", "clip_vision_model", "deberta", "deberta-v2", "dinov2", "distilbert", "esm", "hubert",
        "modernbert", "mpnet", "new", "nomic_bert", "siglip_text_model", "siglip_vision_model", "vit", "wav2vec2",
    ),
    "ernie": ("ernie4_5", "ernie4_5_moe", "ernie4_5_vl_moe_text",),
    "exaone": ("exaone", "exaone4", "exaone4_5_text", "exaone_moe",),
    "falcon": ("RefinedWeb", "RefinedWebModel", "falcon", "falcon_h1", "falcon_mamba",),
    "gemma": (
        "diffusion_gemma_text", "gemma", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text",
        "recurrent_gemma", "t5_gemma_module", "t5gemma2_decoder", "vaultgemma",
    ),
    "glm": (
        "chatglm", "glm", "glm4", "glm4_moe", "glm4_moe_lite", "glm4v_moe_text", "glm4v_text", "glm5_next_text", "glm_moe_dsa",
        "glm_ocr_text",
    ),
    "gpt": ("gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_neox_japanese", "gpt_oss", "gptj", "openai-gpt",),
    "granite": (
        "granite", "granite4_vision_text", "granite_docling_text", "granite_swa", "granitemoe", "granitemoe_swa",
        "granitemoehybrid", "granitemoeshared",
    ),
    "hunyuan": ("hunyuan", "hunyuan_v1_dense", "hunyuan_v1_moe", "hunyuan_vl_text", "hy_v3", "hy_v4", "hy_v4_vl_text",),
    "inkling": ("inkling2_loop_text", "inkling2_text", "inkling_text",),
    "internlm": ("internlm", "internlm2", "internlm3",),
    "iquest": ("iquestcoder", "iquestloopcoder",),
    "kimi": ("kimi_k2", "kimi_linear",),
    "lara": ("lara_mini",),
    "lfm": ("lfm2", "lfm2_moe", "lfm3",),
    "ling": ("bailing_hybrid", "bailing_moe", "bailing_moe_linear", "bailing_moe_v3",),
    "llama": ("llama", "llama-cla", "llama4_text", "mllama_text_model",),
    "longcat": ("longcat_flash", "longcat_flash_ngram",),
    "mamba": ("bamba", "jamba", "mamba", "mamba2", "zamba", "zamba2",),
    "mimo": ("mimo", "mimo_v2_flash",),
    "minicpm": ("minicpm", "minicpm3",),
    "minimax": ("minimax", "minimax_m1", "minimax_m2", "minimax_m3", "minimax_m3_vl_text", "minimax_text_01",),
    "mistral": ("ministral", "ministral3", "mistral", "mistral4", "mistral_large4_text", "mixtral", "voxtral_realtime_text",),
    "mpt": ("dbrx", "mpt",),
    "muse": ("muse_glimmer_text", "muse_spark_text",),
    "nanbeige": ("nanbeige",),
    "nemotron": ("nemotron", "nemotron-nas", "nemotron_h",),
    "olmo": ("flex_olmo", "molmo2_text", "olmo", "olmo2", "olmo3", "olmo_hybrid", "olmoe",),
    "others": (
        "Klear", "Yi", "afmoe", "apertus", "apertus1p5_text", "aquila", "arcee", "arctic", "aria_text", "baichuan", "beam",
        "biogpt", "bitnet", "bloom", "chameleon", "codegen", "cosmos3_edge_text", "cpmant", "csm", "ctrl", "cwm", "deci",
        "diffllama", "doge", "emu3_text_model", "evolla", "flint", "git", "gradium_phonon_tts", "grok-1", "helium",
        "higgs_audio_v2", "hrm_text", "hyperclovax", "idefics", "jais", "jais2", "jetmoe", "kolibri1", "kosmos_2_5_text_model",
        "kosmos_2_text_model", "kyutai_speech_to_text", "laguna", "lille-130m", "mellum", "moshi", "musicgen_melody_decoder",
        "nanochat", "opt", "orion", "paddleocr_vl_text", "persimmon", "pocket_tts", "seed_oss", "skywork", "smollm3",
        "solar_open", "spark2_5", "stablelm", "stablelm_epoch", "starcoder2", "talkie", "telechat", "telechat3",
        "unlimited_ocr_text", "xglm", "xverse", "youtu", "youtu_llm",
    ),
    "ouro": ("ouro",),
    "pangu": ("PanguEmbedded", "pangu_ultra_moe",),
    "phi": (
        "mixformer-sequential", "phi", "phi-msft", "phi3", "phi3_v", "phi3small", "phi4", "phi4_multimodal", "phi4flash",
        "phi4mm", "phimoe",
    ),
    "plamo": ("plamo", "plamo2", "plamo3",),
    "qwen": (
        "qwen", "qwen2", "qwen2_5_omni_text", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl_text", "qwen3", "qwen3_5_moe_text",
        "qwen3_5_text", "qwen3_moe", "qwen3_next", "qwen3_omni_moe_text", "qwen3_vl_moe_text", "qwen3_vl_text", "qwen4_exp_text",
    ),
    "remote": (
        "Keye", "KeyeVL1_5", "gear", "k2_horizon", "kimi_audio", "llada2_moe", "molmo", "moondream3_text", "param2moe",
        "phi4-siglip", "phixtral", "sdar", "sdar_moe", "solar", "step1", "teleflm",
    ),
    "rwkv": ("rwkv", "rwkv5", "rwkv6", "rwkv7",),
    "sarvam": ("sarvam_mla", "sarvam_moe",),
    "step": ("step3_text", "step3p5", "step5",),
    "xlstm": ("xlstm",),
    "zaya": ("zaya",),
}
# fmt: on

#: Model type -> family file.
FAMILY_OF: Final = {model_type: family for family, types in FAMILIES.items() for model_type in types}
