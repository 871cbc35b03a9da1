"""Facts of recorded vLLM plans: block sizes, groups, bytes of requests, and what each memory budget becomes.

A record's options are vLLM's own flags in `engine_args`, with what the engine resolved beside them; in records of 0.11.0 the
flags that matter are named by `tag`. Budgets are inputs, though the records keep them among the facts.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from kvplan.domain.allocation import NotPredicted
from kvplan.engines.kernel.cases import Case, Covered, InvalidCase, Read, whole
from kvplan.engines.kernel.media_cases import is_media
from kvplan.engines.vllm.audit import images, memory, scheduler, tiers
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.plan import Plan
from kvplan.engines.vllm.pool import Reserved, request_bytes

_PLAN: Final = (
    "pool_bytes_per_block",
    "num_groups",
    "block_size_after_alignment",
    "mamba_block_size",
    "bytes_one_request_at_max_model_len",
    "group_blocks_per_request",
)
_POOL: Final = ("num_blocks", "kv_cache_size_tokens", "max_concurrency")
_OF_THE_CACHE: Final = frozenset({"pool_bytes_per_block", "num_blocks", "kv_cache_tokens"})
_LENGTHS: Final = "request_bytes_by_max_model_len"
_ESTIMATE: Final = re.compile(r"estimated maximum model length is (\d{1,18})")
#: Flags that decide nothing about the cache's size here.
_NEUTRAL: Final = frozenset(
    {
        "calculate_kv_scales", "compilation_config", "data_parallel_size", "disable_log_stats", "enable_expert_parallel",
        "enforce_eager", "limit_mm_per_prompt", "load_format", "max_num_seqs", "model", "quantization", "seed",
        "skip_tokenizer_init", "tokenizer", "trust_remote_code",
    }
)  # fmt: skip
_RESOLVED: Final = ("async_scheduling", "enable_prefix_caching", "max_num_batched_tokens", "usage_context")
_PARALLEL: Final = {
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dcp": "decode_context_parallel_size",
}
#: A GPU's name -> what vLLM finds out about it.
_DEVICES: Final[dict[str, dict[str, Any]]] = {
    "cpu": {"device": "cpu"},
    "a100": {"device_name": "NVIDIA A100-SXM4-80GB", "compute_capability": 80},
}


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The plan, and each budget's pool or refusal, as `memory[i].…`; a single real run has them without an index."""
    if is_media(case):
        return images.recorded(expected)
    if scheduler.is_scenario(case):
        return scheduler.recorded(expected)
    if tiers.is_tier(case):
        return tiers.recorded(expected)
    if memory.is_memory(case, expected):
        return memory.recorded(case, expected)
    facts = {name: expected[name] for name in (*_PLAN, *_POOL) if name in expected}
    lengths = expected.get(_LENGTHS)
    if isinstance(lengths, Mapping):
        facts[_LENGTHS] = {length: entry["bytes"] for length, entry in lengths.items()}
    for i, entry in enumerate(_entries(expected)):
        facts |= {f"memory[{i}].{name}": entry[name] for name in _POOL if name in entry}
        if "error" in entry:
            facts[f"memory[{i}].refused"] = True
            found = _ESTIMATE.search(str(entry["error"]))
            if found:
                facts[f"memory[{i}].estimated_max_model_len"] = int(found[1])
    return facts


