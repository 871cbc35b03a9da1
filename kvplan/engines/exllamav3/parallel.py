"""Tensor parallel: shares follow free memory, not 1/n, and may differ from layer to layer.

The allocator walks the model's components in order. Each is split in proportion to what is left on every card; what it stores
there is taken off before the next. So the split needs the whole model's weights, which are inputs here.

Source: exllamav3 1.6.5, `model/model_tp_alloc.py:TPAllocator`, `util/misc.py:ratio_split`, `modules/*.py:make_tp_allocation`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from kvplan.engines.exllamav3.architectures import Architecture
from kvplan.engines.exllamav3.options import ExLlamaV3Options
from kvplan.engines.exllamav3.planes import PAGE, Attention, Mla, Mode, Paged
from kvplan.engines.exllamav3.pool import pages, states
from kvplan.engines.exllamav3.states import Compressor, Delta, Held, Ring, Slot, Slots
from kvplan.errors import Refused
from kvplan.units import GIB

#: Units of a component that owns a cache: attention is cut by heads, linear layers by heads of keys.
_CACHE_UNITS: Final = frozenset({"heads", "K-heads"})
#: The unit of an n-gram injection, which is a module of its own.
_INJECTION_UNIT: Final = "layer"
_ALIGNMENT: Final = 128  # channels that a cut must land on
#: For an estimate, which knows no weights: tokens that a layer's cache is weighed at, and gigabytes of each card.
_NOMINAL: Final = 8192
_EQUAL: Final = 1024.0
_QUERY_HEADS: Final = 64


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """What one module brings: channels that may be cut, each `width` wide, and bytes that follow them or do not.

    `scratch` is what else a prefill pass needs for each possible share, 0 to `channels`. Members of an `affinity` group go
    where the first of them went.
    """

    channels: int = 1
    width: int = 1
    unit: str = ""
    stored_each: int = 0
    stored_shared: int = 0
    overhead_each: int = 0  # per token
    overhead_shared: int = 0  # per token
    temporary: int = 0
    most_devices: int | None = None
    affinity: str = ""
    scratch: tuple[int, ...] = ()

    def overhead(self, tokens: int, share: int, *, prefill: bool) -> int:
        """Transient bytes of a pass of `tokens` tokens on a card with `share` of the channels."""
        total = tokens * self.overhead_each + tokens * self.overhead_shared * share // self.channels
        total += self.temporary * share // self.channels
        return total + (self.scratch[share] if prefill and self.scratch else 0)


def ratio_split(channels: int, weights: Sequence[int], chunk_size: int = 1) -> list[int]:
    """`channels` in proportion to `weights`: whole parts, then what is left to the largest remainders, the first of equals.

    The proportions are floats, as the engine's are.

    >>> ratio_split(8, [1, 1, 1])
    [3, 3, 2]
    """
    chunks, total = channels // chunk_size, sum(weights)
    ideal = [chunks * weight / total for weight in weights]
    parts = [int(part) for part in ideal]
    left = chunks - sum(parts)
    for i in sorted(range(len(ideal)), key=lambda i: -(ideal[i] - int(ideal[i])))[:left]:
        parts[i] += 1
    return [part * chunk_size for part in parts]


def split(components: Iterable[Component], limits: Sequence[int], tokens: int, output_tokens: int) -> list[list[int]]:
    """The channels of each component on each card that may hold `limits` bytes.

    Raises:
        Refused: no card has any memory.
    """
    most = list(limits)
    active = sum(limit > 0 for limit in most)
    if not active:
        raise Refused("Insufficient VRAM in split for model and cache")
    listed = list(components)
    stored, transient, places = [0] * len(most), [0] * len(most), dict[str, int]()
    shares: list[list[int]] = []
    for position, component in enumerate(listed):
        while True:
            left = [max(0, limit - kept - passing) for limit, kept, passing in zip(most, stored, transient, strict=True)]
            if sum(left):
                break
            most = [limit * 11 // 10 for limit in most]
        if component.affinity in places:
            left = [max(amount, 1) if i == places[component.affinity] else 0 for i, amount in enumerate(left)]
        elif component.most_devices is not None:
            keep = heapq.nlargest(min(component.most_devices, active), enumerate(left), key=lambda pair: pair[1])
            chosen = {i for i, _ in keep}
            left = [amount if i in chosen else 0 for i, amount in enumerate(left)]
        share = ratio_split(component.channels, left)
        shares.append(share)
        owners = [i for i, part in enumerate(share) if part]
        if component.affinity and component.affinity not in places and len(owners) == 1:
            places[component.affinity] = owners[0]
        last = position == len(listed) - 1
        for i, part in enumerate(share):
            if left[i] <= 0:
                stored[i] += component.stored_shared * part // component.channels
                continue
            stored[i] += component.stored_each + component.stored_shared * part // component.channels
            passing = component.overhead(output_tokens if last else tokens, part, prefill=not last)
            transient[i] = max(transient[i], passing)
    return shares


def device_bytes(
    kept: tuple[Held, ...],
    components: Sequence[Component],
    shares: Sequence[Sequence[int]],
    mode: Mode,
    slots: Slots,
    tokens: int,
) -> list[int]:
    """Bytes of the cache on each card, the components that own a cache being in the order of the layers.

    Raises:
        Refused: the components are not those of these layers.
    """
    owners = {unit: [entry for entry in kept if entry.after is after] for unit, after in (("", False), (_INJECTION_UNIT, True))}
    total = [0] * len(shares[0])
    for component, share in zip(components, shares, strict=True):
        if component.unit in _CACHE_UNITS:
            queue = owners[""]
        elif component.unit == _INJECTION_UNIT:
            queue = owners[_INJECTION_UNIT]
        else:
            continue
        if not queue:
            raise Refused("the components name more layers with a cache than the model has")
        entry = queue.pop(0)
        for i, part in enumerate(share):
            total[i] += share_bytes(entry, part * component.width, mode, slots, tokens // PAGE)
    if any(owners.values()):
        raise Refused("the components name fewer layers with a cache than the model has")
    return total


def share_bytes(entry: Held, units: int, mode: Mode, slots: Slots, num_pages: int) -> int:
    """Bytes of a layer's cache on a card that has `units` of its heads (of queries, where the layer is not cut)."""
    if not units:
        return 0
    part = share_of(entry, units)
    total = sum(int(plane.bytes) for _, plane in pages((part,), num_pages, mode))
    return total + sum(int(p.bytes) for _, p in states((part,), slots, slots.jobs, 1) if not p.on_host)


