"""A.X-K1 and A.X-K2 of SK Telecom: a latent, and in the second a key of a sparse-attention indexer in every layer."""

from typing import Final

from kvplan.architectures.kit.heads import lenient
from kvplan.architectures.kit.indexed import every_layer, indexed
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.reader import Reader

ROWS: Final[dict[str, Reader]] = {
    "axk1": latent(lenient(61, 64, 7168), Mla()),
    "axk2": indexed(lenient(48, 32, 2048), Mla(rank=128, rope_dim=32, nope_dim=64, value_dim=64), every_layer),
}
