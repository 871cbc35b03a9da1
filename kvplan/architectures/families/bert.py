"""BERT and its kin: one KV head for each query head, where they are decoders. ModernBERT's decoder slides.

Most checkpoints of these types are encoders (embedders, rerankers, classifiers), which keep no cache: `kit/encoder.py`.

Source: `configuration_*.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.encoder import either
from kvplan.architectures.kit.heads import MHA, Names, Row, read_heads
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, decoder, layer_types, read_window
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import first_of

_BERT: Final = Row(12, 12, 768, names=MHA)
_XLM: Final = Names(("n_layers", "num_hidden_layers"), ("n_heads", "num_attention_heads"), (), (), ("emb_dim", "hidden_size"))


@reader
def _modernbert(c: Config, row: Row) -> Decoder:
    """`local_attention` counts both sides of a token, so a decoder sees half of it."""
    heads = read_heads(c, row)
    local = c.integer("local_attention", default=128, minimum=2)
    window = read_window(c, local // 2)  # a config that was written back has both keys
    kinds = layer_types(c, heads.layers, FULL, SLIDING, CHUNKED)
    if kinds is None:
        slides = first_of(3, "global_attn_every_n_layers")(c, heads.layers)
        kinds = [SLIDING if each else FULL for each in slides]
    return decoder(c, heads, kinds, window)


def _bert(row: Row) -> Reader:
    return either(row, plain(row))


ROWS: Final[dict[str, Reader]] = {
    "bert": _bert(_BERT),
    "bert-generation": _bert(Row(24, 16, 1024, names=MHA)),
    "big_bird": _bert(_BERT),
    "camembert": _bert(_BERT),
    "data2vec-text": _bert(_BERT),
    "electra": _bert(Row(12, 4, 256, names=MHA)),
    "ernie": _bert(_BERT),
    "megatron-bert": _bert(Row(24, 16, 1024, names=MHA)),
    "modernbert-decoder": _modernbert(Row(22, 12, 768, names=MHA)),
    "rembert": _bert(Row(32, 18, 1152, names=MHA)),
    "roberta": _bert(_BERT),
    "roberta-prelayernorm": _bert(_BERT),
    "roc_bert": _bert(_BERT),
    "roformer": _bert(_BERT),
    "xlm": _bert(Row(12, 16, 2048, names=_XLM)),
    "xlm-roberta": _bert(_BERT),
    "xlm-roberta-xl": _bert(Row(36, 32, 2560, names=MHA)),
    "xmod": _bert(_BERT),
}
