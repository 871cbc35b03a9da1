"""vLLM's memory ledger against recorded starts: 15 on an H200 in bytes, 86 recordings of its own code, 88 published logs."""

from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
from each import each
from golden import cases

from kvplan.architectures.describe import described
from kvplan.domain.ledger import Ledger
from kvplan.domain.machine import NOTHING, Learned
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.vllm.audit import memory
from kvplan.engines.vllm.ledger.build import ledger
from kvplan.engines.vllm.ledger.machine import NON_TORCH
from kvplan.questions.audit.judge import judge
from kvplan.units import GIB, MIB

GPU, RECORDED, STARTS, OTHER = (cases(name) for name in ("vllm_gpu", "vllm_memory", "vllm_starts", "vllm_starts_gpus"))
#: Records that differ, and by how many bytes at most. The lists only shrink: a case that becomes exact fails the test.
GPU_MISSES = {
    "vllm-receipt/deepseek-v2-lite-eager": 786_432,  # an allocator's remainder (the page says so)
    "vllm-receipt/qwen2.5-7b-mnbt2k-eager": 315_392,  # the same
}
RECORDED_MISSES = {
    "vllm-weights/openai__gpt-oss-120b/tp1": 557_056,
    "vllm-weights/openai__gpt-oss-120b/tp2": 17_104_896,
    "vllm-activation/CohereForAI__c4ai-command-r-v01": 49_152,
    "vllm-activation/Qwen__Qwen3-VL-8B-Instruct": 90_112,
    "vllm-activation/Qwen__Qwen3.5-27B": 569_344,
    "vllm-activation/google__gemma-3-27b-it": 644_096,
    "vllm-activation/meta-llama__Llama-4-Scout-17B-16E-Instruct": 273_408,
    "vllm-activation/openai__gpt-oss-20b": 780_288,
    "vllm-activation/swiss-ai__Apertus-8B-Instruct-2509": 1_024,
}


def judged(case: dict[str, Any]) -> Result:
    return judge(record_from(case, where="test"))


def misses(found: Result) -> dict[str, float]:
    return {f.name: abs(f.predicted - f.recorded) for f in found.facts if not f.agrees}


@pytest.mark.parametrize(
    ("records", "known", "number"), [(GPU, GPU_MISSES, 15), (RECORDED, RECORDED_MISSES, 86)], ids=["H200", "fake tensors"]
)
def test_recorded_bytes_are_exact_or_a_known_miss(records: list[dict[str, Any]], known: dict[str, int], number: int) -> None:
    assert len(records) == number
    wrong = {}
    for case in records:
        found = judged(case)
        assert found.status in {"exact", "differs"}, f"{case['id']}: {found.reason}"
        if found.status == "differs":
            wrong[found.id] = {k: v for k, v in misses(found).items() if k.endswith(("weights_bytes", "activation_bytes"))}
    assert set(wrong) == set(known)
    for name, facts in wrong.items():
        assert max(facts.values()) <= known[name], f"{name}: {facts}"


def test_what_the_page_calls_exact_is() -> None:
    """Weights of every recorded start but gpt-oss's experts; every term of an H200's ledger but two activations."""
    for case in GPU:
        assert set(misses(judged(case))) <= {"peak_activation_bytes", "available_memory"}
    for case in RECORDED:
        found = judged(case)
        assert all(amount <= MIB for amount in misses(found).values()) or "gpt-oss-120b" in found.id


def errors(name: str) -> Iterator[tuple[str, float]]:
    """Relative errors of a printed figure over the starts that print it; within the printed rounding it is 0."""
    for case in STARTS:
        for fact in judged(case).facts:
            if fact.name == name:
                yield case["id"], 0.0 if fact.agrees else abs(fact.predicted - fact.recorded) / fact.recorded


@each("name", ["weights_gib", "peak_activation_gib", "available_kv_gib", "kv_cache_tokens", "max_concurrency"])
def test_published_starts_of_0_19_are_met_to_a_few_thousandths(name: str) -> None:
    found = dict(errors(name))
    assert len(found) >= 48
    assert sum(found.values()) / len(found) < 0.0015
    assert max(found.values()) < (0.05 if name == "peak_activation_gib" else 0.016)


@pytest.fixture
def ledgers(monkeypatch: pytest.MonkeyPatch) -> list[Ledger]:
    """The ledger of the last record that was judged."""
    seen: list[Ledger] = []
    facts = memory._ledger_facts

    def spied(found: Ledger, parts: Any) -> dict[str, Any]:
        seen[:] = [found]
        return facts(found, parts)

    monkeypatch.setattr(memory, "_ledger_facts", spied)
    return seen


