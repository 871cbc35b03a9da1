"""Models that no row describes, written out whole.

Sources: transformers 5.23 `modeling_mllama.py`, `_hrm_text.py`, `_jetmoe.py`, `_dbrx.py`, `_muse_spark.py`; the code that ships
with DeciLM (Nemotron-NAS), OpenELM, Phi-4-mini-flash and TeleChat checkpoints; mlx-lm 0.32 `afm7.py`.
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.parameters.attention import Attention, attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.decoder import LLAMA_NORMS, Names, Row, decoder, head
from kvplan.architectures.parameters.dense import BIASED
from kvplan.architectures.parameters.mlp import Mlp, feed_forward, mlp
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.states import Mamba, mamba
from kvplan.domain.model import Cross, Memory, Recurrent, Shared, Softmax


def _mllama(s: Sizes, root: str | None) -> Tensors:
    prefix = "model." if root is None else root
    row = Row()
    yield from table(f"{prefix}embed_tokens", s.number("vocab_size") + 8, s.hidden)  # eight rows for special tokens

    def layer(memory: Memory) -> Tensors:
        if isinstance(memory, Softmax):
            yield from attention(s, Attention(), memory)
            yield from mlp(s, Mlp())
            for name in LLAMA_NORMS:
                yield from norm(name, s.hidden)
        elif isinstance(memory, Cross):
            own = Softmax(kv_heads=memory.kv_heads, key_dim=memory.key_dim, value_dim=memory.value_dim)
            yield from attention(s, Attention(prefix="cross_attn", qk_norm="head"), own)
            yield from norm("input_layernorm", s.hidden)
            yield from vector("cross_attn_attn_gate", 1, component="attention")
            yield from mlp(s, Mlp())
            yield from norm("post_attention_layernorm", s.hidden)
            yield from vector("cross_attn_mlp_gate", 1, component="mlp")

    kinds: list[Memory] = [s.attention(i) or s.cross(i) or s.memories[i][0] for i in range(s.layers)]
    yield from over_layers(f"{prefix}layers", kinds, layer)
    yield from norm(f"{prefix}norm", s.hidden)
    if not s.tied():
        yield from head(s, row)


# Nemotron-NAS: `block_configs` gives each layer its attention and its feed-forward layer, or a linear one, or nothing.


def _nas(s: Sizes, root: str | None) -> Tensors:
    prefix = "model." if root is None else root
    blocks = s.c.sections("block_configs", length=s.layers)
    kinds = []
    for index, block in enumerate(blocks):
        parts = block.section("attention"), block.section("ffn")
        modes = tuple("none" if p.flag("no_op") else "linear" if p.flag("replace_with_linear") else "full" for p in parts)
        kinds.append((modes, s.attention(index), _nas_width(s, parts[1].data.get("ffn_mult"))))

    def layer(kind: tuple[tuple[str, ...], Softmax | None, int]) -> Tensors:
        modes, memory, width = kind
        if modes[0] != "none":
            yield from norm("input_layernorm", s.hidden)
        if memory is not None:
            yield from attention(s, BIASED, memory)
        elif modes[0] == "linear":
            yield from linear("self_attn.linear_attn", s.hidden, s.hidden, "o", component="attention", split="column")
        if modes[1] != "none":
            yield from norm("post_attention_layernorm", s.hidden)
        if modes[1] == "full":
            yield from mlp(s, Mlp(bias="mlp_bias"), width)
        elif modes[1] == "linear":
            yield from linear("mlp.linear_mlp", s.hidden, s.hidden, "up", component="mlp", split="column")

    yield from table(f"{prefix}embed_tokens", s.number("vocab_size"), s.hidden)
    yield from over_layers(f"{prefix}layers", kinds, layer)
    yield from norm(f"{prefix}norm", s.hidden)
    if not s.tied():
        yield from head(s, Row())


def _nas_width(s: Sizes, multiple: object) -> int:
    """Two thirds of the multiple of the hidden size, to the next multiple of 256 (`_ffn_mult_to_intermediate_size`)."""
    if isinstance(multiple, int | float) and not isinstance(multiple, bool):
        return -(-int(2 * multiple * s.hidden / 3) // 256) * 256
    return s.number("intermediate_size", default=0)


def _deci(s: Sizes, root: str | None) -> Tensors:
    """DeciLM-7B: a Llama with KV heads of each layer's own."""
    return decoder(s, Row(attention=BIASED, mlp=Mlp(bias="mlp_bias")), root)


