"""The layers of a YAML description: memories by type, repetition, and sharing maps; all bounded before it is built."""

from collections.abc import Sequence
from typing import Final, get_args

from msgspec import Struct

from kvplan.domain.model import (
    MAX_LAYERS,
    Chunk,
    Compressed,
    Cross,
    Fact,
    Full,
    Index,
    Latent,
    Layer,
    Memory,
    Reach,
    Recurrent,
    RecurrentKind,
    Shared,
    Softmax,
    State,
    Steps,
    Window,
)
from kvplan.limits import MEMORIES
from kvplan.loading.yaml_spec.fields import Fields
from kvplan.loading.yaml_spec.nodes import ListNode, MapNode, Node

_REACH: Final = ("reach", "sliding_window")
#: Memory type -> its keys. `none` is a layer without a cache.
MEMORY_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "softmax": ("kv_heads", "head_dim", "key_dim", "value_dim", *_REACH),
    "latent": ("rank", "rope_dim", "heads", "nope_dim", "value_dim", *_REACH),
    "index": ("dim", "heads", "dtype", *_REACH),
    "recurrent": ("kind", "states"),
    "cross": ("kv_heads", "head_dim", "key_dim", "value_dim", "tokens", *_REACH),
    "shared": ("source", "back"),
    "none": (),
}
#: Reaches that a size says.
_SIZED: Final[dict[str, type[Window | Chunk | Steps | Compressed]]] = {
    "window": Window,
    "chunk": Chunk,
    "steps": Steps,
    "compressed": Compressed,
}
_STATE_KEYS: Final = ("name", "shape", "dtype", "kernel", "groups", "group_elements", "shard")
_EVERY_KEY: Final = tuple(dict.fromkeys(("type", *(key for keys in MEMORY_KEYS.values() for key in keys))))


class Pending(Struct, frozen=True):
    """A shared layer before its place is known: it reads layer `source`, or the one `back` layers before it."""

    at: Fields
    key: str  # where the number stands
    source: int | None = None
    back: int = 0


#: Layers before they have numbers.
Template = tuple[tuple[Memory | Pending, ...], ...]


def read_layers(parent: Fields, key: str, facts: list[Fact]) -> Template:
    """The list under `key`, repetition written out.

    Raises:
        SpecError: a layer that is not one, or more than MAX_LAYERS.
    """
    found: list[tuple[Memory | Pending, ...]] = []
    held = 0
    for i, node in enumerate(parent.items(key)):
        path = f"{parent.name(key)}[{i}]"
        piece = _item(node, parent.source, path, facts)
        if len(found) + len(piece) > MAX_LAYERS:
            parent.refuse(key, f"makes more than {MAX_LAYERS:,} layers", hint="check the `repeat` counts")
        found.extend(piece)
        held += sum(map(len, piece))
        if held > MEMORIES:  # before they are built
            parent.refuse(key, f"holds more than {MEMORIES:,} memories in all layers", hint="check the `repeat` counts")
    return tuple(found)


def _item(node: Node, source: str, path: str, facts: list[Fact]) -> Template:
    """One entry of a list of layers: a memory, a list of memories, or a repetition."""
    if isinstance(node, MapNode) and "repeat" in node.entries:
        fields = Fields(node, source, path, ("repeat", "of", "layers"), facts)
        times = fields.integer("repeat", maximum=MAX_LAYERS)
        if fields.has("of") == fields.has("layers"):
            fields.refuse_here("needs `of` (one layer) or `layers` (several), and not both", hint="add `of: {type: softmax, …}`")
        several = fields.has("layers")
        inner = read_layers(fields, "layers", facts) if several else _one(fields.need("of"), source, f"{path}.of", facts)
        if len(inner) * times > MAX_LAYERS:
            fields.refuse("repeat", f"makes {len(inner) * times:,} layers, and at most {MAX_LAYERS:,} are allowed")
        return inner * times
    return _one(node, source, path, facts)


def _one(node: Node, source: str, path: str, facts: list[Fact]) -> Template:
    """One layer: a memory, or a list of them."""
    if isinstance(node, ListNode):
        return (tuple(_memory_at(m, source, f"{path}[{i}]", facts) for i, m in enumerate(node.items)),)
    fields = Fields(node, source, path, _EVERY_KEY, facts)
    if fields.has("type") and fields.text("type") == "none":
        Fields(node, source, path, ("type",), facts)
        return ((),)
    return ((read_memory(fields),),)


