"""Facts of recorded tiers: what a budget of host memory or disk became, connector by connector."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kvplan.engines.kernel.cases import Case, InvalidCase, of_budgets, whole
from kvplan.engines.vllm.engine import VllmOn
from kvplan.engines.vllm.tiers.lmcache import CHUNK_TOKENS, Objects, server_bytes, server_objects, worker_objects
from kvplan.engines.vllm.tiers.native import ChunkOptions, chunked
from kvplan.engines.vllm.tiers.simple import Blocks, second_pool
from kvplan.errors import Refused
from kvplan.units import GIB, MAX_COUNT

_FACTS: Final = (
    "bytes_per_block_per_rank", "bytes_per_chunk", "blocks_per_chunk", "replicated", "stage_bytes_per_chunk", "kv_world_size",
    "ranks_that_store", "refused", "off",
)  # fmt: skip
_OF_A_BUDGET: Final = (
    "host_chunks", "host_tokens", "host_bytes_used", "bytes_used_per_rank", "stage_chunks", "refused", "off",
)  # fmt: skip


def is_tier(case: Case) -> bool:
    """Whether a record is one of a tier."""
    return isinstance(case.options.get("tier"), str)


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the whole case and those of each budget, as `host[i].…`."""
    return of_budgets(expected, _FACTS, "host", _OF_A_BUDGET)


def predict(case: Case, on: VllmOn) -> dict[str, Any]:
    """What the connector makes of each budget."""
    found = _CONNECTORS.get(str(case.options["tier"]))
    if found is None:
        raise InvalidCase(f"`options.tier`: kvplan knows no tier `{str(case.options['tier'])[:40]}` of vLLM")
    try:
        return found(case, on)
    except Refused:
        return {"refused": True}


def _budgets(case: Case, name: str) -> list[int]:
    given = case.options.get(name)
    if not isinstance(given, list) or not 0 < len(given) <= 64:
        raise InvalidCase(f"`options.{name}` must be a list of 1 to 64 budgets")
    return [whole(value, f"options.{name}") for value in given]


def _extra(case: Case) -> Mapping[str, Any]:
    extra = case.options.get("extra_config", {})
    if not isinstance(extra, Mapping):
        raise InvalidCase("`options.extra_config` must be an object")
    return extra


def _count(extra: Mapping[str, Any], name: str) -> int | None:
    return None if extra.get(name) is None else whole(extra[name], f"options.extra_config.{name}", 1)


def _native(case: Case, on: VllmOn) -> dict[str, Any]:
    extra = _extra(case)
    budgets = _budgets(case, "host_bytes")
    options = ChunkOptions(
        block_size=_count(extra, "block_size"),
        blocks_per_chunk=_count(extra, "blocks_per_chunk"),
        canonical_layout=extra.get("canonical_layout") is True,
        one_node=case.options.get("distributed_executor_backend") == "mp",
    )
    try:
        found = chunked(on.read, on.plan, options, case.count("max_model_len", minimum=1))
    except Refused:
        return {f"host[{i}].refused": True for i in range(len(budgets))}
    facts: dict[str, Any] = {
        "bytes_per_block_per_rank": found.block_bytes,
        "bytes_per_chunk": found.chunk_bytes,
        "blocks_per_chunk": found.blocks_per_chunk,
        "replicated": found.replicated,
        "stage_bytes_per_chunk": list(found.stage_chunk_bytes),
    }
    for i, budget in enumerate(budgets):
        facts |= {
            f"host[{i}].host_chunks": found.chunks(budget),
            f"host[{i}].host_tokens": found.tokens(budget),
            f"host[{i}].host_bytes_used": found.chunks(budget) * found.chunk_bytes,
            f"host[{i}].stage_chunks": found.stage_chunks(budget),
        }
    return facts


def _simple(case: Case, on: VllmOn) -> dict[str, Any]:
    extra = _extra(case)
    disk = "disk_bytes" in case.options
    budgets = _budgets(case, "disk_bytes" if disk else "host_bytes")
    each = disk or case.options.get("host_bytes_are") == "cpu_bytes_to_use_per_rank"
    facts: dict[str, Any] = {}
    try:
        pool = second_pool(on.read, on.plan, _count(extra, "num_cpu_blocks"))
    except Refused:
        return {f"host[{i}].refused": True for i in range(len(budgets))}
    if pool is None:
        return {f"host[{i}].off": True for i in range(len(budgets))}
    facts["bytes_per_block_per_rank"] = pool.block_bytes[0] if len(pool.block_bytes) == 1 else list(pool.block_bytes)
    for i, budget in enumerate(budgets):
        facts |= _simple_budget(pool, budget, f"host[{i}].", per_rank=each)
    return facts


def _simple_budget(pool: Blocks, budget: int, prefix: str, *, per_rank: bool) -> dict[str, Any]:
    try:
        blocks = pool.blocks(pool.capacity(budget, per_rank=per_rank))
    except Refused:
        return {f"{prefix}refused": True}
    return {f"{prefix}host_chunks": blocks, f"{prefix}bytes_used_per_rank": blocks * max(pool.block_bytes)}


def _sizes(case: Case, name: str) -> list[float]:
    given = case.options.get(name)
    if not isinstance(given, list) or not 0 < len(given) <= 64:
        raise InvalidCase(f"`options.{name}` must be a list of 1 to 64 budgets")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MAX_COUNT for value in given):
        raise InvalidCase(f"`options.{name}` must hold numbers of GiB")
    return [float(value) for value in given]


def _server(case: Case, on: VllmOn) -> dict[str, Any]:
    chunk = case.option("chunk_size", default=CHUNK_TOKENS, minimum=1)
    separate = case.options.get("separate_object_groups") is True
    try:
        found = server_objects(on.read, on.plan, chunk, separate=separate)
    except Refused:
        return {"refused": True}
    lazy = case.options.get("l1_use_lazy") is not False
    capacities = [server_bytes(size, lazy=lazy) for size in _sizes(case, "l1_size_gb")]
    return {"kv_world_size": found.pieces} | _objects(found, capacities)


def _worker(case: Case, on: VllmOn) -> dict[str, Any]:
    found = worker_objects(on.engine, on.read, case.option("chunk_size", default=CHUNK_TOKENS, minimum=1))
    capacities = [int(size * GIB) for size in _sizes(case, "max_local_cpu_size")]
    return {"ranks_that_store": found.pieces} | _objects(found, capacities)


def _objects(found: Objects, capacities: list[int]) -> dict[str, Any]:
    facts: dict[str, Any] = {"bytes_per_chunk": found.chunk_bytes}
    for i, capacity in enumerate(capacities):
        objects = found.objects(capacity)
        facts |= {f"host[{i}].host_chunks": objects, f"host[{i}].host_bytes_used": objects * found.allocated_bytes}
    return facts


_CONNECTORS: Final[dict[str, Callable[[Case, VllmOn], dict[str, Any]]]] = {
    "vllm-offload": _native,
    "vllm-simple-offload": _simple,
    "lmcache-mp": _server,
    "lmcache": _worker,
}
