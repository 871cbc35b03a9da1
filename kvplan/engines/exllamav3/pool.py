"""From options to the cache that is allocated: settings as TabbyAPI resolves them, planes, sums, and the host's tiers.

Source: tabby `backends/exllamav3/model.py` (`create`, `create_cache`); exllamav3 1.6.5
`cache/cache.py`, `generator/cpu_cache.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from kvplan.domain.model import Model
from kvplan.engines.exllamav3.layers import held, held_by_drafts, relayered
from kvplan.engines.exllamav3.models import architecture, default_draft, draft_tokens, named, trained_tokens
from kvplan.engines.exllamav3.options import ExLlamaV3Options
from kvplan.engines.exllamav3.planes import PAGE, Attention, Entries, Mla, Mode, Plane
from kvplan.engines.exllamav3.states import Held, Slots
from kvplan.engines.kernel.tensors import Count
from kvplan.errors import Refused
from kvplan.units import ceil_div

DEFAULT_LENGTH: Final = 8192  # tokens, where neither the user nor the config says one
_JOBS_WITH_STATES: Final = 4
_JOBS: Final = 128
_NGRAM_TOKENS: Final = 4


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What TabbyAPI makes of its options: `max_history` is the longest draft that a state can take back."""

    max_seq_len: int
    cache_size: int
    max_batch_size: int
    chunk_size: int
    max_history: int


class Caches(msgspec.Struct, frozen=True, kw_only=True):
    """What a model holds and what its drafter holds, before any size is chosen."""

    main: tuple[Held, ...]
    draft: tuple[Held, ...] = ()
    drafts: bool = False


def caches(model: Model, options: ExLlamaV3Options) -> Caches:
    """The layers of the main cache and of the drafter's.

    Raises:
        Refused: a layer that the engine does not keep, or a drafter that the model does not have.
    """
    row = architecture(model)
    kept = relayered(model, held(model, row, swa_full=options.swa_full), options.layer_map)
    check_mode(kept, options.mode)
    draft: tuple[Held, ...] = ()
    drafts = options.draft_mode == "mtp" or (options.draft_mode == "model" and options.draft is not None)
    if options.draft_mode == "mtp":
        if draft_tokens(model) is None:
            raise Refused(f"{named(model)[0] or model.name} does not define a 'mtp' component model")
        draft = held_by_drafts(model, row)
    elif drafts and options.draft is not None:
        draft = held(options.draft, architecture(options.draft))
    check_mode(draft, options.draft_mode_of_cache)
    return Caches(main=kept, draft=draft, drafts=drafts)


def history(model: Model, options: ExLlamaV3Options) -> int:
    """The longest draft, which every state makes room for."""
    if options.draft_mode == "mtp":
        default = draft_tokens(model) or 0
    elif options.draft_mode == "model" and options.draft is not None:
        default = default_draft(options.draft)
    elif options.draft_mode == "ngram":
        default = _NGRAM_TOKENS
    else:
        return 0
    return default if options.draft_num_tokens is None else options.draft_num_tokens


def settings(model: Model, options: ExLlamaV3Options, kept: Caches) -> Settings:
    """The sizes of a server started with these options.

    Raises:
        Refused: a cache that is no multiple of 256 tokens, as when only `max_seq_len` is given and is not.
    """
    length = options.max_seq_len or trained_tokens(model) or DEFAULT_LENGTH
    size = options.cache_size or length
    check_size(size)
    return Settings(
        max_seq_len=min(length, size),
        cache_size=size,
        max_batch_size=options.max_batch_size or default_jobs(kept.main),
        chunk_size=ceil_div(max(options.chunk_size, PAGE), PAGE) * PAGE,
        max_history=history(model, options),
    )


def default_jobs(kept: tuple[Held, ...]) -> int:
    """Jobs at once where nobody says how many: few where each has a slot."""
    return _JOBS_WITH_STATES if any(entry.slot for entry in kept) else _JOBS


def check_size(tokens: int) -> None:
    """Raise what every paged layer does.

    Raises:
        Refused: the cache is no multiple of 256 tokens.
    """
    if tokens % PAGE:
        raise Refused(f"max_num_tokens must be a multiple of {PAGE}.", see=f"set cache_size to {ceil_div(tokens, PAGE) * PAGE}")


