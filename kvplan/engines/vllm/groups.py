"""Which layers share a block table: vLLM's groups, and the bytes of one block of the pool.

Every group takes blocks of the same pool, so a block is as large as the widest group; narrower groups leave the rest
of their blocks empty. Source: `vllm/v1/core/kv_cache_utils.py:get_kv_cache_groups` and the functions named below.
"""

from __future__ import annotations

from functools import cached_property
from math import lcm
from typing import Literal

from msgspec import Struct

from kvplan.engines.vllm.specs import ChunkedSpec, FullSpec, Held, Rows, SlidingSpec, Spec, StateSpec, without_reach
from kvplan.errors import Refused
from kvplan.units import ceil_div


class Rules(Struct, frozen=True):
    """The release's grouping rules and the physical layout."""

    hybrid_manager: bool = True
    block_outermost: bool = False  # layouts BLHNC, BLNHC, BHLNC
    balance: float = 1.5  # a bucket less than so many times the shortest is kept in one group; 0: none is
    unified_pages: bool = True
    tuples: Literal["", "padded", "places", "dense"] = ""  # how layers of several page sizes lie beside each other


class CacheGroup(Struct, frozen=True, dict=True):
    """Caches that share one block table; all have the same tokens a block. Sums over its members are kept: a search asks for
    them again and again.
    """

    members: tuple[Held, ...]

    @property
    def spec(self) -> Spec:
        """The first member's spec: kind, reach and block size are those of all."""
        return self.members[0].spec

    @cached_property
    def page_bytes(self) -> int:
        """One block of all members."""
        return sum(held.spec.page_bytes for held in self.members)

    @cached_property
    def widest_page_bytes(self) -> int:
        """The largest page of a member, as it is allocated; 0 without members."""
        return max((held.spec.page_bytes for held in self.members), default=0)

    @cached_property
    def widest_content_bytes(self) -> int:
        """The largest page of a member without padding; 0 without members."""
        return max((held.spec.content_bytes for held in self.members), default=0)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The model's layers that have a member; a drafter's are not among them."""
        return tuple(sorted({held.layer for held in self.members if not held.draft}))

    @cached_property
    def drafter_caches(self) -> int:
        """Members that are a drafter's."""
        return sum(held.draft for held in self.members)

    @cached_property
    def strided_bytes(self) -> int:
        """One block of all members where each layer has its own region of the pool."""
        return sum(_round_up(held.spec.page_bytes, held.spec.stride_alignment) for held in self.members)


def _round_up(amount: int, step: int) -> int:
    return ceil_div(amount, step) * step


def cache_groups(caches: tuple[Held, ...], rules: Rules) -> tuple[CacheGroup, ...]:
    """The groups of a model's caches, in first-seen order; none for a model that keeps nothing.

    Raises:
        Refused: vLLM refuses them.
    """
    if not rules.hybrid_manager:
        caches = _one_type(caches)
    if not caches:
        return ()
    first = caches[0].spec
    if all(held.spec == first for held in caches) or all(first.like(held.spec) for held in caches):
        return (CacheGroup(caches),)
    pages = {held.spec.page_bytes for held in caches}
    if rules.tuples and len(pages) > 1 and any(isinstance(held.spec, SlidingSpec) and held.spec.latent for held in caches):
        return _tuple_groups(caches, padded=rules.tuples != "dense")
    if rules.block_outermost and len(pages) > 1:
        return _packed(caches)
    if len(pages) > 1:
        if not rules.unified_pages:
            raise Refused("this release cannot serve layers whose pages differ in size (NotImplementedError)")
        if any(_latent(held.spec) and max(pages) % held.spec.page_bytes for held in caches):
            return _whole_windows(caches)
        caches = tuple(_with(held, _to_page(held.spec, max(pages))) for held in caches)
    return _uniform_page(caches, rules)


def _one_type(caches: tuple[Held, ...]) -> tuple[Held, ...]:
    """Local layers held like full ones, in their blocks.

    Source: `unify_hybrid_kv_cache_specs`, `_promote_local_kv_cache_specs`.
    """
    full = {held.spec.block_size for held in caches if isinstance(held.spec, FullSpec)}
    if full and any(isinstance(held.spec, SlidingSpec | ChunkedSpec) for held in caches):
        block_size = full.pop() if len(full) == 1 else None
        caches = tuple(_with(held, without_reach(held.spec, block_size)) for held in caches)
    first = caches[0].spec if caches else None
    if first is not None and not all(first.like(held.spec) for held in caches):
        raise Refused("Failed to promote local KV cache specs to one unified type.")
    return caches


