"""Families whose layers differ from one another, or have modules that no other family has.

Sources: transformers 5.23 `modeling_ernie4_5_vl_moe.py`; the code that ships with Hunyuan, PLaMo, Phi-3-small, Step-3, Arctic and
Grok-1 checkpoints; mlx-lm 0.32 `iquestloopcoder.py`.
"""

from typing import Final

from kvplan.architectures.parameters.attention import Attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, under, vector
from kvplan.architectures.parameters.decoder import Names, Row, decoder
from kvplan.architectures.parameters.dense import BIASED
from kvplan.architectures.parameters.mlp import Experts, Mlp, feed_forward
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.sparse import DEEPSEEK_MOE, first_layers
from kvplan.domain.model import Softmax

_HUNYUAN_ATTENTION: Final = BIASED._replace(qk_norm="head", norm_names=("query_layernorm", "key_layernorm"))
_HUNYUAN_EXPERTS: Final = Experts(number=("num_experts",), router="gate.wg", shared="shared_mlp")


def _by_layer(s: Sizes, key: str, layer: int, default: int) -> int:
    """A number that Hunyuan gives once, or once a layer."""
    value = s.c.data.get(key)
    if isinstance(value, list):
        return (s.c.integers(key, length=s.layers) or [default] * s.layers)[layer]
    return s.number(key, default=default)


def _hunyuan(s: Sizes, row: Row, layer: int) -> Row:
    """Hunyuan: one expert means a dense model; widths and shared experts may differ by layer."""
    number = _by_layer(s, "num_experts", layer, 1)
    if s.model_type == "hunyuan":
        row = row._replace(attention=row.attention._replace(norm_key="use_qk_norm"))
    if number <= 1:
        return row._replace(experts=None)
    width = _by_layer(s, "moe_intermediate_size", layer, s.number("intermediate_size"))
    shared = _by_layer(s, "num_shared_expert", layer, 1) * s.number("intermediate_size")
    return row.with_experts(exact=(number, width, shared if _mixed(s) else 0))


def _mixed(s: Sizes) -> bool:
    return s.model_type == "hunyuan_v1_moe" or s.c.flag("use_mixed_mlp_moe")


def _ernie_vl(s: Sizes, row: Row, layer: int) -> Row:
    kinds = s.c.texts("mlp_layer_types")
    start = s.c.data.get("moe_layer_start_index", 1)
    start = min(start) if isinstance(start, list) and start else start if isinstance(start, int) else 1
    dense = kinds[layer] == "dense" if kinds and layer < len(kinds) else layer < start
    return row if dense else row._replace(mlp=None, more=_ernie_experts)


def _ernie_experts(s: Sizes) -> Tensors:
    widths = s.c.integers("moe_intermediate_size") or [1536, 512]
    value = s.c.data.get("moe_num_experts", 64)
    numbers = value if isinstance(value, list) else [value, value]
    for name, width, number in zip(("text_moe", "vision_moe"), widths, numbers, strict=False):
        prefix = f"mlp.{name}."
        yield from linear(f"{prefix}gate", number, s.hidden, "router", component="experts", quantised=False)
        yield from vector(
            f"{prefix}gate.moe_statics.e_score_correction_bias", number, role="router", component="experts", dtype="float32"
        )
        experts = feed_forward(s.hidden, width, Mlp(), component="experts", experts=number)
        yield from under(f"{prefix}experts.{{expert}}.", experts)
    shared = (s.maybe("moe_num_shared_experts") or 0) * widths[0]
    if shared:
        yield from under("mlp.shared_experts.", feed_forward(s.hidden, shared, Mlp(), bias=s.c.flag("use_bias")), "mlp")


# Phi-4-mini-flash: Mamba and differential attention in turn; the second half reads the first half's states.


def _step3(s: Sizes, memory: Softmax, heads: int) -> Tensors:
    width = s.number("share_q_dim", default=2048)
    yield from linear("q_proj", width, s.hidden, "q_a", component="attention")
    yield from norm("inter_norm", width)
    yield from linear("wq", heads * memory.key_dim, width, "q_b", component="attention", split="column", units=heads)


def _step3_layer(s: Sizes, layer: int) -> bool:
    given = s.c.data.get("moe_layers_enum")
    if given is None:
        return layer < 4 or layer == s.layers - 1
    numbers = {int(n) for n in (given.split(",") if isinstance(given, str) else given)}
    return layer not in numbers


