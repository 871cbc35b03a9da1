"""What layers and memories are called: in tables, and where recorded cases are named."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from kvplan.domain.model import (
    Chunk,
    Compressed,
    Cross,
    Full,
    Index,
    Latent,
    Loop,
    Memory,
    Model,
    Reach,
    Recurrent,
    Shared,
    Softmax,
    Steps,
    Window,
)

#: In the notes of a design that only theory serves as it is.
NO_ENGINE: Final = "no released engine reads such a map from a config"
_MOST_RUNS: Final = 3  # of layers that a person is shown
_REACHES: Final[dict[type[object], str]] = {Full: "", Steps: "", Window: "/window", Chunk: "/chunk", Compressed: "/compressed"}


def memory_kind(memory: Memory) -> str:
    """A memory's kind as the table names it: `softmax`, `softmax/window`, `latent`, `recurrent/mamba2`, `shared` …

    >>> from kvplan.domain.model import Softmax
    >>> memory_kind(Softmax(kv_heads=1, key_dim=1, value_dim=1, reach=Window(4)))
    'softmax/window'
    """
    name = type(memory).__name__.lower()
    if isinstance(memory, Recurrent):
        return f"{name}/{memory.kind}"
    return name + _REACHES[type(getattr(memory, "reach", Full()))]


def memory_kinds(model: Model) -> frozenset[str]:
    """Every memory kind that occurs in a model's layers."""
    return frozenset(memory_kind(memory) for memories in model.collapsed() for memory in memories)


def reach_words(reach: Reach) -> str:
    """How far back a memory sees, in words; empty when it sees everything."""
    match reach:
        case Steps(size=size):
            return f"steps of {size:,}"
        case Full():
            return ""
        case Window(size=size):
            return f"window {size:,}"
        case Chunk(size=size):
            return f"chunk {size:,}"
        case Compressed(ratio=ratio):
            return f"1 in {ratio:,}"


def head_words(kv_heads: int, attention_heads: int | None) -> str:
    """The field's name for a number of KV heads: MQA for one, MHA when equal to the query heads, else GQA."""
    if kv_heads == attention_heads:
        return "MHA"
    return "MQA" if kv_heads == 1 else "GQA"


def memory_words(memory: Memory, attention_heads: int | None = None) -> str:
    """A memory's kind in a few words, as tables print it.

    >>> memory_words(Softmax(kv_heads=8, key_dim=128, value_dim=128, reach=Window(1024)), 32)
    'GQA 8x128, window 1,024'
    """
    match memory:
        case Softmax():
            dims = f"{memory.key_dim}" if memory.value_dim in {memory.key_dim, 0} else f"({memory.key_dim}+{memory.value_dim})"
            words = f"{head_words(memory.kv_heads, attention_heads)} {memory.kv_heads}x{dims}"
            words += " K=V" if memory.value_dim == 0 else ""
        case Latent():
            words = f"MLA {memory.rank}+{memory.rope_dim}"
        case Index():
            words = f"indexer {memory.heads}x{memory.dim}" if memory.heads > 1 else f"indexer {memory.dim}"
        case Cross():
            words = f"cross {memory.kv_heads}x{memory.key_dim}"
        case Recurrent():
            return f"{memory.kind.replace('_', ' ')} state"
        case Shared():
            return "shared"
    reach = reach_words(memory.reach)
    return f"{words}, {reach}" if reach else words


def loop_words(loop: Loop) -> str:
    """Which layers run several times, and what is kept of it.

    >>> loop_words(Loop(first=8, stop=28, passes=2))
    'layers 8 to 27 run 2 times a token, and each time keeps a cache of its own'
    """
    kept = "each time keeps a cache of its own" if loop.kept == "each" else "only the last time keeps a cache"
    return f"layers {loop.first} to {loop.stop - 1} run {loop.passes} times a token, and {kept}"


def layer_words(memories: tuple[Memory, ...], attention_heads: int | None = None) -> str:
    """A layer's memories in a few words; shared layers do not name their source, so that runs collapse."""
    return " + ".join(memory_words(memory, attention_heads) for memory in memories) or "no cache"


def layer_kinds(model: Model) -> tuple[str, ...]:
    """One phrase a layer, for tables."""
    words: dict[Any, str] = {}
    return tuple(
        words.get(layer.memories) or words.setdefault(layer.memories, layer_words(layer.memories, model.attention_heads))
        for layer in model.layers
    )


def layer_list(indices: Sequence[int]) -> str:
    """Layer numbers as people write them: runs, and what lies between the second and the last as `…`.

    >>> layer_list(range(32)), layer_list([5, 11, 17, 23]), layer_list([0, 1, 2, 4, 5, 6, 8])
    ('0-31', '5, 11, … 23', '0-2, 4-6, 8')
    """
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(words) if len(words) <= _MOST_RUNS else f"{words[0]}, {words[1]}, … {words[-1]}"


def layer_range(indices: Sequence[int]) -> str:
    """Layer numbers, compactly and for machines: `0-31`, `0-40/2` for every second, `0,3,4 … 30`.

    >>> layer_range([5, 11, 17])
    '5-17/6'
    """
    if len(indices) == 1:
        return str(indices[0])
    steps = {b - a for a, b in pairwise(indices)}
    if len(steps) == 1:
        step = steps.pop()
        return f"{indices[0]}-{indices[-1]}" + (f"/{step}" if step > 1 else "")
    if len(indices) <= 6:
        return ",".join(map(str, indices))
    return f"{indices[0]},{indices[1]},{indices[2]} … {indices[-1]}"
