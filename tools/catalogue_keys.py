"""Keys that files in `tests/configs/hf` leave out although they decide how many parameters a model has.

A file that was rebuilt from published dimensions, or is a class's defaults, may lack what a KV cache does not need: the width of
the feed-forward layers, whether the head is the embedding table, a vision tower. Each row here gives what the shipped
config.json has. `tools/make_catalogue.py` adds the keys, and refuses a row after which the count is not the known one
(`tests/configs/params.tsv`), where one is known.
"""

from typing import Any, Final

_TIED: Final[dict[str, Any]] = {"tie_word_embeddings": True}
#: The copies are another project's keyword arguments, which say 163,840; the model cards say 128K, as the class's default does.
_GEMMA_3: Final[dict[str, Any]] = {"text_config": {"max_position_embeddings": 131_072}}
_QWEN2_VISION: Final[dict[str, Any]] = {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4}
_GLM_4: Final[dict[str, Any]] = {
    "intermediate_size": 12288, "moe_intermediate_size": 1536, "n_routed_experts": 160, "n_shared_experts": 1,
    "first_k_dense_replace": 3, "use_qk_norm": True, "num_nextn_predict_layers": 1, "attention_bias": True,
}  # fmt: skip
_LLAMA_4_VISION: Final[dict[str, Any]] = {
    "model_type": "llama4_vision_model", "hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "num_channels": 3, "vision_output_dim": 4096,
    "projector_input_dim": 4096, "projector_output_dim": 4096, "pixel_shuffle_ratio": 0.5,
}  # fmt: skip
_PIXTRAL: Final[dict[str, Any]] = {
    "model_type": "pixtral", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "head_dim": 64, "image_size": 1540, "patch_size": 14, "num_channels": 3,
}  # fmt: skip


def _qwen2_5_vision(intermediate: int, out: int) -> dict[str, Any]:
    return {
        "depth": 32, "hidden_size": 1280, "intermediate_size": intermediate, "out_hidden_size": out, "num_heads": 16,
        "patch_size": 14, "spatial_merge_size": 2,
    }  # fmt: skip


def _qwen3_5_vision(hidden: int, intermediate: int, depth: int, out: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden, "intermediate_size": intermediate, "depth": depth, "out_hidden_size": out, "num_heads": 16,
        "patch_size": 16, "num_position_embeddings": 2304, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
    }  # fmt: skip


