"""What SGLang decides by the name of a model's class (`architectures` in config.json): lists, nothing computed.

Source: sglang 0.5.23, `srt/configs/model_config.py` (latents, windows, multimodal), `srt/configs/hybrid_arch.py` (states),
`srt/arg_groups/overrides.py`, `srt/arg_groups/model_overrides/` and `srt/arg_groups/speculative_hook.py` (defaults).
"""

from __future__ import annotations

from typing import Final


def names(text: str) -> frozenset[str]:
    """Names with blanks between."""
    return frozenset(text.split())


#: `ModelConfig._derive_model_shapes`: these store the latent. Everything else stores heads, whatever its config says.
LATENT: Final = names(
    """
    DeepseekV2ForCausalLM DeepseekV3ForCausalLM DeepseekV32ForCausalLM Glm4MoeLiteForCausalLM GlmMoeDsaForCausalLM
    Glm5NextForConditionalGeneration LongcatFlashForCausalLM HYV4ForCausalLM DotsVLMForCausalLM Dots3NoteForCausalLM
    MistralLarge3ForCausalLM PixtralForConditionalGeneration KimiK25ForConditionalGeneration GigaChat35ForCausalLM
    MiniCPM3ForCausalLM DeepseekVL2ForCausalLM KimiVLForConditionalGeneration KimiLinearForCausalLM
    KimiK3LinearForCausalLM KimiK3ForConditionalGeneration BailingMoeV2_5ForCausalLM BailingMoeV3ForCausalLM
    BailingMoeV3VLForConditionalGeneration SarvamMLAForCausalLM
    """
)
#: `is_deepseek_dsa`: those that keep index keys beside the latent, when the config has `index_topk`.
SPARSE_LATENT: Final = names(
    """
    DeepseekV3ForCausalLM DeepseekV32ForCausalLM MistralLarge3ForCausalLM PixtralForConditionalGeneration
    GlmMoeDsaForCausalLM Glm5NextForConditionalGeneration LongcatFlashForCausalLM Dots3NoteForCausalLM HYV4ForCausalLM
    """
)
#: `arg_groups/model_overrides/deepseek_v2.py`: whose attention backend follows DeepSeek's.
DEEPSEEK: Final = SPARSE_LATENT | {"KimiK25ForConditionalGeneration"}
COMPRESSED: Final = "DeepseekV4ForCausalLM"
MINIMAX_SPARSE: Final = names("MiniMaxM3SparseForCausalLM MiniMaxM3SparseForConditionalGeneration")

#: `model_config.SWA_SINK_ARCHS`.
SINKS: Final = names("GptOssForCausalLM GraniteSWAForCausalLM GraniteMoeSWAForCausalLM IQuestQ1ForCausalLM")
MIMO: Final = names("MiMoV2ForCausalLM MiMoV2FlashForCausalLM")
STEP: Final = names("Step3p5ForCausalLM Step3p7ForConditionalGeneration")
GEMMA4: Final = names(
    "Gemma4ForCausalLM Gemma4ForConditionalGeneration Gemma4UnifiedForConditionalGeneration DiffusionGemmaForBlockDiffusion"
)
MUSE: Final = names("MuseGlimmerForCausalLM MuseGlimmerForConditionalGeneration")
LLAMA4: Final = "Llama4ForConditionalGeneration"
#: `is_hybrid_swa_model`: sliding layers get a pool of their own. In all others every layer keeps every token.
SLIDING_POOLS: Final = (
    SINKS | MIMO | STEP | GEMMA4 | MUSE
    | {LLAMA4, COMPRESSED, "BeamForCausalLM", "EmbeddingGemma2Model", "LagunaForCausalLM", "MellumForCausalLM",
       "UnlimitedOCRForCausalLM"}
)  # fmt: skip
#: Classes whose `get_attention_sliding_window_size` is the window without the token itself; the rest take the config's.
WINDOW_LESS_ONE: Final = (
    names("GptOssForCausalLM BeamForCausalLM MellumForCausalLM MuseSparkForConditionalGeneration") | GEMMA4 | MUSE
)
#: `ModelConfig.is_hybrid_swa_compress`: whose sliding pool may have other heads and widths than the full one.
OWN_SLIDING_WIDTHS: Final = MIMO | GEMMA4 | {"EmbeddingGemma2Model"}
#: `model_overrides/`: windows that SGLang knows and does not use.
WINDOWS_UNUSED: Final = names(
    "Gemma2ForCausalLM Gemma3ForCausalLM Gemma3ForConditionalGeneration Gemma3nForCausalLM Gemma3nForConditionalGeneration"
)

