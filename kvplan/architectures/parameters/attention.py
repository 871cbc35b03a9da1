"""Softmax attention: queries, keys, values and output, apart or fused, with the biases and norms that families add."""

from collections.abc import Callable
from typing import NamedTuple

from kvplan.architectures.parameters.blocks import Tensors, linear, norm, under, vector
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.model import Softmax


class Attention(NamedTuple):
    """How a family writes softmax attention. A switch is a constant or the config key that holds it."""

    prefix: str = "self_attn"
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    qkv_bias: bool | str = False
    k_bias: bool | str | None = None  # where the keys' differs from qkv_bias
    o_bias: bool | str = False
    qk_norm: str | None = None  # "head": over one head; "all": over all heads; "heads": one scale a head and element
    norm_key: str = ""  # the switch that decides whether there are q and k norms
    norm_names: tuple[str, str] = ("q_norm", "k_norm")
    norm_bias: bool | str = False
    v_norm: bool = False
    fused: str = ""  # the name of one matrix for q, k and v
    gate: str = ""  # "q": queries twice as wide; "head": `g_proj`, one gate a head; "all": a gate for each output element
    gate_key: str = ""  # the switch that decides whether there is a gate
    gate_name: str = "g_proj"
    gate_bias: bool | str = False
    sinks: str = ""  # the name of a vector of one sink a query head
    sinks_key: str = ""
    inner_norm: str = ""  # a norm of the output's inputs
    order: str = "qkvo"  # the order of the projections
    more: Callable[[Sizes, Softmax, int], Tensors] | None = None  # more tensors, from the layer's heads
    extra_first: bool = False


def attention(s: Sizes, row: Attention, memory: Softmax, *, shared: bool = False, heads: int = 0) -> Tensors:
    """One layer's attention under its prefix; `shared`: the keys and values are another layer's."""
    yield from under(f"{row.prefix}.", _modules(s, row, memory, shared, heads or s.heads), "attention")


def _modules(s: Sizes, row: Attention, memory: Softmax, shared: bool, heads: int) -> Tensors:
    if row.more is not None and row.extra_first:
        yield from row.more(s, memory, heads)
    if row.sinks and (not row.sinks_key or s.flag(row.sinks_key)):
        yield from vector(row.sinks, heads, role="sinks", component="attention", split="column", units=heads)
    yield from _projections(s, row, memory, shared, heads)
    if row.inner_norm:
        yield from norm(row.inner_norm, heads * (memory.value_dim or memory.key_dim))
    if row.qk_norm and (not row.norm_key or s.flag(row.norm_key)):
        yield from _norms(s, row, memory, heads, shared)
    if row.gate in {"head", "all"} and (not row.gate_key or s.flag(row.gate_key)):
        wide = heads if row.gate == "head" else heads * (memory.value_dim or memory.key_dim)
        bias = s.flag(row.gate_bias)
        yield from linear(
            row.gate_name, wide, s.hidden, "attn_gate", component="attention", split="column", units=heads, bias=bias
        )
    if row.more is not None and not row.extra_first:
        yield from row.more(s, memory, heads)


def _projections(s: Sizes, row: Attention, memory: Softmax, shared: bool, heads: int) -> Tensors:
    q_width, k_width, v_width = heads * memory.key_dim, memory.kv_heads * memory.key_dim, memory.kv_heads * memory.value_dim
    o_width = heads * (memory.value_dim or memory.key_dim)
    q_name, k_name, v_name, o_name = row.names
    hidden, bias, kv = s.hidden, s.flag(row.qkv_bias), memory.kv_heads
    parts = {
        "q": linear(
            q_name, q_width * (2 if row.gate == "q" else 1), hidden, "q", component="attention", split="column", bias=bias,
            units=heads,
        ),
        "o": linear(o_name, hidden, o_width, "o", component="attention", split="row", bias=s.flag(row.o_bias)),
    }  # fmt: skip
    if not shared:
        k_bias = bias if row.k_bias is None else s.flag(row.k_bias)
        parts["k"] = linear(k_name, k_width, hidden, "k", component="attention", split="column", bias=k_bias, units=kv)
        if memory.value_dim:
            parts["v"] = linear(v_name, v_width, hidden, "v", component="attention", split="column", bias=bias, units=kv)
    if row.fused:
        wide = q_width + k_width + v_width
        parts = {
            "f": linear(row.fused, wide, hidden, "qkv", component="attention", split="column", bias=bias, units=kv),
            "o": parts["o"],
        }
    for name in row.order.replace("qkv", "f") if row.fused else row.order:
        yield from parts.get(name, iter(()))


def _norms(s: Sizes, row: Attention, memory: Softmax, heads: int, shared: bool) -> Tensors:
    dim, bias = memory.key_dim, s.flag(row.norm_bias)
    q_name, k_name = row.norm_names
    if row.qk_norm == "heads":
        yield from vector(f"{q_name}.norms", heads, dim, role="norm", component="norm")
        yield from vector(f"{k_name}.norms", memory.kv_heads, dim, role="norm", component="norm")
        return
    yield from norm(q_name, heads * dim if row.qk_norm == "all" else dim, bias=bias)
    if not shared:
        yield from norm(k_name, memory.kv_heads * dim if row.qk_norm == "all" else dim, bias=bias)