def check_mode(kept: tuple[Held, ...], mode: Mode) -> None:
    """Raise what the first layer that cannot be packed so does.

    Raises:
        Refused: bits that the layer's class does not store, or a latent that is no multiple of 32.
    """
    if not mode.quantised:
        return
    fits = 2 <= mode.k_bits <= 8
    for entry in kept:
        match entry.paged:
            case Attention() if not fits or not 2 <= mode.v_bits <= 8:
                raise Refused("quantized cache must be from 2 to 8 bits")
            case Mla() if not fits:
                raise Refused("quantized MLA cache must be from 2 to 8 bits")
            case Mla(rank=rank) if rank % 32:
                raise Refused(f"a quantised latent must be a multiple of 32, and kv_lora_rank is {rank}")
            case Entries(dim=dim, rope=rope) if mode.k_bits and not fits and (dim - rope) % 32 == 0:
                raise Refused("quantized DSA pool must be from 2 to 8 bits")


def pages(kept: tuple[Held, ...], count: Count, mode: Mode) -> Iterator[tuple[Held, Plane[Count]]]:
    """Every tensor of the paged layers, for `count` pages of 256 tokens."""
    for entry in kept:
        if entry.paged is not None:
            for plane in entry.paged.planes(count, mode):
                yield entry, plane


def states(kept: tuple[Held, ...], slots: Slots, jobs: Count, seq_len: Count) -> Iterator[tuple[Held, Plane[Count]]]:
    """Every tensor of the slot layers, for `jobs` jobs; those of the host are marked."""
    for entry in kept:
        if entry.slot is not None:
            for plane in entry.slot.planes(slots, jobs, seq_len):
                yield entry, plane


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one cache. `checkpoint` is what one stored checkpoint of one sequence takes in host memory."""

    kv_bytes: int
    state_bytes: int
    host_state_bytes: int
    checkpoint_bytes: int
    per_layer_bytes: tuple[int, ...]
    num_kv_layers: int
    num_state_layers: int

    @property
    def total_bytes(self) -> int:
        """Bytes on the card."""
        return self.kv_bytes + self.state_bytes


def sums(kept: tuple[Held, ...], tokens: int, mode: Mode, slots: Slots) -> Sums:
    """What a cache of `tokens` tokens takes, layer by layer: those that hold anything, n-gram injections last."""
    by_layer: dict[tuple[bool, int, int], int] = {}
    seen: dict[tuple[bool, int, bool], int] = {}
    kv = state = host = checkpoint = 0
    for entry in kept:
        # the n-th occurrence of a layer is a layer of its own; one layer's pages and state are one
        kind = (entry.after, entry.layer, entry.paged is not None)
        occurrence = seen[kind] = seen.get(kind, -1) + 1
        paged = sum(int(plane.bytes) for _, plane in pages((entry,), tokens // PAGE, mode))
        slot = 0
        for _, plane in states((entry,), slots, slots.jobs, tokens):
            if plane.on_host:
                host += int(plane.bytes)
            else:
                slot += int(plane.bytes)
        place = (entry.after, -entry.layer if entry.after else entry.layer, occurrence)
        by_layer[place] = by_layer.get(place, 0) + paged + slot
        kv, state = kv + paged, state + slot
        checkpoint += entry.slot.checkpoint(slots) if entry.slot else 0
    return Sums(
        kv_bytes=kv,
        state_bytes=state,
        host_state_bytes=host,
        checkpoint_bytes=checkpoint,
        per_layer_bytes=tuple(by_layer[place] for place in sorted(by_layer)),
        num_kv_layers=sum(entry.paged is not None for entry in kept),
        num_state_layers=sum(entry.slot is not None for entry in kept),
    )


class PageTier(msgspec.Struct, frozen=True, kw_only=True):
    """The second tier of pages in pinned host memory: slots of one page over all layers."""

    slot_size: int
    max_slots: int

    @property
    def tokens(self) -> int:
        """Tokens that the tier holds."""
        return self.max_slots * PAGE


def page_tier(kept: Caches, mode: Mode, draft_mode: Mode, budget: int) -> PageTier:
    """What `budget` bytes of host memory hold; states are not in it.

    Raises:
        Refused: fewer than two pages, or no paged layer at all.

    Source: `generator/cpu_cache.py:CPUPageCache.__init__`.
    """
    offset = 0
    for layers, stored in ((kept.main, mode), (kept.draft, draft_mode)):
        for _, plane in pages(layers, 1, stored):
            offset = ceil_div(offset + int(plane.bytes), 256) * 256
    if not offset:
        raise Refused("No paged cache layers to attach CPU page cache tier to.")
    slot = ceil_div(offset, 4096) * 4096
    slots = budget // slot
    if slots < 2:
        raise Refused(f"CPU page cache of {budget} bytes is smaller than two pages ({slot} bytes per page).")
    return PageTier(slot_size=slot, max_slots=slots)
