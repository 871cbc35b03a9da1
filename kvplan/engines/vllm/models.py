"""What vLLM does by model type or config key: the only file of this engine that looks at where a model was read.

A model that was described by hand gets the general rule: it has no config whose keys could say otherwise.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.domain.model import Model, Recurrent
from kvplan.domain.origin import NO_SETTINGS, Settings
from kvplan.domain.storage.cache import checkpoint_cache
from kvplan.units import MAX_COUNT


class Traits(Struct, frozen=True, kw_only=True):
    """Ways in which single model types differ from the general rule, each with the file that says so."""

    encoder_only: bool = False  # attention that looks both ways and caches nothing (`EncoderOnlyAttentionSpec`)
    ignores_sharing: bool = False  # every layer caches, whatever the config shares: models/registry.py (Transformers backend)
    attention_first: bool = False  # shared blocks of attention are built before the layers that use them: models/zamba2.py
    expands_latents: bool = False  # MLA as keys and values of all heads, values as wide as keys: models/minicpm3.py
    fp8_on_blackwell: bool = False  # the cache is fp8 on sm_100 unless told otherwise: platforms/cuda.py, 0.32.0
    exports_checkpoints: bool = False  # its states are FlashKDA's or FlashInfer's, which export one inside a prefill
    every_block_states: bool = False  # its class can keep a state for every block (`SupportsMambaPrefixCaching`)
    states_in_config: bool = False  # `mamba_ssm_cache_dtype` is the dtype of its states: models/config.py
    scaled_already: bool = False  # the config's length has the rope scaling in it: Gemma 3
    one_window_draft: bool = False  # its first MTP layer alone is served, with the heads of its sliding layers: mimo_v2_mtp.py
    item_tokens: int = 0  # of the largest item, where images attend both ways and none may be cut: models/gemma4_mm.py
    one_device: str = ""  # what its class says to more devices
    undescribed: str = ""  # served, and no rule here describes what its layers keep
    gone_since: tuple[int, ...] | None = None  # the first release without it
    gone: str = ""  # why


#: Source: `transformers_utils/model_arch_config_convertor.py:get_num_experts`.
_EXPERTS: Final = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_BOTH_WAYS: Final = Traits(encoder_only=True)
_NO_V0: Final = Traits(gone_since=(0, 11), gone="encoder-decoder models other than Whisper's kind went with the V0 engine")
_MINIMAX_01: Final = Traits(gone_since=(0, 24), gone="MiniMaxText01ForCausalLM was supported until v0.23.0")
#: model_executor/models/registry.py up to 0.33; `_supports_attention_backend` is False in the classes of transformers.
_NO_CLASS: Final = Traits(gone_since=(0,), gone="it has no class for this type, and its Transformers backend does not take it")
_GENERAL: Final = Traits()

#: Model type (of the whole model or of its text part) -> how it differs.
MODELS: Final[dict[str, Traits]] = {
    # Google
    "gemma3": Traits(scaled_already=True),
    "gemma3_text": Traits(scaled_already=True),
    "gemma3n": Traits(scaled_already=True),
    "gemma3n_text": Traits(scaled_already=True),
    "gemma4": Traits(item_tokens=32 * (70 + 2 + 6)),  # a video: frames of 70 tokens, their borders and time stamps
    # Qwen: models/qwen3_next.py, models/qwen3_5.py
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text"), Traits(exports_checkpoints=True)),
    "t5": Traits(gone_since=(0,), gone="T5 needs a relative attention bias, which no attention backend has"),
    # the rest, by name
    **dict.fromkeys(
        (
            "bert", "camembert", "electra", "megatron-bert", "modernbert", "roberta", "roberta-prelayernorm", "roformer",
            "xlm-roberta",
        ),
        _BOTH_WAYS,
    ),
    "bamba": Traits(
        every_block_states=True,
        gone_since=(0, 20),
        gone="layer 0 (linear_attention) does not dispatch through the Transformers attention interface",
    ),
    **dict.fromkeys(("falcon_h1", "granitemoehybrid", "jamba", "mamba", "mamba2"), Traits(every_block_states=True)),
    "bart": _NO_V0,
    "deepseek_v41": Traits(undescribed="its layers pool tokens by other ratios than DeepSeek V4's"),
    "dory": Traits(one_device="Dory currently supports tensor_parallel_size=1 only"),
    "glm5_next_text": Traits(undescribed="its indexer keeps rings of pooled keys, in groups of their own"),
    "glm_moe_dsa": Traits(fp8_on_blackwell=True),
    **dict.fromkeys(("hunyuan", "hunyuan_v1_moe", "hunyuan_v1_dense"), Traits(ignores_sharing=True)),
    "inkling_text": Traits(undescribed="its convolutions keep windows of a few tokens with widened heads"),
    **dict.fromkeys(("inkling2_text", "inkling2_loop_text"), _NO_CLASS),
    "kimi_k3": Traits(exports_checkpoints=True),
    "mbart": _NO_V0,
    **dict.fromkeys(("mimo_v2", "mimo_v2_flash"), Traits(one_window_draft=True)),
    "minicpm3": Traits(expands_latents=True),
    "minimax": _MINIMAX_01,
    "minimax_text_01": _MINIMAX_01,
    "mllama": Traits(gone_since=(0, 11), gone="MllamaForConditionalGeneration went with the V0 engine"),
    **dict.fromkeys(("nemotron_h", "nemotron_h_puzzle"), Traits(states_in_config=True, every_block_states=True)),
    "ouro": Traits(gone_since=(0, 27), gone="OuroForCausalLM was supported until v0.26.0"),
    "zamba": Traits(gone_since=(0,), gone="Zamba2 is served, the first Zamba is not"),
    "zamba2": Traits(attention_first=True, every_block_states=True),
}  # fmt: skip


def text_traits(model: Model) -> Traits:
    """How the text part's model type differs."""
    return MODELS.get(model.text_type, _GENERAL)


