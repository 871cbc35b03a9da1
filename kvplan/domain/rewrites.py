"""How each what-if rewrite changes a model's layers; `kvplan.domain.variants` says what they are called.

Cross-layer attention follows arXiv 2405.12981 section 2.2. Only layers that remember the *same* (equal heads, sizes
and reach) can share, because a full-attention layer cannot read what a sliding one has dropped. So the layers that own keys and
values are numbered within each set of equal layers, and number j shares with number j - j % N; in a model whose layers
are all alike this is layer i with layer i - i % N. A last group may be short. Layers that shared before follow their
source to its new one. An indexer's keys stay with their own layer: only keys and values are shared.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.model import (
    MAX_LAYERS,
    Chunk,
    Compressed,
    Cross,
    Full,
    Index,
    Latent,
    Layer,
    Loop,
    Memory,
    Model,
    Reach,
    Recurrent,
    Shared,
    Softmax,
    State,
    Window,
)
from kvplan.domain.words import NO_ENGINE
from kvplan.errors import OptionError

_DESIGN_NOTE: Final = (
    f"sharing between layers was asked for (cla={{n}}): {NO_ENGINE}, so an engine's figure is what it would need if it did"
)
#: What recurrent states are kept in by the libraries that have them (transformers' gated DeltaNet, Mamba, Lightning).
_STATE_DTYPE: Final = "float32"


class Layers(Struct, frozen=True):
    """Which attention layers a rewrite is for: all; the first `chosen` of each `period`; or one `kind`, `sliding` or `full`."""

    chosen: int = 0
    period: int = 0
    kind: str = ""

    def __str__(self) -> str:
        """As people type it."""
        return f":{self.chosen}/{self.period}" if self.period else f":{self.kind}" if self.kind else ""


class Rewrite(Struct, frozen=True):
    """One step of a variant: its name, its number (0: none), for `mla` the rotary key's width, for `state` a shape."""

    name: str
    number: int = 0
    rope_dim: int = 0
    shape: tuple[int, ...] = ()
    layers: Layers = Layers()

    def __str__(self) -> str:
        """As people type it."""
        rope = f"+{self.rope_dim}" if self.name == "mla" else ""
        number = "x".join(map(str, self.shape)) or (f"{self.number}{rope}" if self.number else "")
        return f"{self.name}{f'={number}' if number else ''}{self.layers}"


def apply(model: Model, step: Rewrite, shown: str) -> Model:
    """One rewrite; `shown` is the whole variant, for messages.

    Raises:
        OptionError: the model does not say what the rewrite needs, or has no layer for it.
    """
    match step.name:
        case "mha" | "gqa" | "mqa":
            return _each(model, _heads(model, step, shown))
        case "mla":
            return _each(model, _latent(model, step, shown))
        case "state":
            return _states(model, step, shown)
        case "window":
            return _windows(model, step, shown)
        case "full":
            return _each(model, lambda memory: _with_reach(memory, lambda reach: _everything(reach, shown)))
        case "index":
            return _indexed(model, step.number)
        case "cla":
            return share_layers(model, step.number)
        case _:
            return _looped(model, step.number, shown)


def _owns(layer: Layer) -> bool:
    return any(isinstance(memory, Softmax | Latent) for memory in layer.memories)


def _chosen(model: Model, layers: Layers) -> frozenset[int]:
    """The attention layers that a rewrite is for, counted among those that own keys and values."""
    own = [layer for layer in model.layers if _owns(layer)]
    if layers.period:
        return frozenset(layer.index for place, layer in enumerate(own) if place % layers.period < layers.chosen)
    if layers.kind:
        slides = {
            layer.index for layer in own if any(isinstance(getattr(m, "reach", None), Window | Chunk) for m in layer.memories)
        }
        return frozenset(slides if layers.kind == "sliding" else {layer.index for layer in own} - slides)
    return frozenset(layer.index for layer in own)


