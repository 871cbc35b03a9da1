"""MiniCPM of OpenBMB: 1 and 2 are plain, 3 keeps a latent."""

from typing import Final

from kvplan.architectures.kit.heads import Row, lenient
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader

ROWS: Final[dict[str, Reader]] = {
    "minicpm": plain(Row(32, 32, 4096, refuses_remainder=True)),
    "minicpm3": latent(lenient(62, 40, 2560), Mla(rank=256, rope_dim=32, nope_dim=64, value_dim=None)),
}
