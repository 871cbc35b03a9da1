"""IQuest coders: plain, and looped, where each layer keeps everything for the first pass and a window for the second.

Source: mlx-lm 0.32 `iquestloopcoder.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, read_heads
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Memory, Window


@reader
def _looped(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    if c.integer("loop_num", default=2) != 2:
        c.refuse("loop_num", "is not 2, and the caches of other loops are not known")
    window = c.integer("loop_window_size", default=64)
    both: tuple[Memory, ...] = (attention(heads.kv, heads.dim), attention(heads.kv, heads.dim, Window(window)))
    return Decoder(layers=[both] * heads.layers, heads=heads.query)


ROWS: Final[dict[str, Reader]] = {
    "iquestcoder": plain(Row(80, 40, 5120, 8, 128, refuses_remainder=True)),
    "iquestloopcoder": _looped(Row(32, 32, 4096)),
}