# HRM: two stacks that run in turn; norms without parameters.


def _hrm(s: Sizes, root: str | None) -> Tensors:
    prefix = "model." if root is None else root
    memory = s.need(0, Softmax)
    layers = s.number("num_layers_per_stack", "num_hidden_layers")

    def layer(_: int) -> Tensors:
        yield from attention(s, Attention(gate="all", gate_name="gate_proj"), memory)
        yield from mlp(s, Mlp())

    yield from vector(f"{prefix}z_L_init", s.hidden, component="embed")
    yield from table(f"{prefix}embed_tokens", s.number("vocab_size"), s.hidden)
    for stack in ("L_module", "H_module"):
        yield from over_layers(f"{prefix}{stack}.layers", [0] * layers, layer)
    if not s.tied():
        yield from head(s, Row())


# JetMoE: attention's queries and outputs are experts too.


def _jetmoe(s: Sizes, root: str | None) -> Tensors:
    memory = s.need(0, Softmax)
    number, inner = s.number("num_local_experts"), memory.kv_heads * memory.key_dim

    def experts(width: int, up: int) -> Tensors:
        yield from vector("bias", s.hidden, component="experts")
        yield from linear(
            "input_linear", up, s.hidden, "gate_up", component="experts", split="column", experts=number, stacked=True
        )
        yield from linear(
            "output_linear", s.hidden, width, "down", component="experts", split="row", experts=number, stacked=True
        )
        yield from linear("router.layer", number, s.hidden, "router", component="experts", quantised=False)

    def layer(_: int) -> Tensors:
        width = s.number("intermediate_size")
        yield from under("mlp.", experts(width, 2 * width))
        for name in LLAMA_NORMS:
            yield from norm(name, s.hidden)
        yield from under("self_attention.experts.", experts(inner, inner))
        kv = linear("self_attention.kv_proj", 2 * inner, s.hidden, "kv_b", component="attention", split="column")
        yield from under("", kv)

    prefix = "model." if root is None else root
    yield from table(f"{prefix}embed_tokens", s.number("vocab_size"), s.hidden)
    yield from over_layers(f"{prefix}layers", [0] * s.layers, layer)
    yield from norm(f"{prefix}norm", s.hidden)
    if not s.tied():
        yield from head(s, Row())


# DBRX: its sizes are in sections of their own.


def _dbrx(s: Sizes, root: str | None) -> Tensors:
    inner = s.c.section("ffn_config")
    width = inner.integer("ffn_hidden_size", default=3584)
    number = inner.integer("moe_num_experts", default=4)
    memory = s.need(0, Softmax)

    def layer(_: int) -> Tensors:
        yield from norm("norm_attn_norm.norm_1", s.hidden)
        row = Attention(prefix="norm_attn_norm.attn", names=("", "", "", "out_proj"), fused="Wqkv")
        yield from attention(s, row, memory)
        yield from norm("norm_attn_norm.norm_2", s.hidden)
        yield from linear("ffn.router.layer", number, s.hidden, "router", component="experts", quantised=False)
        shape = Mlp(names=("w1", "v1", "w2"))
        yield from under(
            "ffn.experts.mlp.", feed_forward(s.hidden, width, shape, component="experts", experts=number, stacked=True)
        )

    prefix = "transformer." if root is None else root
    yield from table(f"{prefix}wte", s.number("vocab_size"), s.hidden)
    yield from over_layers(f"{prefix}blocks", [0] * s.layers, layer)
    yield from norm(f"{prefix}norm_f", s.hidden)
    if not s.tied():
        yield from head(s, Row())


