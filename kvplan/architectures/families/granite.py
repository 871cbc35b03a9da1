"""Granite of IBM: plain, with a window, and the hybrids of Granite 4 H (Mamba-2 in most layers).

Source: `configuration_granite*.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, layer_count, lenient, query_heads
from kvplan.architectures.kit.layers import FULL, LINEAR
from kvplan.architectures.kit.mamba import block_types, either, grouped, read_mamba2
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import first_of, sliding

_GRANITE: Final = plain(Row(32, 32, 4096))


@reader
def _hybrid(c: Config, row: Row) -> Decoder:
    layers, heads = layer_count(c, row), query_heads(c, row)
    kinds = block_types(c, layers, LINEAR, FULL) or [LINEAR] * layers
    return either(kinds, grouped(c, row, heads), read_mamba2(c, row), heads)


ROWS: Final[dict[str, Reader]] = {
    "granite": _GRANITE,
    "granite4_vision_text": _GRANITE,
    "granite_docling_text": plain(Row(28, 16, 1024, 4, refuses_remainder=True)),
    "granite_swa": sliding(Row(24, 20, 2560, 4, window=128), first_of(4)),
    "granitemoe": _GRANITE,
    "granitemoe_swa": sliding(Row(32, 32, 4096, window=128), first_of(4)),
    "granitemoehybrid": _hybrid(lenient(32, 32, 4096)),
    "granitemoeshared": _GRANITE,
}