#: Entry -> what its source says further: a key that was mended.
MENDED: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("gemma-3-4b", "gemma-3-12b", "gemma-3-27b"),
        "; its max_position_embeddings of 163,840 mended to the model card's 131,072",
    ),
    "glm-4.1v-9b": "; model_type glm4v and a context of 65,536 as the README of github.com/zai-org/GLM-V says",
}
#: Entry -> what is said beside its numbers.
NOTES: Final[dict[str, str]] = dict.fromkeys(
    ("llama-2-7b", "llama-2-13b", "llama-2-70b"), "the shipped config says 2,048 tokens; Llama 2 was trained for 4,096"
)
#: File -> keys to add; None takes a key's class default away.
COMPLETED: Final[dict[str, dict[str, Any]]] = {
    "01-ai__Yi-1.5-34B-Chat": {"intermediate_size": 20480},
    "HuggingFaceTB__SmolLM2-1.7B": _TIED,
    "LiquidAI__LFM2-2.6B": {"block_auto_adjust_ff_dim": False},
    "LiquidAI__LFM2-350M": {"block_ff_dim": 6656, "block_auto_adjust_ff_dim": True},
    "LiquidAI__LFM2-700M": {"block_ff_dim": 10240, "block_auto_adjust_ff_dim": True},
    "Qwen__Qwen2-57B-A14B": {
        "intermediate_size": 18944, "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480, "num_experts": 64,
    },
    "Qwen__Qwen2-72B": {"intermediate_size": 29568},
    "zai-org__GLM-4.1V-9B-Thinking": {"model_type": "glm4v", "text_config": {"max_position_embeddings": 65536}},
    "Qwen__Qwen2-VL-7B-Instruct": {"intermediate_size": 18944, "vision_config": _QWEN2_VISION},
    "Qwen__Qwen2.5-0.5B": _TIED,
    "Qwen__Qwen2.5-1.5B-Instruct": _TIED,
    "Qwen__Qwen2.5-VL-3B-Instruct": {"intermediate_size": 11008, **_TIED, "vision_config": _qwen2_5_vision(3420, 2048)},
    "Qwen__Qwen2.5-VL-72B-Instruct": {"intermediate_size": 29568, "vision_config": _qwen2_5_vision(3456, 8192)},
    "Qwen__Qwen3-4B-Base": _TIED,
    "Qwen__Qwen3-4B-Instruct-2507": _TIED,
    "Qwen__Qwen3-4B-Thinking-2507": _TIED,
    "Qwen__Qwen3.5-0.8B": {
        **_TIED, "text_config": {"mtp_num_hidden_layers": 1}, "vision_config": _qwen3_5_vision(768, 3072, 12, 1024),
    },
    "Qwen__Qwen3.5-4B": {"text_config": {"mtp_num_hidden_layers": 1}, "vision_config": _qwen3_5_vision(1024, 4096, 24, 2560)},
    "XiaomiMiMo__MiMo-V2-Flash": {"num_nextn_predict_layers": 3},
    "Zyphra__Zamba2-2.7B": {"num_mem_blocks": 2, "n_mamba_heads": 80, "mamba_headdim": 64},
    "allenai__OLMo-1B-hf": {"intermediate_size": 8192, **_TIED},
    "allenai__OLMoE-1B-7B-0924": {"intermediate_size": 1024},
    "baidu__ERNIE-4.5-21B-A3B-PT": {"num_nextn_predict_layers": 1},
    "databricks__dbrx-instruct": {"ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}},
    "deepseek-ai__DeepSeek-V2-Lite": {"q_lora_rank": None},
    "facebook__opt-1.3b": {"ffn_dim": 8192},
    "facebook__opt-13b": {"ffn_dim": 20480},
    "facebook__opt-30b": {"ffn_dim": 28672},
    "facebook__opt-6.7b": {"ffn_dim": 16384},
    "google__gemma-3-12b-it": _GEMMA_3,
    "google__gemma-3-27b-it": _GEMMA_3,
    "google__gemma-3-4b-it": _GEMMA_3,
    "google__gemma-3n-E2B-it": {"text_config": {"intermediate_size": 8192}},
    "ibm-granite__granite-4.0-h-small": {"shared_intermediate_size": 1536, **_TIED},
    "inclusionAI__Ling-lite": {
        "moe_intermediate_size": 1408, "num_experts": 64, "num_shared_experts": 2, "intermediate_size": 5632,
    },
    "inclusionAI__Ring-1T": {
        "moe_intermediate_size": 2048, "num_experts": 256, "num_shared_experts": 1, "intermediate_size": 18432,
        "first_k_dense_replace": 4,
    },
    "meta-llama__Llama-3.2-1B": _TIED,
    "meta-llama__Llama-3.2-3B": _TIED,
    "meta-llama__Llama-4-Maverick-17B-128E-Instruct": {"vision_config": _LLAMA_4_VISION},
    "meta-llama__Llama-4-Scout-17B-16E": {"vision_config": _LLAMA_4_VISION},
    "meta-llama__Llama-4-Scout-17B-16E-Instruct": {"vision_config": _LLAMA_4_VISION},
    "microsoft__Phi-3-medium-128k-instruct": {"intermediate_size": 17920},
    "mistralai__Mistral-Small-24B-Instruct-2501": {"intermediate_size": 32768},
    "mistralai__Mistral-Small-3.1-24B-Instruct-2503": {"tie_word_embeddings": False},
    "nvidia__NVIDIA-Nemotron-Nano-9B-v2": {"intermediate_size": 15680},
    "openbmb__MiniCPM4-8B": {"intermediate_size": 16384},
    "poolside__laguna-XS.2": {"num_attention_heads_per_layer": [48, 64, 64, 64] * 10},
    "rednote-hilab__dots.llm1.inst": {
        "n_routed_experts": 128, "moe_intermediate_size": 1408, "n_shared_experts": 2, "intermediate_size": 10944,
        "first_k_dense_replace": 1,
    },
    "state-spaces__mamba2-1.3b": _TIED,
    "state-spaces__mamba2-130m": _TIED,
    "state-spaces__mamba2-2.7b": _TIED,
    "state-spaces__mamba2-370m": _TIED,
    "state-spaces__mamba2-780m": _TIED,
    "swiss-ai__Apertus-8B-Instruct-2509": {"intermediate_size": 21504},
    "tencent__Hy3-preview": {"num_nextn_predict_layers": 1},
    "xai-org__grok-1": {"intermediate_size": 32768, "num_experts": 8},
    "zai-org__GLM-4-32B-0414": {"intermediate_size": 23040, "attention_bias": False},
    "zai-org__GLM-4.6": _GLM_4,
    "zai-org__GLM-4.7": _GLM_4,
    "zai-org__GLM-4.7-Flash": {"num_nextn_predict_layers": 1},
    # recorded cases, by the entry's name
    "falcon-rw-1b": {"vocab_size": 50304},
    "paligemma-3b-pt-224": {
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
            "num_hidden_layers": 27, "patch_size": 14, "projection_dim": 2048, "vision_use_head": False,
        },
    },
}  # fmt: skip

