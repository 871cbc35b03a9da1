"""Length and vocabulary of model types whose config leaves them out: the converter reads it through transformers' classes.

Source: llama.cpp 0c1e57098, `conversion/base.py` (`load_hparams`, `AutoConfig`); the values are those of transformers 5.23.
"""

from typing import Final

#: Model type of the text part -> (tokens of its context, 0: no such key; entries of its vocabulary).
DEFAULTS: Final[dict[str, tuple[int, int]]] = {
    "llama": (2048, 32000), "mistral": (131072, 32000), "mixtral": (131072, 32000), "internlm3": (32768, 128512),
    "iquestcoder": (131072, 76800), "apertus": (65536, 131072), "arcee": (4096, 32000), "bitnet": (2048, 128256),
    "bloom": (0, 250880), "dbrx": (0, 32000), "dots1": (2048, 152064), "ernie4_5": (131072, 103424), "gemma": (8192, 256000),
    "gpt2": (1024, 50257), "granite": (2048, 32000), "granitemoe": (2048, 32000), "hy_v3": (131072, 120832),
    "jais2": (8192, 150272), "mpt": (0, 50368), "nemotron": (4096, 256000), "olmo": (2048, 50304), "olmoe": (4096, 50304),
    "phi3": (4096, 32064), "phimoe": (131072, 32064), "qwen2": (32768, 151936), "qwen3": (32768, 151936),
    "seed_oss": (524288, 155136), "smollm3": (32768, 128256), "stablelm": (4096, 50304), "starcoder2": (4096, 49152),
    "granitemoeshared": (2048, 32000), "glm": (131072, 151552), "ernie4_5_moe": (131072, 103424),
    "gpt_bigcode": (1024, 50257), "gpt_neox": (2048, 50432), "ministral3": (262144, 131072), "minimax_m2": (196608, 200064),
    "phi": (2048, 51200), "qwen2_moe": (32768, 151936), "qwen2_vl_text": (32768, 152064), "qwen2_5_vl_text": (32768, 152064),
    "qwen2_5_omni_text": (32768, 152064), "qwen3_moe": (32768, 151936), "qwen3_vl_text": (128000, 151936),
    "qwen3_vl_moe_text": (128000, 151936), "glm4": (131072, 151552), "glm4v_text": (32768, 151552),
    "glm_ocr_text": (131072, 59392), "glm4_moe": (131072, 151552), "glm4v_moe_text": (65536, 151424),
    "solar_open": (131072, 196608), "paddleocr_vl_text": (131072, 103424), "cohere": (8192, 256000), "falcon": (2048, 65024),
    "hunyuan_v1_dense": (2048, 290943), "hunyuan_v1_moe": (2048, 290943), "gemma2": (8192, 256000),
    "gemma3_text": (131072, 262208), "cohere2": (8192, 256000), "gpt_oss": (131072, 201088), "llama4_text": (131072, 202048),
    "olmo2": (2048, 50304), "olmo3": (2048, 50304), "gemma3n_text": (32768, 262400), "gemma4_text": (131072, 262144),
    "gemma4_unified_text": (262144, 262144), "exaone4": (2048, 102400), "cohere2_moe": (8192, 256000),
    "afmoe": (16384, 200192), "mellum": (131072, 98304), "muse_glimmer_text": (131072, 202048), "granite_swa": (8192, 100352),
    "laguna": (131072, 100352), "exaone_moe": (2048, 102400), "mimo_v2_flash": (131072, 152576), "step3p5": (128000, 128815),
    "deepseek_v2": (2048, 102400), "deepseek_v3": (4096, 129280), "glm4_moe_lite": (202752, 154880),
    "minicpm3": (32768, 73448), "deepseek_v32": (163840, 129280), "glm_moe_dsa": (202752, 154880),
    "mistral4": (1048576, 131072), "hy_v4": (262144, 120832), "dots3_note_text": (524288, 152064),
    "glm5_next_text": (1048576, 154880), "bailing_hybrid": (262144, 157184), "qwen4_exp_text": (32768, 248320),
    "deepseek_v4": (1048576, 129280), "minimax_m3_vl_text": (524288, 200064), "kimi_linear": (1048576, 163840),
    "qwen3_next": (32768, 151936), "qwen3_5_text": (32768, 248320), "qwen3_5_moe_text": (32768, 248320), "mamba": (0, 50280),
    "falcon_mamba": (0, 50280), "mamba2": (0, 32768), "jamba": (262144, 65536), "falcon_h1": (8192, 128000),
    "granitemoehybrid": (2048, 32000), "bamba": (262144, 128000), "nemotron_h": (4096, 131072), "lfm2": (128000, 65536),
    "lfm2_moe": (128000, 65536), "t5": (0, 32128), "mt5": (0, 250112), "umt5": (0, 250112),
}  # fmt: skip
