"""How long a model's requests may be by its config, as servers derive it to refuse what is longer."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.model import Model

_ROPES: Final = ("rope_theta", "rope_scaling", "rope_parameters")
#: Scalings that leave the config's length as it is.
_SCALED_ALREADY: Final = frozenset({"su", "longrope", "llama3", "default", "mrope"})
#: Scalings whose length is the original one times the factor, where that is more than the config says.
_STRETCHED: Final = frozenset({"yarn", "deepseek_yarn", "deepseek_llama_scaling"})


def derived_length(model: Model) -> int | None:
    """Tokens of the longest request that a server takes unasked; None where the config does not say, or lacks its ropes.

    Source: vllm/config/model.py:_get_and_verify_max_len, 0.11 and 0.32; sglang srt/utils/hf_transformers_utils.py:
    get_context_length.
    """
    if model.max_tokens is None or model.origin is None:
        return None
    config = model.origin.config
    sections = [section for section in (config.get("text_config"), config) if isinstance(section, Mapping)]
    if not any(name in section for section in sections for name in _ROPES):
        return None
    if "gemma3" in str(config.get("model_type", "")):
        return model.max_tokens  # scaled already, whatever the factor says
    scaling = next((part for section in sections if (part := _scaling(section))), {})
    kind, factor = scaling.get("rope_type", scaling.get("type", "default")), scaling.get("factor")
    if kind in _SCALED_ALREADY or not isinstance(factor, int | float) or isinstance(factor, bool) or not 1 <= factor <= 1024:
        return model.max_tokens
    original = scaling.get("original_max_position_embeddings") if kind in _STRETCHED else model.max_tokens
    return max(model.max_tokens, int(original * factor)) if isinstance(original, int) else model.max_tokens


def _scaling(section: Mapping[str, Any]) -> Mapping[str, Any]:
    found = section.get("rope_scaling") or section.get("rope_parameters")
    return found if isinstance(found, Mapping) else {}
