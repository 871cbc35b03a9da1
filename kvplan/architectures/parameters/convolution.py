"""Short convolutions instead of attention or in it: LFM2 and LFM3, Inkling, ZAYA1.

Sources: transformers 5.23 `modeling_lfm2.py`, `_lfm2_moe.py`, `_lfm3.py`, `_inkling.py`, `_inkling2.py`, `_zaya.py`.
"""

from collections.abc import Callable
from functools import cache
from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, convolution, linear, norm, under, vector
from kvplan.architectures.parameters.decoder import Build, Names, Row, decoder
from kvplan.architectures.parameters.mlp import Experts, Mlp, first_dense, typed
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.model import Recurrent, Softmax

_W: Final = Mlp(prefix="feed_forward", names=("w1", "w3", "w2"))
_LFM_NAMES: Final = Names(final="embedding_norm")


def _short_conv(s: Sizes, memory: Recurrent) -> Tensors:
    """LFM: a gated convolution of the hidden size."""
    bias = s.c.flag("conv_bias")
    parts = [
        *convolution("conv", s.hidden, 1, memory.states[0].kernel, component="mixer", bias=bias, split="column"),
        *linear("in_proj", 3 * s.hidden, s.hidden, "ssm_in", component="mixer", split="column", bias=bias),
        *linear("out_proj", s.hidden, s.hidden, "ssm_out", component="mixer", split="row", bias=bias),
    ]
    yield from under("conv.", parts, "mixer")


_LFM2: Final = Row(
    attention=Attention(
        names=("q_proj", "k_proj", "v_proj", "out_proj"), qk_norm="head", norm_names=("q_layernorm", "k_layernorm")
    ),
    mlp=_W, norms=("operator_norm", "ffn_norm"), names=_LFM_NAMES, tied=True,
    recurrent=_short_conv,
)  # fmt: skip


