"""BERT and its kin as decoders: one KV head for each query head. ModernBERT's decoder slides.

Source: `configuration_*.py` of transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
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


ROWS: Final[dict[str, Reader]] = {
    "bert": plain(_BERT),
    "bert-generation": plain(Row(24, 16, 1024, names=MHA)),
    "big_bird": plain(_BERT),
    "camembert": plain(_BERT),
    "data2vec-text": plain(_BERT),
    "electra": plain(Row(12, 4, 256, names=MHA)),
    "ernie": plain(_BERT),
    "megatron-bert": plain(Row(24, 16, 1024, names=MHA)),
    "modernbert-decoder": _modernbert(Row(22, 12, 768, names=MHA)),
    "rembert": plain(Row(32, 18, 1152, names=MHA)),
    "roberta": plain(_BERT),
    "roberta-prelayernorm": plain(_BERT),
    "roc_bert": plain(_BERT),
    "roformer": plain(_BERT),
    "xlm": plain(Row(12, 16, 2048, names=_XLM)),
    "xlm-roberta": plain(_BERT),
    "xlm-roberta-xl": plain(Row(36, 32, 2560, names=MHA)),
    "xmod": plain(_BERT),
}
