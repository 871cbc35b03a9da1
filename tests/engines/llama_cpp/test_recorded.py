"""Recorded llama.cpp contexts against predictions: all exact; wrong ones and broken ones are seen."""

import copy
from typing import Any

from each import each
from golden import GOLDEN, cases

import kvplan
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.llama_cpp.audit.cases import recorded
from kvplan.engines.llama_cpp.context import Refusal, make_context
from kvplan.engines.llama_cpp.log import log_lines
from kvplan.engines.llama_cpp.memory import Params
from kvplan.gguf.hparams import read_hparams
from kvplan.questions.audit.judge import judge

CASES = cases("llama_cpp")
LIVE = cases("llama_live")
GOOD = next(case for case in CASES if case["id"] == "llama.cpp/google/gemma-3-1b-it/ctx4096")


def judged(**changes: Any) -> Result:
    case = copy.deepcopy(GOOD)
    for key, value in changes.items():
        case[key] = {**case[key], **value}
    return judge(record_from(case, where="x"))


def test_every_recorded_context_is_exact() -> None:
    found = kvplan.audit(GOLDEN / "llama_cpp.jsonl")
    assert [result.id for result in found.results if result.status != "exact"] == []
    assert len(found.results) == 627
    assert sum(len(result.facts) for result in found.results) > 12_000
    bands = [fact for result in found.results for fact in result.facts if fact.inside]
    assert len(bands) == 608
    assert sum(fact.high <= 1.5 * fact.low for fact in bands) > 0.91 * len(bands)


def test_every_architecture_is_exact_on_models_that_nobody_published() -> None:
    """Random small models of the real library: 138 architectures, a refusal of each among them."""
    found = kvplan.audit(GOLDEN / "llama_live.jsonl")
    assert [result.id for result in found.results if result.status != "exact"] == []
    assert len(found.results) == len(LIVE) == 412
    assert len({case["model"] for case in LIVE}) == 138
    assert sum(not case["expected"]["ok"] for case in LIVE) == 138


def test_the_lines_of_its_log_are_the_librarys() -> None:
    compared = 0
    for case in LIVE:
        h = read_hparams(case["config"])
        context = make_context(h, Params(**case["options"]))
        if isinstance(context, Refusal):
            continue
        printed = log_lines(h, context, type_k=case["options"]["type_k"], type_v=case["options"]["type_v"])
        sizes = [text for text in printed if " cells," in text]
        assert sizes == case["expected"]["log"], case["id"]
        compared += len(sizes)
    assert compared > 300


def test_the_facts_are_those_of_the_page() -> None:
    names = set(recorded(record_from(GOOD, where="x").case, GOOD["expected"]))
    assert names >= {"ok", "total_bytes", "k_bytes", "v_bytes", "state_bytes", "n_ctx", "n_ctx_seq", "n_seq_max", "n_batch"}
    assert names >= {"n_ubatch", "output_buffer_bytes", "parts[0].name", "parts[1].cells", "parts[1].k_bytes"}
    assert "compute_buffer_bytes" in names  # inside its band


@each("name", ["total_bytes", "n_ctx_seq", "n_ubatch", "output_buffer_bytes", "ok"])
def test_a_wrong_number_is_a_difference(name: str) -> None:
    value = GOOD["expected"][name]
    result = judged(expected={name: not value if isinstance(value, bool) else value + 1})
    assert result.status == "differs"
    assert [fact.name for fact in result.facts if not fact.agrees] == [name]


def test_a_refusal_of_the_engine_is_predicted_as_one() -> None:
    refused = [case for case in CASES if not case["expected"]["ok"]]
    assert len(refused) == 5
    for case in refused:
        result = judge(record_from(case, where="x"))
        assert (result.status, [(f.name, f.predicted) for f in result.facts]) == ("exact", [("ok", False)])


def test_a_hub_config_goes_through_the_converter() -> None:
    pairs = [case for case in CASES if "hf_config" in case]
    assert len(pairs) == 502
    for case in pairs:
        result = judge(record_from({**case, "config": case["hf_config"]}, where="x"))
        assert result.status == "exact", (case["id"], result.reason)


@each(
    ("changes", "status"),
    [
        ({"options": {"n_ctx": "many"}}, "invalid"),
        ({"options": {"type_k": 8}}, "invalid"),
        ({"options": {"swa_full": "yes"}}, "invalid"),
        ({"options": {"n_seq_max": -1}}, "invalid"),
        ({"options": {"type_k": "fp8"}}, "not_predicted"),
        ({"options": {"flash_attn": "maybe"}}, "not_predicted"),
        ({"expected": {"parts": 7}}, "invalid"),
        ({"config": {"gemma3.block_count": "x"}}, "differs"),
    ],
)
def test_broken_records_have_one_reason(changes: dict[str, Any], status: str) -> None:
    result = judged(**changes)
    assert result.status == status
    assert result.reason or status == "differs"


def test_no_config_is_invalid() -> None:
    assert judge(record_from({**GOOD, "config": {}}, where="x")).status == "invalid"
