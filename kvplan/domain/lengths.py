"""How long a model's sequences may be: its own limit."""

from kvplan.domain.model import Model
from kvplan.errors import ConfigError


def trained_tokens(model: Model) -> int | None:
    """The most tokens of a sequence that the model is made for; of a decoder beside an encoder (Whisper) the decoder's."""
    if model.max_tokens is not None or model.origin is None:
        return model.max_tokens
    try:
        return model.origin.text.whole("max_target_positions") or None
    except ConfigError:
        return None
