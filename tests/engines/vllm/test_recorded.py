"""Every recorded plan of vLLM, 0.9.1 to 0.33.0; what it refuses; and that no prediction sees the recorded values."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from each import each
from golden import CONFIGS, cases

from kvplan import architectures
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.engines import make_engine
from kvplan.engines.kernel.cases import Case, record_from
from kvplan.engines.vllm.audit import cases as auditor
from kvplan.engines.vllm.engine import Vllm
from kvplan.questions.audit.judge import judge
from kvplan.questions.reserve import reserved

CASES = cases("vllm")
REFUSALS = cases("vllm_refusals")
PROMISED = {
    "pool_bytes_per_block", "num_groups", "block_size_after_alignment", "mamba_block_size",
    "bytes_one_request_at_max_model_len", "group_blocks_per_request", "request_bytes_by_max_model_len",
}  # fmt: skip


@pytest.mark.parametrize(("name", "count"), [("vllm", 233), ("vllm_033", 411)])
def test_every_recorded_plan_is_exact(name: str, count: int) -> None:
    assert len(cases(name)) == count
    wrong = []
    for case in cases(name):
        result = judge(record_from(case, where=f"{name}.jsonl"))
        if result.status != "exact":
            differing = [f"{f.name}: {f.predicted}, recorded {f.recorded}" for f in result.facts if not f.agrees]
            wrong.append(f"{result.id}: {result.status} {result.reason} {'; '.join(differing)[:300]}")
    assert not wrong, "\n".join(wrong[:20])


def test_every_fact_that_the_readme_promises_is_compared() -> None:
    compared: set[str] = set()
    for case in CASES:
        compared |= {fact.name for fact in judge(record_from(case, where="vllm.jsonl")).facts}
    of_memory = {re.sub(r"^memory\[\d+\]\.", "", name) for name in compared if name.startswith("memory")}
    assert compared >= PROMISED
    assert of_memory == {"num_blocks", "kv_cache_size_tokens", "max_concurrency", "refused", "estimated_max_model_len"}


def other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value + 1
    return [other(item) for item in value] if isinstance(value, list) else value


def altered(expected: dict[str, Any]) -> dict[str, Any]:
    """The record with its answers changed, and its questions (budgets, lengths) kept."""
    changed = {key: other(value) if key != "available_memory" else value for key, value in expected.items()}
    changed["memory"] = [
        {k: v if k == "available_memory" else other(v) for k, v in entry.items()} for entry in expected.get("memory", [])
    ]
    lengths = expected.get("request_bytes_by_max_model_len")
    if lengths:
        changed["request_bytes_by_max_model_len"] = {k: {"bytes": v["bytes"] + 1} for k, v in lengths.items()}
    return changed


def test_other_recorded_values_differ_and_leave_the_prediction_alone() -> None:
    for case in CASES[::7]:
        right = judge(record_from(case, where="test"))
        wrong = judge(record_from({**case, "expected": altered(case["expected"])}, where="test"))
        assert wrong.status == "differs", case["id"]
        for a, b in zip(right.facts, wrong.facts, strict=True):
            assert a.predicted == b.predicted or a.name.endswith("max_concurrency"), case["id"]


def printed_lines(case: dict[str, Any]) -> list[tuple[tuple[int, ...], list[str]]]:
    """Each budget with what vLLM printed for it; left out where each stage printed its own, or nothing was recorded."""
    found = []
    for entry in case["expected"].get("memory", []):
        memory = entry["available_memory"]
        words = [entry["error"].removeprefix("ValueError: ")] if "error" in entry else entry["log"]
        if words and "tp4-pp2-uneven-mem" not in case["id"]:
            found.append((tuple(memory) if isinstance(memory, list) else (memory,), words))
    return found


def test_the_lines_of_the_log_are_printed_as_vllm_prints_them() -> None:
    compared = 0
    for case in [*CASES, *cases("vllm_033")]:
        engine = made(case)
        prepared = engine.on(architectures.read(case["config"], name=case["model"]))
        for budgets, words in printed_lines(case):
            pool = prepared.reserved(budgets)
            ours = [pool.refused] if pool.refused else list(pool.lines)
            theirs = [w for w in words if not w.startswith(("Add ", "Multiplying", "Hybrid KV cache manager"))]
            if pool.refused:
                assert theirs[0].startswith(ours[0]), case["id"]
            else:
                assert ours == theirs, case["id"]
            compared += 1
    assert compared > 1000


def read(config: Mapping[str, Any], name: str = "") -> Model:
    return architectures.read(config, name=name)


def made(case: dict[str, Any]) -> Vllm:
    record = record_from(case, where="test")
    engine = make_engine(f"vllm@{case['engine_version'].split()[0]}", auditor.options(record.case, read))
    assert isinstance(engine, Vllm)
    return engine


#: What kvplan's own words must say of each recorded refusal.
SAID = {
    "MiniMax-Text-01/default": "v0.23.0",
    "Qwen3-Next-80B-A3B-Instruct/no-hybrid": "Failed to promote local KV cache specs to one unified type.",
    "DeepSeek-V3/fp8_ds_mla": "fp8_ds_mla",
    "DeepSeek-V3/tp8-fp8-sm80": "FP8 KV cache is not supported by the Triton MLA backend",
    "Bamba-9B-v1/default": "does not dispatch through the Transformers attention interface",
    "Meta-Llama-3.1-8B/nvfp4": "nvfp4",
    "Meta-Llama-3.1-8B/tp4-pcp2": "prefill_context_parallel_size",
}


def refused_config(case: dict[str, Any]) -> dict[str, Any]:
    """The config of a refused model: the refusals' records leave it out, other records or the shipped configs have it."""
    same = [other["config"] for other in CASES if other["model"] == case["model"]]
    path = CONFIGS / "hf" / f"{case['model'].replace('/', '__')}.json"
    found: dict[str, Any] = same[0] if same else json.loads(path.read_text(encoding="utf-8"))
    return found