#: `multimodal_model_archs`; a config with a text section of its own is multimodal too.
MULTIMODAL: Final = names(
    """
    BailingMM2NativeForConditionalGeneration BailingMMNativeForConditionalGeneration
    BailingMoeV3VLForConditionalGeneration CLIPModel Cohere2VisionForConditionalGeneration
    Cosmos3EdgeForConditionalGeneration DeepseekOCRForCausalLM DeepseekVL2ForCausalLM DiffusionGemmaForBlockDiffusion
    Dots3NoteForCausalLM DotsOCRForCausalLM DotsVLMForCausalLM EmbeddingGemma2Model Ernie4_5_VLMoeForConditionalGeneration
    Gemma3ForConditionalGeneration Gemma3nForConditionalGeneration Gemma4ForConditionalGeneration
    Gemma4UnifiedForConditionalGeneration Glm4vForConditionalGeneration Glm4vMoeForConditionalGeneration
    Glm5NextForConditionalGeneration GlmAsrForConditionalGeneration GlmImageForConditionalGeneration
    GlmOcrForConditionalGeneration Grok1AForCausalLM Grok1VForCausalLM InternS1ForConditionalGeneration
    InternS1ProForConditionalGeneration InternS2MobiusForConditionalGeneration InternS2PreviewForConditionalGeneration
    InternVLChatModel JetVLMForConditionalGeneration KimiK25ForConditionalGeneration KimiVLForConditionalGeneration
    Lfm2VlForConditionalGeneration LightOnOCRForConditionalGeneration Llama4ForConditionalGeneration
    LlavaForConditionalGeneration LlavaLlamaForCausalLM LlavaMistralForCausalLM LlavaQwenForCausalLM LlavaVidForCausalLM
    LocateAnythingForConditionalGeneration MiDashengLMModel MiMoV2ASRForCausalLM MiMoV2ForCausalLM MiniCPMO MiniCPMV
    MiniMaxM3SparseForConditionalGeneration Mistral3ForConditionalGeneration MllamaForConditionalGeneration
    MossVLForConditionalGeneration MultiModalityCausalLM MuseGlimmerForConditionalGeneration
    MuseSparkForConditionalGeneration NVILAForConditionalGeneration NVILALiteForConditionalGeneration
    NemotronH_Nano_Omni_Reasoning_V3 NemotronH_Nano_VL_V2 NemotronH_Omni_Reasoning_V3 POINTSV15ChatModel
    PaddleOCRVLForConditionalGeneration Phi4MMForCausalLM PixtralForConditionalGeneration
    Qwen2AudioForConditionalGeneration Qwen2VLForConditionalGeneration Qwen2_5_VLForConditionalGeneration
    Qwen3ASRForConditionalGeneration Qwen3OmniMoeForConditionalGeneration Qwen3VLForConditionalGeneration
    Qwen3VLMoeForConditionalGeneration Qwen3_5ForConditionalGeneration Qwen3_5MoeForConditionalGeneration
    Qwen4ExpForConditionalGeneration Sarashina2VisionForCausalLM Step3VLForConditionalGeneration
    Step3p7ForConditionalGeneration StepVLForConditionalGeneration UnlimitedOCRForCausalLM VoxtralForConditionalGeneration
    WhisperForConditionalGeneration
    """
)
#: Served as text unless `--enable-multimodal` is given.
TEXT_UNLESS_ASKED: Final = names("Gemma3ForConditionalGeneration Llama4ForConditionalGeneration Step3VLForConditionalGeneration")
#: `multimodal_breakable_cuda_graph_supported_model_archs`: multimodal, and prefill is still captured.
MULTIMODAL_GRAPHS: Final = names(
    """
    MiniMaxM3SparseForConditionalGeneration Cohere2VisionForConditionalGeneration Glm5NextForConditionalGeneration
    InternS2MobiusForConditionalGeneration PaddleOCRVLForConditionalGeneration Qwen3_5ForConditionalGeneration
    Qwen3_5MoeForConditionalGeneration Qwen4ExpForConditionalGeneration MuseGlimmerForConditionalGeneration
    MuseSparkForConditionalGeneration KimiK3ForConditionalGeneration KimiK25ForConditionalGeneration
    MiniMaxM3SparseForCausalLM
    """
)
#: Classes with an encoder, whose tokens take rows of the pool like any other (`schedule_batch.py:encoder_lens`).
ENCODERS: Final = names("WhisperForConditionalGeneration MllamaForConditionalGeneration")
#: `is_multimodal_chunked_prefill_supported`, the other way round.
NO_CHUNKS: Final = names(
    """
    Grok1VForCausalLM Grok1AForCausalLM LlavaLlamaForCausalLM MllamaForConditionalGeneration
    MossVLForConditionalGeneration CLIPModel
    """
)

