"""openPangu of Huawei: the dense models are plain, Ultra MoE keeps a latent.

Source: vLLM 0.33 `models/openpangu.py`. The published configs say every size.
"""

from typing import Final

from kvplan.architectures.kit.heads import Row, lenient
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader

ROWS: Final[dict[str, Reader]] = {
    "PanguEmbedded": plain(Row()),
    "pangu_ultra_moe": latent(lenient(), Mla()),
}
