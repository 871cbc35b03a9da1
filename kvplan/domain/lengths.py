"""How long a model's sequences may be: its own limit, and what an image or a clip is in encoder tokens."""

from kvplan.domain.model import Model
from kvplan.domain.origin import NO_SETTINGS
from kvplan.errors import ConfigError


def trained_tokens(model: Model) -> int | None:
    """The most tokens of a sequence that the model is made for; of a decoder beside an encoder (Whisper) the decoder's."""
    if model.max_tokens is not None or model.origin is None:
        return model.max_tokens
    try:
        return model.origin.text.whole("max_target_positions") or None
    except ConfigError:
        return None


def image_tokens(model: Model) -> int:
    """Encoder tokens of one image, for a tower that always encodes all of its tiles (Llama 3.2 Vision); 0 where not known.

    Source: transformers `models/mllama/modeling_mllama.py`: patches of a tile and its class token, times the tiles.
    """
    outer = NO_SETTINGS if model.origin is None else model.origin.outer
    try:
        vision = outer.section("vision_config")
        side, patch = vision.whole("image_size", most=2**16), vision.whole("patch_size", most=2**16)
        tiles = vision.whole("max_num_tiles", most=2**10)
    except ConfigError:
        return 0
    return ((side // patch) ** 2 + 1) * tiles if patch and tiles else 0
