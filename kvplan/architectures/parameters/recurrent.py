"""Recurrent networks: RecurrentGemma, RWKV 4 to 7, xLSTM, and MiniMax's lightning attention.

Sources: transformers 5.23 `modeling_recurrent_gemma.py`, `_rwkv.py`, `_xlstm.py`, `_minimax.py`; RWKV 5 to 7: the code that
ships with the checkpoints (RWKV/rwkv-5-world-3b, rwkv-6-world, RWKV7-Goose: fla `models/rwkv7`).
"""

from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, convolution, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.decoder import Names, Row, decoder, head
from kvplan.architectures.parameters.mlp import Mlp
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.sparse import MIXTRAL
from kvplan.domain.model import Recurrent


def _rg_lru(s: Sizes, memory: Recurrent) -> Tensors:
    """RecurrentGemma: two branches, a short convolution, and a gated recurrence with block-diagonal gates."""
    conv = memory.states[0]
    width, heads = conv.shape[0], s.heads
    block = width // heads
    parts = [
        *linear("linear_y", width, s.hidden, "ssm_in", component="mixer", split="column", bias=True),
        *linear("linear_x", width, s.hidden, "ssm_in", component="mixer", split="column", bias=True),
        *linear("linear_out", s.hidden, width, "ssm_out", component="mixer", split="row", bias=True),
        *convolution("conv_1d", width, 1, conv.kernel, component="mixer", bias=True, split="column"),
        *vector("rg_lru.recurrent_param", width, role="ssm_a", component="mixer", split="column"),
    ]
    for name in ("input_gate", "recurrent_gate"):
        parts += vector(f"rg_lru.{name}_weight", heads, block, block, role="ssm_gate", component="mixer", split="column")
        parts += vector(f"rg_lru.{name}_bias", heads, block, role="ssm_gate", component="mixer", split="column")
    yield from under("temporal_block.", parts, "mixer")


