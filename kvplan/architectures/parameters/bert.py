"""BERT and its kin: biased attention, post-norms, tables of words, positions and types, and what the class puts on top.

Source: `modeling_bert.py`, `modeling_roberta.py` and the other classes of transformers 5.23: `*LMHeadModel` and `*ForCausalLM` of
decoders, `*Model`, `*ForSequenceClassification` and `*ForMaskedLM` of encoders.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from kvplan.architectures.kit.encoder import class_names, writes
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.sizes import Sizes


class Row(NamedTuple):
    """One class: where it differs from BERT."""

    root: str = "bert."
    head: str = "bert"  # or roberta, bias (a bias alone), electra, rembert
    width: tuple[str, ...] = ()  # the tables' width, where it is not the hidden size
    widen: str = ""  # the linear layer that follows such tables
    types: bool = True
    positions: bool = True
    pre_norm: tuple[str, str] = ("", "")  # names of the layers' norms where they come first
    final: str = ""
    embed_norm: bool = True
    pooler: bool = False
    extra: str = ""  # RoCBert's tables, RoFormer's positions


_ROBERTA: Final = Row(root="roberta.", head="roberta")
ROWS: Final[dict[str, Row]] = {
    "bert": Row(),
    "bert-generation": Row(head="bias", types=False),
    "big_bird": Row(pooler=True),
    "camembert": _ROBERTA,
    "data2vec-text": _ROBERTA._replace(root="data2vec_text."),
    "electra": Row(root="electra.", head="electra", width=("embedding_size",), widen="embeddings_project"),
    "ernie": Row(root="ernie."),
    "megatron-bert": Row(pre_norm=("attention.ln", "ln"), final="encoder.ln", embed_norm=False),
    "rembert": Row(root="rembert.", head="rembert", width=("input_embedding_size",), widen="encoder.embedding_hidden_mapping_in"),
    "roberta": _ROBERTA,
    "roberta-prelayernorm": _ROBERTA._replace(
        root="roberta_prelayernorm.", pre_norm=("attention.LayerNorm", "intermediate.LayerNorm"), final="LayerNorm"
    ),
    "roc_bert": Row(root="roc_bert.", extra="roc"),
    "roformer": Row(root="roformer.", positions=False, extra="rotary"),
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA._replace(
        pre_norm=("attention.self_attn_layer_norm", "LayerNorm"), final="encoder.LayerNorm", embed_norm=False
    ),
}


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The whole model."""
    row = ROWS[s.model_type]
    yield from under(row.root if root is None else root, _body(s, row))
    names = [] if writes(s.c) else class_names(s.c)
    if any(name.endswith("Model") for name in names):  # alone: it pools the first token
        yield from linear("pooler.dense", s.hidden, s.hidden, "other", component="head", bias=True)
    elif any(name.endswith("ForSequenceClassification") for name in names):
        yield from _classifier(s, row)
    else:
        yield from _head(s, row)


def _classifier(s: Sizes, row: Row) -> Tensors:
    """A score for each label: a layer before it, which BERT's kind calls a pooler."""
    labels = s.c.data.get("id2label")
    number = len(labels) if isinstance(labels, Mapping) and labels else s.number("num_labels", default=2, minimum=1)
    before, last = ("classifier.dense", "classifier.out_proj") if row.head == "roberta" else ("bert.pooler.dense", "classifier")
    yield from linear(before, s.hidden, s.hidden, "other", component="head", bias=True)
    yield from linear(last, number, s.hidden, "other", component="head", bias=True)


def _body(s: Sizes, row: Row) -> Tensors:
    width = s.number(*row.width) if row.width else s.hidden
    yield from under("embeddings.", _tables(s, row, width))
    if (row.widen and width != s.hidden) or row.head == "rembert":
        yield from linear(row.widen, s.hidden, width, "other", component="embed", bias=True)
    if row.extra == "rotary":
        rows, half = s.number("max_position_embeddings"), s.hidden // s.heads
        yield from table("encoder.embed_positions", rows, half, "positions", split="none")
    yield from over_layers("encoder.layer", [0] * s.layers, lambda _: _layer(s, row))
    if row.final:
        yield from norm(row.final, s.hidden, bias=True)
    if row.pooler:
        yield from linear("pooler", s.hidden, s.hidden, "other", component="head", bias=True)