def share_of(entry: Held, units: int) -> Held:
    """A layer's cache on a card that has `units` of its heads."""
    return msgspec.structs.replace(entry, paged=_paged(entry.paged, units), slot=_slot(entry.slot, units))


def refuse_split(row: Architecture, kept: tuple[Held, ...], name: str, *, swa_full: bool) -> None:
    """What the loader says to tensor parallelism. Source: `model/model.py:load_gen`, `modules/*.py:make_tp_allocation`.

    Raises:
        Refused: an architecture, a layer or heads that cannot be cut.
    """
    if not row.splits or (row.rings and not row.splits_rings and not swa_full):
        raise Refused(
            f"Tensor-parallel is not currently implemented for {name}",
            see="without it, layers are put on one card after the other (gpu_split)",
        )
    if row.direct_gates and any(isinstance(entry.slot, Delta) for entry in kept):
        raise Refused("Tensor parallelism does not split direct KDA gates yet")
    for entry in kept:
        units(entry)


def fullest_card(kept: tuple[Held, ...], options: ExLlamaV3Options) -> tuple[Held, ...]:
    """What the fullest of the cards holds, where each layer brings its cache alone.

    The cards are equally free, or as free as `gpu_split` says; what the weights change in the proportions is not known here.

    Raises:
        Refused: heads that cannot be cut, or cards without memory.
    """
    slots = Slots(jobs=1, history=0, state_dtype=options.state_dtype)
    cards = options.cards or (_EQUAL,) * options.tensor_parallel
    limits = [int(size * GIB) for size in cards[: options.tensor_parallel]]
    limits += [0] * (options.tensor_parallel - len(limits))
    components = [_component(entry, place, options.mode, slots) for entry, place in zip(kept, _places(kept), strict=True)]
    shares = split(components, limits, _NOMINAL, _NOMINAL)
    best: tuple[int, tuple[Held, ...]] = (-1, ())
    for card in range(options.tensor_parallel):
        size, held = 0, []
        for entry, component, share in zip(kept, components, shares, strict=True):
            part = component.width * share[card]
            if part:
                size += share_bytes(entry, part, options.mode, slots, _NOMINAL // PAGE)
                held.append(share_of(entry, part))
        if size > best[0]:
            best = (size, tuple(held))
    return best[1]


def _component(entry: Held, affinity: str, mode: Mode, slots: Slots) -> Component:
    channels, width = units(entry)
    size = share_bytes(entry, channels * width, mode, slots, _NOMINAL // PAGE)
    if isinstance(entry.slot, Compressor):  # its heads of queries are cut, and every card keeps all entries
        return Component(channels=_QUERY_HEADS, stored_each=size)
    return Component(
        channels=channels, width=width, stored_shared=size, affinity=affinity, most_devices=1 if channels == 1 else None
    )


def _places(kept: tuple[Held, ...]) -> Iterator[str]:
    """The group that each layer stays with: latents without an indexer of their own follow the last that has one."""
    owner, indexed = "", any(isinstance(entry.paged, Mla) and entry.paged.index_dim for entry in kept)
    for entry in kept:
        if indexed and isinstance(entry.paged, Mla):
            owner = f"indexer {entry.layer}" if entry.paged.index_dim else owner
            yield owner
        else:
            yield ""


def _paged(paged: Paged | None, units: int) -> Paged | None:
    """A card's part of the pages: its heads; latents, entries and layers with an indexer are whole."""
    if isinstance(paged, Attention) and not paged.index_dim:
        return msgspec.structs.replace(paged, heads=units)
    return paged


def _slot(slot: Slot | None, units: int) -> Slot | None:
    """A card's part of the state: its heads of a ring, its key heads of a linear layer; DeepSeek-V4's is whole everywhere."""
    match slot:
        case Ring():
            return msgspec.structs.replace(slot, heads=units)
        case Delta():
            keys = key_heads(slot)
            heads = slot.heads // keys * units
            channels = 2 * units * slot.key_dim + heads * slot.value_dim
            return msgspec.structs.replace(slot, channels=channels, heads=heads, gate=slot.gate // slot.heads * heads)
        case _:
            return slot


def key_heads(slot: Delta) -> int:
    """Heads of keys of a linear layer, from its convolution's channels: keys and queries, then values."""
    return max(1, (slot.channels - slot.heads * slot.value_dim) // (2 * slot.key_dim))


def units(entry: Held) -> tuple[int, int]:
    """Parts that a layer may be cut into, and how many heads each is wide; one part goes whole to one card.

    Raises:
        Refused: heads that cannot be paired up to slices of 128 channels.
    """
    match entry:
        case Held(paged=Attention(heads=heads, dim=dim, index_dim=0)) | Held(slot=Ring(heads=heads, dim=dim)):
            return _aligned(heads, (dim,), "K/V heads")
        case Held(slot=Delta() as slot):
            keys = key_heads(slot)
            widths = (slot.heads // keys * slot.value_dim, slot.key_dim) if slot.always_fp32 else ()
            return _aligned(keys, widths, "state groups")
        case _:
            return 1, 1


def _aligned(channels: int, widths: tuple[int, ...], what: str) -> tuple[int, int]:
    wide = 1
    while any(wide * width % _ALIGNMENT for width in widths):
        if channels % 2:
            raise Refused(f"Model's {what} cannot divide into {_ALIGNMENT}-channel tensors")
        wide, channels = wide * 2, channels // 2
    return channels, wide
