"""Rows of LMCache: its server, and the caches inside the workers, in memory and on disks."""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm
from typing import TYPE_CHECKING

from kvplan.domain.tiers import Place, Tier
from kvplan.engines.vllm.specs import StateSpec
from kvplan.engines.vllm.tiers import lmcache, native
from kvplan.engines.vllm.tiers.sizes import shown_gib
from kvplan.engines.vllm.tiers.words import evidence, reason, refused, transfer, world
from kvplan.errors import Refused
from kvplan.units import GIB, ceil_div

if TYPE_CHECKING:
    from kvplan.engines.vllm.engine import VllmOn

_SERVER: str = "LMCache server"


def server_row(on: VllmOn, tokens: int, size_gib: float) -> Tier:
    """What a server of `--l1-size-gb` holds; its chunk is LMCache's own, or the nearest that the model's blocks divide."""
    chunk, note, capacity = lmcache.CHUNK_TOKENS, "", lmcache.server_bytes(size_gib)
    try:
        found = lmcache.server_objects(on.read, on.plan, chunk)
    except Refused as problem:
        other = _chunk_that_serves(on)
        if other is None:
            return refused("lmcache-mp", _SERVER, capacity, reason(problem))
        chunk, found = other, lmcache.server_objects(on.read, on.plan, other)
        note = f"LMCache's own chunk of {lmcache.CHUNK_TOKENS} tokens is refused: {reason(problem)}"
    objects = found.objects(capacity)
    plan_for = int(objects * lmcache.EVICTS_ABOVE) // found.pieces
    each = ceil_div(tokens, chunk)
    told = f" --chunk-size {chunk}" if chunk != lmcache.CHUNK_TOKENS else ""
    server = f"lmcache server --l1-size-gb {shown_gib(size_gib)}{told} --eviction-policy LRU"
    return Tier(
        tier="lmcache-mp",
        title=_SERVER,
        place="host",
        budget_bytes=capacity,
        used_bytes=objects * found.allocated_bytes,
        tokens=objects // found.pieces * chunk,
        sessions=plan_for // each,
        session_bytes=each * found.allocated_bytes * found.pieces,
        returned_tokens=tokens // chunk * chunk,
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
    step = lcm(*(native.block_tokens(on.plan, group.spec) for group in on.plan.groups))
    wanted = ceil_div(lmcache.CHUNK_TOKENS, step) * step
    try:
        lmcache.server_objects(on.read, on.plan, wanted)
    except Refused:
        return None
    return wanted


def worker_row(on: VllmOn, tokens: int, each_gib: float, *, chunk: int = lmcache.CHUNK_TOKENS, disk: bool = False) -> Tier:
    """What `each_gib` GiB of every worker hold."""
    place: Place = "disk" if disk else "host"
    name, title = ("lmcache-disk", "LMCache in the worker, disk") if disk else ("lmcache", "LMCache in the worker")
    ranks, capacity = world(on), int(each_gib * GIB)
    try:
        found = lmcache.worker_objects(on.engine, on.model, chunk)
    except Refused as problem:
        return refused(name, title, capacity * ranks, reason(problem), place=place)
    size = found.chunk_bytes if disk else found.allocated_bytes
    objects, sessions = capacity // max(size, 1), ceil_div(tokens, chunk)
    shown = shown_gib(each_gib)
    variables = (
        f"LMCACHE_LOCAL_DISK=/mnt/kv LMCACHE_MAX_LOCAL_DISK_SIZE={shown}"
        if disk
        else f"LMCACHE_LOCAL_CPU=True LMCACHE_MAX_LOCAL_CPU_SIZE={shown}"
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
        returned_tokens=tokens // chunk * chunk,
        ranks=ranks,
        kept="once" if found.pieces == 1 and ranks > 1 else "split",
        evidence="from source" if disk else evidence(on),
        flags=f"{variables} before it, {transfer('LMCacheConnectorV1')}",
        notes=tuple(_worker_notes(on, found, each_gib, disk=disk)),
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
