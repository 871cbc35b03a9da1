"""Muse of Meta: all but every fourth layer, counted from the last, slide."""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row
from kvplan.architectures.kit.reader import Reader
from kvplan.architectures.kit.sliding import sliding


def _from_the_last(_: Config, layers: int) -> list[bool]:
    return [(layers - 1 - i) % 4 != 0 for i in range(layers)]


ROWS: Final[dict[str, Reader]] = {
    "muse_glimmer_text": sliding(
        Row(52, 32, 6656, 2, 128, window=2048, refuses_null=("kv_heads", "head_dim"), refuses_remainder=True), _from_the_last
    ),
    "muse_spark_text": sliding(
        Row(62, 128, 8192, 16, 64, window=2048, refuses_null=("kv_heads", "head_dim"), refuses_remainder=True), _from_the_last
    ),
}