def _memory_at(node: Node, source: str, path: str, facts: list[Fact]) -> Memory | Pending:
    return read_memory(Fields(node, source, path, _EVERY_KEY, facts), allowed=tuple(t for t in MEMORY_KEYS if t != "none"))


def read_memory(
    fields: Fields, *, default: str = "", also: Sequence[str] = (), allowed: Sequence[str] = tuple(MEMORY_KEYS)
) -> Memory | Pending:
    """One memory; `also` are keys of the surroundings that stand in the same mapping.

    Raises:
        SpecError: no or another type, a key that this type does not have, or a bad value.
    """
    kind = default if default and not fields.has("type") else fields.choice("type", allowed)
    known = ("type", *MEMORY_KEYS[kind], *also)
    for key in fields.entries:
        if key not in known:
            fields.refuse(key, f"is not a key of type `{kind}`", hint=f"known here: {', '.join(known)}")
    if kind == "shared":
        return _pending(fields)
    return fields.built(lambda: _built(fields, kind))


def _built(f: Fields, kind: str) -> Memory:
    match kind:
        case "softmax":
            key_dim, value_dim = _dims(f, minimum=0)
            return Softmax(kv_heads=f.integer("kv_heads"), key_dim=key_dim, value_dim=value_dim, reach=_reach(f))
        case "latent":
            heads = "heads" if f.has("heads") or not f.has("attention_heads") else "attention_heads"
            f.need_all("rank", "rope_dim", heads, "nope_dim", "value_dim")
            return Latent(
                rank=f.integer("rank"),
                rope_dim=f.integer("rope_dim", minimum=0),
                heads=f.integer(heads),
                nope_dim=f.integer("nope_dim", minimum=0),
                value_dim=f.integer("value_dim"),
                reach=_reach(f),
            )
        case "index":
            dtype = f.dtype("dtype") if f.has("dtype") else None
            return Index(dim=f.integer("dim"), heads=f.optional_integer("heads") or 1, dtype=dtype, reach=_reach(f))
        case "cross":
            key_dim, value_dim = _dims(f, minimum=1)
            return Cross(
                kv_heads=f.integer("kv_heads"),
                key_dim=key_dim,
                value_dim=value_dim,
                tokens=f.optional_integer("tokens"),
                reach=_reach(f),
            )
        case _:
            return _recurrent(f)


def _dims(f: Fields, *, minimum: int) -> tuple[int, int]:
    """Key and value sizes: `head_dim` for both, or `key_dim` and (when it differs) `value_dim`."""
    if f.has("head_dim") and f.has("key_dim"):
        f.refuse("key_dim", "is `head_dim` again", hint="keep one of the two")
    f.need("head_dim" if f.has("head_dim") or not f.has("key_dim") else "key_dim", "key_dim")
    key_dim = f.integer("head_dim" if f.has("head_dim") else "key_dim")
    value_dim = f.optional_integer("value_dim", minimum=minimum)
    return key_dim, key_dim if value_dim is None else value_dim


def _reach(f: Fields) -> Reach:
    """`sliding_window: N`, or `reach: full | {window: N} | {chunk: N} | {steps: N} | {compressed: N, overlap: true}`."""
    if f.has("sliding_window"):
        if f.has("reach"):
            f.refuse("reach", "and `sliding_window` say the same thing", hint="keep one of the two")
        return Window(f.tokens("sliding_window"))
    if not f.has("reach"):
        return Full()
    node = f.need("reach")
    if not isinstance(node, MapNode):
        f.choice("reach", ("full",))
        return Full()
    inner = Fields(node, f.source, f.name("reach"), (*_SIZED, "overlap"))
    kinds = [key for key in _SIZED if inner.has(key)]
    if len(kinds) != 1 or (inner.has("overlap") and kinds != ["compressed"]):
        inner.refuse_here("needs one of `window`, `chunk`, `steps`, `compressed` (which may have `overlap`)")
    size = inner.tokens(kinds[0])
    f.note("reach", f"{kinds[0]} {size}")
    if kinds[0] == "compressed":
        return Compressed(size, overlap=inner.flag("overlap"))
    return _SIZED[kinds[0]](size)


def _recurrent(f: Fields) -> Recurrent:
    states = []
    for i, node in enumerate(f.items("states")):
        s = Fields(node, f.source, f"{f.name('states')}[{i}]", _STATE_KEYS)
        states.append(s.built(lambda s=s: _state(s)))  # type: ignore[misc]
    words: tuple[RecurrentKind, ...] = get_args(RecurrentKind)
    kind = f.choice("kind", words) if f.has("kind") else "state"
    return Recurrent(states=tuple(states), kind=next(word for word in words if word == kind))


