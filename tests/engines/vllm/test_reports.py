"""Public reports of vLLM's numbers: each is exact, or the guide lists it with what is missing."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

import kvplan
from kvplan import architectures
from kvplan.engines.kernel.verdicts import Result

ROOT: Final = Path(__file__).resolve().parents[3]
RECORDED: Final = ROOT / "tests" / "golden" / "vllm_reports.jsonl"
GUIDE: Final = ROOT / "docs" / "guides" / "vllm.md"
ROW: Final = re.compile(r"^\| `([^`]+)`[^|]*\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {result.id.removeprefix("bugreport/"): result for result in kvplan.audit(RECORDED).results}


def listed() -> dict[str, tuple[str, str]]:
    """Report -> (what is predicted and recorded, what is missing), as the guide has it."""
    return {name: (numbers, missing) for name, numbers, missing in ROW.findall(GUIDE.read_text(encoding="utf-8"))}


def test_every_report_is_exact_or_listed(results: dict[str, Result]) -> None:
    missed = {name for name, result in results.items() if result.status != "exact"}
    assert missed == listed().keys()  # the list only shrinks: what becomes exact leaves it
    assert len(results) - len(missed) == 11


def test_the_list_says_the_numbers_that_the_audit_prints(results: dict[str, Result]) -> None:
    for name, (numbers, missing) in listed().items():
        assert len(missing.split()) > 2
        wrong = [fact for fact in results[name].facts if not fact.agrees and fact.predicted is not None]
        assert (numbers == "nothing") == (not wrong), name
        said = {float(number) for number in re.findall(r"[\d.]+", numbers.replace(",", "")) if number.strip(".")}
        told = [fact for fact in wrong if {fact.predicted, fact.recorded} <= said]
        assert bool(told) == bool(wrong), (name, numbers, [(fact.predicted, fact.recorded) for fact in wrong])


def row(name: str) -> dict[str, Any]:
    lines = map(json.loads, RECORDED.read_text(encoding="utf-8").splitlines())
    return next(line for line in lines if line["id"].endswith(name))


def test_what_a_reporter_worked_out_is_what_an_estimate_gives() -> None:
    case = row("gemma-4-31b/vllm-0.25.1-starts")
    length, tokens = case["workload"]["max_model_len"], case["options"]["max_num_batched_tokens"]
    model = architectures.read(case["config"])
    answer = kvplan.estimate(model, seq_len=length, engine="vllm@0.25.1", max_num_batched_tokens=tokens, max_model_len=length)
    assert round(answer.total_bytes / 2**30, 2) == case["expected"]["needed_gib"]
