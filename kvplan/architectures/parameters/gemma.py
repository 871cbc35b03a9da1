"""Gemma 3n and Gemma 4: embeddings of each layer, shared keys and values, Gemma 3n's alternating updates, Gemma 4's experts.

Sources: transformers 5.23 `modeling_gemma3n.py`, `modeling_gemma4.py`.
"""

from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, table, under, vector
from kvplan.architectures.parameters.decoder import Row, decoder
from kvplan.architectures.parameters.dense import FOUR_NORMS
from kvplan.architectures.parameters.mlp import Mlp, feed_forward
from kvplan.architectures.parameters.sizes import Sizes

_ATTENTION: Final = Attention(qkv_bias="attention_bias", o_bias="attention_bias", qk_norm="head")


def _width(s: Sizes, row: Row, layer: int) -> Row:
    """Gemma 3n gives one width a layer; Gemma 4 doubles those of layers that share keys and values, where it says so."""
    value = s.c.data.get("intermediate_size")
    if isinstance(value, list):
        widths = s.c.integers("intermediate_size", length=s.layers) or []
        return row.with_mlp(exact=widths[layer])
    if s.c.flag("use_double_wide_mlp") and s.shares(layer):
        return row.with_mlp(exact=2 * s.number("intermediate_size"))
    return row


def _gemma4(s: Sizes, row: Row, layer: int) -> Row:
    """Full layers of models with `attention_k_eq_v` take the keys as values."""
    varied = _width(s, row, layer)
    if s.c.flag("attention_k_eq_v") and s.reaches_through(layer) == "full":
        varied = varied._replace(attention=varied.attention._replace(order="qko"))
    return varied


def _per_layer(s: Sizes) -> Tensors:
    """A layer's gate and projection of its own embedding."""
    width = s.maybe("hidden_size_per_layer_input") or 0
    if width:
        yield from linear("per_layer_input_gate", width, s.hidden, "other", component="mlp")
        yield from linear("per_layer_projection", s.hidden, width, "other", component="mlp")
        yield from norm("post_per_layer_input_norm", s.hidden)


def _per_layer_tables(s: Sizes) -> Tensors:
    """The embeddings of all layers side by side, and what projects the token's embedding to them."""
    width = s.maybe("hidden_size_per_layer_input") or 0
    if width:
        rows = s.number("vocab_size_per_layer_input")
        yield from table("embed_tokens_per_layer", rows, s.layers * width)
        yield from linear("per_layer_model_projection", s.layers * width, s.hidden, "other", component="embed")
        yield from norm("per_layer_projection_norm", width)


def _gemma3n_layer(s: Sizes) -> Tensors:
    inputs = s.number("altup_num_inputs")
    rank = s.number("laurel_rank")
    yield from vector("altup.correct_output_scale", s.hidden, component="mlp")
    yield from vector("altup.correction_coefs.weight", inputs, inputs, component="mlp")
    yield from vector("altup.prediction_coefs.weight", inputs * inputs, inputs, component="mlp")
    yield from vector("altup.modality_router.weight", inputs, s.hidden, component="mlp")
    yield from norm("altup.router_norm", s.hidden)
    yield from linear("laurel.linear_left", rank, s.hidden, "other", component="mlp")
    yield from linear("laurel.linear_right", s.hidden, rank, "other", component="mlp")
    yield from norm("laurel.post_laurel_norm", s.hidden)
    yield from _per_layer(s)


def _gemma3n_ends(s: Sizes) -> Tensors:
    yield from _per_layer_tables(s)
    for name in ("altup_projections", "altup_unembed_projections"):
        for place in range(s.number("altup_num_inputs") - 1):
            yield from linear(f"{name}.{place}", s.hidden, s.hidden, "other", component="embed")


def _gemma4_layer(s: Sizes) -> Tensors:
    """A layer's scale, its embedding's part, and experts beside the dense feed-forward layer."""
    yield from vector("layer_scalar", 1, component="norm", buffer=True)
    yield from _per_layer(s)
    if not s.c.flag("enable_moe_block"):
        return
    number, width = s.number("num_experts"), s.number("moe_intermediate_size", "expert_intermediate_size")
    yield from vector("router.scale", s.hidden, role="router", component="experts")
    yield from vector("router.per_expert_scale", number, role="router", component="experts")
    yield from linear("router.proj", number, s.hidden, "router", component="experts", quantised=False)
    shape = Mlp(fused="gate_up_proj", names=("down_proj",))
    yield from under("experts.", feed_forward(s.hidden, width, shape, component="experts", experts=number, stacked=True))
    for name in ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2"):
        yield from norm(name, s.hidden)


_GEMMA4: Final = Row(attention=_ATTENTION, norms=FOUR_NORMS, more=_gemma4_layer, after=_per_layer_tables, vary=_gemma4, tied=True)
ROWS: Final[dict[str, Row]] = {
    "gemma3n_text": Row(
        attention=_ATTENTION,
        norms=FOUR_NORMS,
        more=_gemma3n_layer,
        after=_gemma3n_ends,
        vary=_width,
        tied=True,
        keeps_shared=True,
    ),
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text", "diffusion_gemma_text"), _GEMMA4),
}


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    return decoder(s, ROWS[s.model_type], root)
