"""Sarvam: the larger is DeepSeek-V3's class, the smaller GLM-4-MoE's; either has its own sizes where a config says none.

Source: transformers 5.24 `modular_sarvam_mla.py`, `modular_sarvam_moe.py`.
"""

from typing import Final

from kvplan.architectures.kit.heads import Row, lenient
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader

ROWS: Final[dict[str, Reader]] = {
    "sarvam_mla": latent(lenient(32, 64, 4096), Mla()),
    "sarvam_moe": plain(Row(19, 64, 4096, 4, 64, refuses_null=("kv_heads", "head_dim"))),
}
