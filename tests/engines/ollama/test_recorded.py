"""Every recorded run of Ollama's own code; and that no prediction sees the recorded values."""

from collections import Counter
from functools import cache
from typing import Any

from each import each
from golden import cases

from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.verdicts import Result
from kvplan.questions.audit.judge import judge


@cache
def judged() -> list[Result]:
    """The verdict on every record."""
    return [judge(record_from(case, where="ollama")) for case in cases("ollama")]


def test_every_recorded_run_is_exact() -> None:
    found = judged()
    assert len(found) == 350
    wrong = []
    for result in found:
        if result.status != "exact":
            differing = [f"{f.name}: {f.predicted}, recorded {f.recorded}" for f in result.facts if not f.agrees]
            wrong.append(f"{result.id}: {result.status} {result.reason} {'; '.join(differing)[:400]}")
    assert not wrong, "\n".join(wrong[:20])


def test_every_fact_of_a_record_is_compared() -> None:
    compared: Counter[str] = Counter()
    for result in judged():
        compared.update(fact.name for fact in result.facts)
    recorded: Counter[str] = Counter()
    for case in cases("ollama"):
        recorded.update(set(case["expected"]) - {"load_error", "by_device"})
    assert compared == recorded
    assert compared["command_lines"] > 200


def _altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return [_altered(one) for one in value] if isinstance(value, list) else f"{value}x" if isinstance(value, str) else value


def test_altering_a_record_leaves_the_prediction_alone() -> None:
    differing = 0
    for case in cases("ollama")[::7]:
        if case["expected"].get("error") == "unexpected EOF":  # such a record says nowhere else what was read
            continue
        changed = {key: _altered(value) for key, value in case["expected"].items()}
        kept, other = judge(record_from(case, where="x")), judge(record_from({**case, "expected": changed}, where="x"))
        assert [f.predicted for f in other.facts] == [f.predicted for f in kept.facts], case["id"]
        differing += other.status == "differs"
    assert differing > 40


@each(
    "broken",
    [
        {"workload": {"gpus": "two"}},
        {"workload": {"gpus": [{}] * 1000}},
        {"workload": {"gpus": [{"Total": -1}]}},
        {"workload": {"gpus": [], "system_memory": ["a", 1]}},
        {"options": {"env": "x"}, "workload": {}},
        {"options": {"name": 7}},
        {"options": {"digest": []}},
        {"options": {"name": "a"}, "workload": {"manifest": {"layers": 3}}},
        {"options": {"name": "a"}, "workload": {"manifest": {"layers": [1]}}},
        {"options": {"name": "a"}, "workload": {"manifest": {"layers": [{"size": 2**60}], "config": {}}}},
        {"workload": {"bytes": 5}},
        {"workload": {"bytes": ["5"]}},
        {"workload": {"log": 5, "model_file_size": 1}},
        {"workload": {"log": "a: b KV buffer size = 1.00 MiB"}},
        {"workload": {"num_ctx_total": "many", "model_file_bytes": 1}},
    ],
    ids=str,
)
def test_a_broken_record_is_invalid_or_not_predicted_in_one_sentence(broken: dict[str, Any]) -> None:
    result = judge(record_from({**cases("ollama")[0], **broken}, where="x"))
    assert result.status in {"invalid", "not_predicted"}, result
    assert result.reason
    assert "\n" not in result.reason