# Muse Spark: experts that work in a narrower space.


def _muse_spark(s: Sizes, root: str | None) -> Tensors:
    row = Row(
        attention=Attention(gate="all", gate_name="gate_proj"), mlp=None, more=_muse_experts, norms=(),
        names=Names(), order=("mixer", "more"),
    )  # fmt: skip
    return decoder(s, row, root)


def _muse_experts(s: Sizes) -> Tensors:
    number, width = s.number("num_experts", "n_routed_experts", "num_local_experts"), s.number("moe_intermediate_size")
    latent = s.number("moe_latent_size", "pre_expert_size", "expert_hidden_size", "moe_intermediate_size")
    yield from linear("mlp.gate", number, s.hidden, "router", component="experts", quantised=False)
    correction = "mlp.gate.e_score_correction_bias"
    yield from vector(correction, number, role="router", component="experts", dtype="float32", buffer=True)
    yield from linear("mlp.pre_expert_proj", latent, s.hidden, "other", component="experts")
    yield from norm("mlp.pre_expert_norm", latent)
    yield from under("mlp.experts.{expert}.", feed_forward(latent, width, Mlp(), component="experts", experts=number))
    yield from norm("mlp.experts.post_expert_norm", latent)
    yield from linear("mlp.post_expert_proj", s.hidden, latent, "other", component="experts")
    for name in ("input_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"):
        yield from norm(name, s.hidden)
    for name in ("post_attention_residual_gate.gate", "post_feedforward_residual_gate.gate"):
        yield from vector(name, s.hidden, component="norm")


# ERNIE 4.5 VL: experts for text and experts for images, shared ones for both.


def _phi4flash(s: Sizes, root: str | None) -> Tensors:
    middle = s.layers // 2
    kinds = [(s.memories[i], i % 2 == 0 and i >= middle + 2) for i in range(s.layers)]

    def layer(kind: tuple[tuple[Memory, ...], bool]) -> Tensors:
        memories, gated = kind
        yield from linear("mlp.fc1", 2 * s.number("intermediate_size"), s.hidden, "gate_up", component="mlp", split="column")
        yield from linear("mlp.fc2", s.hidden, s.number("intermediate_size"), "down", component="mlp", split="row")
        for name in LLAMA_NORMS:
            yield from norm(name, s.hidden, bias=True)
        inner = s.number("mamba_expand", default=2) * s.hidden
        if gated:
            yield from linear("attn.in_proj", inner, s.hidden, "ssm_in", component="mixer", split="column")
            yield from linear("attn.out_proj", s.hidden, inner, "ssm_out", component="mixer", split="row")
            return
        for memory in memories:
            if isinstance(memory, Recurrent):
                row = Mamba(prefix="attn", conv_bias=s.c.flag("mamba_conv_bias", default=True), bias=s.c.flag("mamba_proj_bias"))
                yield from mamba(s, memory, row._replace(rank=("mamba_dt_rank",)))
            else:
                yield from _differential(s, memory)

    yield from table("model.embed_tokens", s.number("vocab_size"), s.hidden)
    yield from over_layers("model.layers", kinds, layer)
    yield from norm("model.final_layernorm", s.hidden, bias=True)
    if not s.tied(default=True):
        yield from head(s, Row())


def _differential(s: Sizes, memory: Memory) -> Tensors:
    shared = isinstance(memory, Shared)
    own = s.need(memory.source, Softmax) if isinstance(memory, Shared) else memory
    if not isinstance(own, Softmax):
        return
    q, dim = s.heads * own.key_dim, own.key_dim
    wide = q if shared else q + 2 * own.kv_heads * dim
    yield from linear("attn.out_proj", s.hidden, q, "o", component="attention", split="row", bias=True)
    yield from linear("attn.Wqkv", wide, s.hidden, "q" if shared else "qkv", component="attention", split="column", bias=True)
    for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
        yield from vector(f"attn.inner_cross_attn.{name}", dim, component="attention")
    yield from norm("attn.inner_cross_attn.subln", 2 * dim)


