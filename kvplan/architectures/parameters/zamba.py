"""Zamba and Zamba2: Mamba layers, and at some depths one shared block of attention and feed-forward besides.

The shared block reads the layer's input and the embeddings side by side, so its attention is twice as wide. Its weights are
stored once (Zamba2: once for each of `num_mem_blocks`); each depth has a projection of its own and, in Zamba2, low-rank
adapters. Source: transformers 5.23 `modeling_zamba.py`, `modeling_zamba2.py`.
"""

from typing import Final

from kvplan.architectures.parameters.attention import Attention, attention
from kvplan.architectures.parameters.blocks import Tensors, convolution, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.decoder import Names, Row, head
from kvplan.architectures.parameters.mlp import Mlp, feed_forward
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.architectures.parameters.states import Mamba, mamba2
from kvplan.domain.model import Recurrent, Softmax

ROWS: Final[dict[str, Row]] = dict.fromkeys(("zamba", "zamba2"), Row(names=Names(final="final_layernorm")))


def read(s: Sizes, root: str | None = None) -> Tensors:
    """The text model's tensors."""
    row = ROWS[s.model_type]
    prefix = row.names.root if root is None else root
    yield from table(f"{prefix}embed_tokens", s.number("vocab_size"), s.hidden)
    depths = [index for index in range(s.layers) if s.attention(index) is not None]
    blocks = min(s.number("num_mem_blocks", default=1), max(len(depths), 1)) if s.model_type == "zamba2" else 1
    kinds = [(s.recurrent(i), depths.index(i) if i in depths else -1) for i in range(s.layers)]
    owners = depths[:blocks]
    kinds_by_owner = [(state, depth >= 0, depth if depth >= 0 and depths[depth] in owners else -1) for state, depth in kinds]
    yield from over_layers(f"{prefix}layers", kinds_by_owner, lambda kind: _layer(s, depths, blocks, *kind))
    yield from norm(f"{prefix}{row.names.final}", s.hidden)
    if not s.tied():
        yield from head(s, row)


def _layer(s: Sizes, depths: list[int], blocks: int, state: Recurrent | None, hybrid: bool, owner: int) -> Tensors:
    if state is None:
        return
    mixer = [*_mamba(s, state), *norm("input_layernorm", s.hidden)]
    if not hybrid:
        yield from mixer
        return
    if owner >= 0:
        uses = len(range(owner, len(depths), blocks))
        yield from _shared(s, depths[owner], uses)
    yield from linear("linear", s.hidden, s.hidden, "other", component="mixer")
    yield from under("mamba_decoder.", mixer)


def _mamba(s: Sizes, state: Recurrent) -> Tensors:
    if s.model_type == "zamba2":
        yield from mamba2(s, state, Mamba(prefix="mamba", conv_bias="use_conv_bias", bias="add_bias_linear"))
        return
    conv, ssm = state.states
    heads, per_head, size = ssm.shape
    rank = s.c.data.get("mamba_dt_rank", "auto")
    rank = rank if isinstance(rank, int) else -(-s.hidden // 16)
    bias = s.c.flag("mamba_proj_bias")
    parts = [
        *vector("x_proj_weight", heads, rank + 2 * size, per_head, role="ssm_x", component="mixer", split="column"),
        *vector("dt_proj_weight", heads, per_head, rank, role="ssm_dt", component="mixer", split="column"),
        *vector("dt_proj_bias", heads, per_head, role="ssm_dt", component="mixer", split="column"),
        *vector("A_log", heads, per_head, size, role="ssm_a", component="mixer", split="column"),
        *vector("D", heads, per_head, role="ssm_d", component="mixer", split="column"),
        *convolution(
            "conv1d", conv.shape[0], 1, conv.kernel, component="mixer", bias=s.c.flag("mamba_conv_bias", default=True),
            split="column",
        ),
        *linear("in_proj", 2 * conv.shape[0], s.hidden, "ssm_in", component="mixer", split="column", bias=bias),
        *linear("out_proj", s.hidden, conv.shape[0], "ssm_out", component="mixer", split="row", bias=bias),
    ]  # fmt: skip
    yield from under("mamba.", parts)


def _shared(s: Sizes, layer: int, uses: int) -> Tensors:
    """The shared block: attention over twice the hidden size, feed-forward, norms, and each use's adapters."""
    memory = s.need(layer, Softmax)
    zamba2 = s.model_type == "zamba2"
    name = "shared_transformer" if zamba2 else "shared_transf"
    width = s.number("intermediate_size", "ffn_hidden_size", default=4 * s.hidden)
    wide = 2 * s.hidden
    inner = [
        *linear("q_proj", s.heads * memory.key_dim, wide, "q", component="attention", split="column", units=s.heads),
        *linear(
            "k_proj", memory.kv_heads * memory.key_dim, wide, "k", component="attention", split="column", units=memory.kv_heads
        ),
        *linear(
            "v_proj", memory.kv_heads * memory.key_dim, wide, "v", component="attention", split="column", units=memory.kv_heads
        ),
        *linear("o_proj", s.hidden, s.heads * memory.key_dim, "o", component="attention", split="row"),
    ]
    rank = s.maybe("adapter_rank") or 0
    if zamba2 and s.c.flag("use_shared_attention_adapter"):
        for part in "qkv":
            outputs = (s.heads if part == "q" else memory.kv_heads) * memory.key_dim
            inner += _adapters(f"linear_{part}_adapter_list", uses, rank, wide, outputs)
    yield from under(f"{name}.self_attn.", inner)
    shape = Mlp(fused="gate_up_proj", names=("down_proj",)) if zamba2 else Mlp()
    yield from under(f"{name}.feed_forward.", feed_forward(s.hidden, width, shape, bias=zamba2 and s.c.flag("add_bias_linear")))
    if zamba2 and rank:
        yield from under(f"{name}.feed_forward.", _adapters("gate_up_proj_adapter_list", uses, rank, s.hidden, 2 * width))
    yield from norm(f"{name}.input_layernorm", wide)
    yield from norm(f"{name}.pre_ff_layernorm", s.hidden)


def _adapters(name: str, uses: int, rank: int, inputs: int, outputs: int) -> Tensors:
    for use in range(uses):
        yield from linear(f"{name}.{use}.0", rank, inputs, "other", component="mlp")
        yield from linear(f"{name}.{use}.1", outputs, rank, "other", component="mlp")


__all__ = ["ROWS", "Attention", "attention", "read"]
