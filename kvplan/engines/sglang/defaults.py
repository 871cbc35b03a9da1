"""What config classes say where a config.json says nothing, as SGLang sees it (transformers 5.23 and its own `srt/configs`).

Read from the classes themselves, loaded through `srt/utils/hf_transformers/config.py:get_config` with nothing but a model type.
"""

from __future__ import annotations

from typing import Final

from kvplan.engines.sglang.classes import names

#: Context in tokens -> model types; all others say 2,048 or nothing, which `get_context_length` makes 2,048.
_CONTEXTS: Final = {
    128: "blenderbot",
    512: "blenderbot-small moonshine openai-gpt trocr",
    750: "kyutai_speech_to_text",
    1024: """
        bart biogpt canary_decoder cohere_asr florence2 fsmt git gpt-sw3 gpt2 gpt_bigcode m2m_100 marian mbart mvp
        nllb-moe pegasus plbart rwkv seamless_m4t
    """,
    2560: "pp_formulanet pp_formulanet_text",
    3000: "moshi",
    3072: "dia_decoder",
    4096: """
        arcee bigbird_pegasus blt chameleon deepseek_v3 deepseek_v32 deepseek_v4 deepseek_v41 flex_olmo helium jetmoe
        kimi_k2 kimi_k25 kimi_k3 kimi_linear kosmos-2.5 kosmos_2_5_text_model moonshine_streaming nemotron nemotron_h
        nemotron_h_omni olmoe phi3 seamless_m4t_v2 stablelm starcoder2 zamba zamba2
    """,
    8192: """
        aya_vision cohere cohere2 cohere2_moe cohere2_vision cohere_compass cohere_compass_text evolla falcon_h1 gemma
        gemma2 glmasr gradium_phonon_tts granite_swa jais2 modernbert-decoder paligemma pocket_tts spark2_5
        t5_gemma_module vaultgemma
    """,
    9216: "emu3 emu3_text_model",
    16384: "fuyu muse_glimmer pegasus_x persimmon",
    32768: """
        audioflamingo3 axk1 bailing_hybrid dots_ocr fast_vlm gemma3n gemma3n_text glm46v glm4v glm4v_text glmga got_ocr2
        granite_docling granite_docling_text idefics2 internlm3 internvl llava_onevision minicpm3 minicpm_ocr minicpmv4_6
        minicpmv4_7 musicflamingo ovis2 pp_chart2table qianfan_ocr qwen2 qwen2_5_omni qwen2_5_omni_text
        qwen2_5_omni_thinker qwen2_5_vl qwen2_5_vl_text qwen2_audio qwen2_moe qwen2_vl qwen2_vl_text qwen3 qwen3_5
        qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_asr qwen3_moe qwen3_next qwen3_omni_moe qwen3_omni_moe_text
        qwen3_omni_moe_thinker qwen4_exp qwen4_exp_text smollm3 unlimited_ocr unlimited_ocr_text vibevoice vibevoice_asr
        video_llama_3 zaya
    """,
    36864: "molmo2 molmo2_text",
    40960: "fun_asr_nano lighton_ocr",
    65536: "apertus glm4v_moe glm4v_moe_text olmo_hybrid step3_vl",
    128000: """
        cosmos3_omni lfm2 lfm2_moe lfm2_vl lfm3 lfm3_vl qwen3_vl qwen3_vl_moe qwen3_vl_moe_text qwen3_vl_text step3p5
        step3p7
    """,
    131072: """
        afmoe axk2 cosmos3_edge cosmos3_edge_text cwm diffusion_gemma ernie4_5 ernie4_5_moe ernie4_5_vl_moe
        ernie4_5_vl_moe_text gemma3 gemma3_text gemma4 gemma4_text gemma4_unified glm glm4 glm4_moe glm_ocr glm_ocr_text
        gpt_oss granitemoehybrid hy_v3 inkling_text iquestcoder laguna llama4 llama4_text longcat_flash mellum
        mimo_v2_flash minimax ministral mistral mistral3 mixtral mllama mllama_text_model moss_transcribe_diarize
        muse_glimmer_text paddleocr_vl paddleocr_vl_text phi4_multimodal phimoe shieldgemma2 solar_open t5gemma2_decoder
        voxtral voxtral_realtime voxtral_realtime_text youtu
    """,
    196608: "minimax_m2",
    202752: "glm4_moe_lite glm_moe_dsa",
    262144: "bamba flint gemma4_unified_assistant hy_v4 jamba kolibri1 ministral3 nemo_speechlm",
    524288: "minimax_m3_vl_text seed_oss",
    1013760: "glm5_next glm5_next_text",
    1048576: "beam inkling2 inkling2_text mistral4 mistral_large4 mistral_large4_text muse_spark muse_spark_text",
}
#: Model type -> the context that its config class assumes.
CONTEXT: Final = {name: tokens for tokens, names in _CONTEXTS.items() for name in names.split()}

