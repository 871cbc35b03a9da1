"""SGLang's tiers as one answer: HiCache's host pools, its file storage, and Mooncake's store behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from kvplan.domain.allocation import Evidence
from kvplan.domain.tiers import Kept, Tier, TierAsk
from kvplan.engines.sglang.engine import SglangOn
from kvplan.engines.sglang.pool import Reserved
from kvplan.engines.sglang.requests import NoRoom
from kvplan.engines.sglang.tiers.hicache import Asked, HostPools, host_pools
from kvplan.errors import Refused
from kvplan.units import ceil_div

_GB: Final = 10**9


def tiers(on: SglangOn, ask: TierAsk) -> Iterator[Tier]:
    """Every tier, the host's first."""
    try:
        stages = on.reserved(ask.device_bytes)
    except NoRoom as problem:
        yield Tier(tier="hicache", title="HiCache", place="host", budget_bytes=ask.host_bytes or 0, refused=problem.reason)
        return
    found = stages[on.rank]
    if ask.host_bytes is not None:
        yield _host(on, found, ask, ask.host_bytes)
    elif ask.disk_bytes is None and on.engine.options.enable_hierarchical_cache:
        yield _told(on, found, ask)
    if ask.disk_bytes is not None:
        yield from _storage(on, found, ask, ask.disk_bytes)


def _ranks(on: SglangOn) -> int:
    return on.engine.options.tp_size * on.engine.options.pp_size


def _evidence(on: SglangOn) -> Evidence:
    """HiCache's own code was run for the release that is the engine's latest."""
    return on.evidence() if on.engine.version == on.engine.about.latest else "from source"