#: `overrides._MAMBA_RADIX_CACHE_ARCHS`: hybrids whose states the radix cache keeps.
RADIX_STATES: Final = names(
    """
    KimiLinearForCausalLM KimiK3ForConditionalGeneration BailingMoeV2_5ForCausalLM BailingMoeV3ForCausalLM
    BailingMoeV3VLForConditionalGeneration Qwen3NextForCausalLM Qwen3_5MoeForConditionalGeneration
    InternS2PreviewForConditionalGeneration InternS2MobiusForConditionalGeneration Qwen3_5ForConditionalGeneration
    Qwen3_5MoeForCausalLM Qwen3_5ForCausalLM Qwen4ExpForConditionalGeneration MiniCPMV4_6ForConditionalGeneration
    MiniCPMV4_7ForConditionalGeneration NemotronHForCausalLM NemotronHPuzzleForCausalLM NemotronH_Omni_Reasoning_V3
    FalconH1ForCausalLM JetNemotronForCausalLM JetVLMForConditionalGeneration Lfm2ForCausalLM Lfm2MoeForCausalLM
    ZayaForCausalLM Glm5NextForConditionalGeneration GraniteMoeHybridForCausalLM GigaChat35ForCausalLM
    """
)
#: `overrides._MAMBA_EXTRA_BUFFER_ARCHS`: those that may keep tracking slots beside a request's state.
EXTRA_BUFFER: Final = (RADIX_STATES) - names(
    """
    InternS2MobiusForConditionalGeneration JetNemotronForCausalLM JetVLMForConditionalGeneration Lfm2ForCausalLM
    Lfm2MoeForCausalLM ZayaForCausalLM GigaChat35ForCausalLM
    """
)
#: `model_overrides/qwen3_5.py`: hybrids with rules of their own on sm_100.
QWEN_HYBRIDS: Final = names(
    """
    Qwen3NextForCausalLM Qwen3_5MoeForConditionalGeneration Qwen3_5ForConditionalGeneration
    InternS2PreviewForConditionalGeneration InternS2MobiusForConditionalGeneration
    """
)
QWEN3_VL: Final = names("Qwen3VLForConditionalGeneration Qwen3VLMoeForConditionalGeneration")
NEMOTRON: Final = names("NemotronHForCausalLM NemotronHPuzzleForCausalLM NemotronH_Omni_Reasoning_V3")
PURE_STATES: Final = names("Mamba2ForCausalLM MambaForCausalLM FalconMambaForCausalLM")

