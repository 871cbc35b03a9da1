"""Every recorded plan and pool of SGLang 0.5.23, its log lines word for word; and that no prediction sees the recorded values."""

from typing import Any

import pytest
from each import each
from golden import cases

from kvplan import architectures
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.options import build_options
from kvplan.engines.sglang.arguments import Arguments, settle
from kvplan.engines.sglang.audit.configs import bare
from kvplan.engines.sglang.log import lines
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.pool import reserve
from kvplan.questions.audit.judge import judge

PLANS = cases("sglang_planning")
POOLS = cases("sglang")
LOGS = [case for case in cases("fieldlogs") if case["engine_version"].startswith("sglang")]
PROMISED = {
    "available_bytes", "cell_size", "kv_pool_bytes", "state_bytes", "req_to_token_bytes", "sizes.max_total_num_tokens",
    "sizes.max_running_requests", "sizes.full_max_total_num_tokens", "sizes.swa_max_total_num_tokens",
    "sizes.c4_max_total_num_tokens", "sizes.c128_max_total_num_tokens", "sizes.c4_state_pool_size",
    "sizes.c128_state_pool_size", "resolved.page_size", "resolved.mem_fraction_static", "resolved.chunked_prefill_size",
    "resolved.swa_full_tokens_ratio",
}  # fmt: skip
#: Logs of models whose config nobody has.
NO_CONFIG = {"fieldlog/qwen3.8-flash-next/sglang-tp2", "fieldlog/ling3-bailingv3/sglang-kda-mla"}


def arguments(case: dict[str, Any]) -> Arguments:
    """The settled arguments of a plan, as its auditor settles them."""
    work = case["workload"]
    given = dict(case["options"])
    major, minor = work["compute_capability"]
    given |= {"compute_capability": major * 10 + minor, "device_memory_bytes": work["gpu_memory_mib"] * 2**20}
    environment = work.get("env", {})
    if "SGLANG_DSV4_COMPRESS_STATE_DTYPE" in environment:
        given["dsv4_compress_state_dtype"] = environment["SGLANG_DSV4_COMPRESS_STATE_DTYPE"]
    given["post_capture_kv_sizing"] = "SGLANG_ENABLE_POST_CAPTURE_KV_SIZING" in environment
    if "draft_config" in work:
        given["draft"] = architectures.read(bare(work["draft_config"]), source="draft", name="draft")
    model = architectures.read(bare(case["config"]), source=case["id"], name="model")
    return settle(model, build_options(SglangOptions, given, engine="sglang"))


@pytest.mark.parametrize(("name", "records", "number"), [("plans", PLANS, 1449), ("pools", POOLS, 22)], ids=["plans", "pools"])
def test_every_recorded_fact_is_exact(name: str, records: list[dict[str, Any]], number: int) -> None:
    assert len(records) == number
    wrong = []
    for case in records:
        result = judge(record_from(case, where=name))
        if result.status != "exact":
            differing = [f"{f.name}: {f.predicted}, recorded {f.recorded}" for f in result.facts if not f.agrees]
            wrong.append(f"{result.id}: {result.status} {result.reason} {'; '.join(differing)[:300]}")
    assert not wrong, "\n".join(wrong[:20])


def test_every_fact_that_the_readme_promises_is_compared() -> None:
    compared: set[str] = set()
    for case in PLANS:
        compared |= {fact.name for fact in judge(record_from(case, where="plans")).facts}
    assert compared == PROMISED


def test_the_lines_are_printed_word_for_word() -> None:
    """A pool that the recorder could not build prints nothing; the sizing before it does."""
    wrong, compared = [], 0
    for case in PLANS:
        args, work = arguments(case), case["workload"]
        found = reserve(args, work["free_before_gib"], work["free_after_gib"], work.get("rank", 0) // args.options.tp_size)
        printed = list(lines(args, found))
        if "pools_error" in case["expected"]:
            printed = printed[: len(case["expected"]["logs"])]
        compared += len(printed)
        if printed != case["expected"]["logs"]:
            wrong.append(case["id"])
    assert not wrong, wrong[:10]
    assert compared > 3000


def test_the_backends_are_the_recorded_ones() -> None:
    for case in PLANS:
        kernel = arguments(case).kernels
        assert [kernel.prefill, kernel.decode] == case["expected"]["resolved"]["attention_backends"], case["id"]


def other(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return value + 1
    return [other(item) for item in value] if isinstance(value, list) else {key: other(item) for key, item in value.items()}


@pytest.mark.parametrize("records", [PLANS[::23], POOLS], ids=["plans", "pools"])
def test_other_recorded_values_differ_and_leave_the_prediction_alone(records: list[dict[str, Any]]) -> None:
    for case in records:
        right = judge(record_from(case, where="test"))
        wrong = judge(record_from({**case, "expected": other(case["expected"])}, where="test"))
        assert wrong.status == "differs", case["id"]
        assert [fact.predicted for fact in right.facts] == [fact.predicted for fact in wrong.facts], case["id"]


def test_logs_of_named_models_agree_to_the_printed_digits() -> None:
    assert len(LOGS) == 10
    for case in LOGS:
        result = judge(record_from(case, where="fieldlogs"))
        assert result.status == ("not_predicted" if case["id"] in NO_CONFIG else "exact"), f"{case['id']}: {result.reason}"


def test_a_log_with_another_size_differs() -> None:
    for case in LOGS:
        if case["id"] in NO_CONFIG:
            continue
        expected = {key: value + 1 if isinstance(value, float) else value for key, value in case["expected"].items()}
        assert judge(record_from({**case, "expected": expected}, where="test")).status == "differs", case["id"]


@each(
    ("change", "status", "reason"),
    [
        ({"workload": {"free_before_gib": "much"}}, "invalid", "free_before_gib"),
        ({"workload": {"compute_capability": 9}}, "invalid", "compute_capability"),
        ({"workload": {"compute_capability": [9, "0"]}}, "invalid", "compute_capability"),
        ({"workload": {"rank": 7}}, "invalid", "stage 8 of 1"),
        ({"workload": {"env": {"PATH": "/"}}}, "invalid", "PATH"),
        ({"workload": {"draft_config": []}}, "invalid", "draft_config"),
        ({"workload": {"gpu_memory_mib": 0}}, "invalid", "gpu_memory_mib"),
        ({"options": {"tp_sise": 2}}, "not_predicted", "no option `tp_sise`"),
        ({"options": {"page_size": "a"}}, "not_predicted", "page_size"),
        ({"expected": {"sizes": 3}}, "invalid", "sizes"),
        ({"workload": {"free_after_gib": 1}}, "not_predicted", "Loaded weights leave no GPU memory"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(change: dict[str, Any], status: str, reason: str) -> None:
    case = next(case for case in PLANS if case["id"] == "sglang/Qwen/Qwen3-8B/base")
    changed = {**case, **{key: {**case[key], **value} for key, value in change.items()}}
    result = judge(record_from(changed, where="test"))
    assert result.status == status, result
    assert reason in result.reason