#: Republished copies that stand for the model itself, which is not quantised: file -> the model's own repository.
ORIGINALS: Final[dict[str, str]] = {
    "nvidia__Qwen3.6-27B-NVFP4": "Qwen/Qwen3.6-27B",
    "nvidia__Qwen3.6-35B-A3B-NVFP4": "Qwen/Qwen3.6-35B-A3B",
}

#: Text parts of models with a vision tower, of which the file has only the text: file -> what is around it.
WRAPPED: Final[dict[str, dict[str, Any]]] = {
    "meta-models__Muse-Glimmer-30B": {"model_type": "muse_glimmer"},
    "MiniMaxAI__MiniMax-M3": {
        "model_type": "minimax_m3_vl",
        "vision_config": {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "image_size": 2016,
            "patch_size": 14,
            "num_channels": 3,
            "projection_dim": 6144,
            "img_token_compression_config": {"spatial_merge_size": 2, "temporal_patch_size": 2},
        },
    },
    "allenai__Molmo2-8B": {
        "model_type": "molmo2",
        "adapter_config": {"intermediate_size": 12288, "text_hidden_size": 4096},
    },
    "mistralai__Mistral-Small-4-119B-2603": {"model_type": "mistral3", "tie_word_embeddings": False, "vision_config": _PIXTRAL},
}

_TWICE: Final = "known: the checkpoint keeps the head beside the table that it is tied to"
_MASKS: Final = "known: counts the masks and rotary frequencies that the checkpoint keeps (architectures/parameters/kept.py)"
_WEIGHTS_ONLY: Final = "known: matrices alone, without biases, norms and positions"
_WRONG: Final = "known: the source's figure is not this model's"
#: Entries whose count is further from the known one than 0.1 %, and what is at fault: the known figure (`known: …`), or a config
#: that leaves tensors out and is not completed (`config: …`; the entry then says the known count).
UNEQUAL: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "qwen3-0.6b", "qwen3-1.7b", "falcon-7b", "falcon-40b", "falcon-180b", "starcoder", "gemma-4-26b-a4b", "gemma-4-31b",
            "qwen1.5-1.8b",
        ),
        _TWICE,
    ),
    **dict.fromkeys(
        (
            "gpt2", "gpt2-medium", "pythia-160m", "pythia-410m", "pythia-1b", "pythia-1.4b", "pythia-2.8b", "pythia-6.9b",
            "pythia-12b", "gpt-neox-20b",
        ),
        _MASKS,
    ),
    **dict.fromkeys(("opt-125m", "opt-1.3b", "opt-6.7b", "opt-13b"), _WEIGHTS_ONLY),
    **dict.fromkeys(
        (
            "minicpm-2b", "internlm-7b", "internlm2-7b", "orion-14b", "baichuan2-7b", "minicpm3-4b", "bart-large",
        ),
        _WRONG,
    ),
    "rwkv-5-world-3b": "known: the count of the 1.5B model",
    "nemotron-nano-12b-v2": "known: bytes, twice the parameters",
    "deepseek-v4-flash-base": "known: counts the scales of fp8 blocks and two more tables of its prediction layer",
    "biogpt": "known: 1,372,160 fewer than the class builds",
    "glm-4.6": "known: its prediction layer is stored without the two tables that 4.5's and 4.7's have; no key says so",
    "vibevoice-1.5b": "config: no rule counts the audio tokenizers and the diffusion head",
    "step-3.7-flash": "config: a copy without the vision tower's sizes",
    "glm-5.3-flash": "config: does not say that the checkpoint has a prediction layer",
    "inkling": "config: the class's defaults are not this checkpoint's",
}  # fmt: skip


def completed(stem: str, data: dict[str, Any]) -> dict[str, Any]:
    """A file's config with the keys that it leaves out."""
    if stem in WRAPPED:
        return {**WRAPPED[stem], "text_config": data}
    if stem in ORIGINALS:
        return {key: value for key, value in data.items() if key != "quantization_config"}
    return _merged(data, COMPLETED.get(stem, {}))


def _merged(data: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    merged = dict(data)
    for key, value in more.items():
        merged[key] = _merged(merged.get(key) or {}, value) if isinstance(value, dict) else value
    return merged
