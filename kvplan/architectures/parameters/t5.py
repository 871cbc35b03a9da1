"""T5 and its kin: attention without biases or scaling, relative position tables, RMS norms before each part.

Source: `modeling_t5.py`, `modeling_umt5.py`, `modeling_longt5.py`, `modeling_switch_transformers.py` of transformers 5.23.
"""

from typing import Final, NamedTuple

from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.parameters import Component


class Row(NamedTuple):
    """One class: where it differs from T5."""

    every_layer: bool = False  # a table of relative positions in each layer, not the first alone
    mlp: str = "DenseReluDense"
    experts: bool = False
    tied: bool = True  # where neither the config nor the class says
    names: dict[str, str] = {"local": "LocalSelfAttention", "transient-global": "TransientGlobalSelfAttention"}  # noqa: RUF012


ROWS: Final[dict[str, Row]] = {
    "longt5": Row(),
    "mt5": Row(),
    "pop2piano": Row(tied=False),
    "switch_transformers": Row(mlp="mlp", experts=True),
    "t5": Row(),
    "umt5": Row(every_layer=True),
}


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The whole model: shared table, encoder, decoder, and the head where it is not the table."""
    row = ROWS[s.model_type]
    vocabulary = s.number("vocab_size")
    yield from table(f"{root or ''}shared", vocabulary, s.hidden)
    yield from under(f"{root or ''}encoder.", stack(s, row, decoder=False), "encoder")
    yield from under(f"{root or ''}decoder.", stack(s, row, decoder=True))
    if s.model_type == "pop2piano":
        yield from table("mel_conditioner.embedding", s.number("composer_vocab_size"), s.hidden, split="none")
    if not s.tied(row.tied):
        yield from linear("lm_head", vocabulary, s.hidden, "head", component="head", split="vocab")


def stack(s: Sizes, row: Row, *, decoder: bool) -> Tensors:
    """An encoder or a decoder."""
    layers = s.layers if decoder else s.number("num_layers")
    kinds = [(row.every_layer or index == 0, _sparse(s, row, index, layers, decoder=decoder)) for index in range(layers)]
    yield from over_layers("block", kinds, lambda kind: _layer(s, row, *kind, decoder=decoder))
    yield from norm("final_layer_norm", s.hidden)


def _sparse(s: Sizes, row: Row, index: int, layers: int, *, decoder: bool) -> bool:
    """Switch Transformers: `num_sparse_*_layers` of the layers have experts, evenly spread, the second of each step first."""
    sparse = s.number("num_sparse_decoder_layers" if decoder else "num_sparse_encoder_layers", default=0) if row.experts else 0
    step = layers // sparse if sparse else 0
    return bool(step) and (index % step == 1 or step == 1)


def _layer(s: Sizes, row: Row, positions: bool, sparse: bool, *, decoder: bool) -> Tensors:
    local = s.c.text("encoder_attention_type", default="local") if s.model_type == "longt5" and not decoder else ""
    name = row.names.get(local, "SelfAttention")
    yield from under(f"layer.0.{name}.", _attention(s, positions, local))
    yield from norm("layer.0.layer_norm", s.hidden)
    if decoder:
        yield from under("layer.1.EncDecAttention.", _attention(s, False, ""))
        yield from norm("layer.1.layer_norm", s.hidden)
    place = 2 if decoder else 1
    yield from under(f"layer.{place}.{row.mlp}.", _feed_forward(s, sparse))
    yield from norm(f"layer.{place}.layer_norm", s.hidden)


def _attention(s: Sizes, positions: bool, local: str) -> Tensors:
    heads = s.heads
    wide = heads * s.number("d_kv")
    yield from linear("q", wide, s.hidden, "q", component="attention", split="column", units=heads)
    yield from linear("k", wide, s.hidden, "k", component="attention", split="column", units=heads)
    yield from linear("v", wide, s.hidden, "v", component="attention", split="column", units=heads)
    yield from linear("o", s.hidden, wide, "o", component="attention", split="row")
    if positions:
        buckets = s.number("relative_attention_num_buckets")
        yield from table("relative_attention_bias", buckets, heads, "positions", split="none", component="attention")
    if local == "transient-global":
        if positions:
            yield from table("global_relative_attention_bias", buckets, heads, "positions", split="none", component="attention")
        yield from norm("global_input_layer_norm", s.hidden)


def _feed_forward(s: Sizes, sparse: bool) -> Tensors:
    gated = s.c.text("feed_forward_proj", default="relu").startswith("gated-")
    if not sparse:
        yield from _pair(s, gated, "mlp")
        return
    number = s.number("num_experts")
    yield from linear(
        "router.classifier", number, s.hidden, "router", component="experts", quantised=False, bias=s.c.flag("router_bias")
    )
    yield from under("experts.expert_{expert}.", _pair(s, gated, "experts", number))


def _pair(s: Sizes, gated: bool, component: Component, experts: int = 0) -> Tensors:
    inner = s.number("d_ff")
    if gated:
        yield from linear("wi_0", inner, s.hidden, "gate", component=component, split="column", experts=experts)
        yield from linear("wi_1", inner, s.hidden, "up", component=component, split="column", experts=experts)
    else:
        yield from linear("wi", inner, s.hidden, "up", component=component, split="column", experts=experts)
    yield from linear("wo", s.hidden, inner, "down", component=component, split="row", experts=experts)
