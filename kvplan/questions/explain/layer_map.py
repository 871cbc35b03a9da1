"""A model's layers in a few lines: runs of equal layers, and repeating patterns folded."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from kvplan.domain.model import Layer, Memory, Model, Shared
from kvplan.domain.words import memory_words

#: Longest pattern of runs that is looked for: no published model repeats a longer one.
MAX_PERIOD: Final = 24


class Run(NamedTuple):
    """`layers` equal layers from `first` on; the pattern that the run opens or belongs to occurs `repeats` times, to `last`."""

    first: int
    layers: int
    words: str
    repeats: int = 1
    last: int = 0  # last layer of the last occurrence of the pattern


def layer_map(model: Model) -> list[Run]:
    """The layers in as few lines as are true.

    Sharing is told by distance (`shares the layer before`) or by index (`shares layer 18`), whichever folds better.
    """
    by_distance = _folded(_runs(model, _distance))
    by_index = _folded(_runs(model, _index))
    return by_distance if len(by_distance) <= len(by_index) else by_index


def _distance(layer: Layer, shared: Shared) -> str:
    away = layer.index - shared.source
    return "shares the layer before" if away == 1 else f"shares the layer {away} before"


def _index(layer: Layer, shared: Shared) -> str:
    return f"shares layer {shared.source}"


def _runs(model: Model, sharing: Callable[[Layer, Shared], str]) -> list[Run]:
    """Equal layers in a row."""
    known: dict[Memory, str] = {}

    def words(layer: Layer) -> str:
        parts = []
        for memory in layer.memories:
            if isinstance(memory, Shared):
                parts.append(sharing(layer, memory))
                continue
            if memory not in known:
                known[memory] = memory_words(memory, model.attention_heads)
            parts.append(known[memory])
        return " + ".join(parts) or "no cache"

    runs: list[Run] = []
    for layer in model.layers:
        text = words(layer)
        if runs and runs[-1].words == text:
            runs[-1] = runs[-1]._replace(layers=runs[-1].layers + 1)
        else:
            runs.append(Run(first=layer.index, layers=1, words=text))
    return [run._replace(last=run.first + run.layers - 1) for run in runs]


def _folded(runs: Sequence[Run]) -> list[Run]:
    """Repeating patterns written once, the first occurrence standing for all."""
    folded: list[Run] = []
    at = 0
    while at < len(runs):
        period, repeats = _best_period(runs, at)
        last = runs[at + period * repeats - 1].last
        folded += [run._replace(repeats=repeats, last=last) if repeats > 1 else run for run in runs[at : at + period]]
        at += period * repeats
    return folded


def _best_period(runs: Sequence[Run], at: int) -> tuple[int, int]:
    """The pattern that saves most lines from here on: its length in runs, and how often it occurs in a row."""
    best = (1, 1)
    for period in range(1, min(MAX_PERIOD, (len(runs) - at) // 2) + 1):
        repeats = 1
        while _same(runs, at, at + repeats * period, period):
            repeats += 1
        if repeats > 1 and (repeats - 1) * period > (best[1] - 1) * best[0]:
            best = (period, repeats)
    return best


def _same(runs: Sequence[Run], a: int, b: int, length: int) -> bool:
    if b + length > len(runs):
        return False
    return all(runs[a + i].words == runs[b + i].words and runs[a + i].layers == runs[b + i].layers for i in range(length))
