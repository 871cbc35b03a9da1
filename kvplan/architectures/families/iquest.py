"""IQuest coders: plain, and looped, where each layer keeps everything for the first pass and a window for later ones.

Source: mlx-lm 0.32 `iquestloopcoder.py`, vLLM 0.33 `models/iquest_loopcoder.py`.
"""

from typing import Final

from msgspec.structs import replace

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, read_heads
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.loops import MAX_PASSES, Memories, looped
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.domain.model import Softmax, Window


@reader
def _looped(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    window = Window(c.integer("loop_window_size", default=64))
    passes = c.integer("loop_num", default=2, maximum=MAX_PASSES)

    def near(memories: Memories) -> Memories:
        return tuple(replace(m, reach=window) for m in memories if isinstance(m, Softmax))

    own = [(attention(heads.kv, heads.dim),)] * heads.layers
    return looped(c, "loop_num", own, passes, heads=heads.query, later=near)


ROWS: Final[dict[str, Reader]] = {
    "iquestcoder": plain(Row(80, 40, 5120, 8, 128, refuses_remainder=True)),
    "iquestloopcoder": _looped(Row(32, 32, 4096)),
}
