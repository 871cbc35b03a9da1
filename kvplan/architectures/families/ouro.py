"""Ouro of ByteDance: all layers run `total_ut_steps` times, each time with keys and values of their own.

Source: vLLM 0.26 `models/ouro.py`, and the remote code of ByteDance/Ouro-2.6B that it follows.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row
from kvplan.architectures.kit.loops import MAX_PASSES, looped
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader


@reader
def _ouro(c: Config, row: Row) -> Decoder:
    once = plain(row).read(c)
    steps = c.integer("total_ut_steps", default=4, maximum=MAX_PASSES)
    return looped(c, "total_ut_steps", once.layers, steps, heads=once.heads)


ROWS: Final[dict[str, Reader]] = {"ouro": _ouro(Row(24, 16, 2048))}
