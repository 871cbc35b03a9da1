"""Facts of recorded HiCache pools: what a size, a ratio or the host's free memory became."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.engines.kernel.cases import Case, InvalidCase, of_budgets, whole
from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.pool import Reserved
from kvplan.engines.sglang.tiers.hicache import Asked, host_pools
from kvplan.errors import Refused

#: Of a record's options, those that are not the server's flags.
OWN: Final = frozenset({"tier", "hicache", "enable_hierarchical_cache"})
_OF_A_BUDGET: Final = ("host_tokens", "host_bytes_used", "slots", "refused")


def is_tier(case: Case) -> bool:
    """Whether a record is one of HiCache."""
    return case.options.get("tier") == "hicache"


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of each budget, as `host[i].…`."""
    return of_budgets(expected, ("refused",), "host", _OF_A_BUDGET)


def predict(case: Case, args: Arguments, found: Reserved) -> dict[str, Any]:
    """What becomes of each budget."""
    given = case.options.get("hicache")
    if not isinstance(given, list) or not 0 < len(given) <= 64 or not all(isinstance(entry, Mapping) for entry in given):
        raise InvalidCase("`options.hicache` must be a list of 1 to 64 objects")
    facts: dict[str, Any] = {}
    if not args.radix:
        return {"refused": True}
    for i, entry in enumerate(given):
        facts |= {f"host[{i}].{name}": value for name, value in _budget(args, found, _asked(entry)).items()}
    return facts


def _asked(entry: Mapping[str, Any]) -> Asked:
    ratio = entry.get("hicache_ratio")
    return Asked(
        size_gb=_number(entry.get("hicache_size", 0), "hicache_size"),
        ratio=None if ratio is None else _number(ratio, "hicache_ratio"),
        free_bytes=whole(entry["host_free_bytes"], "hicache.host_free_bytes") if "host_free_bytes" in entry else None,
        ranks=whole(entry.get("ranks_per_host", 1), "hicache.ranks_per_host", 1),
        layout=str(entry.get("layout", "page_first"))[:40],
    )


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise InvalidCase(f"`options.hicache.{name}` must be a number from 0")
    return float(value) if isinstance(value, float) else value


def _budget(args: Arguments, found: Reserved, asked: Asked) -> dict[str, Any]:
    try:
        pools = host_pools(args, found, asked)
    except Refused:
        return {"refused": True}
    slots = {f"slots.{pool.name}": pool.slots for pool in pools.pools}
    return {"host_tokens": pools.tokens, "host_bytes_used": pools.bytes} | slots
