"""From a hub config to the GGUF keys that llama.cpp's converter writes for it (stub)."""

from typing import Any

from kvplan.allocation import NotPredicted
from kvplan.model import Model


def gguf_keys(model: Model) -> dict[str, Any] | NotPredicted:
    """The GGUF keys of a model."""
    config = model.config or {}
    if "general.architecture" in config:
        return dict(config)
    return NotPredicted(reason="x")