# OpenELM: heads and widths by layer.


def _openelm(s: Sizes, root: str | None) -> Tensors:
    query = s.c.integers("num_query_heads", length=s.layers) or []
    multiples = s.c.items("ffn_multipliers", length=s.layers) or [4.0] * s.layers
    step = s.number("ffn_dim_divisor", default=256, minimum=1)
    hidden = s.number("model_dim")
    kinds = [(s.need(i, Softmax), query[i], _divisible(multiples[i] * hidden, step)) for i in range(s.layers)]

    def layer(kind: tuple[Softmax, int, int]) -> Tensors:
        memory, heads, width = kind
        normed = "head" if s.c.flag("normalize_qk_projections", default=True) else None
        row = Attention(prefix="attn", names=("", "", "", "out_proj"), fused="qkv_proj", qk_norm=normed)
        yield from attention(s, row, memory, heads=heads)
        wide = 2 * width if s.c.flag("ffn_with_glu", default=True) else width
        yield from linear("ffn.proj_1", wide, hidden, "gate_up", component="mlp", split="column")
        yield from linear("ffn.proj_2", hidden, width, "down", component="mlp", split="row")
        yield from norm("ffn_norm", hidden)
        yield from norm("attn_norm", hidden)

    yield from table("transformer.token_embeddings", s.number("vocab_size"), hidden)
    yield from over_layers("transformer.layers", kinds, layer)
    yield from norm("transformer.norm", hidden)
    if not s.c.flag("share_input_output_layers", default=True):
        yield from head(s, Row())


def _divisible(value: float, step: int) -> int:
    """`value` to the nearest multiple of `step`, not below nine tenths of it (`make_divisible`)."""
    rounded = max(step, int(value + step / 2) // step * step)
    return rounded + step if rounded < 0.9 * value else rounded


# Step-3: queries through a shared narrow projection.


def _afm7(s: Sizes, root: str | None) -> Tensors:
    """AFM 7: the last layers have queries alone."""
    factor = s.c.data.get("hidden_dim_scale_factor", 3.25)
    width = int(s.number("hidden_dim", "hidden_size") * factor)
    row = Row(
        attention=Attention(fused="qkv_proj", names=("", "", "", "out_proj"), qk_norm="head"), mlp=Mlp(exact=width), tied=True,
        vary=lambda s, row, i: row._replace(attention=Attention(qk_norm="head", names=("q_proj", "", "", "out_proj")))
        if s.shares(i) else row,
    )  # fmt: skip
    return decoder(s, row, root)


def _telechat(s: Sizes, root: str | None) -> Tensors:
    def keys(s: Sizes, memory: Softmax, heads: int) -> Tensors:
        wide = 2 * memory.kv_heads * memory.key_dim
        yield from linear("key_value", wide, s.hidden, "kv_b", component="attention", split="column", units=memory.kv_heads)

    def bias(s: Sizes) -> Tensors:
        yield from vector("mlp.down_proj.bias", s.hidden, role="down", component="mlp")

    row = Row(
        attention=Attention(
            prefix="self_attention", names=("query", "", "", "dense"), order="qo", o_bias=True, more=keys
        ),
        mlp=Mlp(width=("ffn_hidden_size", "intermediate_size")), more=bias,
        names=Names(root="transformer.", embed="word_embeddings", layers="h", final="ln_f"),
    )  # fmt: skip
    return decoder(s, row, root)


ROWS: Final[dict[str, Callable[[Sizes, str | None], Tensors]]] = {
    "afm7": _afm7, "dbrx": _dbrx, "deci": _deci, "hrm_text": _hrm, "jetmoe": _jetmoe, "mllama_text_model": _mllama,
    "muse_spark_text": _muse_spark, "nemotron-nas": _nas, "openelm": _openelm, "phi4flash": _phi4flash, "telechat": _telechat,
}  # fmt: skip


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    return ROWS[s.model_type](s, root)