def _entries(expected: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = expected.get("memory", [])
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InvalidCase("`expected.memory` must be a list of objects")
    return entries


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The memory budgets on each worker, and the lengths of requests that are asked about."""
    if is_media(case):
        return {}
    if scheduler.is_scenario(case):
        return scheduler.asked(expected)
    if tiers.is_tier(case):
        return {}
    if memory.is_memory(case, expected):
        return memory.asked(case, expected)
    found = [entry.get("available_memory") for entry in _entries(expected)]
    budgets = [_budget(value) for value in found or [expected.get("available_memory", 0)]]
    lengths = expected.get(_LENGTHS)
    keys = list(lengths) if isinstance(lengths, Mapping) else []
    if not all(isinstance(key, str) and key.isdigit() and len(key) < 18 for key in keys):
        raise InvalidCase(f"`expected.{_LENGTHS}` must name lengths in tokens")
    return {"budgets": budgets, "lengths": keys}


def _budget(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, list) and value else [value]
    return tuple(whole(one, "available_memory") for one in values)


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> Mapping[str, Any] | NotPredicted:
    """The facts of the `vllm` engine at the record's release."""
    if is_media(case):
        return images.predict(case, read)
    if scheduler.is_scenario(case):
        return scheduler.predict(case, asked)
    if "runs" in asked:
        return memory.predict(case, asked, read)
    model = read(case.config, "")
    version = case.engine_version.split()[0] if case.engine_version.strip() else ""
    on = Vllm.made(options(case, read), version or None).on(model)
    if tiers.is_tier(case):
        return tiers.predict(case, on)
    pools = [on.reserved(budgets) for budgets in asked["budgets"]]
    facts = _plan_facts(on.plan, pools[0].max_model_len, asked["lengths"])
    facts |= _pool_facts(pools[0], "")
    for i, pool in enumerate(pools):
        facts |= _pool_facts(pool, f"memory[{i}].")
    return facts


def _plan_facts(plan: Plan, length: int, lengths: list[str]) -> dict[str, Any]:
    def staged(values: list[int]) -> int | list[int]:
        return values[0] if len(values) == 1 else values

    def request(tokens: int) -> int | list[int]:
        return staged([request_bytes(plan, stage, tokens) for stage in range(len(plan.stages))])

    return {
        "pool_bytes_per_block": staged(list(plan.block_bytes)),
        "num_groups": len(plan.groups),
        "block_size_after_alignment": plan.block_size,
        "mamba_block_size": plan.state_block_size,
        "bytes_one_request_at_max_model_len": request(length),
        "group_blocks_per_request": list(plan.group_blocks(length)),
        _LENGTHS: {key: request(int(key)) for key in lengths},
    }


def _pool_facts(pool: Reserved, prefix: str) -> dict[str, Any]:
    if pool.refused:
        return {f"{prefix}refused": True, f"{prefix}estimated_max_model_len": pool.estimated_max_model_len}
    return {
        f"{prefix}num_blocks": pool.num_blocks,
        f"{prefix}kv_cache_size_tokens": pool.num_tokens,
        f"{prefix}max_concurrency": pool.concurrency,
    }


def covers(case: Case, facts: Collection[str], read: Read) -> Covered | None:
    """What a record of blocks or bytes of a cache holds; None for one of weights and peaks alone."""
    if tiers.is_tier(case) or not _OF_THE_CACHE & {name.rpartition(".")[2] for name in facts}:
        return None
    if memory.is_memory(case, dict.fromkeys(facts)):
        engine, model = memory.asked_engine(case, read)
    else:
        engine, model = Vllm.made(options(case, read), case.engine_version.split()[0]), read(case.config, "")
    on = engine.on(model)
    maker = "" if engine.options.device == "cpu" else "nvidia"  # planned for an H100 or the record's card, or started on one
    return Covered(model=on.read, stored=on.stored, release=engine.release, maker=maker)


def as_recorded(name: str, predicted: Any, recorded: Any) -> Any:
    """Concurrency agrees when equal to four decimals."""
    if name in memory.PRINTED and not (name == "max_concurrency" and isinstance(recorded, float) and len(str(recorded)) > 9):
        return memory.as_recorded(name, predicted, recorded)
    numbers = all(isinstance(value, int | float) for value in (predicted, recorded))
    if name.endswith("max_concurrency") and numbers and round(predicted, 4) == round(recorded, 4):
        return recorded
    return predicted


def options(case: Case, read: Read) -> dict[str, Any]:
    """The engine's options of a record."""
    given = case.options
    flags = given.get("engine_args", {})
    if not isinstance(flags, Mapping):
        raise InvalidCase("`options.engine_args` must be an object")
    found: dict[str, Any] = {own: given[short] for short, own in _PARALLEL.items() if given.get(short) is not None}
    found |= {name: given[name] for name in _RESOLVED if given.get(name) is not None}
    if isinstance(given.get("kv_dtype"), str):
        found["kv_cache_dtype"] = given["kv_dtype"]
    if given.get("disable_hybrid_kv_cache_manager") is not None:  # as the engine resolved it
        found["disable_hybrid_kv_cache_manager"] = given["disable_hybrid_kv_cache_manager"]
        found["allow_chunked_local_attn_with_hybrid_kv_cache"] = given["disable_hybrid_kv_cache_manager"] is not True
    found |= _length(case, flags)
    found |= {name: value for name, value in flags.items() if name not in _NEUTRAL and name != "speculative_config"}
    found |= _drafter(flags.get("speculative_config"), read)
    layout = given.get("env", {}).get("VLLM_KV_CACHE_LAYOUT") if isinstance(given.get("env"), Mapping) else None
    found.setdefault("enforce_eager", True)  # plans, and starts of dummy weights: no decode step is captured
    return (
        found
        | ({"kv_cache_layout": layout} if layout else {})
        | _device(str(given.get("device", "")))
        | _tagged(given.get("tag"))
    )


def _length(case: Case, flags: Mapping[str, Any]) -> dict[str, Any]:
    """`max_model_len` as resolved; records of real runs and of 0.11.0 have it as the workload's length."""
    length = case.options.get("max_model_len", case.workload.get("seq_len"))
    return {} if length is None or "max_model_len" in flags else {"max_model_len": whole(length, "max_model_len", 1)}


def _drafter(config: object, read: Read) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise InvalidCase("`speculative_config` must be an object")
    draft = config.get("draft_cfg")
    known = {key: config[key] for key in ("method", "num_speculative_tokens") if key in config}
    found: dict[str, Any] = {"speculative_config": json.dumps(known)}
    if isinstance(draft, Mapping):
        found["draft"] = read(draft, "draft")
    return found


def _device(name: str) -> dict[str, Any]:
    words = re.split(r"[^a-z0-9]+", name.lower())
    return next((found for key, found in _DEVICES.items() if key in words), {})


def _tagged(tag: object) -> dict[str, Any]:
    """What a tag of a 0.11.0 record stands for (`bs128`, `fp8`)."""
    text = tag if isinstance(tag, str) else ""
    if re.fullmatch(r"bs\d{1,6}", text):
        return {"block_size": int(text[2:])}
    return {"kv_cache_dtype": text} if text.startswith("fp8") else {}
