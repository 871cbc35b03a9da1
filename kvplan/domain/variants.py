"""What-if rewrites of a model: the same layers with other heads, reach or sharing. Pure: a Model in, a Model out.

    mha         as many KV heads as query heads
    gqa=K       K KV heads (K divides the query heads)
    mqa         one KV head
    mla=R+D     one latent of R elements and a rotary key of D (64 when left out) for each token
    window=W    no layer looks further back than W tokens
    full        every layer sees every token
    cla=N       cross-layer attention: N layers in a row share the keys and values of the first

Rewrites are joined by `+` and applied from left to right: `mqa+cla=2`. They change self-attention (heads: also
cross-attention); recurrent states and layers without a cache stay as they are.

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
    Chunk,
    Compressed,
    Cross,
    Fact,
    Full,
    Index,
    Latent,
    Layer,
    Memory,
    Model,
    Reach,
    Shared,
    Softmax,
    Window,
)
from kvplan.domain.words import NO_ENGINE
from kvplan.errors import OptionError, nearest
from kvplan.units import parse_count

_HINT: Final = "rewrites are mha, gqa=K, mqa, mla=RANK+ROPE, window=W, full, cla=N, joined as in mqa+cla=2"
#: The rewrites that take no number, and those that need one.
_BARE: Final = ("mha", "mqa", "full")
_NUMBERED: Final = ("gqa", "cla", "window", "mla")
#: At most one of each of these sets in a variant.
_EXCLUSIVE: Final = (("mha", "gqa", "mqa", "mla"), ("window", "full"), ("cla",))
_DESIGN_NOTE: Final = (
    f"sharing between layers was asked for (cla={{n}}): {NO_ENGINE}, so an engine's figure is what it would need if it did"
)


class Rewrite(Struct, frozen=True):
    """One step of a variant: its name, its number (0: none) and, for `mla`, the width of the rotary key."""

    name: str
    number: int = 0
    rope_dim: int = 0

    def __str__(self) -> str:
        """As people type it."""
        rope = f"+{self.rope_dim}" if self.name == "mla" else ""
        return f"{self.name}={self.number}{rope}" if self.number else self.name


def variant(model: Model, text: str) -> Model:
    """`model` rewritten; its name says how: `llama-3.1-8b [mqa+cla=2]`.

    Raises:
        OptionError: an unknown or contradictory rewrite, a number that does not fit, or a model without attention.

    >>> from kvplan.domain.model import Layer, Softmax
    >>> owned = Softmax(kv_heads=4, key_dim=64, value_dim=64)
    >>> model = Model(name="m", model_type="llama", layers=tuple(Layer(index=i, memories=(owned,)) for i in range(3)))
    >>> [type(layer.memories[0]).__name__ for layer in variant(model, "mqa+cla=2").layers]
    ['Softmax', 'Shared', 'Softmax']
    """
    steps = parse_variant(text)
    if not any(isinstance(m, Softmax | Latent) for layer in model.layers for m in layer.memories):
        raise OptionError(f"variant `{text[:60]}`: {model.name} has no self-attention to rewrite", hint="compare it as it is")
    shown = "+".join(map(str, steps))
    rewritten = model
    for step in steps:
        rewritten = _apply(rewritten, step, shown)
    return replace(
        rewritten,
        name=f"{model.name} [{shown}]",
        weights_bytes=None,  # other heads are other weights
        parameters=None,
        origin=rewritten.origin and replace(rewritten.origin, config={}, text_config={}),  # they no longer describe these layers
        provenance=(*model.provenance, Fact("variant", shown, "asked for")),
    )


def parse_variant(text: str) -> tuple[Rewrite, ...]:
    """The steps of a variant, in order.

    Raises:
        OptionError: empty, unknown, without its number, or contradictory.

    >>> [str(step) for step in parse_variant("MQA+cla=2")]
    ['mqa', 'cla=2']
    """
    steps: list[Rewrite] = []
    for part in text.strip().lower().split("+"):
        last = steps[-1] if steps else None
        if last is not None and last.name == "mla" and part.strip().isdecimal():
            steps[-1] = replace(last, rope_dim=_number("mla", part.strip(), minimum=0))
            continue
        steps.append(_parse_step(part.strip(), text))
    for names in _EXCLUSIVE:
        used = [step.name for step in steps if step.name in names]
        if len(used) > 1:
            raise OptionError(
                f"variant `{text[:60]}`: `{used[0]}` and `{used[1]}` contradict each other", hint="name one of them"
            )
    return tuple(steps)


def _parse_step(part: str, text: str) -> Rewrite:
    name, equals, value = part.partition("=")
    if name in _BARE and not equals:
        return Rewrite(name)
    if name in _BARE:
        raise OptionError(f"variant `{text[:60]}`: `{name}` takes no number", hint=_HINT)
    if name in _NUMBERED:
        if not value:
            raise OptionError(f"variant `{text[:60]}`: `{name}` needs a number, as in `{name}={_example(name)}`", hint=_HINT)
        return Rewrite(name, _number(name, value), rope_dim=64 if name == "mla" else 0)
    near = nearest(name, (*_BARE, *_NUMBERED))
    raise OptionError(f"variant: unknown rewrite `{part[:40]}`", hint=f"did you mean `{near}`? {_HINT}" if near else _HINT)


def _example(name: str) -> str:
    return {"gqa": "4", "cla": "2", "window": "4096"}.get(name, "512+64")


def _number(name: str, text: str, minimum: int = 1) -> int:
    number = parse_count(text, what=f"variant {name}", minimum=minimum)
    if number > 2**31:
        raise OptionError(f"variant {name}: {number:,} is too large", hint=_HINT)
    return number


def _apply(model: Model, step: Rewrite, shown: str) -> Model:
    match step.name:
        case "mha" | "gqa" | "mqa":
            return _each(model, _heads(model, step, shown))
        case "mla":
            return _each(model, _latent(model, step, shown))
        case "window":
            return _each(model, lambda memory: _with_reach(memory, lambda reach: _at_most(reach, step.number)))
        case "full":
            return _each(model, lambda memory: _with_reach(memory, lambda reach: _everything(reach, shown)))
        case _:
            return share_layers(model, step.number)


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
