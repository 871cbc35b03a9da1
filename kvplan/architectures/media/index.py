"""All rows, by family."""

from collections.abc import Mapping
from typing import Final

from kvplan.architectures.media import fixed, ranges, sounds, tiled
from kvplan.architectures.media.values import Row

ROWS: Final[Mapping[str, Row]] = {**ranges.ROWS, **tiled.ROWS, **fixed.ROWS, **sounds.ROWS}
