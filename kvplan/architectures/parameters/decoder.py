"""A decoder of equal blocks: embedding, layers of attention and feed-forward, norm, head, from one row a model type."""

from collections.abc import Callable
from typing import NamedTuple

from kvplan.architectures.parameters.attention import Attention, attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under, vector
from kvplan.architectures.parameters.mlp import Experts, Mlp, experts, mlp
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.model import Softmax

LLAMA_NORMS = ("input_layernorm", "post_attention_layernorm")


class Names(NamedTuple):
    """What the parts outside the layers are called."""

    root: str = "model."
    embed: str = "embed_tokens"
    layers: str = "layers"
    final: str = "norm"
    head: str = "lm_head"


class Row(NamedTuple):
    """One class of decoder: where it differs from Llama."""

    attention: Attention = Attention()
    mlp: Mlp = Mlp()
    experts: Experts | None = None
    norms: tuple[str, ...] = LLAMA_NORMS
    norm_bias: bool | str = False
    norm_scales: bool = True  # False: norms without parameters
    norms_first: bool = False  # the norms are constructed before attention and feed-forward
    names: Names = Names()
    tied: bool = False  # where neither the config nor the class says
    head_bias: bool | str = False
    positions: str = ""  # the name of a table of learned positions
    position_rows: tuple[str, ...] = ("max_position_embeddings", "n_positions")
    position_offset: int = 0
    extra: Callable[[Sizes], Tensors] | None = None  # more tensors of each layer
    embed_norm: str = ""
    mixer: Callable[[Sizes, int], Tensors] | None = None  # tensors of a layer's mixer that is not softmax attention


def decoder(s: Sizes, row: Row, root: str | None = None) -> Tensors:
    """The whole text model, its names under `root` where the wrapper puts it elsewhere."""
    names = row.names
    under_root = names.root if root is None else root
    yield from under(under_root, _body(s, row))
    if not s.tied(row.tied):
        yield from head(s, row)


def _body(s: Sizes, row: Row) -> Tensors:
    names = row.names
    yield from table(names.embed, s.number("vocab_size"), s.hidden)
    if row.positions:
        rows = s.number(*row.position_rows) + row.position_offset
        yield from table(row.positions, rows, s.hidden, "positions", split="none")
    if row.embed_norm:
        yield from norm(row.embed_norm, s.hidden, bias=s.flag(row.norm_bias))
    kinds = [layer_kind(s, row, index) for index in range(s.layers)]
    yield from over_layers(names.layers, kinds, lambda kind: layer(s, row, *kind))
    if row.norm_scales:
        yield from norm(names.final, s.hidden, bias=s.flag(row.norm_bias))


def head(s: Sizes, row: Row) -> Tensors:
    """The output head, not quantised unless a checkpoint says so."""
    yield from linear(
        row.names.head, s.number("vocab_size"), s.hidden, "head", component="head", split="vocab", bias=s.flag(row.head_bias)
    )


Kind = tuple[Softmax | None, bool, bool]  # heads, whether keys and values are another layer's, whether experts


def layer_kind(s: Sizes, row: Row, index: int) -> Kind:
    """What decides a layer's tensors, so that equal layers are listed once."""
    memory = s.attention(index)
    if memory is not None:  # how far a layer sees decides no tensor
        memory = Softmax(kv_heads=memory.kv_heads, key_dim=memory.key_dim, value_dim=memory.value_dim)
    sparse = row.experts is not None and not (row.experts.dense and row.experts.dense(s, index))
    return memory, s.shares(index), sparse


def layer(s: Sizes, row: Row, memory: Softmax | None, shared: bool, sparse: bool) -> Tensors:
    """One layer: attention, feed-forward or experts, norms."""
    if row.norms_first:
        yield from _norms(s, row)
    if memory is not None:
        yield from attention(s, row.attention, memory, shared=shared)
    if sparse and row.experts is not None:
        yield from experts(s, row.experts)
    else:
        yield from mlp(s, row.experts.mlp if row.experts is not None else row.mlp)
    if not row.norms_first:
        yield from _norms(s, row)
    if row.extra is not None:
        yield from row.extra(s)


def _norms(s: Sizes, row: Row) -> Tensors:
    if row.norm_scales:
        for name in row.norms:
            yield from norm(name, s.hidden, bias=s.flag(row.norm_bias))


__all__ = ["LLAMA_NORMS", "Names", "Row", "decoder", "head", "layer", "layer_kind", "vector"]