def test_bands_hold_what_was_recorded(ledgers: list[Ledger]) -> None:
    outside, held = set(), 0
    for case in [*GPU, *STARTS, *OTHER]:
        ledgers.clear()
        expected = case.get("expected", {})
        recorded = expected.get("available_memory") or (expected.get("available_kv_gib") or 0) * GIB
        judged(case)
        if not ledgers or not recorded:
            continue
        band = ledgers[0].available
        if band.low - 0.011 * GIB <= recorded <= band.high + 0.011 * GIB or "gpt-oss-20b" in case["id"]:
            held += 1
        else:
            outside.add(case["id"])
    assert not outside
    assert held >= 70


def test_no_prediction_sees_what_was_recorded() -> None:
    for case in [*GPU[::4], *RECORDED[::9], *STARTS[1::9]]:
        expected = {
            key: value * 2 if isinstance(value, int | float) and key != "total_memory" else value
            for key, value in case["expected"].items()
        }
        if "profile" in expected:
            expected["profile"] = [{**run, "peak_activation_bytes": 1} for run in expected["profile"]]
        other = {f.name: f.predicted for f in judged({**case, "expected": expected}).facts if not f.agrees}
        for fact in judged(case).facts:
            if not fact.agrees:
                assert other.get(fact.name, fact.predicted) == fact.predicted


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"config": {}}, "no config"),
    ({"expected": {"profile": 7}}, "must be a list of objects"),
    ({"expected": {"profile": [{"tokens": "many", "max_num_seqs": 1, "peak_activation_bytes": 1}]}}, "profile.tokens"),
    ({"config": {"model_type": "nobody-knows-this"}}, ""),
]


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_a_broken_record_is_answered(change: dict[str, Any], words: str) -> None:
    case = {**RECORDED[0], **change}
    found = judge(record_from(case, where="test"))
    assert found.status in {"invalid", "not_predicted"}
    assert words in found.reason


def start_of(case: dict[str, Any], *, total: bool, known: Learned = NOTHING) -> Ledger | None:
    """The ledger of a start that printed what was left, tensor parallel 1; `total`: given the total that its log prints."""
    expected = case.get("expected") or {}
    if not case.get("ok") or "available_kv_gib" not in expected or case.get("workload", {}).get("tp", 1) != 1:
        return None
    record = record_from(case, where="test").case
    config = memory.uncut(record.config)
    settings = memory.settings_of(record, config)
    if settings.tensor_parallel_size > 1 or settings.pipeline_parallel_size > 1:
        return None
    printed = memory.asked(record, expected)["total"] if total else None
    return ledger(described(config), settings, memory.card_of(record, printed), known)[0]


def test_what_one_start_taught_holds_for_another_on_its_card() -> None:
    """Non-torch memory and graphs learned from the even starts put the odd ones' pool within 0.3 %."""
    rows = [case for case in STARTS if case.get("config") and start_of(case, total=True) is not None]
    assert len(rows) >= 30
    taught = [case["expected"] for case in rows[::2]]
    graphs = [expected["cudagraph_actual_gib"] for expected in taught if expected.get("cudagraph_actual_gib")]
    known = Learned(
        non_torch=int(median(expected["non_torch_gib"] for expected in taught) * GIB),
        graphs=int(median(graphs) * GIB),
        source="even rows",
    )
    off = []
    for case in rows[1::2]:
        found = start_of(case, total=True, known=known)
        assert found is not None
        line = found.line(NON_TORCH)
        assert line is not None
        assert line.basis == "your log"
        off.append(abs(found.available.bytes / GIB / case["expected"]["available_kv_gib"] - 1))
    assert sum(off) / len(off) < 0.003


def test_without_the_logs_total_the_band_holds_what_was_left() -> None:
    seen = 0
    for case in STARTS:
        if not case.get("config"):
            continue
        found = start_of(case, total=False)
        if found is None or "gpt-oss" in case["id"]:  # mxfp4's layout of 0.19 on Hopper was not seen
            continue
        seen += 1
        assert found.total.low < found.total.high
        left = case["expected"]["available_kv_gib"] * GIB
        assert found.available.low - 0.006 * GIB <= left <= found.available.high + 0.006 * GIB, case["id"]
    assert seen >= 30
