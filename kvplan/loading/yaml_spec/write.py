"""Any model as a YAML description; reading it back gives the same model.

Equal layers are folded: into the short form when every layer keeps the same, else with `pattern` and `repeat`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, assert_never

from kvplan.domain.model import (
    Chunk,
    Compressed,
    Cross,
    Full,
    Index,
    Latent,
    Layer,
    Memory,
    Model,
    Reach,
    Recurrent,
    Shared,
    Softmax,
    State,
    Steps,
    Window,
)
from kvplan.loading.yaml_spec.read import SHARING_NOTE, SPEC_TYPE
from kvplan.loading.yaml_spec.text import flow

_LONGEST_PERIOD: Final = 64
#: A folded list of layers: one layer's text, or (how often, the list repeated).
Folded = list["str | tuple[int, Folded]"]


def dump_spec(model: Model) -> str:
    """The model as YAML text; `load` of it equals `model`."""
    return "".join(f"{line}\n" for line in _lines(model))


def _lines(model: Model) -> Iterator[str]:
    origins = {fact.key: fact.value for fact in model.provenance if fact.key in {"hub", "source"}}
    heads: dict[str, Any] = {} if model.attention_heads is None else {"attention_heads": model.attention_heads}
    short = _short_form(model)
    top: dict[str, Any] = {"name": model.name, **origins}
    if model.model_type != SPEC_TYPE:
        top["model_type"] = model.model_type
    top["dtype"] = model.dtype
    optional = {
        "max_tokens": model.max_tokens,
        "weights_bytes": model.weights_bytes,
        "parameters": _parameters(model),
        "inferred": model.inferred or None,
    }
    top |= {key: value for key, value in optional.items() if value is not None}
    notes = [note for note in model.notes if note != SHARING_NOTE]
    if notes:
        top["notes"] = notes
    if short is None:
        top |= heads
    for key, value in top.items():
        yield f"{key}: {flow(value)}"
    if short is not None:
        memory, sharing = short
        yield f"layers: {len(model.layers)}"
        yield f"attention: {flow({**_memory(memory, short=True), **heads})}"
        if sharing is not None:
            yield f"cross_layer_sharing: {flow(sharing)}"
    else:
        yield from _explicit(model.layers)
    if model.loop is not None:
        loop = model.loop
        yield f"loop: {flow({'first': loop.first, 'stop': loop.stop, 'passes': loop.passes, 'kept': loop.kept})}"
    if model.drafts:
        yield "drafts:"
        yield from _written(_fold(_texts(model.drafts, relative=False)), "  ")


def _parameters(model: Model) -> int | dict[str, Any] | None:
    known = model.assumed
    if known is None:
        return model.parameters
    return {"assumed": model.parameters, "low": known.low, "high": known.high, "because": known.because}


def _short_form(model: Model) -> tuple[Softmax | Latent, Any] | None:
    """The one memory of every layer that owns any, and the sharing; None when the layers differ."""
    owned = {layer.memories for layer in model.layers if not _shares(layer)}
    memory = owned.pop()[:2] if len(owned) == 1 else ()
    if len(memory) != 1 or not isinstance(memory[0], Softmax | Latent):
        return None
    kept = memory[0]
    if isinstance(kept, Softmax) and model.attention_heads is not None and model.attention_heads % kept.kv_heads:
        return None
    sources = [m.source if isinstance(m := layer.memories[0], Shared) else layer.index for layer in model.layers]
    return kept, _sharing(sources)


def _shares(layer: Layer) -> bool:
    return len(layer.memories) == 1 and isinstance(layer.memories[0], Shared)


def _sharing(sources: list[int]) -> Any:
    """The shortest spelling of a sharing map: none, a factor, consecutive groups, or the map itself."""
    count, starts = len(sources), sorted(set(sources))
    if len(starts) == count:
        return None
    factor = starts[1] if len(starts) > 1 else count
    if sources == [i - i % factor for i in range(count)]:
        return factor
    sizes = [after - start for start, after in zip(starts, [*starts[1:], count], strict=True)]
    if sources == [start for start, size in zip(starts, sizes, strict=True) for _ in range(size)]:
        return {"groups": sizes}
    return sources


def _explicit(layers: Sequence[Layer]) -> Iterator[str]:
    """`pattern` and `layers`, sharing written by number or by distance, whichever is shorter."""
    spellings = []
    for relative in (False, True):
        texts = _texts(layers, relative=relative)
        period = _period(texts)
        lines = [] if period == len(texts) else [f"pattern: {len(texts) // period}"]
        spellings.append([*lines, "layers:", *_written(_fold(texts[:period]), "  ")])
    yield from min(spellings, key=len)


def _texts(layers: Sequence[Layer], *, relative: bool) -> list[str]:
    known: dict[tuple[Memory, ...], str] = {}  # equal layers are written once

    def text(layer: Layer) -> str:
        by_distance = relative and any(isinstance(m, Shared) for m in layer.memories)
        if layer.memories in known and not by_distance:
            return known[layer.memories]
        spelled = [_memory(m, index=layer.index if relative else None) for m in layer.memories]
        found = flow(spelled[0]) if len(spelled) == 1 else flow(spelled) if spelled else "{type: none}"
        known.setdefault(layer.memories, found)
        return found

    return [text(layer) for layer in layers]


def _period(texts: list[str]) -> int:
    """The shortest period of which the whole list is a repetition."""
    count = len(texts)
    for period in range(1, min(count // 2, _LONGEST_PERIOD) + 1):
        if count % period == 0 and texts == texts[:period] * (count // period):
            return period
    return count


def _fold(texts: list[str]) -> Folded:
    """Runs and repeated patterns, longest first from each position."""
    folded: Folded = []
    position = 0
    while position < len(texts):
        period, times = _longest_repeat(texts, position)
        if times == 1:
            folded.append(texts[position])
        else:
            folded.append((times, _fold(texts[position : position + period])))
        position += period * times
    return folded


def _longest_repeat(texts: list[str], start: int) -> tuple[int, int]:
    """(period, times) of the repetition at `start` that covers most layers; a shorter period wins a tie."""
    best = (1, 1)
    for period in range(1, min(_LONGEST_PERIOD, (len(texts) - start) // 2) + 1):
        head, times = texts[start : start + period], 1
        while texts[start + times * period : start + (times + 1) * period] == head:
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _written(folded: Folded, indent: str) -> Iterator[str]:
    for item in folded:
        if isinstance(item, str):
            yield f"{indent}- {item}"
            continue
        times, inner = item
        yield f"{indent}- repeat: {times}"
        if len(inner) == 1 and isinstance(inner[0], str):
            yield f"{indent}  of: {inner[0]}"
        else:
            yield f"{indent}  layers:"
            yield from _written(inner, f"{indent}    ")


def _memory(memory: Memory, *, index: int | None = None, short: bool = False) -> dict[str, Any]:
    """A memory as a mapping; a shared one by distance when the layer's `index` is given."""
    match memory:
        case Softmax():
            head = {} if short else {"type": "softmax"}
            return {**head, "kv_heads": memory.kv_heads, **_dims(memory), **_reach(memory.reach)}
        case Latent():
            dims = {key: getattr(memory, key) for key in ("rank", "rope_dim", "heads", "nope_dim", "value_dim")}
            return {"type": "latent", **dims, **_reach(memory.reach)}
        case Index():
            heads = {"heads": memory.heads} if memory.heads != 1 else {}
            dtype = {"dtype": memory.dtype} if memory.dtype else {}
            return {"type": "index", "dim": memory.dim, **heads, **dtype, **_reach(memory.reach)}
        case Cross():
            tokens = {} if memory.tokens is None else {"tokens": memory.tokens}
            return {"type": "cross", "kv_heads": memory.kv_heads, **_dims(memory), **tokens, **_reach(memory.reach)}
        case Recurrent():
            kind = {} if memory.kind == "state" else {"kind": memory.kind}
            return {"type": "recurrent", **kind, "states": [_state(state) for state in memory.states]}
        case Shared():
            return {"type": "shared", **({"source": memory.source} if index is None else {"back": index - memory.source})}
        case _:
            assert_never(memory)


def _dims(memory: Softmax | Cross) -> dict[str, int]:
    if memory.key_dim == memory.value_dim:
        return {"head_dim": memory.key_dim}
    return {"key_dim": memory.key_dim, "value_dim": memory.value_dim}


def _reach(reach: Reach) -> dict[str, Any]:
    match reach:
        case Steps(size=size):
            return {"reach": {"steps": size}}
        case Full():
            return {}
        case Window(size=size):
            return {"sliding_window": size}
        case Chunk(size=size):
            return {"reach": {"chunk": size}}
        case Compressed(ratio=ratio, overlap=overlap):
            return {"reach": {"compressed": ratio, **({"overlap": True} if overlap else {})}}
        case _:
            assert_never(reach)


def _state(state: State) -> dict[str, Any]:
    more: dict[str, Any] = {"dtype": state.dtype} if state.dtype else {}
    more |= {key: getattr(state, key) for key in ("kernel", "groups", "group_elements") if getattr(state, key)}
    if not state.shard:
        more["shard"] = False
    return {"name": state.name, "shape": list(state.shape), **more}
