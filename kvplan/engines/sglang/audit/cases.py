"""Facts of recorded SGLang plans and pools.

A plan (`sglang_planning.jsonl`) is SGLang's own configuration and sizing code on a config, flags, a card and free memory; a
pool (`sglang.jsonl`) is one class of its pools, or one function of its sizing, with sizes that the record gives; a scenario
(`sglang_scheduler.jsonl`) is its scheduler, step by step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from kvplan.engines.kernel.cases import Case, Covered, InvalidCase, Read, whole
from kvplan.engines.kernel.options import build_options
from kvplan.engines.sglang.about import ABOUT
from kvplan.engines.sglang.arguments import Arguments, settle
from kvplan.engines.sglang.audit import pools, scheduler, tiers
from kvplan.engines.sglang.audit.configs import bare
from kvplan.engines.sglang.engine import Sglang
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.pool import Reserved, reserve
from kvplan.errors import Refused

_TOP: Final = ("available_bytes", "cell_size", "kv_pool_bytes", "state_bytes", "req_to_token_bytes")
_RESOLVED: Final = ("page_size", "mem_fraction_static", "chunked_prefill_size", "swa_full_tokens_ratio")
#: Environment variables that records name -> the option here.
_ENVIRONMENT: Final = {
    "SGLANG_DSV4_COMPRESS_STATE_DTYPE": "dsv4_compress_state_dtype",
    "SGLANG_ENABLE_POST_CAPTURE_KV_SIZING": "post_capture_kv_sizing",
    "SGLANG_VLM_CACHE_SIZE_MB": "vlm_cache_size_mb",
    "SGLANG_MM_FEATURE_CACHE_MB": "mm_feature_cache_mb",
    "SGLANG_SWA_EVICTION_INTERVAL": "swa_eviction_interval",
}


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The budget, the sizes, the bytes and the resolved flags that decide them; of a pool, every number."""
    if scheduler.is_scenario(case):
        return scheduler.recorded(expected)
    if tiers.is_tier(case):
        return tiers.recorded(expected)
    if not _is_plan(case):
        return {name: value for name, value in expected.items() if _numbers(value)}
    facts = {name: expected[name] for name in _TOP if _numbers(expected.get(name))}
    for section, names in (("sizes", None), ("resolved", _RESOLVED)):
        found = expected.get(section, {})
        if not isinstance(found, Mapping):
            raise InvalidCase(f"`expected.{section}` must be an object")
        facts |= {f"{section}.{name}": found[name] for name in names or found if _numbers(found.get(name))}
    return facts


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be predicted of a scenario."""
    return scheduler.asked(expected) if scheduler.is_scenario(case) else {}


def _is_plan(case: Case) -> bool:
    return "free_before_gib" in case.workload


def _numbers(value: object) -> bool:
    """A number, or a list of numbers, however deep."""
    if isinstance(value, list):
        return bool(value) and all(_numbers(entry) for entry in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """The same facts from config, flags and memory; a scenario's from the scheduler."""
    if scheduler.is_scenario(case):
        return scheduler.predict(case, asked)
    if not _is_plan(case):
        return pools.predict(case, read)
    tier = tiers.is_tier(case)
    args = settle(read(bare(case.config), "model"), _options(case, read))
    if args.reading.unknown:
        raise Refused(args.reading.unknown)
    before, after = _gib(case, "free_before_gib"), _gib(case, "free_after_gib")
    rank = case.count("rank", default=0) // args.options.tp_size
    if rank >= args.options.pp_size:
        raise InvalidCase(f"`workload.rank` is of pipeline stage {rank + 1} of {args.options.pp_size}")
    if tier:
        return tiers.predict(case, args, reserve(args, before, after, rank))
    return _facts(args, reserve(args, before, after, rank))


def covers(case: Case, facts: Collection[str], read: Read) -> Covered | None:
    """What a plan holds; a pool's class is no model."""
    if scheduler.is_scenario(case) or tiers.is_tier(case) or not _is_plan(case):
        return None
    on = Sglang(_options(case, read), case.engine_version or None).on(read(bare(case.config), "model"))
    return Covered(model=on.read, stored=on.stored, release=on.engine.release, maker="nvidia")  # the card that was emulated


def _facts(args: Arguments, found: Reserved) -> dict[str, Any]:
    sizes = found.sizes
    facts: dict[str, Any] = {
        "available_bytes": sizes.available_bytes,
        "kv_pool_bytes": found.kv_bytes,
        "state_bytes": found.states.total if found.states else 0,
        "req_to_token_bytes": found.req_to_token_bytes,
        "sizes.max_total_num_tokens": sizes.tokens,
        "sizes.max_running_requests": sizes.requests,
        "resolved.page_size": args.page_size,
        "resolved.mem_fraction_static": args.mem_fraction_static,
        "resolved.chunked_prefill_size": args.chunked_prefill_size,
        "resolved.swa_full_tokens_ratio": args.swa_full_tokens_ratio,
    }
    if sizes.full_tokens is not None:
        facts["sizes.full_max_total_num_tokens"] = sizes.full_tokens
        facts["sizes.swa_max_total_num_tokens"] = sizes.sliding_tokens
    if sizes.compressed is None:
        return facts | {"cell_size": sizes.cell}
    return facts | {
        "sizes.c4_max_total_num_tokens": sizes.compressed.four,
        "sizes.c128_max_total_num_tokens": sizes.compressed.many,
        "sizes.c4_state_pool_size": sizes.compressed.four_states,
        "sizes.c128_state_pool_size": sizes.compressed.many_states,
    }


def _options(case: Case, read: Read) -> Any:
    """The record's flags, its environment, its card and its drafter."""
    work, given = case.workload, {name: value for name, value in case.options.items() if name not in tiers.OWN}
    environment = work.get("env", {})
    if not isinstance(environment, Mapping):
        raise InvalidCase("`workload.env` must be an object")
    for name, value in environment.items():
        if name not in _ENVIRONMENT:
            raise InvalidCase(f"`workload.env` names `{str(name)[:60]}`, which decides nothing that kvplan knows")
        given[_ENVIRONMENT[name]] = value
    draft = work.get("draft_config")
    if draft is not None:
        if not isinstance(draft, Mapping):
            raise InvalidCase("`workload.draft_config` must be an object")
        given["draft"] = read(bare(draft), "draft")
    capability = work.get("compute_capability")
    if not isinstance(capability, list) or len(capability) != 2:
        raise InvalidCase("`workload.compute_capability` must be two numbers, such as [9, 0]")
    major, minor = (whole(part, "workload.compute_capability") for part in capability)
    given["compute_capability"] = major * 10 + minor
    given["device_name"] = str(work.get("gpu", ""))[:100]
    given["device_memory_bytes"] = case.count("gpu_memory_mib", minimum=1) * 2**20
    return build_options(SglangOptions, given, engine=ABOUT.name)


def _gib(case: Case, name: str) -> float:
    value = case.workload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise InvalidCase(f"`workload.{name}` must be a number of GiB above 0")
    return float(value)
