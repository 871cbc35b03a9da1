"""Rows of vLLM's own connectors: the native one, on the host and with a file system below, and the simple one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from kvplan.domain.tiers import Place, Tier
from kvplan.engines.vllm.specs import SlidingSpec, StateSpec
from kvplan.engines.vllm.tiers import lmcache, native, simple
from kvplan.engines.vllm.tiers.words import RECORDED, evidence, kept, reason, refused, repeated, whole_tokens, world
from kvplan.errors import Refused
from kvplan.units import ceil_div

if TYPE_CHECKING:
    from kvplan.engines.vllm.engine import VllmOn

_NATIVE_FLAG: Final = (0, 14)  # the first with --kv-offloading-size
_TITLES: Final = {"vllm-offload": "OffloadingConnector", "vllm-offload-fs": "TieringOffloadingSpec, fs"}


def native_row(on: VllmOn, tokens: int, budget: int, flags: str, options: native.ChunkOptions, *, disk: bool = False) -> Tier:
    """What the native connector makes of `budget` bytes, of all ranks together; of a file system below, what the files hold."""
    name: str = "vllm-offload-fs" if disk else "vllm-offload"
    title, place = _TITLES[name], _place(disk)
    first = RECORDED if disk else _NATIVE_FLAG
    if on.engine.release < first:
        since = "TieringOffloadingSpec was read in 0.33.0 alone" if disk else "vLLM has --kv-offloading-size from 0.14 on"
        return refused(name, title, budget, since, place=place)
    try:
        found = native.chunked(on.read, on.plan, options, tokens)
    except Refused as problem:
        return refused(name, title, budget, reason(problem), place=place, flags=flags)
    chunks = found.chunks(budget)
    least = chunks if disk else min(found.stage_chunks(budget))
    return Tier(
        tier=name,
        title=title,
        place=place,
        budget_bytes=budget,
        used_bytes=chunks * found.chunk_bytes,
        tokens=found.tokens(budget),
        sessions=min(chunks, least) // max(found.request_chunks, 1),
        session_bytes=found.request_chunks * found.chunk_bytes,
        returned_tokens=whole_tokens(on, tokens, found.blocks_per_chunk),
        ranks=world(on),
        kept="once" if found.replicated and world(on) > 1 else kept(on),
        evidence="from source" if disk else evidence(on),
        flags=flags,
        notes=_FILES if disk else tuple(_native_notes(on, tokens, found, budget)),
    )


_FILES: Final = ("the fs tier has no capacity: one file a chunk, and nothing evicts them; something else must delete old ones",)


def _place(disk: bool) -> Place:
    return "disk" if disk else "host"


def _native_notes(on: VllmOn, tokens: int, found: native.Chunks, budget: int) -> Iterator[str]:
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
    if repeated(on) > 1:
        yield f"fewer KV heads than ranks: {repeated(on)} ranks hold each head, and each stores it"
    yield from _rows_notes(on, tokens)


def _rows_notes(on: VllmOn, tokens: int) -> Iterator[str]:
    """Groups overlay the same bytes: a block of any is a whole row."""
    specs = [group.spec for group in on.plan.groups]
    states = sum(isinstance(spec, StateSpec) for spec in specs)
    if states:
        blocks = native.block_tokens(on.plan, specs[0])
        written = sum(ceil_div(tokens, native.block_tokens(on.plan, spec)) for spec in specs)
        needed = native.request_chunks(on.plan, 1, tokens)
        yield (
            f"a state takes a whole row as large as {blocks:,} tokens: a session needs {needed:,} rows to come back, and up to "
            f"{written:,} are written, one for each of {len(specs)} groups at every block (vllm#56871)"
        )
    elif len(specs) > 1 and any(isinstance(spec, SlidingSpec) for spec in specs):
        yield f"{len(specs)} groups share the rows: windows need their last blocks alone, so tokens depend on a session's length"


def simple_row(on: VllmOn, tokens: int, each: int, flags: str, *, blocks: int | None = None, disk: bool = False) -> Tier:
    """What the simple connector makes of `each` bytes of every rank."""
    ranks, place = world(on), _place(disk)
    name, title = ("vllm-simple-disk", "SimpleCPUOffload, disk") if disk else ("vllm-simple-offload", "SimpleCPUOffload")
    if on.engine.release < RECORDED:
        return refused(name, title, each * ranks, "SimpleCPUOffloadConnector was read in 0.33.0 alone", place=place)
    try:
        pool = simple.second_pool(on.read, on.plan, blocks)
        count = 0 if pool is None else pool.blocks(each)
    except Refused as problem:
        return refused(name, title, each * ranks, reason(problem), place=place, flags=flags)
    if pool is None:
        off = "prefix caching is disabled: the connector switches itself off"
        return refused(name, title, each * ranks, off, place=place, flags=flags)
    usable = count - simple.NULL_BLOCK
    need, size = max(native.request_chunks(on.plan, 1, tokens), 1), max(pool.block_bytes)
    return Tier(
        tier=name,
        title=title,
        place=place,
        budget_bytes=each * ranks,
        used_bytes=count * size * ranks,
        tokens=usable * tokens // need,
        sessions=usable // need,
        session_bytes=need * size * ranks,
        returned_tokens=whole_tokens(on, tokens),
        ranks=ranks,
        kept=kept(on),
        evidence=evidence(on),
        flags=flags,
        notes=tuple(_simple_notes(on, disk=disk)),
    )


def _simple_notes(on: VllmOn, *, disk: bool) -> Iterator[str]:
    if kept(on) == "copied":
        ranks = on.engine.options.tensor_parallel_size
        yield f"each of {ranks} ranks stores every latent: the native connector keeps one copy for all"
    if disk:
        yield "disk_capacity_bytes is of every rank, one file each; cpu_bytes_to_use is not used then"


def told(extra: Mapping[str, Any], name: str) -> int | None:
    """A whole number of `kv_connector_extra_config`, as the engine takes it; None where it is not said."""
    value = extra.get(name)
    whole = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**60
    return int(value) if whole and value is not None else None
