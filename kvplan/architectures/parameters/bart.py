"""Encoders and decoders of BART's kind: biased attention and a plain feed-forward layer, norms with biases, a shared table.

The decoder's layers and heads are the family's; the encoder's sizes are keys of its own. Source: `modeling_*.py` of
transformers 5.23, classes `*Encoder`, `*Decoder`.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from kvplan.architectures.parameters.blocks import Tensors, convolution, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.parameters import Component

HIDDEN: Final = ("d_model", "hidden_size")


class Row(NamedTuple):
    """One class: where it differs from BART."""

    positions: int | None = 2  # rows of a learned or stored table beyond its length; None: no table is kept
    encoder_positions: tuple[str, ...] = ("max_position_embeddings",)
    decoder_positions: tuple[str, ...] = ("max_position_embeddings",)
    embed_norm: bool = True
    final_norm: bool = False
    attention_bias: bool = True
    key_bias: bool = True
    shared: str = "shared"  # the table's name; `decoder.embed_tokens` where the encoder reads no words
    logits_bias: bool = True
    cross: str = "encoder_attn"
    front: str = ""  # what the encoder reads instead of words
    encoder_names: tuple[str, str, str, str] = ("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj")
    sparse: tuple[str, str] | None = None  # the keys that say which layers have experts
    two_tables: bool = False  # a vocabulary each
    extra: str = ""  # another norm of each encoder layer


_WITH_FINAL: Final = Row(embed_norm=False, final_norm=True, logits_bias=False)
ROWS: Final[dict[str, Row]] = {
    "bart": Row(),
    "bigbird_pegasus": Row(
        positions=0, attention_bias=False,
        encoder_names=("self_attn.self.query", "self_attn.self.key", "self_attn.self.value", "self_attn.output"),
    ),
    "blenderbot": Row(positions=0, embed_norm=False, final_norm=True),
    "blenderbot-small": Row(positions=0),
    "m2m_100": _WITH_FINAL._replace(positions=None),
    "marian": Row(positions=0, embed_norm=False),
    "mbart": Row(final_norm=True),
    "mvp": Row(),
    "nllb-moe": _WITH_FINAL._replace(
        positions=None, cross="cross_attention", sparse=("encoder_sparse_step", "decoder_sparse_step")
    ),
    "pegasus": Row(positions=0, embed_norm=False, final_norm=True),
    "pegasus_x": _WITH_FINAL._replace(positions=None, attention_bias=False, extra="global_self_attn_layer_norm"),
    "plbart": Row(),
    "speech_to_text": _WITH_FINAL._replace(positions=None, shared="decoder.embed_tokens", front="speech"),
    "whisper": _WITH_FINAL._replace(
        positions=0, key_bias=False, shared="decoder.embed_tokens", front="whisper",
        encoder_positions=("max_source_positions",), decoder_positions=("max_target_positions",),
    ),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The whole model: shared table, encoder, decoder, and the head where it is not the table."""
    row = ROWS[s.model_type]
    prefix = "model." if root is None else root
    width, vocabulary = s.number(*HIDDEN), s.number("vocab_size")
    if row.shared == "shared":
        yield from table(f"{prefix}shared", vocabulary, width)
    yield from under(f"{prefix}encoder.", encoder(s, row, width), "encoder")
    yield from under(f"{prefix}decoder.", decoder(s, row, width, vocabulary))
    if not s.tied(True):
        yield from linear("lm_head", vocabulary, width, "head", component="head", split="vocab")
    if row.logits_bias:
        yield from vector("final_logits_bias", 1, vocabulary, component="head", buffer=True)


def encoder(s: Sizes, row: Row, width: int) -> Tensors:
    """Everything that reads the prompt."""
    yield from front(s, row, width)
    if row.positions is not None:
        rows = s.number(*row.encoder_positions) + row.positions
        yield from table("embed_positions", rows, width, "positions", split="none", component="encoder")
    if row.extra:
        yield from table("embed_global", s.number("num_global_tokens"), width, "positions", split="none", component="encoder")
    kinds = list(sparse_layers(s, row, 0, s.number("encoder_layers")))
    yield from over_layers("layers", kinds, lambda sparse: _encoder_layer(s, row, width, sparse))
    yield from _norms(row, width)


