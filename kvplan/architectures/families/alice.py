"""AliceAI of Yandex: Kimi Delta Attention in most layers, gated attention in the rest, as `layer_types` says.

Source: vLLM 0.33.0 `models/alice_ai.py`; no config class is published, so a config must say everything.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.delta import delta
from kvplan.architectures.kit.heads import Heads, Row, width
from kvplan.architectures.kit.reader import Reader
from kvplan.architectures.kit.states import kimi_delta, taps
from kvplan.domain.model import Recurrent


def _linear(c: Config, row: Row, heads: Heads) -> Recurrent:
    count, size = width(c, "linear_num_key_heads"), width(c, "linear_key_head_dim")
    for key, own in (("linear_num_value_heads", count), ("linear_value_head_dim", size)):
        if width(c, key, default=own) != own:
            c.refuse(key, f"must be {own}: keys and values of AliceAI's linear layers are alike")
    return kimi_delta(heads=count, head_dim=size, kernel=taps(c, "linear_conv_kernel_dim", default=4))


def _unsaid(c: Config, layers: int) -> list[str]:
    if not c.has("layer_types"):
        c.refuse("layer_types", "is missing, and the class assumes no layers")
    return []


ROWS: Final[dict[str, Reader]] = {"alice_ai": delta(Row(), _linear, _unsaid)}