@each("case", REFUSALS, ids=[case["id"] for case in REFUSALS])
def test_what_vllm_refuses_is_refused(case: dict[str, Any]) -> None:
    device = {"device": "NVIDIA A100"} if "sm80" in case["id"] else {}
    options = auditor.options(Case(id=case["id"], engine="vllm", options=case["options"] | device), read)
    model = architectures.read(refused_config(case), name=case["model"])
    answer = reserved(model, "vllm@0.32.0", options, 2**40)
    assert isinstance(answer, NotPredicted)
    words = next(said for name, said in SAID.items() if case["id"].endswith(name))
    assert words in answer.reason
    if "default" in case["id"] and "MiniMax" in case["id"]:
        assert isinstance(reserved(model, "vllm@0.23.0", {}, 2**40), Pool)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"expected": {"num_groups": 1, "memory": 7}}, "must be a list of objects"),
    ({"expected": {"num_groups": 1, "memory": [{"available_memory": "much", "num_blocks": 1}]}}, "available_memory"),
    ({"expected": {"num_groups": 1, "request_bytes_by_max_model_len": {"-1": {"bytes": 1}}}}, "must name lengths"),
    ({"options": {"engine_args": 3}}, "must be an object"),
    ({"options": {"engine_args": {"speculative_config": 3}}}, "must be an object"),
    ({"config": {"model_type": "llama", "num_hidden_layers": "many"}}, "num_hidden_layers"),
]


@each(("change", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_a_broken_record_is_invalid_with_one_reason(change: dict[str, Any], words: str) -> None:
    result = judge(record_from({**CASES[0], **change}, where="test"))
    assert result.status == "invalid"
    assert words in result.reason


def test_a_flag_that_nobody_knows_is_not_predicted() -> None:
    result = judge(record_from({**CASES[0], "options": {"engine_args": {"max_model_length": 5}}}, where="test"))
    assert result.status == "not_predicted"
    assert "max_model_length" in result.reason