def _state(s: Fields) -> State:
    return State(
        name=s.text("name", limit=200),
        shape=s.integers("shape"),
        dtype=s.dtype("dtype") if s.has("dtype") else None,
        kernel=s.optional_integer("kernel", minimum=0) or 0,
        groups=s.optional_integer("groups", minimum=0) or 0,
        group_elements=s.optional_integer("group_elements", minimum=0) or 0,
        shard=s.flag("shard") if s.has("shard") else True,
    )


def _pending(f: Fields) -> Pending:
    if f.has("source") == f.has("back"):
        f.refuse_here("needs `source` (a layer's number) or `back` (how many layers before), and not both")
    if f.has("back"):
        return Pending(f, "back", back=f.integer("back", maximum=MAX_LAYERS))
    return Pending(f, "source", source=f.integer("source", minimum=0, maximum=MAX_LAYERS))


def finished(template: Template, *, of: tuple[Layer, ...] | None = None) -> tuple[Layer, ...]:
    """Layers with their numbers and sharing resolved; drafts share layers `of` the model itself.

    Raises:
        SpecError: a layer shares one that is not earlier, or that owns no keys and values.
    """
    layers: list[Layer] = []
    owners = {layer.index for layer in of or () if owns(layer.memories)}
    for index, memories in enumerate(template):
        done = tuple(_resolved(m, index, owners, drafts=of is not None) if isinstance(m, Pending) else m for m in memories)
        layers.append(Layer(index=index, memories=done))
        if of is None and owns(done):
            owners.add(index)
    return tuple(layers)


def owns(memories: Sequence[Memory]) -> bool:
    """Whether a layer has keys and values that another may share."""
    return any(isinstance(memory, Softmax | Latent | Cross) for memory in memories)


def _resolved(pending: Pending, index: int, owners: set[int], *, drafts: bool) -> Shared:
    source = index - pending.back if pending.source is None else pending.source
    if source < 0:
        pending.at.refuse(pending.key, f"{pending.back} points before the first layer, from layer {index}")
    if source >= index and not drafts:
        pending.at.refuse(pending.key, f"layer {index} shares layer {source}, which is not earlier")
    if source not in owners:
        pending.at.refuse(pending.key, f"layer {index} shares layer {source}, which owns no keys and values")
    return Shared(source=source)


def shared_layers(top: Fields, memory: Memory | Pending, count: int) -> Template:
    """`count` equal layers, shared as `cross_layer_sharing` says.

    A number is a factor (each group of that many layers keeps one set); a list names the layer that each layer
    reads, its own number meaning that it owns; `{groups: [1, 2, 2]}` gives the sizes of consecutive groups.
    """
    key = "cross_layer_sharing"
    if not top.has(key):
        return ((memory,),) * count
    node = top.entries[key]
    if isinstance(node, ListNode):
        sources = [top.checked(n, f"{key}[{i}]", 0, MAX_LAYERS) for i, n in enumerate(node.items)]
        if len(sources) != count:
            top.refuse(key, f"has {len(sources)} entries for {count} layers")
        _check_map(top, node, sources)
    elif isinstance(node, MapNode):
        groups = Fields(node, top.source, key, ("groups",)).integers("groups", maximum=MAX_LAYERS)
        if sum(groups) != count:
            top.refuse(key, f"has groups of {sum(groups):,} layers together, and there are {count}")
        sources = [sum(groups[:i]) for i, size in enumerate(groups) for _ in range(size)]
    else:
        factor = top.integer(key, maximum=MAX_LAYERS)
        sources = [i - i % factor for i in range(count)]
    top.note(key, f"{len(set(sources))} of {count} layers own keys and values")
    return tuple((memory,) if source == i else (Pending(top, key, source=source),) for i, source in enumerate(sources))


def _check_map(top: Fields, node: ListNode, sources: list[int]) -> None:
    """Each entry must name an owner that is not later; the error has the entry's own line."""
    for i, source in enumerate(sources):
        if source > i or sources[source] != source:
            problem = "is a later layer" if source > i else f"owns none: it reads layer {sources[source]}"
            words = f"says that layer {i} reads layer {source}, which {problem}"
            Fields(MapNode(node.items[i].line, {}, {}), top.source, f"cross_layer_sharing[{i}]", ()).refuse_here(
                words, hint="a layer reads itself (it owns) or an earlier owner"
            )
