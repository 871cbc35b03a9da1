"""BERT and its kin: one KV head for each query head, where they are decoders. ModernBERT's decoder slides.

Most checkpoints of these types are encoders (embedders, rerankers, classifiers): `architectures` names a class that generates
nothing and `is_decoder` is not set. They keep no cache.

Source: `configuration_*.py` of transformers 5.23.
"""

from typing import Final

from msgspec.structs import replace

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import GPT, MHA, Names, Row, read_heads
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, decoder, layer_types, read_window
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import first_of

#: Words in the name of a class that generates.
_GENERATES: Final = ("CausalLM", "LMHead", "Generation", "Decoder")
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


@reader
def _either(c: Config, row: Row) -> Decoder:
    """The decoder, or an encoder of as many layers, which reads a text at once and remembers nothing."""
    found, classes = plain(row).read(c), [str(name) for name in c.items("architectures") or ()]
    if not classes or c.flag("is_decoder") or any(word in name for name in classes for word in _GENERATES):
        return found
    return replace(found, layers=[()] * len(found.layers), notes=(*found.notes, "encoder only: keeps no cache"))


@reader
def _encoder(c: Config, row: Row) -> Decoder:
    """An encoder alone."""
    return Decoder(layers=[()] * read_heads(c, row).layers, notes=("encoder only: keeps no cache",))


ROWS: Final[dict[str, Reader]] = {
    "bert": _either(_BERT),
    "bert-generation": _either(Row(24, 16, 1024, names=MHA)),
    "big_bird": _either(_BERT),
    "camembert": _either(_BERT),
    "data2vec-text": _either(_BERT),
    "electra": _either(Row(12, 4, 256, names=MHA)),
    "ernie": _either(_BERT),
    "modernbert": _encoder(Row(22, 12, 768, names=MHA)),
    "new": _encoder(Row(12, 12, 768, names=MHA)),
    "nomic_bert": _encoder(Row(12, 12, 768, names=GPT)),
    "megatron-bert": _either(Row(24, 16, 1024, names=MHA)),
    "modernbert-decoder": _modernbert(Row(22, 12, 768, names=MHA)),
    "rembert": _either(Row(32, 18, 1152, names=MHA)),
    "roberta": _either(_BERT),
    "roberta-prelayernorm": _either(_BERT),
    "roc_bert": _either(_BERT),
    "roformer": _either(_BERT),
    "xlm": _either(Row(12, 16, 2048, names=_XLM)),
    "xlm-roberta": _either(_BERT),
    "xlm-roberta-xl": _either(Row(36, 32, 2560, names=MHA)),
    "xmod": _either(_BERT),
}
