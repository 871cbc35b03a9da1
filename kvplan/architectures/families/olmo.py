"""OLMo of AI2: 1 and 2 are plain, 3 slides, the hybrid is delta-rule linear attention; and Molmo 2's text part.

Source: `configuration_olmo*.py`, `modeling_olmo_hybrid.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.delta import delta
from kvplan.architectures.kit.heads import Heads, Row, hidden_size, lenient, width
from kvplan.architectures.kit.layers import FULL, LINEAR
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader
from kvplan.architectures.kit.sliding import every, sliding
from kvplan.architectures.kit.states import gated_delta, taps
from kvplan.domain.model import Recurrent


def _linear(c: Config, row: Row, heads: Heads) -> Recurrent:
    """The hybrid derives what its config leaves out (`OlmoHybridConfig.__post_init__`)."""
    key_heads = width(c, "linear_num_key_heads", default=heads.query)
    key_dim = width(c, "linear_key_head_dim", default=max(hidden_size(c, row) * 3 // (4 * key_heads), 1))
    return gated_delta(
        key_heads=key_heads,
        key_dim=key_dim,
        value_heads=width(c, "linear_num_value_heads", default=heads.query),
        value_dim=width(c, "linear_value_head_dim", default=2 * key_dim),
        kernel=taps(c, "linear_conv_kernel_dim", default=4),
    )


def _every_fourth(_: Config, layers: int) -> list[str]:
    """Short models still end in attention."""
    kinds = [FULL if i % 4 == 3 else LINEAR for i in range(layers)]
    return kinds if FULL in kinds else [*kinds[:-1], FULL]


_OLMO: Final = plain(Row(32, 32, 4096))
ROWS: Final[dict[str, Reader]] = {
    "flex_olmo": _OLMO,
    "molmo2_text": plain(Row(36, 32, 4096, 8, 128, refuses_null=("kv_heads", "head_dim"))),
    "olmo": _OLMO,
    "olmo2": _OLMO,
    "olmo3": sliding(Row(32, 32, 4096, window=4096), every(4)),
    "olmo_hybrid": delta(lenient(32, 30, 3840), _linear, _every_fourth),
    "olmoe": plain(Row(16, 16, 2048)),
}
