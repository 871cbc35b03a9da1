"""Nanbeige runs its layers several times, and each run keeps its own keys and values.

Source: mlx-lm 0.32 `models/nanbeige.py`, after the remote code of the checkpoint. Engines differ in the key that they go by.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, read_heads
from kvplan.architectures.kit.layers import attention
from kvplan.architectures.kit.loops import MAX_PASSES, looped
from kvplan.architectures.kit.reader import Decoder, Reader, reader


@reader
def _looped(c: Config, row: Row) -> Decoder:
    """`num_loops` runs; a checkpoint that was trained with a loss for each loop has one weight for each beyond the first."""
    heads = read_heads(c, row)
    weights = c.items("loop_loss_weights")
    loops = len(weights) + 1 if weights else c.integer("num_loops", default=1, maximum=MAX_PASSES)
    return looped(c, "num_loops", [(attention(heads.kv, heads.dim),)] * heads.layers, loops, heads=heads.query)


ROWS: Final[dict[str, Reader]] = {"nanbeige": _looped(Row(32, 32, 4096))}