def _encoder_layer(s: Sizes, row: Row, width: int, sparse: bool) -> Tensors:
    yield from _attention(row, row.encoder_names, width, s.number("encoder_attention_heads"))
    yield from norm("self_attn_layer_norm", width, bias=True)
    if row.extra:
        yield from norm(row.extra, width, bias=True)
    yield from _feed_forward(s, row, width, s.number("encoder_ffn_dim"), sparse)


def _norms(row: Row, width: int) -> Tensors:
    if row.embed_norm:
        yield from norm("layernorm_embedding", width, bias=True)
    if row.final_norm:
        yield from norm("layer_norm", width, bias=True)


def decoder(s: Sizes, row: Row, width: int, vocabulary: int) -> Tensors:
    """The decoder; its word table where the encoder has none."""
    if row.shared != "shared":
        yield from table("embed_tokens", vocabulary, width)
    if row.positions is not None:
        rows = s.number(*row.decoder_positions) + row.positions
        yield from table("embed_positions", rows, width, "positions", split="none")
    kinds = list(sparse_layers(s, row, 1, s.layers))
    yield from over_layers("layers", kinds, lambda sparse: _decoder_layer(s, row, width, sparse))
    yield from _norms(row, width)


def _decoder_layer(s: Sizes, row: Row, width: int, sparse: bool) -> Tensors:
    for name in ("self_attn", row.cross):
        names = tuple(f"{name}.{part}" for part in ("k_proj", "v_proj", "q_proj", "out_proj"))
        yield from _attention(row, names, width, s.heads)
        yield from norm(f"{name}_layer_norm", width, bias=True)
    yield from _feed_forward(s, row, width, s.number("decoder_ffn_dim"), sparse)


def _attention(row: Row, names: tuple[str, ...], width: int, heads: int) -> Tensors:
    for role, name in zip(("k", "v", "q"), names, strict=False):
        bias = row.attention_bias and (row.key_bias or role != "k")
        yield from linear(name, width, width, role, component="attention", split="column", bias=bias, units=heads)  # type: ignore[arg-type]
    yield from linear(names[3], width, width, "o", component="attention", split="row", bias=row.attention_bias)


def _feed_forward(s: Sizes, row: Row, width: int, inner: int, sparse: bool) -> Tensors:
    def pair(component: Component, experts: int = 0) -> Tensors:
        yield from linear("fc1", inner, width, "up", component=component, split="column", bias=True, experts=experts)
        yield from linear("fc2", width, inner, "down", component=component, split="row", bias=True, experts=experts)

    if row.sparse is None:
        yield from pair("mlp")
        yield from norm("final_layer_norm", width, bias=True)
        return
    if sparse:
        number = s.number("num_experts")
        yield from linear("ffn.router.classifier", number, width, "router", component="experts", quantised=False)
        yield from under("ffn.experts.expert_{expert}.", pair("experts", number))
    else:
        yield from under("ffn.", pair("mlp"))
    yield from norm("ff_layer_norm", width, bias=True)


def sparse_layers(s: Sizes, row: Row, part: int, layers: int) -> Iterator[bool]:
    """Which layers have experts: every n-th from the n-th on."""
    step = s.number(row.sparse[part]) if row.sparse else 0
    return ((index + 1) % step == 0 if step else False for index in range(layers))


def front(s: Sizes, row: Row, width: int) -> Tensors:
    """Convolutions over a spectrogram."""
    if row.front == "whisper":
        yield from convolution("conv1", width, s.number("num_mel_bins"), 3, component="encoder", bias=True, role="patch")
        yield from convolution("conv2", width, width, 3, component="encoder", bias=True, role="patch")
    elif row.front == "speech":
        sizes = s.c.items("conv_kernel_sizes") or [5, 5]
        channels = s.number("conv_channels")
        inputs = s.number("input_feat_per_channel") * s.number("input_channels")
        for index, size in enumerate(sizes):
            last = index == len(sizes) - 1
            outputs = 2 * width if last else channels
            yield from convolution(
                f"conv.conv_layers.{index}", outputs, channels // 2 if index else inputs, int(size), component="encoder",
                bias=True,
                role="patch",
            )  # fmt: skip
