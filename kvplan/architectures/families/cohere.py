"""Cohere: Command (plain), Command A and its kin (three of four layers slide), Compass, and the speech recogniser.

Source: `configuration_cohere*.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.encoder_decoder import encoder_decoder
from kvplan.architectures.kit.heads import Row
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader
from kvplan.architectures.kit.sliding import all_full, every, sliding


def _two_patterns(c: Config, layers: int) -> list[bool]:
    """The first dense layers have a pattern of their own."""
    dense = min(c.integer("first_k_dense_replace", default=0, minimum=0), layers)
    head = every(1, "prefix_dense_sliding_window_pattern")(c, dense)
    return head + every(4, "sliding_window_pattern")(c, layers - dense)


ROWS: Final[dict[str, Reader]] = {
    "cohere": plain(Row(40, 64, 8192)),
    "cohere2": sliding(Row(40, 64, 8192, window=4096), every(4, "sliding_window_pattern")),
    "cohere2_moe": sliding(Row(40, 64, 8192, head_dim=128, refuses_null=("head_dim",), window=4096), _two_patterns),
    "cohere_asr": encoder_decoder(Row(8, 8, 1024)),
    "cohere_compass_text": sliding(Row(40, 64, 8192, window=4096), all_full),
}