# Arctic: a dense residual beside the experts.


def _arctic(s: Sizes, row: Row, layer: int) -> Row:
    every = s.number("moe_layer_frequency", default=2, minimum=1)
    sparse = (layer + 1) % every == 0
    if not sparse:
        return row._replace(experts=None, mlp=Mlp(prefix="block_sparse_moe.mlp", names=("w1", "w3", "w2")))
    return row._replace(more=_arctic_residual) if s.c.flag("use_residual", default=True) else row


def _arctic_residual(s: Sizes) -> Tensors:
    yield from norm("residual_layernorm", s.hidden)
    yield from under("residual_mlp.", feed_forward(s.hidden, s.hidden, Mlp(names=("w1", "w3", "w2"))), "mlp")


def _minicpm_experts(s: Sizes, row: Row, layer: int) -> Row:
    """MiniCPM-MoE shares its dense sister's model type."""
    if not s.maybe("num_experts"):
        return row
    return row._replace(experts=Experts(number=("num_experts",), width=("intermediate_size",), names=("w1", "w3", "w2")))


def _loop_gates(s: Sizes) -> Tensors:
    """IQuest loop coder: one gate a head and layer between its two passes."""
    memory = s.need(0, Softmax)
    for layer in range(s.layers):
        yield from vector(f"gate_projections.{layer}.weight", s.heads, memory.key_dim, component="attention")
        yield from vector(f"gate_projections.{layer}.bias", s.heads, component="attention")


ROWS: Final[dict[str, Row]] = {
    "hunyuan": Row(attention=_HUNYUAN_ATTENTION, experts=_HUNYUAN_EXPERTS, vary=_hunyuan),
    "hunyuan_v1_moe": Row(attention=_HUNYUAN_ATTENTION, experts=_HUNYUAN_EXPERTS, vary=_hunyuan),
    **dict.fromkeys(
        ("deepseek_ocr2_text", "unlimited_ocr_text"),
        Row(attention=BIASED, experts=DEEPSEEK_MOE._replace(correction="", dense=first_layers(1))),
    ),
    "ernie4_5_vl_moe_text": Row(
        attention=Attention(qkv_bias="use_bias", o_bias="use_bias"), mlp=Mlp(bias="use_bias"), vary=_ernie_vl
    ),
    "minicpm": Row(attention=BIASED, vary=_minicpm_experts),
    "phi3small": Row(
        attention=Attention(names=("", "", "", "dense"), fused="query_key_value", qkv_bias=True, o_bias=True),
        mlp=Mlp(fused="up_proj", names=("down_proj",), width=("ff_intermediate_size",), bias=True), norm_bias=True,
        names=Names(final="final_layernorm"), tied=True,
    ),
    "jais": Row(
        attention=Attention(prefix="attn", names=("", "", "", "c_proj"), fused="c_attn", qkv_bias=True, o_bias=True),
        mlp=Mlp(names=("c_fc", "c_fc2", "c_proj"), bias=True, width=("n_inner",), times=4), norms=("ln_1", "ln_2"),
        norm_bias=True, names=Names(root="transformer.", embed="wte", layers="h", final="ln_f"), tied=True,
    ),
    "plamo": Row(norms=("norm",), names=Names(layers="layers.layers")),
    "step3_text": Row(
        attention=Attention(order="okv", more=_step3),
        experts=Experts(
            prefix="moe", number=("moe_num_experts",), width=("moe_intermediate_size",), experts="experts.{expert}",
            shared="share_expert", shared_width=("share_expert_dim", "share_expert_dims"), dense=_step3_layer,
        ),
    ),
    "grok-1": Row(
        attention=Attention(prefix="attn"),
        experts=Experts(
            prefix="moe_block", number=("num_experts",), width=("intermediate_size",), names=("linear_v", "linear", "linear_1")
        ),
        norms=("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"), tied=True,
    ),
    "arctic": Row(
        experts=Experts(
            prefix="block_sparse_moe", number=("num_local_experts",), width=("intermediate_size",), names=("w1", "w3", "w2")
        ),
        vary=_arctic,
    ),
    "iquestloopcoder": Row(attention=BIASED, mlp=Mlp(bias="mlp_bias"), after=_loop_gates),
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    return decoder(s, ROWS[s.model_type], root)
