"""Encoder-decoders: each decoder layer keeps its own keys and values, and those of the encoder's output.

Where layers slide (T5Gemma), the library applies the window to the encoder's output as well, so `Cross.reach` is the
layer's. Sources: `configuration_*.py` of transformers 5.23.
"""

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, read_heads
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, layer_types, reach, read_window, self_and_cross
from kvplan.architectures.kit.reader import Decoder, reader


@reader
def encoder_decoder(c: Config, row: Row, *, positions: int | None = None, full_every: int = 0, cross_if: str = "") -> Decoder:
    """Each decoder layer: its own keys and values, then the encoder's.

    Args:
        c: the config.
        row: the decoder's key names and class defaults.
        positions: tokens of the encoder's output, where the model fixes them (`max_source_positions`).
        full_every: each so-many-th layer is full and the others slide; 0: none slides.
        cross_if: the key that must be true for cross-attention; empty: there always is.
    """
    heads = read_heads(c, row)
    tokens = c.integer("max_source_positions", default=positions) if positions else None
    cross = c.flag(cross_if) if cross_if else True
    window = read_window(c, row.window) if full_every else None
    kinds = _kinds(c, heads.layers, window, full_every) if full_every else [FULL] * heads.layers
    layers = [self_and_cross(heads, reach(c, kind, window), cross=cross, tokens=tokens) for kind in kinds]
    return Decoder(layers=layers, heads=heads.query)


def _kinds(c: Config, layers: int, window: int | None, full_every: int) -> list[str]:
    given = layer_types(c, layers, FULL, SLIDING, CHUNKED)
    if given is not None:
        return given
    step = c.integer("sliding_window_pattern", default=full_every)
    return [SLIDING if window and (i + 1) % step else FULL for i in range(layers)]
