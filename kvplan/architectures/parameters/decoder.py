"""A decoder of blocks: embedding, layers of mixer and feed-forward, norm, head, from one row a model type."""

from collections.abc import Callable
from typing import Any, NamedTuple

from kvplan.architectures.parameters.attention import Attention, attention
from kvplan.architectures.parameters.blocks import Tensors, linear, norm, over_layers, table, under
from kvplan.architectures.parameters.mlp import Experts, Mlp, experts, mlp
from kvplan.architectures.parameters.sizes import Sizes
from kvplan.domain.model import Cross, Index, Latent, Memory, Recurrent, Shared, Softmax

Build = Callable[[Sizes], Tensors]
LLAMA_NORMS = ("input_layernorm", "post_attention_layernorm")


class Names(NamedTuple):
    """What the parts outside the layers are called."""

    root: str = "model."
    embed: str = "embed_tokens"
    layers: str = "layers"
    final: str = "norm"
    head: str = "lm_head"


class Row(NamedTuple):
    """One class of decoder: where it differs from Llama.

    `order` is the order in which a layer's parts are constructed: `mixer`, `mlp`, `norms` (all of them) or `norm0`, `norm1` …,
    `more`. `vary` makes another row of it for one layer.
    """

    attention: Attention = Attention()
    mlp: Mlp | None = Mlp()
    experts: Experts | None = None
    norms: tuple[str, ...] = LLAMA_NORMS
    norm_bias: bool | str = False
    norm_scales: bool = True  # False: norms without parameters
    order: tuple[str, ...] = ("mixer", "mlp", "norms", "more")
    names: Names = Names()
    tied: bool = False  # where neither the config nor the class says
    head_bias: bool | str = False
    vocabulary: tuple[str, ...] = ("vocab_size",)
    vocabulary_extra: int | tuple[str, ...] = 0  # rows of the embedding table that the head does not have
    positions: str = ""  # the name of a table of learned positions
    position_rows: tuple[str, ...] = ("max_position_embeddings", "n_positions")
    position_offset: int = 0
    embed_norm: str = ""
    final_first: bool = False  # the final norm is constructed before the layers
    more: Build | None = None  # more tensors of each layer
    after: Build | None = None  # more tensors after the layers
    latent: Callable[[Sizes, Latent, Index | None], Tensors] | None = None
    recurrent: Callable[[Sizes, Recurrent], Tensors] | None = None
    vary: "Callable[[Sizes, Row, int], Row] | None" = None
    heads: Callable[[Sizes, int], int] | None = None  # query heads of a layer
    keeps_shared: bool = False  # checkpoints hold keys and values of layers that read another's

    def with_mlp(self, **changes: Any) -> "Row":
        """The row with another feed-forward layer."""
        return self._replace(mlp=(self.mlp or Mlp())._replace(**changes))

    def with_experts(self, **changes: Any) -> "Row":
        """The row with other experts."""
        return self._replace(experts=(self.experts or Experts())._replace(**changes))


def decoder(s: Sizes, row: Row, root: str | None = None, *, with_head: bool = True, head_root: str = "") -> Tensors:
    """The whole text model, its names under `root` where the wrapper puts it elsewhere."""
    yield from under(row.names.root if root is None else root, body(s, row))
    if with_head and not s.tied(row.tied):
        yield from under(head_root, head(s, row))


def body(s: Sizes, row: Row) -> Tensors:
    """Everything but the head: embedding, layers, final norm."""
    names = row.names
    more = row.vocabulary_extra if isinstance(row.vocabulary_extra, int) else s.maybe(*row.vocabulary_extra) or 0
    yield from table(names.embed, s.number(*row.vocabulary) + more, s.hidden)
    if row.positions:
        rows = s.number(*row.position_rows) + row.position_offset
        yield from table(row.positions, rows, s.hidden, "positions", split="none")
    if row.embed_norm:
        yield from norm(row.embed_norm, s.hidden, bias=s.flag(row.norm_bias))
    final = norm(names.final, s.hidden, bias=s.flag(row.norm_bias)) if row.norm_scales and names.final else iter(())
    if row.final_first:
        yield from final
    kinds = [layer_kind(s, row, index) for index in range(s.layers)]
    yield from over_layers(names.layers, kinds, lambda kind: layer(s, kind))
    if row.after is not None:
        yield from row.after(s)
    if not row.final_first:
        yield from final


