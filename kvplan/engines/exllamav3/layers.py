"""From what a layer must remember to what ExLlamaV3 holds for it: pages, slots, both or nothing.

Source: exllamav3 1.6.5, `architecture/*.py` (which module a layer is),
`cache/cache.py:Cache.__init__` (which modules have caches).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvplan.domain.model import Compressed, Cross, Index, Latent, Layer, Memory, Model, Recurrent, Shared, Softmax, State, Window
from kvplan.engines.exllamav3.architectures import Architecture
from kvplan.engines.exllamav3.models import entry_ratio, index_ratio, interrupted, refuse_embedding, rotary_part
from kvplan.engines.exllamav3.planes import PAGE, Attention, Entries, Mla, Paged, Rows
from kvplan.engines.exllamav3.states import Compressor, Conv, Delta, Held, Ngrams, Ring
from kvplan.errors import Refused

_DELTA_KINDS: Final = frozenset({"gated_delta", "kda", "mamba2"})


def held(model: Model, row: Architecture, *, swa_full: bool = False) -> tuple[Held, ...]:
    """What each layer of the model holds, in layer order; n-gram injections at their layer.

    Raises:
        Refused: a memory that no module of the engine keeps.
    """
    rings = row.rings and not swa_full
    return tuple(entry for layer in model.layers for entry in _of_layer(model, row, layer, rings=rings))


def held_by_drafts(model: Model, row: Architecture) -> tuple[Held, ...]:
    """What the model's own prediction layers hold: full pages everywhere, rows in DeepSeek-V4.

    Raises:
        Refused: as `held`.
    """
    found: list[Held] = []
    if row.single_draft and len(model.drafts) > 1:
        raise Refused(f"one prediction layer is supported, and the model has {len(model.drafts)}")
    for layer in model.drafts:
        if any(_is_shared_entry(memory) for memory in layer.memories):
            dims = {memory.key_dim for memory in layer.memories if isinstance(memory, Softmax)}
            found.append(Held(layer=layer.index, paged=Rows(dim=max(dims))))
        else:
            found.extend(_of_layer(model, row, layer, rings=False))
    return tuple(found)


def _is_shared_entry(memory: Memory) -> bool:
    """One latent for keys and values, as DeepSeek-V4 has it."""
    return isinstance(memory, Softmax) and memory.value_dim == 0


def _of_layer(model: Model, row: Architecture, layer: Layer, *, rings: bool) -> Iterator[Held]:
    if any(_is_shared_entry(memory) for memory in layer.memories):
        yield _compressed(model, layer)
        return
    index = next((memory for memory in layer.memories if isinstance(memory, Index)), None)
    for memory in layer.memories:
        match memory:
            case Softmax(reach=Window(size=size)) if rings:
                window = size - 1 if row.less_one else size
                if window < 1:
                    raise Refused(f"a ring of a window of {size} token holds nothing (layer {layer.index})")
                yield Held(layer=layer.index, slot=Ring(heads=memory.kv_heads, dim=memory.key_dim, window=window))
            case Softmax():
                yield Held(layer=layer.index, paged=_attention(model, memory, index), reach=memory.reach)
            case Latent():
                yield Held(layer=layer.index, paged=_latent(memory, index))
            case Recurrent(kind="short_conv", states=(State(shape=(channels,), kernel=kernel),)) if kernel:
                yield Held(layer=layer.index, slot=Conv(channels=channels, kernel=kernel))
            case Recurrent(kind=kind) if kind in _DELTA_KINDS:
                yield Held(layer=layer.index, slot=_delta(memory))
            case Recurrent(states=(State(name="ple_conv", shape=(channels, columns)), State(name="ngram_ids", shape=(context,)))):
                refuse_embedding(model)
                slot = Ngrams(channels=channels, window=columns, context=context)
                yield Held(layer=layer.index, slot=slot, after=True)
            case Recurrent():
                raise Refused(f"no layer of ExLlamaV3 keeps a {memory.kind.replace('_', ' ')} state (layer {layer.index})")
            case Cross():
                raise Refused(f"ExLlamaV3 has no cross-attention (layer {layer.index})")
            case Index() | Shared():
                pass


def _attention(model: Model, memory: Softmax, index: Index | None) -> Attention:
    if isinstance(memory.reach, Compressed):
        raise Refused(f"ExLlamaV3 keeps compressed entries of shared keys and values only, not 1 in {memory.reach.ratio}")
    dim = max(memory.key_dim, memory.value_dim)
    if index is None:
        return Attention(heads=memory.kv_heads, dim=dim, key_dim=memory.key_dim, value_dim=memory.value_dim)
    ratio = index_ratio(model)
    if not 0 < ratio <= PAGE or PAGE % ratio:
        raise Refused(f"indexer_compress_ratio {ratio} must divide {PAGE}")
    return Attention(
        heads=memory.kv_heads,
        dim=dim,
        key_dim=memory.key_dim,
        value_dim=memory.value_dim,
        index_dim=index.dim * index.heads,
        index_ratio=ratio,
    )


def _latent(memory: Latent, index: Index | None) -> Mla:
    if index is None:
        return Mla(rank=memory.rank, rope=memory.rope_dim)
    pool = index.reach.ratio if isinstance(index.reach, Compressed) else 0
    if pool > PAGE:
        raise Refused(f"index_kpool {pool} is more than a page of {PAGE}")
    return Mla(rank=memory.rank, rope=memory.rope_dim, index_dim=index.dim * index.heads, kpool=pool)


def _delta(memory: Recurrent) -> Delta:
    match memory.states:
        case (State(shape=(channels,), kernel=kernel), State(shape=(heads, first, second))) if kernel:
            mamba = memory.kind == "mamba2"
            key_dim, value_dim = (second, first) if mamba else (first, second)
            return Delta(
                channels=channels,
                kernel=kernel,
                heads=heads,
                key_dim=key_dim,
                value_dim=value_dim,
                gate=heads * (key_dim if memory.kind == "kda" else 1),
                always_fp32=mamba,
            )
    raise Refused(f"no layer of ExLlamaV3 keeps such a {memory.kind.replace('_', ' ')} state")


def _compressed(model: Model, layer: Layer) -> Held:
    """A DeepSeek-V4 layer: its ring and buffers a job, and the pool of its entries."""
    index = next((memory for memory in layer.memories if isinstance(memory, Index)), None)
    window = dim = 0
    paged: Paged | None = None
    ratio = 0
    for memory in layer.memories:
        if not isinstance(memory, Softmax):
            continue
        match memory.reach:
            case Window(size=size):
                window = size
            case Compressed(ratio=listed):
                ratio = entry_ratio(model, listed, indexed=index is not None)
                if not 0 < ratio <= PAGE or PAGE % ratio:
                    raise Refused(f"compress_rate {ratio} must divide {PAGE}")
                rope = rotary_part(model)
                if rope > memory.key_dim:
                    raise Refused(f"qk_rope_head_dim {rope} is more than the entry's {memory.key_dim} elements")
                index_dim = index.dim if index else 0
                paged = Entries(dim=memory.key_dim, rope=rope, ratio=ratio, index_dim=index_dim)
            case _:
                raise Refused("ExLlamaV3 keeps keys that are values too in DeepSeek-V4's layers only")
        dim = memory.key_dim
    slot = Compressor(dim=dim, window=window, ratio=ratio, index_dim=index.dim if index and ratio else 0)
    return Held(layer=layer.index, paged=paged, slot=slot)


def relayered(model: Model, kept: tuple[Held, ...], layer_map: str) -> tuple[Held, ...]:
    """A cache for each occurrence of a layer in `layer_map` (`0..31,16..31`), in layer order; "" is every layer once.

    Raises:
        Refused: an item that is no number or range, a layer that the model does not have, or a model whose layers have other
            modules between them.

    Source: `util/misc.py:parse_int_list`, `model/model.py:get_layer_instances`.
    """
    if not layer_map.strip():
        return kept
    order = parse_map(layer_map, len(model.layers))
    if not order:
        return kept
    if interrupted(model) or any(entry.after for entry in kept):
        raise Refused("Inner layers are not consecutive")
    return tuple(entry for entry in kept for _ in range(order.count(entry.layer)))


_LONGEST_MAP: Final = 100_000


def parse_map(text: str, layers: int) -> list[int]:
    """The layers that a map names, in order; ends are inclusive and may be left open.

    Raises:
        Refused: as `relayered`.

    >>> parse_map("..1,3..2", 4)
    [0, 1, 3, 2]
    """
    found: list[int] = []
    for item in text.split(","):
        start, dots, end = (part.strip() for part in item.partition(".."))
        first, last = _layer(start or ("0" if dots else ""), item), _layer(end or (str(layers - 1) if dots else start), item)
        for number in (first, last):
            if not 0 <= number < layers:
                raise Refused(f"layer_map names layer {number}, the model has layers 0 to {layers - 1}")
        found.extend(range(first, last + 1) if first <= last else range(first, last - 1, -1))
        if len(found) > _LONGEST_MAP:
            raise Refused(f"layer_map names more than {_LONGEST_MAP:,} layers")
    return found


def _layer(text: str, item: str) -> int:
    digits = text.removeprefix("+").removeprefix("-")
    if not digits.isdecimal() or len(digits) > 9:
        raise Refused(f"Invalid integer list item: {item.strip()[:40]!r}")
    return int(text)
