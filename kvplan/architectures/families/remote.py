"""Models whose config class is remote code: plain decoders, whose configs say every size.

Sources: vLLM 0.33 `models/keye.py`, `kimi_audio.py`, `k2_horizon.py`, `molmo.py`, `moondream3.py`, `param2moe.py`,
`phi4siglip.py`, `solar.py`, `step1.py`, `teleflm.py`; SGLang 0.5.23 `models/llada2.py`, `sdar.py`, `sdar_moe.py`;
mlx-lm 0.32 `models/phixtral.py`, `gear.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Names, Row, read_heads
from kvplan.architectures.kit.layers import CONVOLUTION, FULL, SLIDING, attention, layer_types, reach
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.states import short_conv, taps
from kvplan.domain.model import Memory

_GROUPS: Final = Names(kv_heads=("num_attention_groups", "num_key_value_heads"))
_MOONDREAM: Final = Names(("n_layers",), ("n_heads",), ("n_kv_heads",), (), ("dim",))
_PHIXTRAL: Final = Names(("num_layers", "n_layer"), ("num_heads", "n_head"), (), (), ("model_dim", "n_embd"))


@reader
def _gear(c: Config, row: Row) -> Decoder:
    """Attention to everything or within a window, and short convolutions in the rest."""
    heads = read_heads(c, row)
    kinds = layer_types(c, heads.layers, FULL, SLIDING, CONVOLUTION) or [FULL] * heads.layers
    window, state = (
        c.integer("sliding_window", default=512),
        short_conv(c.integer("hidden_size"), taps(c, "conv_L_cache", default=3)),
    )
    kept: dict[str, tuple[Memory, ...]] = {
        kind: (state,) if kind == CONVOLUTION else (attention(heads.kv, heads.dim, reach(c, kind, window)),)
        for kind in dict.fromkeys(kinds)
    }
    return Decoder(layers=[kept[kind] for kind in kinds], heads=heads.query)


_SAID: Final = plain(Row())
ROWS: Final[dict[str, Reader]] = {
    "Keye": _SAID,
    "KeyeVL1_5": _SAID,
    "gear": _gear(Row()),
    "k2_horizon": _SAID,
    "kimi_audio": _SAID,
    "llada2_moe": _SAID,
    "molmo": _SAID,
    "moondream3_text": plain(Row(24, 32, 2048, 32, names=_MOONDREAM)),
    "param2moe": _SAID,
    "phi4-siglip": _SAID,
    "phixtral": plain(Row(32, 32, 2560, names=_PHIXTRAL)),
    "sdar": _SAID,
    "sdar_moe": _SAID,
    "solar": _SAID,
    "step1": plain(Row(kv_heads=1, names=_GROUPS)),
    "teleflm": _SAID,
}
