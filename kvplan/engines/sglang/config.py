"""What a config says beside its layers: the longest request, the dtype, pictures, and how the checkpoint was quantised.

Source: sglang 0.5.23, `srt/configs/model_config.py`, `srt/utils/hf_transformers/common.py`,
`srt/arg_groups/memory_hook.py:adjust_mem_fraction_for_vlm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.model import Model
from kvplan.engines.sglang import classes, defaults
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.reading import Tower

_SECTIONS: Final = ("thinker_config", "llm_config", "language_config", "text_config")
_MOST: Final = 2**40
_LENGTHS: Final = ("max_sequence_length", "seq_length", "max_seq_len", "model_max_length", "max_position_embeddings")
_SAYS_WHAT: Final = frozenset({"yarn", "longrope", "llama3"})  # rope scalings that bring the trained length along
_LARGEST_FACTOR: Final = 2**40
DTYPES: Final = {"half": "float16", "float16": "float16", "bfloat16": "bfloat16", "float": "float32", "float32": "float32"}


def whole(config: Mapping[str, Any], key: str) -> int | None:
    """A whole number from 0 to 2**40; None for anything else."""
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else None


def multimodal(kind: str, arch: str, config: Mapping[str, Any], options: SglangOptions) -> bool:
    """`ModelConfig.is_multimodal`."""
    asked = options.enable_multimodal
    if asked is None:
        asked = arch not in classes.TEXT_UNLESS_ASKED
        if arch == "MiMoV2ForCausalLM" and not (config.get("vision_config") and config.get("audio_config")):
            asked = False
    sections = any(isinstance(config.get(section), Mapping) for section in _SECTIONS) or kind in defaults.TEXT_SECTION
    alone = options.language_model_only or bool(config.get("language_model_only"))
    return bool(asked and not alone and (arch in classes.MULTIMODAL or sections))


def tower(kind: str, config: Mapping[str, Any]) -> Tower | None:
    """The vision section's layers and width, 24 and 1,024 where it has none; its class fills what the file leaves out."""
    section = config.get("vision_config")
    layers, size = defaults.TOWER.get(kind, (24, 1024))
    if not isinstance(section, Mapping):
        if kind in defaults.NO_TOWER or kind not in {*defaults.TOWER, *defaults.TOWER_ABSENT}:
            return None
        layers, size = defaults.TOWER_ABSENT.get(kind, (layers, size))
        return Tower(layers=layers, hidden_size=size)
    if kind in defaults.OPAQUE_TOWER:
        return Tower(layers=24, hidden_size=1024)
    keys = ("vt_num_hidden_layers", "vt_hidden_size") if kind == "kimi_k3" else ("num_hidden_layers", "hidden_size")
    found = whole(section, keys[0])
    if found is None and kind in defaults.DEPTH_IS_LAYERS:
        found = whole(section, "depth")
    return Tower(layers=layers if found is None else found, hidden_size=whole(section, keys[1]) or size)


def checkpoint_cache(config: Mapping[str, Any]) -> str:
    """fp8, where a checkpoint of modelopt's was calibrated for it: "auto" then means that.

    Source: `mem_cache/kv_cache_dtype.py:configure_kv_cache_dtype`, `layers/quantization/modelopt_quant.py`.
    """
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return ""
    nested = found.get("quantization")
    inner = nested if isinstance(nested, Mapping) else found
    method = str(found.get("quant_method", "modelopt"))
    scheme = found.get("kv_cache_scheme")
    if method.startswith("modelopt") and isinstance(scheme, Mapping):
        return "fp8_e4m3" if scheme.get("type") == "float" and scheme.get("num_bits") == 8 else ""
    known = method.startswith("modelopt") or method == "fp8"
    return "fp8_e4m3" if known and str(inner.get("kv_cache_quant_algo")).upper() == "FP8" else ""


def nvfp4_experts(config: Mapping[str, Any]) -> bool:
    """`model_overrides/minimax_m3.py:_resolve_quant_method`."""
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return False
    return str(found.get("moe_quant_algo", "")).upper() == "NVFP4" and found.get("moe_quant_format") == "nvfp4-pack-quantized"


def derived_context(model: Model, text: Mapping[str, Any]) -> int:
    """`get_context_length`: the first key there is, times a rope scaling's factor unless the config class says what it scales."""
    kind = model.text_type
    assumed = defaults.CONTEXT.get(kind) or defaults.CONTEXT.get(model.model_type, 2048)
    length = None
    for key in _LENGTHS:
        length = whole(text, key) or (assumed if defaults.CONTEXT_KEY.get(kind) == key else None)
        if length:
            break
    length = length or model.max_tokens or assumed
    rope = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(rope, Mapping) or kind in defaults.ROPE_BY_LAYER or "original_max_position_embeddings" in rope:
        return length
    factor = rope.get("factor", 1)
    named = str(rope.get("rope_type", rope.get("type")))
    if named in _SAYS_WHAT or isinstance(factor, bool) or not isinstance(factor, int | float):
        return length
    if not abs(factor) < _LARGEST_FACTOR:  # not a number, or none that a context may have
        return length
    scaled = factor * length
    return int(scaled) if 1 <= scaled < 2**53 else length


def model_dtype(model: Model, arch: str, config: Mapping[str, Any], text: Mapping[str, Any], options: SglangOptions) -> str:
    """`_get_and_verify_dtype`: float32, or no dtype at all, becomes float16, and bfloat16 in a Gemma."""
    if options.dtype != "auto":
        return DTYPES[options.dtype]
    if arch.startswith("Llava") and arch.endswith("ForCausalLM"):
        return "float16"
    packed = config.get("quantization_config")
    if arch == "GptOssForCausalLM" and isinstance(packed, Mapping) and packed.get("quant_method") == "mxfp4":
        return "bfloat16"
    if not config:
        return "float16" if model.dtype == "float32" else model.dtype
    said = [
        str(part.get(key)).removeprefix("torch.") for part in (text, config) for key in ("dtype", "torch_dtype") if part.get(key)
    ]
    named = DTYPES.get(said[0]) if said else "bfloat16" if model.text_type in defaults.BFLOAT16 else None
    if named in {None, "float32"}:
        return "bfloat16" if model.text_type.startswith("gemma") else "float16"
    return str(named)
