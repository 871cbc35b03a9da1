"""Every recorded image, video and clip: transformers' processors, vLLM's own counts and budgets, llama.cpp's preprocessors."""

from collections import Counter
from functools import cache

import pytest
from golden import cases

from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.verdicts import Result
from kvplan.questions.audit.judge import judge

COUNTS = {"transformers": 911, "vllm": 385, "llama.cpp": 285}


@cache
def judged() -> list[Result]:
    """The verdict on every record."""
    return [judge(record_from(case, where="image_tokens")) for case in cases("image_tokens")]


@pytest.mark.parametrize("engine", COUNTS)
def test_every_recorded_count_is_exact(engine: str) -> None:
    found = [result for result in judged() if result.engine == engine]
    assert len(found) == COUNTS[engine]
    wrong = [
        f"{result.id}: {result.status} {result.reason} "
        + "; ".join(f"{fact.name}: {fact.predicted}, recorded {fact.recorded}" for fact in result.facts if not fact.agrees)
        for result in found
        if result.status != "exact"
    ]
    assert not wrong, "\n".join(wrong[:20])


def test_every_fact_of_a_record_is_compared() -> None:
    names = Counter(fact.name for result in judged() for fact in result.facts)
    assert names == {
        "placeholder_tokens": 1461, "tokens": 863, "encoder_positions": 1040, "tiles": 702, "cross_tokens": 32, "refused": 44,
        "encoder_compute_budget": 58, "encoder_cache_size": 58,
        "max_tokens_per_item.image": 58, "max_items_per_prompt.image": 58, "max_items_per_batch.image": 58,
        "max_tokens_per_item.video": 9, "max_items_per_prompt.video": 9, "max_items_per_batch.video": 9,
    }  # fmt: skip


def test_a_prediction_never_sees_the_recorded_values() -> None:
    for case, result in zip(cases("image_tokens")[::40], judged()[::40], strict=True):
        counted = {name: value for name, value in case["expected"].items() if isinstance(value, int)}
        altered = judge(record_from({**case, "expected": {name: value + 1 for name, value in counted.items()}}, where="altered"))
        predicted = {fact.name: fact.predicted for fact in result.facts}
        assert all(fact.predicted == predicted[fact.name] for fact in altered.facts if fact.name in predicted)
        assert result.facts[0].name == "refused" or altered.status == "differs"