def _windows(model: Model, step: Rewrite, shown: str) -> Model:
    """A window for all layers, as far as they look further; or exactly that window for some of them.

    With a ratio the pattern is the whole model's: what does not slide sees every token.
    """
    if step.layers == Layers():
        return _each(model, lambda memory: _with_reach(memory, lambda reach: _at_most(reach, step.number)))
    chosen = _chosen(model, step.layers)
    if not chosen:
        raise OptionError(f"variant `{shown}`: {model.name} has no such layer (`{step}`)", hint=f"use window={step.number}")

    def rewritten(layer: Layer) -> Layer:
        if layer.index in chosen:
            changed = tuple(_with_reach(memory, lambda reach: _exactly(reach, step.number)) for memory in layer.memories)
        elif step.layers.period and _owns(layer):
            changed = tuple(_with_reach(memory, lambda reach: _everything(reach, shown)) for memory in layer.memories)
        else:
            return layer
        return replace(layer, memories=changed)

    return replace(model, layers=tuple(map(rewritten, model.layers)))


def _exactly(reach: Reach, window: int) -> Reach:
    return reach if isinstance(reach, Compressed) else Window(window)


def _states(model: Model, step: Rewrite, shown: str) -> Model:
    """Some attention layers keep one state of a sequence in place of keys and values."""
    chosen = _chosen(model, step.layers)
    shared = {memory.source for layer in model.layers for memory in layer.memories if isinstance(memory, Shared)}
    if chosen & shared:
        raise OptionError(
            f"variant `{shown}`: layer {min(chosen & shared)} of {model.name} is read by another, which could not read a state",
            hint="choose other layers, as in state:1/2",
        )

    def rewritten(layer: Layer) -> Layer:
        if layer.index not in chosen:
            return layer
        rest = tuple(memory for memory in layer.memories if not isinstance(memory, Softmax | Latent | Index))
        state = State(name="state", shape=step.shape or _state_shape(model, layer, shown), dtype=_STATE_DTYPE)
        return replace(layer, memories=(*rest, Recurrent(states=(state,), kind="linear")))

    return replace(model, layers=tuple(map(rewritten, model.layers)))


def _state_shape(model: Model, layer: Layer, shown: str) -> tuple[int, ...]:
    """Query heads x key x value elements, as a linear attention with the layer's heads keeps."""
    heads = _query_heads(model, shown)
    memory = next(memory for memory in layer.memories if isinstance(memory, Softmax | Latent))
    if isinstance(memory, Latent):
        return heads, memory.nope_dim + memory.rope_dim or memory.value_dim, memory.value_dim
    return heads, memory.key_dim, memory.value_dim or memory.key_dim


def _indexed(model: Model, dim: int) -> Model:
    """An indexer beside each layer's keys and values, reaching as far as they do; another width for one that is there."""

    def rewritten(layer: Layer) -> Layer:
        own = next((memory for memory in layer.memories if isinstance(memory, Softmax | Latent)), None)
        if own is None:
            return layer
        if any(isinstance(memory, Index) for memory in layer.memories):
            return replace(layer, memories=tuple(replace(m, dim=dim) if isinstance(m, Index) else m for m in layer.memories))
        return replace(layer, memories=(*layer.memories, Index(dim=dim, reach=own.reach)))

    return replace(model, layers=tuple(map(rewritten, model.layers)))


def _looped(model: Model, passes: int, shown: str) -> Model:
    """All layers run `passes` times a token; the later passes' caches stand after the first's, as in `Model.loop`."""
    if model.loop is not None:
        raise OptionError(f"variant `{shown}`: the layers of {model.name} run several times already", hint="leave out loop=N")
    count = len(model.layers)
    if count * passes > MAX_LAYERS:
        raise OptionError(
            f"variant `{shown}`: {count:,} layers {passes:,} times are more than {MAX_LAYERS:,}", hint="use a smaller loop=N"
        )
    if passes == 1:
        return model

    def moved(layer: Layer, by: int) -> Layer:
        memories = tuple(Shared(source=m.source + by) if isinstance(m, Shared) else m for m in layer.memories)
        return Layer(index=layer.index + by, memories=memories)

    layers = tuple(moved(layer, number * count) for number in range(passes) for layer in model.layers)
    return replace(model, layers=layers, loop=Loop(first=0, stop=count, passes=passes))


def _each(model: Model, rewrite: Callable[[Memory], Memory]) -> Model:
    def layers(old: tuple[Layer, ...]) -> tuple[Layer, ...]:
        return tuple(replace(layer, memories=tuple(rewrite(memory) for memory in layer.memories)) for layer in old)

    return replace(model, layers=layers(model.layers), drafts=layers(model.drafts))


