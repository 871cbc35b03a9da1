"""LongCat-Flash of Meituan: two blocks of latent attention a layer.

Source: transformers 5.23 `configuration_longcat_flash.py`; with n-gram embeddings: mlx-lm 0.32 `models/longcat_flash_ngram.py`.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row, layer_count, lenient
from kvplan.architectures.kit.latent import Mla, latent
from kvplan.architectures.kit.reader import Reader


def _blocks(c: Config, row: Row) -> int:
    """Attention blocks: two a layer. `num_hidden_layers` already counts blocks (`LongcatFlashConfig.num_hidden_layers`)."""
    if not c.has("num_layers") and c.has("num_hidden_layers"):
        blocks = layer_count(c, row)
        if blocks % 2:
            c.refuse("num_hidden_layers", f"counts two attention blocks a layer, so it must be even, got {blocks}")
        return blocks
    return 2 * layer_count(c, row._replace(names=row.names._replace(layers=("num_layers",))))


ROWS: Final[dict[str, Reader]] = {
    "longcat_flash": latent(lenient(28, 64, 6144, drafts=1), Mla(), blocks=_blocks),
    "longcat_flash_ngram": latent(lenient(28, 64, 6144), Mla(), blocks=_blocks),
}
