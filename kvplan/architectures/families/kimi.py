"""Kimi of Moonshot AI: K2, a latent in every layer, and Kimi-Linear and K3, a delta-rule state in most.

Sources: arXiv 2510.26692; transformers 5.23 `configuration_kimi_linear.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import lenient
from kvplan.architectures.kit.kda import kda
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.reader import Reader


def _attending(c: Config, layers: int) -> set[int]:
    """The full layers of `linear_attn_config`, whose two lists count from 1 and must name every layer once."""
    implied = set(range(4, layers, 4))
    if c.has("layer_types"):
        return implied
    nested = c.section("linear_attn_config")
    full = nested.integers("full_attn_layers", minimum=1, maximum=layers)
    linear = nested.integers("kda_layers", minimum=1, maximum=layers)
    if full is None or linear is None:
        return implied
    if sorted([*full, *linear]) != list(range(1, layers + 1)):
        nested.refuse("full_attn_layers", f"and `kda_layers` must name each of the {layers} layers once")
    return {number - 1 for number in full}


ROWS: Final[dict[str, Reader]] = {
    "kimi_k2": latent(lenient(61, 128, 7168), Mla()),
    "kimi_linear": kda(lenient(27, 32, 2304), Mla(), _attending),
}
