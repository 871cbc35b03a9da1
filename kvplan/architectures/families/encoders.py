"""Encoders alone, of text, images and sound: embedders, rerankers and towers. They keep nothing for a next token.

Rows are named as configs name them; `new` is GTE's multilingual family. Sources: `configuration_*.py` of transformers 5.23,
`Alibaba-NLP/new-impl` and `nomic-ai/nomic-bert-2048` on the hub.
"""

from typing import Final

from kvplan.architectures.kit.encoder import encoder
from kvplan.architectures.kit.heads import GPT, MHA, Row
from kvplan.architectures.kit.reader import Reader

_BASE: Final = Row(12, 12, 768, names=MHA)
_DISTIL: Final = MHA._replace(layers=("n_layers", "num_hidden_layers"), heads=("n_heads", "num_attention_heads"), hidden=("dim",))

ROWS: Final[dict[str, Reader]] = {
    "albert": encoder(Row(12, 64, 4096, names=MHA)),
    "clip_text_model": encoder(Row(12, 8, 512, names=MHA)),
    "clip_vision_model": encoder(_BASE),
    "deberta": encoder(_BASE),
    "deberta-v2": encoder(Row(24, 24, 1536, names=MHA)),
    "dinov2": encoder(_BASE),
    "distilbert": encoder(Row(6, 12, 768, names=_DISTIL)),
    "esm": encoder(_BASE),
    "hubert": encoder(_BASE),
    "modernbert": encoder(Row(22, 12, 768, names=MHA)),
    "mpnet": encoder(_BASE),
    "new": encoder(_BASE),
    "nomic_bert": encoder(Row(12, 12, 768, names=GPT)),
    "siglip_text_model": encoder(_BASE),
    "siglip_vision_model": encoder(_BASE),
    "vit": encoder(_BASE),
    "wav2vec2": encoder(_BASE),
}