def any_traits(model: Model) -> tuple[Traits, ...]:
    """How the model's own type and its text part's differ."""
    return tuple(MODELS.get(name, _GENERAL) for name in dict.fromkeys((model.model_type, model.text_type)))


def item_tokens(model_type: str) -> int:
    """Tokens of the largest item that one step must hold whole; 0 where items may be cut."""
    return MODELS.get(model_type, _GENERAL).item_tokens


def _settings(model: Model) -> Settings:
    return model.origin.text if model.origin is not None else NO_SETTINGS


def trained_length(model: Model) -> int:
    """The context that the config allows, its rope scaling included; 2,048 when it says none.

    Source: `config/model.py:_get_and_verify_max_len`.
    """
    length = model.max_tokens or _settings(model).whole("max_target_positions") or 2048
    c = _settings(model)
    rope = c.section("rope_parameters") if c.data.get("rope_parameters") else c.section("rope_scaling")
    if not rope.data or text_traits(model).scaled_already:
        return length
    kind = rope.text("rope_type", rope.text("type"))
    if kind in {"", "su", "longrope", "llama3"} or isinstance(rope.data.get("factor"), str | bool):
        return length
    factor = rope.number("factor", 1)
    base = (rope.whole("original_max_position_embeddings", most=MAX_COUNT) or length) if kind == "yarn" else length
    scaled = base * factor
    return int(scaled) if 1 <= scaled < MAX_COUNT else length


def state_chunk(model: Model) -> int:
    """Tokens that a state's kernel takes at once. Source: `config/model.py:get_mamba_chunk_size`."""
    c = _settings(model)
    return c.whole("mamba_chunk_size", most=2**20 - 1) or c.whole("chunk_size", most=2**20 - 1) or 2048


def own_state_dtype(model: Model, memory: Recurrent, nemotron_states: str) -> str:
    """The dtype that the model's config gives its states; empty when it gives none. Source: `models/config.py`."""
    c = _settings(model)
    own = c.text("mamba_ssm_dtype") if memory.kind == "gated_delta" else ""
    if text_traits(model).states_in_config and memory.kind == "mamba2":
        own = c.text("mamba_ssm_cache_dtype", nemotron_states)
    return own.removeprefix("torch.")


def quantised_cache(model: Model) -> bool:
    """Whether the checkpoint's quantisation asks for an fp8 cache. Source: `config/cache.py:resolve_kv_cache_dtype`."""
    return bool(checkpoint_cache(model.origin))


def mlx_checkpoint(model: Model) -> bool:
    """Whether its weights are packed as mlx packs them, and so as no method of vLLM's does."""
    if model.origin is None or not isinstance(model.origin.config.get("quantization"), dict):
        return False
    config = model.origin.config
    own = config.get("quantization_config")
    return "bits" in config["quantization"] and not (isinstance(own, dict) and own.get("quant_method"))


def described_by_hand(model: Model) -> bool:
    """Whether no config stands behind the layers: nothing that a release reads could have made them."""
    return model.origin is None or not model.origin.config


def mixture(model: Model) -> bool:
    """Whether its layers have routed experts, by which data ranks are joined (`config/model.py:is_moe`)."""
    found = (_settings(model).data.get(key) for key in _EXPERTS)
    return any(isinstance(value, list) or (isinstance(value, int) and value > 1) for value in found)


def text_of(model: Model) -> Settings | None:
    """The text part of the model's config; None for a model without one."""
    return model.origin.text if model.origin is not None and model.origin.config else None


def media_config(model: Model) -> Settings:
    """The whole config, whose sections describe the towers."""
    return model.origin.outer if model.origin is not None else NO_SETTINGS


def decoder_width(model: Model) -> int:
    """Elements of one position between the decoder's layers."""
    return model.origin.text.whole("hidden_size", 0, 0, 2**24) if model.origin is not None else 0
