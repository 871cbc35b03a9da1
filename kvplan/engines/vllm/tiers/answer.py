"""vLLM's tiers as one answer: every connector that a budget can be given to, what it holds, and what to type.

Budgets are of one server, all its ranks together. Evidence is `recorded` where a connector's own code was run for the model's
kinds of memory, else where its source was read. Without a budget, what the options say is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.tiers import Tier, TierAsk
from kvplan.engines.vllm.connectors import Connector
from kvplan.engines.vllm.engine import VllmOn
from kvplan.engines.vllm.tiers import beside, kvbm, native
from kvplan.engines.vllm.tiers.lmcache_rows import server_row, worker_row
from kvplan.engines.vllm.tiers.offload import native_row, simple_row, told
from kvplan.engines.vllm.tiers.sizes import gib, shown_gib
from kvplan.engines.vllm.tiers.words import refused, transfer, world
from kvplan.units import GIB, MIB

_POOL_STEP: Final = 64 * MIB  # by which LMCache's server grows
_PRIMARY: Final = 8 * GIB  # of host memory before a disk, where nobody says
_SIMPLE_GIB: Final = 8  # cpu_bytes_to_use of the simple connector where nobody says
_MOST_GIB: Final = 2**30  # that a size of the options may be
_MOST_CHUNK: Final = 2**20  # tokens
_DISK_GIB: Final = 100  # disk_capacity_bytes of each rank


def tiers(on: VllmOn, ask: TierAsk) -> Iterator[Tier]:
    """Every tier of the budgets; without one, what the options tell."""
    if not on.plan.groups:
        return
    tokens, host, disk, ranks = ask.tokens, ask.host_bytes, ask.disk_bytes, world(on)
    if host is None and disk is None:
        found = on.engine.options.connector()
        rows = (*(() if found is None else _told(on, tokens, found)), *kvbm.told(on, tokens))
        yield from (replace(row, flags="") for row in rows)  # it is typed already
        return
    plain = native.ChunkOptions()
    if host is not None:
        size = gib(host)
        yield native_row(on, tokens, int(size * GIB), f"--kv-offloading-size {shown_gib(size)}", plain)
    if disk is not None:
        primary = int(gib(_PRIMARY if host is None else host) * GIB)
        yield native_row(on, tokens, disk, _files(primary), plain, disk=True)
    if host is not None:
        each = host // ranks
        yield simple_row(on, tokens, each, transfer("SimpleCPUOffloadConnector", cpu_bytes_to_use=each * ranks))
    if disk is not None:
        each = disk // ranks
        flags = transfer("SimpleCPUOffloadConnector", kv_offload_backend="disk", disk_capacity_bytes=each)
        yield simple_row(on, tokens, each, flags, disk=True)
    if host is not None:
        yield server_row(on, tokens, gib(host // _POOL_STEP * _POOL_STEP))
        yield worker_row(on, tokens, gib(host // ranks))
    if disk is not None:
        yield worker_row(on, tokens, gib(disk // ranks), disk=True)
    yield from kvbm.tiers(on, ask)
    yield from beside.tiers(on, ask)


def _files(primary: int) -> str:
    secondary = [{"type": "fs", "root_dir": "/mnt/kv"}]
    return transfer("OffloadingConnector", spec_name="TieringOffloadingSpec", cpu_bytes_to_use=primary, secondary_tiers=secondary)


def _told(on: VllmOn, tokens: int, found: Connector) -> Iterator[Tier]:
    """What a connector makes of what it is told."""
    extra, options = found.extra, on.engine.options
    if found.name == "OffloadingConnector":
        asked = native.ChunkOptions(
            block_size=told(extra, "block_size") or None,
            blocks_per_chunk=told(extra, "blocks_per_chunk") or None,
            canonical_layout=extra.get("canonical_layout") is True,
            one_node=options.distributed_executor_backend in {"", "mp"},
        )
        budget = told(extra, "cpu_bytes_to_use")
        if budget:
            yield native_row(on, tokens, budget, "", asked)
        else:
            words = "cpu_bytes_to_use must be specified in kv_connector_extra_config"
            yield refused("vllm-offload", "OffloadingConnector", 0, words)
    elif found.name == "SimpleCPUOffloadConnector":
        yield _simple(on, tokens, extra)
    elif found.name == "LMCacheMPConnector":
        words = "kvplan is not told the server's --l1-size-gb: `kvplan reserve … --host SIZE` says what a size holds"
        yield refused("lmcache-mp", "LMCache server", 0, words)
    elif found.name == "LMCacheConnectorV1":
        yield from _workers(on, tokens, extra)
    elif found.name == "MultiConnector":
        for child in found.children:
            yield from _told(on, tokens, child)


def _workers(on: VllmOn, tokens: int, extra: Mapping[str, Any]) -> Iterator[Tier]:
    """LMCache in the worker: its variables, and `lmcache.` keys of the connector, which win (vllm_v1_adapter.py)."""
    options = on.engine.options
    asked = told(extra, "lmcache.chunk_size") or 0
    chunk = asked if 0 < asked <= _MOST_CHUNK else options.lmcache_chunk_size
    local = extra.get("lmcache.local_cpu", options.lmcache_local_cpu)
    if local is not False:
        yield worker_row(on, tokens, _gib(extra, "lmcache.max_local_cpu_size", options.lmcache_max_local_cpu_size), chunk=chunk)
    disk = _gib(extra, "lmcache.max_local_disk_size", options.lmcache_max_local_disk_size)
    if disk:
        yield worker_row(on, tokens, disk, chunk=chunk, disk=True)


def _gib(extra: Mapping[str, Any], name: str, other: float) -> float:
    """A size in GiB of `kv_connector_extra_config`; `other` where it is not said, or no size."""
    value = extra.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_GIB else other


def _simple(on: VllmOn, tokens: int, extra: Any) -> Tier:
    """The simple connector's budget: of all ranks, of each, or of each one's file."""
    ranks, blocks = world(on), told(extra, "num_cpu_blocks")
    if extra.get("kv_offload_backend") == "disk":
        return simple_row(on, tokens, told(extra, "disk_capacity_bytes") or _DISK_GIB * GIB, "", blocks=blocks, disk=True)
    each = told(extra, "cpu_bytes_to_use_per_rank")
    whole = told(extra, "cpu_bytes_to_use") or _SIMPLE_GIB * GIB
    return simple_row(on, tokens, whole // ranks if each is None else each, "", blocks=blocks)