def _query_heads(model: Model, shown: str) -> int:
    if model.attention_heads is None:
        raise OptionError(
            f"variant `{shown}`: {model.name} does not say how many query heads it has (or they differ by layer)",
            hint="use cla=N, window=W, mqa or full, which do not need them",
        )
    return model.attention_heads


def _heads(model: Model, step: Rewrite, shown: str) -> Callable[[Memory], Memory]:
    kv_heads = 1
    if step.name != "mqa":
        heads = _query_heads(model, shown)
        kv_heads = heads if step.name == "mha" else step.number
        if heads % kv_heads:
            divisors = ", ".join(str(k) for k in range(1, heads + 1) if heads % k == 0)
            raise OptionError(
                f"variant `{shown}`: {kv_heads} KV heads do not divide the {heads} query heads of {model.name}",
                hint=f"use one of {divisors}",
            )

    def rewrite(memory: Memory) -> Memory:
        match memory:
            case Softmax() | Cross():
                return replace(memory, kv_heads=kv_heads)
            case Latent():
                key_dim = memory.nope_dim + memory.rope_dim or memory.value_dim  # a latent that gives no key sizes
                return Softmax(kv_heads=kv_heads, key_dim=key_dim, value_dim=memory.value_dim, reach=memory.reach)
            case _:
                return memory

    return rewrite


def _latent(model: Model, step: Rewrite, shown: str) -> Callable[[Memory], Memory]:
    heads = _query_heads(model, shown)

    def rewrite(memory: Memory) -> Memory:
        match memory:
            case Softmax():
                return Latent(
                    rank=step.number,
                    rope_dim=step.rope_dim,
                    heads=heads,
                    nope_dim=memory.key_dim,
                    value_dim=memory.value_dim or memory.key_dim,
                    reach=memory.reach,
                )
            case Latent():
                return replace(memory, rank=step.number, rope_dim=step.rope_dim)
            case _:
                return memory

    return rewrite


def _with_reach(memory: Memory, change: Callable[[Reach], Reach]) -> Memory:
    if isinstance(memory, Softmax | Latent | Index):
        return replace(memory, reach=change(memory.reach))
    return memory


def _at_most(reach: Reach, window: int) -> Reach:
    """Nothing further back than `window`; compressed entries stand for older tokens and stay."""
    match reach:
        case Full():
            return Window(window)
        case Window(size=size) | Chunk(size=size):
            return reach if size <= window else Window(window)
        case Compressed():
            return reach


def _everything(reach: Reach, shown: str) -> Reach:
    if isinstance(reach, Compressed):
        raise OptionError(f"variant `{shown}`: `full` is not defined for compressed entries", hint="use window=W or cla=N")
    return Full()


def share_layers(model: Model, factor: int) -> Model:
    """Cross-layer attention among equal layers: the first of each `factor` owns, the others are `Shared`."""
    if factor == 1:
        return model
    members: dict[tuple[Memory, ...], list[int]] = {}
    source_of: dict[int, int] = {}
    for layer in model.layers:
        owned = tuple(m for m in layer.memories if isinstance(m, Softmax | Latent))
        if owned:
            equal = members.setdefault(owned, [])
            equal.append(layer.index)
            source_of[layer.index] = equal[(len(equal) - 1) // factor * factor]
    layers = tuple(replace(layer, memories=_shared(layer, source_of)) for layer in model.layers)
    return replace(model, layers=layers, notes=(*model.notes, _DESIGN_NOTE.format(n=factor)))


def _shared(layer: Layer, source_of: dict[int, int]) -> tuple[Memory, ...]:
    """The layer's memories with its keys and values given up for those of its source, if it has one."""
    source = source_of.get(layer.index, layer.index)
    memories: list[Memory] = []
    for memory in layer.memories:
        if isinstance(memory, Shared):
            memories.append(Shared(source=source_of.get(memory.source, memory.source)))
        elif not isinstance(memory, Softmax | Latent) or source == layer.index:
            memories.append(memory)
        elif not any(isinstance(m, Shared) and m.source == source for m in memories):
            memories.append(Shared(source=source))
    return tuple(memories)
