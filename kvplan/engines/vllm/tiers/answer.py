"""vLLM's tiers as one answer: every connector that a budget can be given to, what it holds, and what to type.

Budgets are of one server, all its ranks together. Evidence is `recorded` where a connector's own code was run for the model's
kinds of memory, else where its source was read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import floor
from shlex import quote
from typing import Any, Final

from kvplan.domain.allocation import Evidence
from kvplan.domain.tiers import Kept, Place, Tier, TierAsk
from kvplan.engines.vllm.engine import VllmOn
from kvplan.engines.vllm.specs import SlidingSpec, StateSpec
from kvplan.engines.vllm.tiers import beside, kvbm, lmcache, native, simple
from kvplan.errors import Refused
from kvplan.units import GIB, ceil_div

_RECORDED: Final = (0, 33)  # the release whose connectors were run
_NATIVE_FLAG: Final = (0, 14)  # the first with --kv-offloading-size
_PLACES: Final = 10**6  # decimals of a size in GiB that is typed: six


def tiers(on: VllmOn, ask: TierAsk) -> Iterator[Tier]:
    """Every tier, those of the host first."""
    if not on.plan.groups:
        return
    yield from (row for row in (_native(on, ask), _native_disk(on, ask)) if row is not None)
    yield from (row for row in (_simple(on, ask, disk=False), _simple(on, ask, disk=True)) if row is not None)
    yield from (row for row in (_server(on, ask), _worker(on, ask, disk=False), _worker(on, ask, disk=True)) if row is not None)
    yield from kvbm.tiers(on, ask)
    yield from beside.tiers(on, ask)


def world(on: VllmOn) -> int:
    """Processes of one server."""
    options = on.engine.options
    return options.tensor_parallel_size * options.pipeline_parallel_size * options.prefill_context_parallel_size


def kept(on: VllmOn) -> Kept:
    """How ranks hold a token, where each stores what it has."""
    options = on.engine.options
    alike = lmcache.mla_only(on.read) and options.tensor_parallel_size > options.decode_context_parallel_size
    return "copied" if alike else "split"


def evidence(on: VllmOn) -> Evidence:
    """Of a connector whose own code was run: what stands behind the blocks that it stores."""
    return on.evidence() if on.engine.release[:2] == _RECORDED else "from source"


def transfer(connector: str, **extra: Any) -> str:
    """`--kv-transfer-config` for a connector."""
    told: dict[str, Any] = {"kv_connector": connector, "kv_role": "kv_both"}
    module = extra.pop("kv_connector_module_path", None)
    told |= {"kv_connector_module_path": module} if module else {}
    told |= {"kv_connector_extra_config": extra} if extra else {}
    return f"--kv-transfer-config {quote(json.dumps(told, separators=(',', ':')))}"


def reason(problem: Refused) -> str:
    """An engine's own words, without kvplan's in front of them."""
    _, said, words = problem.reason.partition(" refuses ")
    return words.partition(": ")[2] if said and ": " in words else problem.reason


def shown_gib(size: float) -> str:
    """A size in GiB as it is typed.

    >>> shown_gib(256.0), shown_gib(238.418579)
    ('256', '238.418579')
    """
    return f"{size:.6f}".rstrip("0").rstrip(".")


def gib(amount: int) -> float:
    """A size in GiB as it is typed: not more than `amount` bytes.

    >>> gib(256 * 2**30), gib(256 * 10**9)
    (256.0, 238.418579)
    """
    return floor(amount / GIB * _PLACES) / _PLACES


def refused(tier: str, title: str, ask: TierAsk, words: str, *, place: Place = "host", flags: str = "") -> Tier:
    """A tier that the engine does not start with, or that switches itself off."""
    budget = (ask.disk_bytes if place == "disk" else ask.host_bytes) or 0
    return Tier(tier=tier, title=title, place=place, budget_bytes=budget, refused=words, flags=flags)


def _native(on: VllmOn, ask: TierAsk) -> Tier | None:
    if ask.host_bytes is None:
        return None
    title, told = "OffloadingConnector", gib(ask.host_bytes)
    flag = f"--kv-offloading-size {shown_gib(told)}"
    if on.engine.release < _NATIVE_FLAG:
        return refused("vllm-offload", title, ask, "vLLM has --kv-offloading-size from 0.14 on")
    try:
        found = native.chunked(on.read, on.plan, native.ChunkOptions(), ask.tokens)
    except Refused as problem:
        return refused("vllm-offload", title, ask, reason(problem), flags=flag)
    budget = int(told * GIB)
    chunks = found.chunks(budget)
    least = min(found.stage_chunks(budget))
    return Tier(
        tier="vllm-offload",
        title=title,
        place="host",
        budget_bytes=budget,
        used_bytes=chunks * found.chunk_bytes,
        tokens=found.tokens(budget),
        sessions=min(chunks, least) // max(found.request_chunks, 1),
        session_bytes=found.request_chunks * found.chunk_bytes,
        returned_tokens=_whole(on, ask, 1),
        ranks=world(on),
        kept="once" if found.replicated else kept(on),
        evidence=evidence(on),
        flags=flag,
        notes=tuple(_native_notes(on, ask, found, budget)),
    )


def _whole(on: VllmOn, ask: TierAsk, per_chunk: int) -> int:
    """Tokens of a session that come back: the whole chunks that every group has."""
    size = max((native.block_tokens(on.plan, group.spec) for group in on.plan.groups), default=1) * per_chunk
    return ask.tokens // size * size


def _native_notes(on: VllmOn, ask: TierAsk, found: native.Chunks, budget: int) -> Iterator[str]:
    yield "offload_prompt_only is true: tokens that were generated are not stored until they come back in a prompt"
    yield f"the region is a file in /dev/shm, which must have room for {found.chunks(budget) * found.chunk_bytes:,} bytes"
    options, latent = on.engine.options, lmcache.mla_only(on.read)
    if latent and not found.replicated and world(on) > 1:
        why = "decode context parallelism" if options.decode_context_parallel_size > 1 else "pipeline or prefill parallelism"
        yield f"with {why} latents are not stored once for all ranks: {found.copies} slices of a chunk"
    sizes = set(found.stage_chunk_bytes)
    if len(sizes) > 1:
        counts = ", ".join(f"{count:,}" for count in found.stage_chunks(budget))
        yield (
            f"the scheduler counts by the first stage's blocks, and each stage makes room for its own: {counts} chunks; "
            "a later stage with fewer cannot hold what it is handed"
        )
    yield from _rows_notes(on, ask)


def _rows_notes(on: VllmOn, ask: TierAsk) -> Iterator[str]:
    """Groups overlay the same bytes: a block of any is a whole row."""
    specs = [group.spec for group in on.plan.groups]
    states = sum(isinstance(spec, StateSpec) for spec in specs)
    if states:
        blocks = native.block_tokens(on.plan, specs[0])
        written = sum(ceil_div(ask.tokens, native.block_tokens(on.plan, spec)) for spec in specs)
        needed = native.request_chunks(on.plan, 1, ask.tokens)
        yield (
            f"a state takes a whole row as large as {blocks:,} tokens: a session needs {needed:,} rows to come back, and up to "
            f"{written:,} are written, one for each of {len(specs)} groups at every block (vllm#56871)"
        )
    elif len(specs) > 1 and any(isinstance(spec, SlidingSpec) for spec in specs):
        yield f"{len(specs)} groups share the rows: windows need their last blocks alone, so tokens depend on a session's length"


def _native_disk(on: VllmOn, ask: TierAsk) -> Tier | None:
    if ask.disk_bytes is None or on.engine.release < _RECORDED:
        return None
    try:
        found = native.chunked(on.read, on.plan, native.ChunkOptions(), ask.tokens)
    except Refused as problem:
        return refused("vllm-offload-fs", "TieringOffloadingSpec, fs", ask, reason(problem), place="disk")
    chunks, budget = found.chunks(ask.disk_bytes), int(gib(ask.host_bytes or 8 * GIB) * GIB)
    secondary = [{"type": "fs", "root_dir": "/mnt/kv"}]
    return Tier(
        tier="vllm-offload-fs",
        title="TieringOffloadingSpec, fs",
        place="disk",
        budget_bytes=ask.disk_bytes,
        used_bytes=chunks * found.chunk_bytes,
        tokens=found.tokens(ask.disk_bytes),
        sessions=chunks // max(found.request_chunks, 1),
        session_bytes=found.request_chunks * found.chunk_bytes,
        returned_tokens=_whole(on, ask, 1),
        ranks=world(on),
        kept="once" if found.replicated else kept(on),
        flags=transfer(
            "OffloadingConnector", spec_name="TieringOffloadingSpec", cpu_bytes_to_use=budget, secondary_tiers=secondary
        ),
        notes=("the fs tier has no capacity: one file a chunk, and nothing evicts them; something else must delete old ones",),
    )


def _simple(on: VllmOn, ask: TierAsk, *, disk: bool) -> Tier | None:
    budget = ask.disk_bytes if disk else ask.host_bytes
    if budget is None:
        return None
    place: Place = "disk" if disk else "host"
    name, title = ("vllm-simple-disk", "SimpleCPUOffload, disk") if disk else ("vllm-simple-offload", "SimpleCPUOffload")
    if on.engine.release < _RECORDED:
        return None if disk else refused(name, title, ask, "SimpleCPUOffloadConnector was read in 0.33.0 alone")
    ranks = world(on)
    try:
        pool = simple.second_pool(on.read, on.plan)
    except Refused as problem:
        return refused(name, title, ask, reason(problem), place=place)
    if pool is None:
        return refused(name, title, ask, "prefix caching is disabled: the connector switches itself off", place=place)
    each = budget // ranks
    told = (
        {"kv_offload_backend": "disk", "disk_capacity_bytes": each} if disk else {"cpu_bytes_to_use": each * ranks}
    )  # fmt: skip
    blocks = pool.blocks(each)
    usable = blocks - simple.NULL_BLOCK
    need = max(native.request_chunks(on.plan, 1, ask.tokens), 1)
    size = max(pool.block_bytes)
    return Tier(
        tier=name,
        title=title,
        place=place,
        budget_bytes=each * ranks,
        used_bytes=blocks * size * ranks,
        tokens=usable * ask.tokens // need,
        sessions=usable // need,
        session_bytes=need * size * ranks,
        returned_tokens=_whole(on, ask, 1),
        ranks=ranks,
        kept=kept(on),
        evidence=evidence(on),
        flags=transfer("SimpleCPUOffloadConnector", **told),
        notes=tuple(_simple_notes(on, disk=disk)),
    )


def _simple_notes(on: VllmOn, *, disk: bool) -> Iterator[str]:
    if kept(on) == "copied":
        ranks = on.engine.options.tensor_parallel_size
        yield f"each of {ranks} ranks stores every latent: the native connector keeps one copy for all"
    if disk:
        yield "disk_capacity_bytes is of every rank, one file each; cpu_bytes_to_use is not used then"


def _server(on: VllmOn, ask: TierAsk) -> Tier | None:
    if ask.host_bytes is None:
        return None
    size, chunk = gib(ask.host_bytes // (64 * 2**20) * (64 * 2**20)), lmcache.CHUNK_TOKENS
    try:
        found = lmcache.server_objects(on.read, on.plan, chunk)
    except Refused as problem:
        other = _chunk_that_serves(on)
        if other is None:
            return refused("lmcache-mp", "LMCache server", ask, reason(problem))
        chunk, found = other, lmcache.server_objects(on.read, on.plan, other)
        note = f"LMCache's own chunk of {lmcache.CHUNK_TOKENS} tokens is refused: {reason(problem)}"
    else:
        note = ""
    capacity = lmcache.server_bytes(size)
    objects = found.objects(capacity)
    chunks = objects // found.pieces
    plan_for = int(objects * lmcache.EVICTS_ABOVE) // found.pieces
    each = ceil_div(ask.tokens, chunk)
    told = f" --chunk-size {chunk}" if chunk != lmcache.CHUNK_TOKENS else ""
    server = f"lmcache server --l1-size-gb {shown_gib(size)}{told} --eviction-policy LRU"
    return Tier(
        tier="lmcache-mp",
        title="LMCache server",
        place="host",
        budget_bytes=capacity,
        used_bytes=objects * found.allocated_bytes,
        tokens=chunks * chunk,
        sessions=plan_for // each,
        session_bytes=each * found.allocated_bytes * found.pieces,
        returned_tokens=ask.tokens // chunk * chunk,
        ranks=world(on),
        kept="once" if found.pieces == 1 and world(on) > 1 else "split",
        evidence=evidence(on),
        flags=f"{transfer('LMCacheMPConnector')} beside `{server}`",
        notes=(
            *([note] if note else []),
            f"--l1-size-gb are GiB, one pool for all ranks and engines; above {lmcache.EVICTS_ABOVE:.0%} it evicts a fifth of "
            f"what is used: sessions are of {lmcache.EVICTS_ABOVE:.0%}",
            *(["--kv-offloading-backend lmcache starts it and ignores --kv-offloading-size"] if not note else []),
        ),
    )


def _chunk_that_serves(on: VllmOn) -> int | None:
    """The chunk nearest to LMCache's own that every group's blocks divide; None where another rule refuses."""
    from math import lcm

    step = lcm(*(native.block_tokens(on.plan, group.spec) for group in on.plan.groups))
    wanted = ceil_div(lmcache.CHUNK_TOKENS, step) * step
    try:
        lmcache.server_objects(on.read, on.plan, wanted)
    except Refused:
        return None
    return wanted


def _worker(on: VllmOn, ask: TierAsk, *, disk: bool) -> Tier | None:
    budget = ask.disk_bytes if disk else ask.host_bytes
    if budget is None:
        return None
    place: Place = "disk" if disk else "host"
    name, title = ("lmcache-disk", "LMCache in the worker, disk") if disk else ("lmcache", "LMCache in the worker")
    ranks, chunk = world(on), lmcache.CHUNK_TOKENS
    try:
        found = lmcache.worker_objects(on.engine, on.model, chunk)
    except Refused as problem:
        return refused(name, title, ask, reason(problem), place=place)
    each = gib(budget // ranks)
    capacity = int(each * GIB)
    objects = capacity // max(found.chunk_bytes, 1) if disk else found.objects(capacity)
    size = found.chunk_bytes if disk else found.allocated_bytes
    sessions = ceil_div(ask.tokens, chunk)
    variables = (
        f"LMCACHE_LOCAL_DISK=/mnt/kv LMCACHE_MAX_LOCAL_DISK_SIZE={shown_gib(each)}"
        if disk
        else f"LMCACHE_LOCAL_CPU=True LMCACHE_MAX_LOCAL_CPU_SIZE={shown_gib(each)}"
    )
    return Tier(
        tier=name,
        title=title,
        place=place,
        budget_bytes=capacity * ranks,
        used_bytes=objects * size * found.pieces,
        tokens=objects * chunk,
        sessions=objects // sessions,
        session_bytes=sessions * size * found.pieces,
        returned_tokens=ask.tokens // chunk * chunk,
        ranks=ranks,
        kept="once" if found.pieces == 1 and ranks > 1 else "split",
        evidence="from source" if disk else evidence(on),
        flags=f"{variables} before it, {transfer('LMCacheConnectorV1')}",
        notes=tuple(_worker_notes(on, found, each, disk=disk)),
    )


def _worker_notes(on: VllmOn, found: lmcache.Objects, each: float, *, disk: bool) -> Iterator[str]:
    ranks = world(on)
    many = f": x {ranks} ranks" if ranks > 1 else ""
    if disk:
        yield f"max_local_disk_size is of each worker in GiB{many}"
    else:
        yield f"max_local_cpu_size is of each worker in GiB, {lmcache.LOCAL_CPU_GIB:g} where nobody says{many}"
    if found.pieces == 1 and ranks > 1 and not disk:
        yield (
            f"only rank 0 stores latents, and every rank pins its {shown_gib(each)} GiB: LMCACHE_MAX_LOCAL_CPU_SIZE=1 with "
            "first_rank_max_local_cpu_size in extra_config gives rank 0 the rest"
        )
    if len(on.plan.groups) > 1:
        yield "vLLM's hybrid manager goes off with it: windows are kept in full, on the GPU too"
    if all(isinstance(group.spec, StateSpec) for group in on.plan.groups):
        yield "a whole state is counted as one token: a chunk of 256 tokens is 256 states"
