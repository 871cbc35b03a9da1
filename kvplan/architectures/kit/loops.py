"""Layers that run several times a token: each pass keeps a cache of its own, or all share one.

The layers of later passes stand after the model's own, pass by pass, as transformers appends them (`DoryModel.forward`,
`Inkling2LoopTextModel.forward`, transformers 5.24). Shapes are the layer's own unless the class says otherwise.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.reader import Decoder
from kvplan.domain.model import MAX_LAYERS, Loop, Memory
from kvplan.domain.words import loop_words

Memories = tuple[Memory, ...]
MAX_PASSES = 1_000


def looped(
    c: Config,
    key: str,
    layers: Sequence[Memories],
    passes: int,
    *,
    heads: int | None,
    first: int = 0,
    stop: int | None = None,
    kept: Literal["each", "last"] = "each",
    later: Callable[[Memories], Memories] | None = None,
    drafts: Sequence[Memories] = (),
) -> Decoder:
    """A decoder whose layers `first` to `stop` - 1 run `passes` times.

    Args:
        c: the config.
        key: what errors name: the key of the passes.
        layers: the model's own layers.
        passes: how often the range runs.
        heads: query heads.
        first: the first layer that repeats.
        stop: the layer after the last; None: all that follow repeat.
        kept: whether `each` pass keeps a cache of its own, or the `last` one's is everybody's.
        later: what a pass after the first keeps of a layer; None: the same.
        drafts: prediction layers.

    Raises:
        ConfigError: a range that the model does not have, or more layers than a model can have.
    """
    stop = len(layers) if stop is None else stop
    if not 0 <= first <= stop <= len(layers):
        c.refuse(key, f"repeats layers {first} to {stop - 1} of {len(layers)}")
    if first == stop or passes == 1:
        return Decoder(layers=layers, heads=heads, drafts=drafts)
    loop = Loop(first=first, stop=stop, passes=passes, kept=kept)
    if len(layers) + loop.copies > MAX_LAYERS:
        c.refuse(key, f"{len(layers)} layers in {passes} loops are more than {MAX_LAYERS:,} layers")
    copies = list(layers[first:stop]) if later is None else [later(memories) for memories in layers[first:stop]]
    rows = [*layers, *(copies * (passes - 1) if kept == "each" else ())]
    return Decoder(layers=rows, heads=heads, drafts=drafts, loop=loop, notes=(loop_words(loop),))