def _with(held: Held, spec: Spec) -> Held:
    return Held(layer=held.layer, memory=held.memory, name=held.name, spec=spec, draft=held.draft)


def _whole_windows(caches: tuple[Held, ...]) -> tuple[CacheGroup, ...]:
    """Pages of MLA cannot be padded; beside ordinary windows, those are held whole and all share one group.

    Source: `_try_get_full_allocation_fallback_groups`.
    """
    windows = [held for held in caches if isinstance(held.spec, SlidingSpec)]
    local = any(
        isinstance(held.spec, ChunkedSpec) or (isinstance(held.spec, SlidingSpec) and held.spec.latent) for held in caches
    )
    whole = tuple(_with(held, without_reach(held.spec)) for held in caches)
    if not windows or local or not all(whole[0].spec.like(held.spec) for held in whole):
        raise Refused("the pages of the MLA layers cannot be unified with the others' (NotImplementedError)")
    return (CacheGroup(whole),)


def _latent(spec: Spec) -> bool:
    return isinstance(spec, Rows) and spec.latent


def _to_page(spec: Spec, page: int) -> Spec:
    if spec.page_bytes == page:
        return spec
    if isinstance(spec, StateSpec) or page % spec.page_bytes:
        return spec.padded(page)
    return spec.with_block_size(spec.block_size * (page // spec.page_bytes))


def _uniform_page(caches: tuple[Held, ...], rules: Rules) -> tuple[CacheGroup, ...]:
    """Equal specs in buckets, each cut into groups of about the same length.

    Source: `_get_kv_cache_groups_uniform_page_size`.
    """
    buckets: dict[Spec, list[Held]] = {}
    for held in caches:
        buckets.setdefault(held.spec, []).append(held)
    lengths = [len(bucket) for bucket in buckets.values()]
    size = min(lengths)
    if max(lengths) < rules.balance * size:
        size = max(lengths)
    groups: list[CacheGroup] = []
    for bucket in buckets.values():
        groups += _strided(bucket, ceil_div(len(bucket), size))
    return tuple(groups)


def _strided(bucket: list[Held], count: int) -> list[CacheGroup]:
    """Every `count`-th cache of each page size together."""
    sizes: dict[int, list[Held]] = {}
    for held in bucket:
        sizes.setdefault(held.spec.page_bytes, []).append(held)
    return [CacheGroup(tuple(held for same in sizes.values() for held in same[i::count])) for i in range(count)]


def _packed(caches: tuple[Held, ...]) -> tuple[CacheGroup, ...]:
    """Groups for a pool whose outermost axis is the block: pages of different sizes lie side by side in one block.

    Source: `_get_packed_kv_cache_groups`.
    """
    buckets: list[list[Held]] = []
    for held in caches:
        bucket = next((b for b in buckets if b[0].spec.like(held.spec)), None)
        if bucket is None:
            buckets.append([held])
        else:
            bucket.append(held)
    counts = [_by_page(bucket) for bucket in buckets]
    anchored = max((max(c.values()) for c in counts if len(c) > 1 and _balanced(c)), default=0)
    parts = [1] * len(buckets)
    if anchored:
        width = _pack_width([max(c.values()) for c in counts if _balanced(c)], anchored)
        parts = [ceil_div(max(c.values()), width) if _balanced(c) else 1 for c in counts]
    stateful = [_is_state(bucket[0].spec, sliding=not anchored) for bucket in buckets]
    anchor = max(
        sum(_by_page(bucket)) if state else max(group.page_bytes for group in _strided(bucket, n))
        for bucket, state, n in zip(buckets, stateful, parts, strict=True)
    )
    groups: list[CacheGroup] = []
    for bucket, state, n in zip(buckets, stateful, parts, strict=True):
        narrow = ceil_div(len(bucket), max(anchor // bucket[0].spec.page_bytes, 1)) if state else 0
        groups += _strided(bucket, max(n, narrow))
    return tuple(groups)


def _tuple_groups(caches: tuple[Held, ...], *, padded: bool) -> tuple[CacheGroup, ...]:
    """DeepSeek V4: the latents in one group, windows of a kind in groups of about as many layers of each page size.

    Source: `group_and_unify_kv_cache_specs`, `_get_kv_cache_groups_uniform_groups`.
    """
    full = [held for held in caches if isinstance(held.spec, FullSpec)]
    windows: dict[tuple[int, int], list[Held]] = {}
    for held in caches:
        if isinstance(held.spec, SlidingSpec):
            windows.setdefault((held.spec.block_size, held.spec.reach), []).append(held)
    if not full:
        raise Refused("this release groups windows of latents beside latents of every token only (AssertionError)")
    buckets = list(windows.values())
    counts = [max(_by_page(bucket).values()) for bucket in (full, *buckets)]
    width = _pack_width(counts, counts[0])
    sizes = sorted(_by_page(full))
    groups = [CacheGroup(tuple(full))]
    for bucket in buckets:
        if padded:
            bucket = [_with(held, _to_larger(held.spec, sizes)) for held in bucket]  # noqa: PLW2901
        groups += _strided(bucket, ceil_div(max(_by_page(bucket).values()), width))
    return tuple(groups)


def _to_larger(spec: Spec, sizes: list[int]) -> Spec:
    """A page padded to the nearest larger one of the latents'."""
    size = next((size for size in sizes if size >= spec.page_bytes), 0)
    if not size:
        raise Refused("a window's page is larger than any page of the latents beside it (AssertionError)")
    return spec.padded(size) if size > spec.page_bytes else spec


def tuple_bytes(groups: tuple[CacheGroup, ...]) -> int:
    """Bytes of one block where each layer has a place in a tuple of one layer of each page size."""
    longest = max(max(_by_page(list(group.members)).values()) for group in groups if group.members)
    first = next(group for group in groups if group.members)
    return longest * sum(_by_page(list(first.members)))


def _place_bytes(groups: tuple[CacheGroup, ...]) -> int:
    """Bytes of one block with as many places of each page size as any group has layers of it."""
    places: dict[int, int] = {}
    for group in groups:
        for page, layers in _by_page(list(group.members)).items():
            places[page] = max(places.get(page, 0), layers)
    return sum(page * layers for page, layers in places.items())


def _by_page(bucket: list[Held]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for held in bucket:
        counts[held.spec.page_bytes] = counts.get(held.spec.page_bytes, 0) + 1
    return counts


def _balanced(counts: dict[int, int]) -> bool:
    return len(set(counts.values())) == 1


def _pack_width(counts: list[int], least: int) -> int:
    """Layers of one page size in a group: the width that pads the balanced buckets least, the larger of equals.

    Source: `_approximate_gcd`.
    """

    def padding(width: int) -> int:
        return sum(_round_up(count, width) - count for count in counts)

    return min(range(least, max(counts) + 1), key=lambda width: (padding(width), -width))


def _is_state(spec: Spec, *, sliding: bool) -> bool:
    return isinstance(spec, StateSpec) or (sliding and isinstance(spec, SlidingSpec))


def block_bytes(groups: tuple[CacheGroup, ...], rules: Rules) -> int:
    """Bytes of one block of the pool: the widest group. Source: `_get_kv_cache_bytes_per_block`."""
    if not any(group.members for group in groups):
        return 0
    if rules.tuples and len(groups) > 1:
        match rules.tuples:
            case "padded":
                return tuple_bytes(groups)
            case "places":
                return _place_bytes(groups)
            case _:
                return max(group.page_bytes for group in groups)
    if not rules.block_outermost:
        return max(group.strided_bytes for group in groups)
    step = lcm(*(held.spec.stride_alignment for group in groups for held in group.members))
    return _round_up(max(group.page_bytes for group in groups), step)


def on_stage(groups: tuple[CacheGroup, ...], layers: range) -> tuple[CacheGroup, ...]:
    """The part of each group that one pipeline stage holds; a group may be empty there."""
    return tuple(CacheGroup(tuple(held for held in group.members if held.layer in layers)) for group in groups)
