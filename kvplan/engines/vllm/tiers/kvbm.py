"""Dynamo's KVBM under vLLM: blocks of the GPU's size in host memory, then on a disk.

Source (read, not run): dynamo lib/llm/src/block_manager/distributed/leader.rs:compute_num_blocks (v1),
lib/bindings/kvbm/python/kvbm/vllm_integration/connector_worker.py:register_kv_caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from kvplan.domain.tiers import Place, Tier, TierAsk
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.specs import Rows
from kvplan.engines.vllm.tiers import lmcache
from kvplan.engines.vllm.tiers.words import kept, reason, refused, transfer, world
from kvplan.errors import Refused
from kvplan.units import ceil_div

if TYPE_CHECKING:
    from kvplan.engines.vllm.engine import VllmOn

T = TypeVar("T")

_GB: Final = 10**9
_MODULE: Final = "kvbm.vllm_integration.connector"
_NAMES: Final[dict[Place, tuple[str, str, str]]] = {
    "host": ("kvbm", "Dynamo KVBM", "DYN_KVBM_CPU_CACHE_GB"),
    "disk": ("kvbm-disk", "Dynamo KVBM, disk", "DYN_KVBM_DISK_CACHE_GB"),
}
_SHAPES: Final = "Hybrid models with different KV cache shapes are not supported yet."


def block_bytes(on: VllmOn) -> tuple[int, int]:
    """Bytes of one block on all workers together, and its tokens. vLLM's hybrid manager goes off with it.

    Raises:
        Refused: in its words.
    """
    whole = Vllm(replace(on.engine.options, disable_hybrid_kv_cache_manager=True), on.engine.version).on(on.model)
    held = [held.spec for group in whole.plan.groups for held in group.members]
    if not all(isinstance(spec, Rows) for spec in held) or len({spec.page_bytes for spec in held}) > 1:
        raise Refused(_SHAPES)
    options = on.engine.options
    workers = options.tensor_parallel_size * options.prefill_context_parallel_size
    return sum(whole.plan.block_bytes) * workers, whole.plan.block_size * whole.plan.scheduling.context_parallel


def blocks(budget_gb: float, one: int) -> int:
    """Blocks of a tier: decimal gigabytes, for all workers together."""
    return int(budget_gb * _GB) // one if one else 0


def tiers(on: VllmOn, ask: TierAsk) -> Iterator[Tier]:
    """The host's and the disk's tier, of budgets in bytes."""
    for place, budget in _placed(ask.host_bytes, ask.disk_bytes):
        if budget is not None:
            yield _tier(on, ask.tokens, place, budget // _GB)


def told(on: VllmOn, tokens: int) -> Iterator[Tier]:
    """What its environment variables say."""
    options = on.engine.options
    for place, size in _placed(options.dyn_kvbm_cpu_cache_gb, options.dyn_kvbm_disk_cache_gb):
        if size:
            yield _tier(on, tokens, place, size)


def _placed(host: T, disk: T) -> tuple[tuple[Place, T], tuple[Place, T]]:
    return ("host", host), ("disk", disk)


def _tier(on: VllmOn, tokens: int, place: Place, size_gb: float) -> Tier:
    name, title, variable = _NAMES[place]
    budget = int(size_gb * _GB)
    try:
        one, each = block_bytes(on)
    except Refused as problem:
        return refused(name, title, budget, reason(problem), place=place)
    count, need = blocks(size_gb, one), ceil_div(tokens, each)
    return Tier(
        tier=name,
        title=title,
        place=place,
        budget_bytes=budget,
        used_bytes=count * one,
        tokens=count * each,
        sessions=count // need,
        session_bytes=need * one,
        returned_tokens=tokens // each * each,
        ranks=world(on),
        kept=kept(on),
        flags=f"{variable}={size_gb:g} before it, {transfer('DynamoConnector', kv_connector_module_path=_MODULE)}",
        notes=tuple(_notes(on, place)),
    )


def _notes(on: VllmOn, place: Place) -> Iterator[str]:
    if place == "host":
        yield "decimal GB, for all ranks together (KVBM v2, cache_size_gb: of each worker)"
        yield "write-through: each tier must be larger than the one above it, or it only churns (dynamo#6506)"
    else:
        yield "blocks reach the disk at their second hit, unless DYN_KVBM_DISABLE_DISK_OFFLOAD_FILTER is set"
    if lmcache.mla_only(on.read) and on.engine.options.tensor_parallel_size > 1:
        yield "block bytes are summed over the ranks, and each has every latent: the same tokens are stored by all"
