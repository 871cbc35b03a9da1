"""EXAONE of LG AI Research: 3 is plain; in 4 and later three of four layers slide.

Source: `configuration_exaone*.py` of transformers 5.24; the remote code of LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import STANDARD, Row
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader
from kvplan.architectures.kit.sliding import every, sliding


def _lettered(c: Config, layers: int) -> list[bool]:
    """`sliding_window_pattern` is a number, or letters that repeat: `LLLG`, L for local."""
    letters = c.data.get("sliding_window_pattern")
    if isinstance(letters, str):
        if not 1 <= len(letters) <= 64 or set(letters) - {"L", "G"}:
            c.refuse("sliding_window_pattern", "must be a number, or letters L and G such as `LLLG`")
        c.note("sliding_window_pattern", letters, "config")
        return [letters[i % len(letters)] == "L" for i in range(layers)]
    return every(4, "sliding_window_pattern")(c, layers)


_EXAONE4: Final = sliding(Row(32, 32, 4096, 32, window=4096, refuses_null=("kv_heads",)), _lettered)
ROWS: Final[dict[str, Reader]] = {
    "exaone": plain(Row(32, 32, 4096, 8, names=STANDARD._replace(layers=("num_layers", "num_hidden_layers")))),
    "exaone4": _EXAONE4,
    "exaone4_5_text": _EXAONE4,
    "exaone_moe": _EXAONE4,
}