def _host(on: SglangOn, found: Reserved, ask: TierAsk, budget: int) -> Tier:
    ranks = _ranks(on)
    size = budget // ranks // _GB
    name, title = "hicache", "HiCache"
    compressed = found.sizes.compressed is not None
    if not size and not compressed:
        words = f"--hicache-size is whole GB of each rank: {budget:,} bytes are less than one for each of {ranks}"
        return Tier(tier=name, title=title, place="host", budget_bytes=budget, refused=words)
    asked = Asked(size_gb=size, ranks=ranks)
    flags = f"--enable-hierarchical-cache --hicache-size {size}"
    try:
        if compressed:
            asked, flags = _by_ratio(on, found, budget // ranks)
        pools = host_pools(on.args, found, asked)
    except Refused as problem:
        return Tier(tier=name, title=title, place="host", budget_bytes=budget, refused=problem.reason, flags=flags)
    told = pools.bytes * ranks if compressed else size * _GB * ranks
    return _row(on, found, ask, pools, told, flags)


def _told(on: SglangOn, found: Reserved, ask: TierAsk) -> Tier:
    """What the options say: a size, a ratio, or what the host has free."""
    options, ranks = on.engine.options, _ranks(on)
    asked = Asked(
        size_gb=options.hicache_size,
        ratio=options.hicache_ratio,
        free_bytes=options.host_free_bytes,
        ranks=ranks,
        layout=options.hicache_mem_layout,
        fraction=options.hicache_host_memory_fraction,
    )
    told = options.hicache_size * _GB * ranks
    try:
        pools = host_pools(on.args, found, asked)
    except Refused as problem:
        return Tier(tier="hicache", title="HiCache", place="host", budget_bytes=told, refused=problem.reason)
    row = _row(on, found, ask, pools, told or pools.bytes * ranks, "")
    if options.hicache_size or options.hicache_ratio is not None or options.host_free_bytes is not None:
        return row
    return replace(row, notes=(_UNKNOWN, *row.notes))


_UNKNOWN: Final = "twice the GPU's pools, or less where the host has less free: kvplan is not told (--set host_free_bytes=BYTES)"


def _row(on: SglangOn, found: Reserved, ask: TierAsk, pools: HostPools, told: int, flags: str) -> Tier:
    """The host's pools of all ranks as one row."""
    ranks, groups = _ranks(on), _data_ranks(on)
    return Tier(
        tier="hicache",
        title="HiCache",
        place="host",
        budget_bytes=told,
        used_bytes=(pools.bytes - pools.outside_bytes) * ranks,
        tokens=pools.tokens * groups,
        sessions=_sessions(on, pools, ask.tokens) * groups,
        session_bytes=_session_bytes(on, pools, ask.tokens) * (ranks // groups),
        returned_tokens=ask.tokens // on.args.page_size * on.args.page_size,
        ranks=ranks,
        kept=_kept(on),
        beside_bytes=pools.outside_bytes * ranks,
        evidence=_evidence(on),
        flags=flags,
        notes=tuple(_notes(on, found, pools, ask)),
    )


def _by_ratio(on: SglangOn, found: Reserved, each: int) -> tuple[Asked, str]:
    """DeepSeek V4 takes a ratio alone: the largest of two decimals that stays below the budget."""
    one = host_pools(on.args, found, Asked(ratio=1.0)).bytes
    ratio = each * 100 // max(one, 1) / 100
    if ratio <= 0:
        raise Refused("DeepSeek V4 HiCache currently does not support --hicache-size; use --hicache-ratio instead.")
    return Asked(ratio=ratio), f"--enable-hierarchical-cache --hicache-ratio {ratio:g}"


def _data_ranks(on: SglangOn) -> int:
    """Groups of ranks with tokens of their own: data-parallel attention inside the server."""
    options = on.engine.options
    return max(1, options.tp_size // max(1, options.attention_tp)) if options.enable_dp_attention else 1


def _kept(on: SglangOn) -> Kept:
    """Latents are not cut by tensor parallelism."""
    latent = on.args.reading.latent is not None or on.compressed
    return "copied" if latent and on.engine.options.attention_tp > 1 else "split"


def _needs(on: SglangOn, tokens: int) -> dict[str, int]:
    """Slots of each pool that a session takes: its tokens in whole pages, its windows, a state."""
    page = on.args.page_size
    rows = ceil_div(tokens, page) * page
    window = on.args.reading.window
    windows = rows if window is None else min(rows, ceil_div(window, page) * page)
    of_windows = dict.fromkeys(("swa", "deepseek_v4_c4_state", "deepseek_v4_c4_indexer_state"), windows)
    return {"kv": rows, "mamba": 1, **of_windows}


def _sessions(on: SglangOn, pools: HostPools, tokens: int) -> int:
    needs = _needs(on, tokens)
    return min((pool.slots // needs[pool.name] for pool in pools.pools if pool.name in needs), default=0)


def _session_bytes(on: SglangOn, pools: HostPools, tokens: int) -> int:
    needs = _needs(on, tokens)
    return sum(needs.get(pool.name, needs["kv"]) * pool.slot_bytes for pool in pools.pools)


def _notes(on: SglangOn, found: Reserved, pools: HostPools, ask: TierAsk) -> Iterator[str]:
    ranks = _ranks(on)
    if found.sizes.compressed is not None:
        yield "DeepSeek V4 takes --hicache-ratio alone: pages on the host for a page on the GPU"
    else:
        many = f", {ranks} of them here" if ranks > 1 else ""
        yield f"--hicache-size is whole GB (10**9) of each rank{many}; a page more than asked for is taken"
    if pools.outside_bytes:
        yield f"the indexer's keys lie outside that budget: {pools.outside_bytes * ranks:,} bytes more"
    split = {pool.name: pool.slots for pool in pools.pools if not pool.outside}
    if "mamba" in split:
        needs = _needs(on, ask.tokens)
        keys = split["kv"] // needs["kv"]
        if split["mamba"] < keys:
            yield (
                f"the budget is split as the GPU's pools are, and {split['mamba']:,} slots of states run out before "
                f"{keys:,} sessions of keys: --max-mamba-cache-size or --mamba-full-memory-ratio moves it (sglang#39436)"
            )
    if found.sizes.compressed is None:
        device = found.sizes.full_tokens or found.sizes.tokens
        if pools.tokens <= device:
            yield f"{pools.tokens:,} tokens are no more than the GPU's {device:,}: the host holds what the GPU has"
    if on.args.speculation.shares_budget:
        yield "a drafter's keys get a slot for every one of the model's, outside the split [read, not run]"
    if on.engine.options.pp_size > 1:
        yield "of pipeline stages the one with the fewest tokens decides for all [read, not run]"
    each = f", each rank a {ranks}th of that" if ranks > 1 else ""
    yield f"the host must have it free beside 10 GiB, pool by pool{each}; else it does not start"
    if _kept(on) == "copied":
        yield f"latents are not cut: each of {on.engine.options.attention_tp} ranks keeps every token"


def _storage(on: SglangOn, found: Reserved, ask: TierAsk, budget: int) -> Iterator[Tier]:
    """Pages as files, or as objects of a store: nothing evicts files, and what is alike on all ranks is stored once."""
    try:
        pools = host_pools(on.args, found, Asked(ratio=1.0))
    except Refused as problem:
        yield Tier(tier="hicache-file", title="HiCache, file", place="disk", budget_bytes=budget, refused=problem.reason)
        return
    ranks, kept = _ranks(on), _kept(on)
    groups = _data_ranks(on)
    once = kept == "copied"
    copies = 1 if once else ranks // groups
    one = _session_bytes(on, pools, ask.tokens) * copies
    count = budget // max(one, 1)
    notes = {
        "hicache-file": ("files have no capacity: one a page, and nothing evicts them",),
        "hicache-mooncake": ("global_segment_size is for all ranks together: each takes its part (tp x pp)",),
    }
    for name, title, flags in (
        ("hicache-file", "HiCache, file", "--enable-hierarchical-cache --hicache-storage-backend file"),
        ("hicache-mooncake", "HiCache, Mooncake", "--enable-hierarchical-cache --hicache-storage-backend mooncake"),
    ):
        yield Tier(
            tier=name,
            title=title,
            place="disk",
            budget_bytes=budget,
            used_bytes=count * one,
            tokens=budget * ask.tokens // max(one, 1),
            sessions=count,
            session_bytes=one,
            returned_tokens=ask.tokens // on.args.page_size * on.args.page_size,
            ranks=ranks,
            kept="once" if once else "split",
            flags=flags,
            notes=notes[name],
        )
