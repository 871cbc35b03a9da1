"""Plain decoders: every layer keeps keys and values of the same heads.

A config of one of these that does name a `sliding_window` or `layer_types` is taken at its word, as the library's
cache does (`get_layer_types_and_kwargs` in `cache_utils.py`, transformers 5.23).
"""

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, read_heads
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, decoder, layer_types, read_window
from kvplan.architectures.kit.reader import Decoder, reader


@reader
def plain(c: Config, row: Row) -> Decoder:
    """The same attention in every layer: full, or sliding where the config itself has a window or layer types."""
    heads = read_heads(c, row)
    window = read_window(c, row.window)
    kinds = layer_types(c, heads.layers, FULL, SLIDING, CHUNKED) or [SLIDING if window else FULL] * heads.layers
    return decoder(c, heads, kinds, window, drafts=row.drafts)
