"""Every recorded tier below the GPU, of four engines: what a budget of host memory or disk became; and that no prediction sees
the recorded values.
"""

import re
from collections.abc import Iterator
from typing import Any

from each import each
from golden import cases

from kvplan.engines.kernel.cases import record_from
from kvplan.questions.audit.judge import judge

CASES = cases("tiers")
#: Tier -> how many cases, and the facts that the README promises of it; an index in brackets left out.
TIERS: dict[str, tuple[int, set[str]]] = {
    "vllm-offload": (
        141,
        {
            "bytes_per_block_per_rank", "bytes_per_chunk", "blocks_per_chunk", "replicated", "stage_bytes_per_chunk",
            "host.host_chunks", "host.host_tokens", "host.host_bytes_used", "host.stage_chunks", "host.refused",
        },
    ),
    "vllm-simple-offload": (
        141,
        {"bytes_per_block_per_rank", "host.host_chunks", "host.bytes_used_per_rank", "host.refused", "host.off"},
    ),
    "lmcache-mp": (128, {"bytes_per_chunk", "kv_world_size", "host.host_chunks", "host.host_bytes_used", "refused"}),
    "lmcache": (85, {"bytes_per_chunk", "ranks_that_store", "host.host_chunks", "host.host_bytes_used", "refused"}),
    "hicache": (
        116,
        {
            "host.host_tokens", "host.host_bytes_used", "host.refused", "refused", "host.slots.kv", "host.slots.swa",
            "host.slots.mamba", "host.slots.indexer", "host.slots.deepseek_v4_c128", "host.slots.deepseek_v4_c4",
            "host.slots.deepseek_v4_c4_indexer", "host.slots.deepseek_v4_c4_indexer_state", "host.slots.deepseek_v4_c4_state",
        },
    ),
    "llama-state": (369, {"states.prompt_cache_bytes", "states.checkpoint_bytes", "refused"}),
    "mlx-prompt-cache": (236, {"entry_tokens", "entry_bytes", "host.host_entries", "host.host_bytes_used", "refused"}),
}  # fmt: skip


def of_tier(tier: str) -> Iterator[dict[str, Any]]:
    return (case for case in CASES if case["options"]["tier"] == tier)


def test_no_tier_is_left_out() -> None:
    assert {case["options"]["tier"] for case in CASES} == set(TIERS)


@each("tier", TIERS)
def test_every_recorded_tier_is_exact(tier: str) -> None:
    count, names = TIERS[tier]
    wrong: list[str] = []
    seen: set[str] = set()
    compared = 0
    for case in of_tier(tier):
        result = judge(record_from(case, where="tiers.jsonl"))
        compared += 1
        seen |= {re.sub(r"\[\d+\]", "", fact.name) for fact in result.facts}
        if result.status != "exact":
            differing = [f"{f.name}: {f.predicted}, recorded {f.recorded}" for f in result.facts if not f.agrees]
            wrong.append(f"{result.id}: {result.status} {result.reason} {'; '.join(differing)[:300]}")
    assert not wrong, "\n".join(wrong[:20])
    assert compared == count
    assert seen == names


def other(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return value + 1
    return [other(item) for item in value] if isinstance(value, list) else {key: other(item) for key, item in value.items()}


@each("tier", TIERS)
def test_other_recorded_values_leave_the_prediction_alone(tier: str) -> None:
    case = next(case for case in of_tier(tier) if "error" not in str(case["expected"]))
    right = judge(record_from(case, where="test"))
    wrong = judge(record_from({**case, "expected": other(case["expected"])}, where="test"))
    assert wrong.status == "differs"
    assert [fact.predicted for fact in right.facts] == [fact.predicted for fact in wrong.facts]


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("vllm-offload", {"host_bytes": "much"}, "must be a list of 1 to 64 budgets"),
    ("vllm-offload", {"host_bytes": [-1]}, "must be a whole number of at least 0"),
    ("vllm-offload", {"extra_config": 3}, "`options.extra_config` must be an object"),
    ("vllm-offload", {"extra_config": {"blocks_per_chunk": 0}}, "must be a whole number of at least 1"),
    ("vllm-offload", {"tier": "carrier pigeons"}, "kvplan knows no tier `carrier pigeons` of vLLM"),
    ("vllm-simple-offload", {"host_bytes": [2**60]}, "got a huge number"),
    ("lmcache-mp", {"l1_size_gb": [float("nan")]}, "must hold numbers of GiB"),
    ("lmcache", {"chunk_size": 0}, "must be a whole number of at least 1"),
    ("hicache", {"hicache": [3]}, "must be a list of 1 to 64 objects"),
    ("hicache", {"hicache": [{"hicache_size": "all"}]}, "must be a number from 0"),
    ("mlx-prompt-cache", {"host_bytes": []}, "must be a list of 1 to 64 limits"),
]


@each(("tier", "change", "words"), BROKEN, ids=[words for _, _, words in BROKEN])
def test_a_broken_record_is_invalid_with_one_reason(tier: str, change: dict[str, Any], words: str) -> None:
    case = next(of_tier(tier))
    result = judge(record_from({**case, "options": {**case["options"], **change}}, where="test"))
    assert result.status == "invalid"
    assert words in result.reason


def test_lengths_that_are_no_list_are_invalid() -> None:
    case = next(of_tier("llama-state"))
    result = judge(record_from({**case, "workload": {"tokens": 0}}, where="test"))
    assert (result.status, result.reason) == ("invalid", "`workload.tokens` must be a list of 1 to 64 lengths")
