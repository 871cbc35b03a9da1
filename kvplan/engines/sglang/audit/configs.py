"""Configs of records: what was left out of them, and what must not be read in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.model import MAX_LAYERS

#: What a quantised checkpoint says of its cache acts when weights are loaded, and the recorder of plans loads none.
_OF_WEIGHTS: Final = ("kv_cache_quant_algo", "kv_cache_scheme")


def bare(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config without what its checkpoint says of the cache."""
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return config
    inner = found.get("quantization")
    kept: dict[str, Any] = {key: value for key, value in found.items() if key not in _OF_WEIGHTS}
    if isinstance(inner, Mapping):
        kept["quantization"] = {key: value for key, value in inner.items() if key not in _OF_WEIGHTS}
    return {**config, "quantization_config": kept}


def spelled_out(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A hybrid's config that counts its state layers and does not list them: which ones decides no size."""
    states = next((config[key] for key in ("mamba_layers", "mamba_layer_count") if key in config), None)
    layers = config.get("num_hidden_layers")
    if not isinstance(states, int) or not isinstance(layers, int) or not 0 <= states <= layers <= MAX_LAYERS:
        return config
    if "layer_types" in config or "layers_block_type" in config:
        return config
    return {**config, "layer_types": ["mamba"] * states + ["attention"] * (layers - states)}