def _lfm2(s: Sizes, row: Row, layer: int) -> Row:
    """LFM2 derives the width of its feed-forward layers from the config's (`block_auto_adjust_ff_dim`)."""
    width = s.number("block_ff_dim", "intermediate_size")
    if s.c.flag("block_auto_adjust_ff_dim"):
        width = int(2 * width / 3)
        factor = s.c.data.get("block_ffn_dim_multiplier", 1.0)  # the class's default; a null leaves the width as it is
        if isinstance(factor, int | float) and not isinstance(factor, bool):
            multiple = s.number("block_multiple_of", minimum=1)
            width = -(-int(factor * width) // multiple) * multiple
    return row.with_mlp(exact=width)


def _inkling(s: Sizes, memory: Softmax, heads: int) -> Tensors:
    """Inkling: convolutions of keys and values, and a bias of the scores by relative position."""
    inner = memory.kv_heads * memory.key_dim
    taps = s.number("sconv_kernel_size", "conv_kernel_size")
    relative = s.number("d_rel")
    yield from linear("r_proj", heads * relative, s.hidden, "other", component="attention", split="column", units=heads)
    yield from convolution("k_sconv.conv1d", inner, 1, taps, component="attention", split="column")
    yield from convolution("v_sconv.conv1d", inner, 1, taps, component="attention", split="column")


def _inkling_layer(s: Sizes, row: Row, layer: int) -> Row:
    """How far the relative bias reaches: the window in sliding layers, `rel_extent` in the others."""
    extent = s.number("sliding_window_size") if s.reaches[layer] == "sliding" else s.number("rel_extent")
    return row._replace(more=_inkling_extra(extent))


@cache
def _inkling_extra(extent: int) -> Build:
    def more(s: Sizes) -> Tensors:
        yield from vector("self_attn.rel_logits_proj.proj", s.number("d_rel"), extent, component="attention")
        taps = s.number("conv_kernel_size", "sconv_kernel_size")
        yield from convolution("attn_sconv.conv1d", s.hidden, 1, taps, component="mixer")
        yield from convolution("mlp_sconv.conv1d", s.hidden, 1, taps, component="mixer")

    return more


def _inkling_heads(s: Sizes, layer: int) -> int:
    sliding = s.reaches[layer] == "sliding"
    return s.number("swa_num_attention_heads") if sliding else s.number("num_attention_heads")


def _inkling_experts(s: Sizes, row: Row, layer: int) -> Row:
    return _inkling_layer(s, row, layer)


def _inkling2(s: Sizes, row: Row, layer: int) -> Row:
    """Inkling 2: full layers mix three inputs and convolve with weights made from the token; the first has no such input."""
    sliding = s.reaches[layer] == "sliding"
    extent = s.number("sliding_window_size") if sliding else s.number("rel_extent")
    norms = ("input_layernorm", "post_attention_layernorm") if sliding else (
        "q_input_layernorm", "k_input_layernorm", "v_input_layernorm", "post_attention_layernorm",
    )  # fmt: skip
    attention = row.attention._replace(more=_inkling2_attention(sliding, extent))
    looped = s.model_type == "inkling2_loop_text" and layer in range(
        s.number("loop_layer_index_start"), s.number("loop_layer_index_end")
    )
    return row._replace(norms=norms, attention=attention, more=_inkling2_extra(sliding, layer == 0, looped))


@cache
def _inkling2_attention(sliding: bool, extent: int) -> Callable[[Sizes, Softmax, int], Tensors]:
    def more(s: Sizes, memory: Softmax, heads: int) -> Tensors:
        inner, taps, relative = (
            memory.kv_heads * memory.key_dim,
            s.number("sconv_kernel_size", "conv_kernel_size"),
            s.number("d_rel"),
        )
        wide = heads * memory.key_dim
        yield from linear("r_proj", heads * relative, s.hidden, "other", component="attention", split="column")
        for name in ("k_sconv", "v_sconv"):
            if sliding:
                yield from convolution(f"{name}.conv1d", inner, 1, taps, component="attention", split="column")
            else:
                yield from vector(f"{name}.static_weight", taps, inner, component="attention")
                yield from linear(f"{name}.weight_proj", memory.kv_heads * taps, s.hidden, "other", component="attention")
        yield from vector("rel_logits_proj.proj", relative, extent, component="attention")
        yield from linear("gate_proj", wide, s.hidden, "attn_gate", component="attention", split="column")
        yield from linear("sink_proj", heads, s.hidden, "sinks", component="attention", split="column")
        yield from vector("q_l2_clip.scale", heads, memory.key_dim, component="attention", split="column")
        yield from vector("rel_l2_clip.scale", heads, relative, component="attention", split="column")

    return more


@cache
def _inkling2_extra(sliding: bool, first: bool, looped: bool) -> Build:
    def more(s: Sizes) -> Tensors:
        if not first:
            yield from vector("attention_input.query", *(() if sliding else (3,)), s.hidden, component="norm")
        yield from vector("mlp_input.query", s.hidden, component="norm")
        taps = s.number("conv_kernel_size", "sconv_kernel_size")
        yield from convolution("post_attention_convolution.conv1d", s.hidden, 1, taps, component="mixer")
        yield from convolution("post_mlp_convolution.conv1d", s.hidden, 1, taps, component="mixer")
        for name in ("q", "k", "v", "mlp") if looped else ():
            yield from under(f"{name}_message_gate.", _message_gate(s))

    return more


def _message_gate(s: Sizes) -> Tensors:
    """Inkling 2's loop: what mixes an input with the message of the pass before, through `loop_gate_rank` channels."""
    rank = s.number("loop_gate_rank")
    yield from linear("down_proj", rank, 2 * s.hidden, "other", component="mixer")
    for name in ("forget_gate_proj", "message_gate_proj"):
        yield from vector(f"{name}.weight", s.hidden, rank, component="mixer", dtype="float32")


_INKLING_MOE: Final = Experts(
    number=("n_routed_experts",), router_extra=("n_shared_experts",), width=("moe_intermediate_size", "intermediate_size"),
    correction="gate.e_score_correction_bias", dense=typed(first_dense("dense_mlp_idx")),
    mlp=Mlp(width=("dense_intermediate_size", "intermediate_size")),
)  # fmt: skip


def _inkling_shared(s: Sizes) -> Tensors:
    """The shared experts, each in the router and with matrices of its own."""
    number, width = s.number("n_shared_experts"), s.number("moe_intermediate_size", "intermediate_size")
    name = "mlp.shared_experts"
    yield from vector(f"{name}.gate_proj", number, width, s.hidden, role="gate", component="mlp", split="column")
    yield from vector(f"{name}.up_proj", number, width, s.hidden, role="up", component="mlp", split="column")
    yield from vector(f"{name}.down_proj", number, s.hidden, width, role="down", component="mlp", split="row")
    yield from vector("mlp.gate.global_scale", 1, role="router", component="experts")


# ZAYA1.


def _zaya(s: Sizes, memory: Softmax, heads: int) -> Tensors:
    """Compressed convolutional attention: values half of this token and half of the last, two convolutions of q and k."""
    q, k = heads * memory.key_dim, memory.kv_heads * memory.key_dim
    first, second = s.number("cca_time0", default=2), s.number("cca_time1", default=2)
    half = memory.kv_heads * memory.value_dim // 2
    yield from linear("qkv_proj.v_proj_current", half, s.hidden, "v", component="attention", split="column")
    yield from linear("qkv_proj.v_proj_delayed", half, s.hidden, "v", component="attention", split="column")
    yield from convolution("qkv_proj.conv_qk_depthwise", q + k, 1, first, component="attention", bias=True)
    groups = heads + memory.kv_heads
    yield from convolution("qkv_proj.conv_qk_grouped", q + k, (q + k) // groups, second, component="attention", bias=True)
    yield from vector("qk_norm.temp", memory.kv_heads, component="attention")


def _zaya_router(s: Sizes, row: Row, layer: int) -> Row:
    return row._replace(more=_zaya_first if layer == 0 else _zaya_later)


def _zaya_first(s: Sizes) -> Tensors:
    """ZAYA1's router is a small network; one more choice than experts means none."""
    width = s.number("router_mlp_size", "zaya_mlp_expansion", "router_hidden_size", default=256)
    choices = s.number("num_experts") + 1
    parts = [
        *linear("down_proj", width, s.hidden, "router", component="experts", bias=True, quantised=False),
        *norm("router_mlp.norm", width),
        *linear("router_mlp.fc1", width, width, "router", component="experts", bias=True, quantised=False),
        *linear("router_mlp.fc2", width, width, "router", component="experts", bias=True, quantised=False),
        *linear("router_mlp.out_proj", choices, width, "router", component="experts", quantised=False),
        *vector("balancing_biases", choices, role="router", component="experts", dtype="float32", buffer=True),
    ]
    yield from under("mlp.gate.", parts)
    for place in ("post_attention_residual_scale", "post_mlp_residual_scale"):
        for name in ("hidden_states_scale", "hidden_states_bias", "residual_scale", "residual_bias"):
            yield from vector(f"{place}.{name}", s.hidden, component="norm")


def _zaya_later(s: Sizes) -> Tensors:
    yield from _zaya_first(s)
    width = s.number("router_mlp_size", "zaya_mlp_expansion", "router_hidden_size", default=256)
    yield from vector("mlp.gate.router_states_scale", width, role="router", component="experts")


def _zaya_ends(s: Sizes) -> Tensors:
    for name in ("input_hidden_states_scale", "input_hidden_states_bias"):
        yield from vector(name, s.hidden, component="norm")


ROWS: Final[dict[str, Row]] = {
    "lfm2": _LFM2._replace(vary=_lfm2),
    "lfm2_moe": _LFM2._replace(
        experts=Experts(
            prefix="feed_forward", number=("num_experts",), names=("w1", "w3", "w2"), correction="expert_bias",
            correction_key="use_expert_bias", order=("experts", "router"), dense=first_dense("num_dense_layers"), mlp=_W,
        ),
    ),
    "lfm3": _LFM2._replace(
        attention=Attention(qk_norm="head", gate="head"),
        norms=("operator_norm", "ffn_norm", "post_operator_norm", "post_ffn_norm"),
    ),
    "inkling_text": Row(
        attention=Attention(qk_norm="head", more=_inkling),
        experts=_INKLING_MOE, vary=_inkling_layer, heads=_inkling_heads, embed_norm="embed_tokens.embed_norm",
    ),
    **dict.fromkeys(("inkling2_text", "inkling2_loop_text"), Row(
        attention=Attention(), experts=Experts(
            number=("num_experts", "n_routed_experts"), width=("moe_intermediate_size", "intermediate_size"),
            correction="gate.e_score_correction_bias", order=("experts", "router"),
        ),
        vary=_inkling2, heads=_inkling_heads, embed_norm="embed_tokens.embed_norm",
    )),
    "zaya": Row(
        attention=Attention(names=("qkv_proj.q_proj", "qkv_proj.k_proj", "", "o_proj"), order="oqk", more=_zaya),
        experts=Experts(number=("num_experts",), order=("experts",)), vary=_zaya_router, after=_zaya_ends, tied=True,
    ),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    row = ROWS[s.model_type]
    if s.model_type == "inkling_text":
        yield from decoder(s, _with_shared(row), root)
        return
    yield from decoder(s, row, root)
    if s.model_type == "inkling2_loop_text":
        passes = s.number("loop_layer_index_end") - s.number("loop_layer_index_start")
        yield from vector("model.message_input.query", passes, 4, s.hidden, component="norm", dtype="float32")
    if s.model_type in {"inkling2_text", "inkling2_loop_text"}:
        yield from vector("model.final_input.query", s.hidden, component="norm")


def _with_shared(row: Row) -> Row:
    """Inkling's router chooses among shared experts too."""

    def vary(s: Sizes, row: Row, layer: int) -> Row:
        inner = _inkling_layer(s, row, layer)
        dense = row.experts is not None and row.experts.dense is not None and row.experts.dense(s, layer)
        if dense:
            return inner
        return inner._replace(more=_with_shared_expert(inner.more))

    return row._replace(vary=vary)


@cache
def _with_shared_expert(others: Build | None) -> Build:
    def more(s: Sizes) -> Tensors:
        yield from _inkling_shared(s)
        if others is not None:
            yield from others(s)

    return more