def _tables(s: Sizes, row: Row, width: int) -> Tensors:
    yield from table("word_embeddings", s.number("vocab_size"), width)
    if row.extra == "roc":
        yield from table("pronunciation_embed", s.number("pronunciation_vocab_size"), s.number("pronunciation_embed_dim"))
        yield from table("shape_embed", s.number("shape_vocab_size"), s.number("shape_embed_dim"))
    if row.positions:
        yield from table("position_embeddings", s.number("max_position_embeddings"), width, "positions", split="none")
    if row.types:
        yield from table("token_type_embeddings", s.number("type_vocab_size"), width, "positions", split="none")
    if row.extra == "roc":
        inputs = width + s.number("pronunciation_embed_dim") + s.number("shape_embed_dim")
        yield from linear("map_inputs_layer", width, inputs, "other", component="embed", bias=True)
    if row.embed_norm:
        yield from norm("LayerNorm", width, bias=True)


def _layer(s: Sizes, row: Row) -> Tensors:
    hidden, inner = s.hidden, s.number("intermediate_size")
    if row.pre_norm[0]:
        yield from norm(row.pre_norm[0], hidden, bias=True)
    yield from linear("attention.self.query", hidden, hidden, "q", component="attention", split="column", bias=True)
    yield from linear("attention.self.key", hidden, hidden, "k", component="attention", split="column", bias=True)
    yield from linear("attention.self.value", hidden, hidden, "v", component="attention", split="column", bias=True)
    yield from linear("attention.output.dense", hidden, hidden, "o", component="attention", split="row", bias=True)
    if not row.pre_norm[0]:
        yield from norm("attention.output.LayerNorm", hidden, bias=True)
    else:
        yield from norm(row.pre_norm[1], hidden, bias=True)
    yield from linear("intermediate.dense", inner, hidden, "up", component="mlp", split="column", bias=True)
    yield from linear("output.dense", hidden, inner, "down", component="mlp", split="row", bias=True)
    if not row.pre_norm[0]:
        yield from norm("output.LayerNorm", hidden, bias=True)


def _head(s: Sizes, row: Row) -> Tensors:
    """What turns the last layer into words: another layer before the table, and a bias for each word."""
    vocabulary = s.number("vocab_size")
    match row.head:
        case "bert":
            yield from vector("cls.predictions.bias", vocabulary, component="head", split="vocab")
            yield from under("cls.predictions.transform.", _transform(s.hidden, s.hidden, "LayerNorm"))
        case "roberta":
            yield from vector("lm_head.bias", vocabulary, component="head", split="vocab")
            yield from under("lm_head.", _transform(s.hidden, s.hidden, "layer_norm"))
        case "electra":
            yield from under("generator_predictions.", _transform(s.number("embedding_size"), s.hidden, "LayerNorm"))
            yield from vector("generator_lm_head.bias", vocabulary, component="head", split="vocab")
        case "rembert":
            width = s.number("output_embedding_size")
            yield from under("cls.predictions.", _transform(width, s.hidden, "LayerNorm"))
            yield from linear("cls.predictions.decoder", vocabulary, width, "head", component="head", split="vocab", bias=True)
            return
        case _:
            yield from vector("lm_head.bias", vocabulary, component="head", split="vocab")
    if not s.tied(True):
        yield from linear("lm_head.decoder", vocabulary, s.hidden, "head", component="head", split="vocab")


def _transform(width: int, hidden: int, name: str) -> Tensors:
    yield from linear("dense", width, hidden, "other", component="head", bias=True)
    yield from norm(name, width, bias=True)