def head(s: Sizes, row: Row) -> Tensors:
    """The output head, not quantised unless a checkpoint says so."""
    yield from linear(
        row.names.head, s.number(*row.vocabulary), s.hidden, "head", component="head", split="vocab", bias=s.flag(row.head_bias)
    )


class Kind(NamedTuple):
    """What decides a layer's tensors, so that equal layers are listed once."""

    row: Row
    memories: tuple[Memory, ...]  # without how far they see
    shared: bool  # its keys and values are another layer's
    sparse: bool  # experts instead of a dense feed-forward layer
    heads: int


def layer_kind(s: Sizes, row: Row, index: int) -> Kind:
    """The kind of layer `index`."""
    memories = tuple(_tensors_of(s, memory) for memory in s.memories[index])
    chosen = row.vary(s, row, index) if row.vary is not None else row
    sparse = chosen.experts is not None and not (chosen.experts.dense and chosen.experts.dense(s, index))
    return Kind(chosen, memories, s.shares(index), sparse, row.heads(s, index) if row.heads else s.heads)


def _tensors_of(s: Sizes, memory: Memory) -> Memory:
    """A memory with only what decides tensors."""
    match memory:
        case Softmax():
            return Softmax(kv_heads=memory.kv_heads, key_dim=memory.key_dim, value_dim=memory.value_dim)
        case Shared():
            return _tensors_of(s, s.attention(memory.source) or memory)
        case Latent():
            return Latent(
                rank=memory.rank,
                rope_dim=memory.rope_dim,
                heads=memory.heads,
                nope_dim=memory.nope_dim,
                value_dim=memory.value_dim,
            )
        case Index():
            return Index(dim=memory.dim, heads=memory.heads)
        case Cross():
            return Cross(kv_heads=memory.kv_heads, key_dim=memory.key_dim, value_dim=memory.value_dim)
        case Recurrent():
            return memory


def layer(s: Sizes, kind: Kind) -> Tensors:
    """One layer: its parts in the row's order."""
    row = kind.row
    for part in row.order:
        if part == "mixer":
            yield from mixer(s, kind)
        elif part == "mlp":
            if kind.sparse and row.experts is not None:
                yield from experts(s, row.experts)
            elif row.experts is not None:
                yield from mlp(s, row.experts.mlp)
            elif row.mlp is not None:
                yield from mlp(s, row.mlp)
        elif part == "norms":
            for name in row.norms if row.norm_scales else ():
                yield from norm(name, s.hidden, bias=s.flag(row.norm_bias))
        elif part == "more":
            if row.more is not None:
                yield from row.more(s)
        elif row.norm_scales and int(part.removeprefix("norm")) < len(row.norms):
            yield from norm(row.norms[int(part.removeprefix("norm"))], s.hidden, bias=s.flag(row.norm_bias))


def mixer(s: Sizes, kind: Kind) -> Tensors:
    """What a layer mixes tokens with: recurrent states, softmax or latent attention, in the order of its memories."""
    row = kind.row
    index = next((memory for memory in kind.memories if isinstance(memory, Index)), None)
    for memory in kind.memories:
        if isinstance(memory, Softmax):
            yield from attention(s, row.attention, memory, shared=kind.shared and not row.keeps_shared, heads=kind.heads)
        elif isinstance(memory, Latent) and row.latent is not None:
            yield from row.latent(s, memory, index)
        elif isinstance(memory, Recurrent) and row.recurrent is not None:
            yield from row.recurrent(s, memory)
