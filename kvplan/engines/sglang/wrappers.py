"""What a config says beside its text decoder: pictures, and how the checkpoint was quantised.

Source: sglang 0.5.23, `srt/configs/model_config.py`, `srt/arg_groups/memory_hook.py:adjust_mem_fraction_for_vlm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.engines.sglang import classes, defaults
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.reading import Tower

_SECTIONS: Final = ("thinker_config", "llm_config", "language_config", "text_config")
_MOST: Final = 2**40


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
