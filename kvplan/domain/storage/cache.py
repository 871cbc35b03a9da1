"""The cache dtype that a checkpoint itself asks for, in its `quantization_config`."""

from collections.abc import Mapping
from typing import Any

from kvplan.domain.origin import Origin


def checkpoint_cache(origin: Origin | None) -> str:
    """The dtype that `auto` then means (`fp8_e4m3`), or "": the checkpoint says nothing.

    llm-compressor writes a `kv_cache_scheme`, modelopt that or `kv_cache_quant_algo`, beside its `quantization_config` or in a
    `quantization` within it. Another scheme than eight bits of a float is left alone, as vLLM leaves it.

    Source: vllm `utils/torch_utils.py:get_kv_cache_quant_algo_string` (modelopt) and `attention/layer.py:Attention.__init__`
    (compressed-tensors).
    """
    if origin is None:
        return ""
    for section in (origin.config, origin.text_config):
        quant = section.get("quantization_config")
        if isinstance(quant, Mapping):
            return "fp8_e4m3" if _asks_for_fp8(quant) else ""
    return ""


def _asks_for_fp8(quant: Mapping[str, Any]) -> bool:
    method, inner = str(quant.get("quant_method", ""))[:40], quant.get("quantization")
    if method == "compressed-tensors":
        return _is_fp8(quant.get("kv_cache_scheme"))
    if not method.startswith("modelopt"):
        return False
    places = (inner, quant) if isinstance(inner, Mapping) else (quant,)
    found = next(
        (place.get(key) for key in ("kv_cache_scheme", "kv_cache_quant_algo") for place in places if place.get(key)), None
    )
    return _is_fp8(found)


def _is_fp8(scheme: object) -> bool:
    if isinstance(scheme, str):
        return scheme.lower() == "fp8"
    if not isinstance(scheme, Mapping) or scheme.get("dynamic"):
        return False
    return scheme.get("num_bits") == 8 and scheme.get("type") == "float"
