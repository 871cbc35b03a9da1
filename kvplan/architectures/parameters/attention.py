"""Softmax attention: queries, keys, values and output, apart or fused, with the biases and norms that families add."""

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
    gate_name: str = "g_proj"
    sinks: str = ""  # the name of a vector of one sink a query head
    norms_last: bool = True  # q and k norms stand after the projections


def attention(s: Sizes, row: Attention, memory: Softmax, *, shared: bool = False, heads: int = 0) -> Tensors:
    """One layer's attention under its prefix; `shared`: the keys and values are another layer's."""
    yield from under(f"{row.prefix}.", _modules(s, row, memory, shared, heads or s.heads), "attention")


def _modules(s: Sizes, row: Attention, memory: Softmax, shared: bool, heads: int) -> Tensors:
    q_width, k_width, v_width = heads * memory.key_dim, memory.kv_heads * memory.key_dim, memory.kv_heads * memory.value_dim
    o_width = heads * (memory.value_dim or memory.key_dim)
    q_name, k_name, v_name, o_name = row.names
    hidden, bias, kv = s.hidden, s.flag(row.qkv_bias), memory.kv_heads
    if row.sinks:
        yield from vector(row.sinks, heads, role="sinks", component="attention", split="column", units=heads)
    if row.qk_norm and not row.norms_last:
        yield from _norms(s, row, memory, heads, shared)
    if row.fused:
        wide = q_width + k_width + v_width
        yield from linear(row.fused, wide, hidden, "qkv", component="attention", split="column", bias=bias, units=kv)
    else:
        wide = q_width * (2 if row.gate == "q" else 1)
        yield from linear(q_name, wide, hidden, "q", component="attention", split="column", bias=bias, units=heads)
        if not shared:
            k_bias = bias if row.k_bias is None else s.flag(row.k_bias)
            yield from linear(k_name, k_width, hidden, "k", component="attention", split="column", bias=k_bias, units=kv)
            yield from linear(v_name, v_width, hidden, "v", component="attention", split="column", bias=bias, units=kv)
    yield from linear(o_name, hidden, o_width, "o", component="attention", split="row", bias=s.flag(row.o_bias))
    if row.gate in {"head", "all"}:
        wide = heads if row.gate == "head" else o_width
        yield from linear(row.gate_name, wide, hidden, "attn_gate", component="attention", split="column", units=heads)
    if row.qk_norm and row.norms_last:
        yield from _norms(s, row, memory, heads, shared)


def _norms(s: Sizes, row: Attention, memory: Softmax, heads: int, shared: bool) -> Tensors:
    if row.norm_key and not s.flag(row.norm_key):
        return
    dim, bias = memory.key_dim, s.flag(row.norm_bias)
    q_name, k_name = row.norm_names
    yield from norm(q_name, heads * dim if row.qk_norm == "all" else dim, bias=bias)
    if not shared:
        yield from norm(k_name, memory.kv_heads * dim if row.qk_norm == "all" else dim, bias=bias)
