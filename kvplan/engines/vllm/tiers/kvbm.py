"""Dynamo's KVBM under vLLM: blocks of the GPU's size in host memory, then on a disk.

Source (read, not run): dynamo lib/llm/src/block_manager/distributed/leader.rs:compute_num_blocks (v1),
lib/bindings/kvbm/python/kvbm/vllm_integration/connector_worker.py:register_kv_caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from kvplan.domain.tiers import Place, Tier, TierAsk
from kvplan.engines.vllm.engine import Vllm, VllmOn
from kvplan.engines.vllm.specs import Rows
from kvplan.engines.vllm.tiers import lmcache
from kvplan.errors import Refused
from kvplan.units import ceil_div

_GB: Final = 10**9
_MODULE: Final = "kvbm.vllm_integration.connector"
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
    """The host's and the disk's tier."""
    wanted: tuple[tuple[Place, int | None, str, str], ...] = (
        ("host", ask.host_bytes, "kvbm", "DYN_KVBM_CPU_CACHE_GB"),
        ("disk", ask.disk_bytes, "kvbm-disk", "DYN_KVBM_DISK_CACHE_GB"),
    )
    for place, budget, name, variable in wanted:
        if budget is not None:
            yield _tier(on, ask, place, budget, name, variable)


def _tier(on: VllmOn, ask: TierAsk, place: Place, budget: int, name: str, variable: str) -> Tier:
    told = budget // _GB
    title = "Dynamo KVBM" if place == "host" else "Dynamo KVBM, disk"
    options = on.engine.options
    ranks = options.tensor_parallel_size * options.pipeline_parallel_size * options.prefill_context_parallel_size
    from kvplan.engines.vllm.tiers.answer import kept, reason, transfer

    try:
        one, tokens = block_bytes(on)
    except Refused as problem:
        return Tier(tier=name, title=title, place=place, budget_bytes=told * _GB, refused=reason(problem))
    count = blocks(told, one)
    need = ceil_div(ask.tokens, tokens)
    return Tier(
        tier=name,
        title=title,
        place=place,
        budget_bytes=told * _GB,
        used_bytes=count * one,
        tokens=count * tokens,
        sessions=count // need,
        session_bytes=need * one,
        returned_tokens=ask.tokens // tokens * tokens,
        ranks=ranks,
        kept=kept(on),
        flags=f"{variable}={told} before it, {transfer('DynamoConnector', kv_connector_module_path=_MODULE)}",
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