#: `speculative_hook._handle_eagle_family`: the draft is in the target's own files.
BUNDLED_DRAFT: Final = names(
    """
    DeepseekV32ForCausalLM DeepseekV3ForCausalLM DeepseekV4ForCausalLM Glm4MoeForCausalLM Glm4MoeLiteForCausalLM
    GlmMoeDsaForCausalLM BailingMoeForCausalLM BailingMoeV2ForCausalLM BailingMoeV2_5ForCausalLM MistralLarge3ForCausalLM
    PixtralForConditionalGeneration HYV3ForCausalLM HYV4ForCausalLM Qwen4ExpForConditionalGeneration
    """
)
#: `ModelConfig._config_draft_model`: a draft of these is one layer, whatever the config says.
ONE_DRAFT_LAYER: Final = names(
    """
    DeepseekV4ForCausalLM MiMoV2ForCausalLM MiMoV2FlashForCausalLM Qwen3NextForCausalLM Qwen4ExpForConditionalGeneration
    Qwen3MoeForCausalLM Qwen3_5ForConditionalGeneration Qwen3_5MoeForConditionalGeneration Qwen3_5ForCausalLM
    Qwen3_5MoeForCausalLM InternS2PreviewForConditionalGeneration InternS2MobiusForConditionalGeneration
    ExaoneMoEForCausalLM ExaoneMoeForCausalLM NemotronHForCausalLM NemotronHPuzzleForCausalLM NemotronH_Omni_Reasoning_V3
    HYV3ForCausalLM HYV4ForCausalLM Glm5NextForConditionalGeneration
    """
)
#: Classes that keep more than rows and states: request tails, n-gram contexts.
UNKNOWN: Final = names(
    "Glm5NextForConditionalGeneration Dots3NoteForCausalLM Qwen4ExpForConditionalGeneration InklingForConditionalGeneration"
)
#: Class of a text config whose file names none (`architectures` is absent), where that decides something.
BY_TYPE: Final = {
    "deepseek_v2": "DeepseekV2ForCausalLM", "deepseek_v3": "DeepseekV3ForCausalLM", "deepseek_v32": "DeepseekV32ForCausalLM",
    "kimi_k2": "DeepseekV3ForCausalLM", "kimi_k25": "KimiK25ForConditionalGeneration", "glm4_moe": "Glm4MoeForCausalLM",
    "glm4_moe_lite": "Glm4MoeLiteForCausalLM", "glm_moe_dsa": "GlmMoeDsaForCausalLM",
    "longcat_flash": "LongcatFlashForCausalLM", "minicpm3": "MiniCPM3ForCausalLM",
    "glm5_next": "Glm5NextForConditionalGeneration", "kimi_linear": "KimiLinearForCausalLM",
    "kimi_k3": "KimiK3ForConditionalGeneration", "deepseek_v4": COMPRESSED, "gpt_oss": "GptOssForCausalLM",
    "granite_swa": "GraniteSWAForCausalLM", "mimo_v2_flash": "MiMoV2FlashForCausalLM", "step3p5": "Step3p5ForCausalLM",
    "step3p7": "Step3p7ForConditionalGeneration", "gemma2": "Gemma2ForCausalLM", "gemma3": "Gemma3ForConditionalGeneration",
    "gemma3_text": "Gemma3ForCausalLM", "gemma3n": "Gemma3nForConditionalGeneration", "gemma3n_text": "Gemma3nForCausalLM",
    "gemma4": "Gemma4ForConditionalGeneration", "gemma4_text": "Gemma4ForCausalLM", "llama4": LLAMA4,
    "laguna": "LagunaForCausalLM", "mellum": "MellumForCausalLM", "muse_glimmer": "MuseGlimmerForConditionalGeneration",
    "muse_glimmer_text": "MuseGlimmerForCausalLM", "beam": "BeamForCausalLM",
    "minimax_m3_vl": "MiniMaxM3SparseForConditionalGeneration", "qwen3_next": "Qwen3NextForCausalLM",
    "exaone4": "Exaone4ForCausalLM", "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration", "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM", "nemotron_h": "NemotronHForCausalLM", "falcon_h1": "FalconH1ForCausalLM",
    "granitemoehybrid": "GraniteMoeHybridForCausalLM", "lfm2": "Lfm2ForCausalLM", "lfm2_moe": "Lfm2MoeForCausalLM",
    "lfm2_vl": "Lfm2VlForConditionalGeneration", "zaya": "ZayaForCausalLM", "mamba": "MambaForCausalLM",
    "mamba2": "Mamba2ForCausalLM", "falcon_mamba": "FalconMambaForCausalLM", "olmo2": "Olmo2ForCausalLM",
    "llama": "LlamaForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "mllama": "MllamaForConditionalGeneration",
    "whisper": "WhisperForConditionalGeneration", "qwen2_vl": "Qwen2VLForConditionalGeneration", "hy_v3": "HYV3ForCausalLM",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration", "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration", "inkling_text": "InklingForConditionalGeneration",
    "inkling_mm_model": "InklingForConditionalGeneration", "inkling2": "InklingForConditionalGeneration",
    "minimax_m3": "MiniMaxM3SparseForCausalLM",
}  # fmt: skip
#: Config classes with states (`configs/hybrid_arch.py:mambaish_config`), by the text section's model type.
STATEFUL: Final = names(
    """
    falcon_h1 nemotron_h nemotron_h_puzzle lfm2 lfm2_moe zaya mamba mamba2 falcon_mamba granitemoehybrid qwen3_next
    qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text jet_nemotron kimi_linear kimi_k3 bailing_hybrid qwen4_exp
    qwen4_exp_text interns2_mobius_text
    """
)
#: Of these the state's dtype is the config's `mamba_ssm_dtype`, where it has that key; of the others it is float32.
STATE_DTYPE_READ: Final = STATEFUL - names("mamba mamba2 falcon_mamba granitemoehybrid kimi_linear kimi_k3 bailing_hybrid")