#: Classes whose context has a default under another key than `max_position_embeddings`, which wins over that one.
CONTEXT_KEY: Final = {"chatglm": "seq_length", "mpt": "max_seq_len", "dbrx": "max_seq_len", "step3p5": "max_seq_len"}
#: Classes that keep a rope scaling by kind of layer: its factor is never seen.
ROPE_BY_LAYER: Final = frozenset(
    {"gemma3_text", "gemma3n_text", "modernbert-decoder", "t5gemma2_decoder", "beam", "hy_v4", "laguna"}
)
#: Wrappers whose text section exists even where the file has none.
TEXT_SECTION: Final = names(
    """
    aria audioflamingo3 aya_vision blip blip-2 cohere2_vision cohere_compass cosmos3_edge cosmos3_omni deepseek_ocr2
    deepseek_vl deepseek_vl_hybrid deepseek_vl_v2 diffusion_gemma emu3 ernie4_5_vl_moe exaone4_5 fast_vlm florence2
    fun_asr_nano fuyu gemma3 gemma3n gemma4 gemma4_unified gemma4_unified_assistant glm46v glm4v glm4v_moe glm5_next
    glm_ocr glmasr glmga got_ocr2 granite4_vision granite_docling granite_speech granite_speech_plus hunyuan_vl
    hyperclovax_vision_v2 idefics2 idefics3 inkling2 inkling_mm_model instructblip instructblipvideo internvl
    internvl_chat janus kimi_k25 kimi_k3 kimi_vl kosmos-2 kosmos-2.5 lfm2_vl lfm3_vl lighton_ocr llama4 llava llava_next
    llava_next_video llava_onevision minicpm_ocr minicpmv4_6 minicpmv4_7 mistral3 mistral_large4 mllama molmo2
    moss_transcribe_diarize muse_spark musicflamingo nemo_speechlm nemotron_h_omni ovis2 paddleocr_vl paligemma
    perception_lm pp_chart2table qianfan_ocr qwen2_5_omni qwen2_5_omni_thinker qwen2_5_vl qwen2_audio qwen2_vl qwen3_5
    qwen3_5_moe qwen3_asr qwen3_omni_moe qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe qwen4_exp shieldgemma2 smolvlm
    step3_vl step3p7 unlimited_ocr vibevoice vibevoice_asr video_llama_3 video_llava vipllava voxtral voxtral_realtime
    """
)

#: Draft layers (`num_nextn_predict_layers`) that a config class assumes.
DRAFT_LAYERS: Final = {
    "deepseek_v3": 1, "deepseek_v32": 1, "deepseek_v4": 1, "kimi_k2": 1, "glm4_moe": 1, "glm5_next_text": 1, "hy_v4": 1,
    "longcat_flash": 1, "bailing_hybrid": 0, "kimi_linear": 0, "nemotron_h": 0,
}  # fmt: skip
#: Types whose class keeps bfloat16 when the file names no dtype.
BFLOAT16: Final = frozenset({"longcat_flash", "beam", "muse_spark", "muse_spark_text", "interns2_mobius", "interns2_mobius_text"})

#: (layers, hidden size) of the vision tower -> model types: what `getattr(vision_config, ...)` gives for keys that are not there.
_TOWERS: Final = {
    (12, 1152): "aria idefics3 smolvlm",
    (12, 768): """
        aya_vision blip cohere2_vision deepseek_vl deepseek_vl_hybrid gemma3 got_ocr2 granite4_vision granite_docling
        idefics2 lfm2_vl llava llava_next llava_next_video llava_onevision minicpm_ocr paligemma pp_chart2table
        shieldgemma2 video_llama_3 video_llava vipllava
    """,
    (14, 1024): "lfm3_vl",
    (16, 768): "diffusion_gemma gemma4 gemma4_unified",
    (18, 1536): "kosmos-2.5",
    (23, 1024): "inkling2",
    (24, 1152): "qwen3_5 qwen3_5_moe qwen4_exp",
    (24, 1536): "glm46v glm4v glm4v_moe glmga",
    (24, 2048): "gemma3n",
    (25, 1152): "molmo2",
    (27, 1024): "kimi_k3",
    (27, 1152): """
        cohere_compass hunyuan_vl kimi_k25 kimi_vl minicpmv4_6 minicpmv4_7 paddleocr_vl phi4_multimodal
        qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe
    """,
    (32, 1280): "ernie4_5_vl_moe mllama",
    (32, 3584): "exaone4_5 hyperclovax_vision_v2 qwen2_5_omni_thinker qwen2_5_vl qwen2_vl",
    (32, 768): "idefics",
    (34, 768): "llama4",
    (39, 1408): "blip-2 instructblip instructblipvideo",
    (42, 1536): "dots_ocr",
    (48, 3200): "internvl_chat",
    (50, 1536): "muse_spark muse_glimmer",
    (63, 1792): "step3_vl",
}
TOWER: Final = {name: tower for tower, names in _TOWERS.items() for name in names.split()}
#: The same for configs without a vision section, where the class then differs, or does not name the keys.
_TOWERS_ABSENT: Final = {
    (24, 1024): """
        deepseek_ocr2 deepseek_vl_v2 florence2 glm_ocr inkling_mm_model internvl janus kosmos-2 lighton_ocr llava
        llava_next llava_next_video mistral3 ovis2 perception_lm qianfan_ocr step3p7 unlimited_ocr video_llava vipllava
    """,
    (24, 3072): "fast_vlm",
    (26, 1152): "aya_vision llava_onevision",
    (27, 1152): "cohere2_vision cosmos3_edge cosmos3_omni paligemma",
    (30, 2048): "mistral_large4",
}
TOWER_ABSENT: Final = {name: tower for tower, names in _TOWERS_ABSENT.items() for name in names.split()}
#: No vision tower at all unless the file has the section.
NO_TOWER: Final = frozenset({"minimax_m3_vl", "muse_glimmer", "gemma4", "gemma4_unified", "glm5_next", "nemotron_h_omni"})
#: The section stays a plain dict: its keys are never seen.
OPAQUE_TOWER: Final = frozenset({"minimax_m3_vl"})
#: Their class calls `depth` the number of hidden layers too; the others do not know that key.
DEPTH_IS_LAYERS: Final = names(
    """
    cohere_compass ernie4_5_vl_moe exaone4_5 glm46v glm4v glm4v_moe glm_ocr glmga hyperclovax_vision_v2
    qwen2_5_omni_thinker qwen2_5_vl qwen2_vl qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe
    """
)