def _half_width(s: Sizes, row: Row, layer: int) -> Row:
    """RecurrentGemma's config counts gate and up together."""
    return row.with_mlp(exact=s.number("intermediate_size") // 2)


def _lightning(s: Sizes, memory: Recurrent) -> Tensors:
    """MiniMax: queries, keys and values in one matrix, a gate of the output, a norm of it."""
    state = memory.states[0]
    wide = state.shape[0] * state.shape[1]
    parts = [
        *norm("norm", wide),
        *linear("qkv_proj", 3 * wide, s.hidden, "qkv", component="mixer", split="column", units=state.shape[0]),
        *linear("out_proj", s.hidden, wide, "ssm_out", component="mixer", split="row"),
        *linear("output_gate", wide, s.hidden, "ssm_gate", component="mixer", split="column"),
    ]
    yield from under("self_attn.", parts, "mixer")


_MINIMAX: Final = Row(experts=MIXTRAL._replace(prefix="block_sparse_moe"), recurrent=_lightning, order=("mixer", "norms", "mlp"))
ROWS: Final[dict[str, Row]] = {
    "recurrent_gemma": Row(
        attention=Attention(prefix="temporal_block", qkv_bias="attention_bias", o_bias=True),
        mlp=Mlp(prefix="mlp_block", bias=True), norms=("temporal_pre_norm", "channel_pre_norm"),
        order=("norm0", "mixer", "norm1", "mlp"), names=Names(final="final_norm"), recurrent=_rg_lru, vary=_half_width, tied=True,
    ),
    "minimax": _MINIMAX,
    "minimax_text_01": _MINIMAX,
    "minimax_m1": _MINIMAX,
    **dict.fromkeys(("rwkv", "rwkv5", "rwkv6", "rwkv7"), Row(names=Names(root="rwkv.", embed="embeddings", head="head"))),
    "xlstm": Row(names=Names(root="backbone.", embed="embeddings", final="out_norm")),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    if s.model_type.startswith("rwkv"):
        return _rwkv(s)
    if s.model_type == "xlstm":
        return _xlstm(s)
    return decoder(s, ROWS[s.model_type], root)


# RWKV.


def _rwkv(s: Sizes) -> Tensors:
    layers = {"rwkv": _rwkv4_layer, "rwkv5": _rwkv5_layer, "rwkv6": _rwkv6_layer, "rwkv7": _rwkv7_layer}
    build = layers[s.model_type]
    yield from table("rwkv.embeddings", s.number("vocab_size"), s.hidden)
    yield from over_layers("rwkv.blocks", [i == 0 for i in range(s.layers)], lambda first: build(s, first))
    yield from norm("rwkv.ln_out", s.hidden, bias=True)
    if not s.tied():
        yield from head(s, ROWS[s.model_type])


def _rwkv_norms(s: Sizes, first: bool) -> Tensors:
    for name in (*(("pre_ln",) if first else ()), "ln1", "ln2"):
        yield from norm(name, s.hidden, bias=True)


def _squares(names: tuple[str, ...], outputs: int, inputs: int) -> Tensors:
    for name in names:
        yield from linear(name, outputs, inputs, "ssm_in", component="mixer", split="column")


def _rwkv_feed_forward(s: Sizes, width: int, mixes: tuple[str, ...], *, receptance: bool = True) -> Tensors:
    for name in mixes:
        yield from vector(f"feed_forward.{name}", s.hidden, component="mlp")
    yield from linear("feed_forward.key", width, s.hidden, "up", component="mlp", split="column")
    if receptance:
        yield from linear("feed_forward.receptance", s.hidden, s.hidden, "gate", component="mlp")
    yield from linear("feed_forward.value", s.hidden, width, "down", component="mlp", split="row")


def _rwkv4_layer(s: Sizes, first: bool) -> Tensors:
    inner = s.maybe("attention_hidden_size") or s.hidden
    yield from _rwkv_norms(s, first)
    for name in ("time_decay", "time_first"):
        yield from vector(f"attention.{name}", inner, component="mixer")
    for name in ("time_mix_key", "time_mix_value", "time_mix_receptance"):
        yield from vector(f"attention.{name}", s.hidden, component="mixer")
    yield from _squares(("attention.key", "attention.value", "attention.receptance"), inner, s.hidden)
    yield from linear("attention.output", s.hidden, inner, "ssm_out", component="mixer", split="row")
    width = s.maybe("intermediate_size") or 4 * s.hidden
    yield from _rwkv_feed_forward(s, width, ("time_mix_key", "time_mix_receptance"))


def _rwkv5_layer(s: Sizes, first: bool) -> Tensors:
    inner = s.maybe("attention_hidden_size") or s.hidden
    yield from _rwkv_norms(s, first)
    for name in ("time_decay", "time_faaaa"):
        yield from vector(f"attention.{name}", inner, component="mixer")
    for name in ("time_mix_key", "time_mix_value", "time_mix_receptance", "time_mix_gate"):
        yield from vector(f"attention.{name}", s.hidden, component="mixer")
    yield from _squares(("attention.key", "attention.value", "attention.receptance", "attention.gate"), inner, s.hidden)
    yield from linear("attention.output", s.hidden, inner, "ssm_out", component="mixer", split="row")
    yield from norm("attention.ln_x", inner, bias=True)
    width = s.maybe("intermediate_size") or int(s.hidden * 7 // 2 // 32 * 32)
    yield from _rwkv_feed_forward(s, width, ("time_mix_key", "time_mix_receptance"))


def _rwkv6_layer(s: Sizes, first: bool) -> Tensors:
    """RWKV 6: the mixes and the decay follow the token through low-rank networks."""
    inner = s.maybe("attention_hidden_size") or s.hidden
    mix, decay = (32, 64) if s.hidden < 4096 else (64, 128)
    yield from _rwkv_norms(s, first)
    names = ("x", "w", "k", "v", "r", "g")
    for name in names:
        yield from vector(f"attention.time_maa_{name}", s.hidden, component="mixer")
    yield from vector("attention.time_maa_w1", s.hidden, 5 * mix, component="mixer")
    yield from vector("attention.time_maa_w2", 5, mix, s.hidden, component="mixer")
    yield from vector("attention.time_decay", inner, component="mixer")
    yield from vector("attention.time_decay_w1", s.hidden, decay, component="mixer")
    yield from vector("attention.time_decay_w2", decay, inner, component="mixer")
    yield from vector("attention.time_faaaa", inner, component="mixer")
    yield from _squares(("attention.receptance", "attention.key", "attention.value", "attention.gate"), inner, s.hidden)
    yield from linear("attention.output", s.hidden, inner, "ssm_out", component="mixer", split="row")
    yield from norm("attention.ln_x", inner, bias=True)
    width = s.maybe("intermediate_size") or int(s.hidden * 7 // 2 // 32 * 32)
    yield from _rwkv_feed_forward(s, width, ("time_maa_k", "time_maa_r"))


def _rwkv7_layer(s: Sizes, first: bool) -> Tensors:
    """RWKV 7: decay, learning rate, value mix and gate are low-rank networks; the first layer has no value mix."""
    inner = s.maybe("attention_hidden_size") or s.hidden
    ranks = [
        ("w", s.number("decay_low_rank_dim", default=_rank(s.hidden, 1.8, 0.5)), True),
        ("a", s.number("a_low_rank_dim", default=_rank(s.hidden, 1.8, 0.5)), True),
        *([] if first else [("v", s.number("v_low_rank_dim", default=_rank(s.hidden, 1.3, 0.5)), True)]),
        ("g", s.number("gate_low_rank_dim", default=_rank(s.hidden, 0.6, 0.8)), False),
    ]
    yield from _rwkv_norms(s, first)
    for name in ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g"):
        yield from vector(f"attention.{name}", s.hidden, component="mixer")
    for name in ("k_k", "k_a", "r_k"):
        yield from vector(f"attention.{name}", inner, component="mixer")
    yield from _squares(("attention.r_proj", "attention.k_proj", "attention.v_proj"), inner, s.hidden)
    yield from linear("attention.o_proj", s.hidden, inner, "ssm_out", component="mixer", split="row")
    for name, rank, biased in ranks:
        yield from linear(f"attention.{name}_lora.lora.0", rank, s.hidden, "ssm_gate", component="mixer")
        yield from linear(f"attention.{name}_lora.lora.2", inner, rank, "ssm_gate", component="mixer", bias=biased)
    yield from norm("attention.g_norm", inner, bias=True)
    width = s.maybe("intermediate_size") or 4 * s.hidden
    yield from _rwkv_feed_forward(s, width, ("x_k",), receptance=False)


def _rank(hidden: int, factor: float, power: float) -> int:
    """RWKV 7's ranks: a power of the hidden size, to a multiple of 32 (fla `RWKV7Attention.__init__`)."""
    width: float = factor * hidden**power
    return max(32, round(width / 32) * 32)


# xLSTM.


def _xlstm(s: Sizes) -> Tensors:
    state = s.need(0, Recurrent)
    heads, keys, values = state.states[0].shape
    bias = s.c.flag("use_bias")
    multiple, factor = s.number("ffn_round_up_to_multiple_of", default=64), s.c.data.get("ffn_proj_factor", 2.667)
    width = -(-int(s.hidden * factor) // multiple) * multiple

    def layer(_: int) -> Tensors:
        yield from norm("norm_mlstm", s.hidden, bias=bias)
        wide = (("q", heads * keys), ("k", heads * keys), ("v", heads * values), ("ogate_preact", heads * values))
        for name, outputs in wide:
            yield from linear(f"mlstm_layer.{name}", outputs, s.hidden, "ssm_in", component="mixer", split="column", bias=bias)
        for name in ("igate_preact", "fgate_preact"):
            yield from linear(f"mlstm_layer.{name}", heads, s.hidden, "ssm_gate", component="mixer", split="column", bias=True)
        yield from norm("mlstm_layer.multihead_norm", heads * values, bias=bias)
        yield from linear("mlstm_layer.out_proj", s.hidden, heads * values, "ssm_out", component="mixer", split="row", bias=bias)
        yield from norm("norm_ffn", s.hidden, bias=bias)
        yield from linear("ffn.proj_up_gate", width, s.hidden, "gate", component="mlp", split="column", bias=bias)
        yield from linear("ffn.proj_up", width, s.hidden, "up", component="mlp", split="column", bias=bias)
        yield from linear("ffn.proj_down", s.hidden, width, "down", component="mlp", split="row", bias=bias)

    row = ROWS["xlstm"]
    yield from table("backbone.embeddings", s.number("vocab_size"), s.hidden)
    yield from over_layers("backbone.blocks", [0] * s.layers, layer)
    if s.c.flag("add_out_norm", default=True):
        yield from norm("backbone.out_norm", s.hidden, bias=bias)
    if not s.tied():
        yield from head(s, row)
