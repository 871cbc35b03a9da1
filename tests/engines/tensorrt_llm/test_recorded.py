"""Published starts of TensorRT-LLM: right to the printed digits wherever the model is named, and other numbers differ."""

from copy import deepcopy

import pytest
from each import each
from golden import cases

from kvplan.engines.kernel.cases import record_from
from kvplan.engines.tensorrt_llm.audit.fieldlog import release
from kvplan.questions.audit.judge import judge

LOGS = cases("tensorrt_llm_logs")


def test_every_published_start_is_right_to_the_printed_digits() -> None:
    assert len(LOGS) == 27
    wrong = []
    for case in LOGS:
        result = judge(record_from(case, where="x"))
        if result.status != "exact":
            wrong.append(f"{result.id}: {result.status} {result.reason} {[f for f in result.facts if not f.agrees]}")
    assert not wrong, "\n".join(wrong)


@each("fact", ["total_gib_printed", "kv_bytes", "kv_bytes_per_token_printed", "available_kv_gib_printed",
                                  "temporary_kv_gib_printed", "num_blocks_printed", "num_tokens"])  # fmt: skip
def test_another_number_differs(fact: str) -> None:
    seen = 0
    for case in LOGS:
        if fact not in case["expected"]:
            continue
        changed = deepcopy(case)
        value = changed["expected"][fact]
        changed["expected"][fact] = value + 0.111 if isinstance(value, float) else value * 2
        result = judge(record_from(changed, where="x"))
        assert result.status == "differs", changed["id"]
        seen += 1
    assert seen


@pytest.mark.parametrize(
    ("text", "meant"),
    [("tensorrt-llm 1.3.0rc0", "1.3.0"), ("tensorrt-llm 0.9 (2024-05)", "0.9"), ("tensorrt-llm 1.x (2026)", "1.2.0"),
     ("tensorrt-llm (Triton, 2026)", "1.2.0")],
)  # fmt: skip
def test_the_release_of_a_log(text: str, meant: str) -> None:
    assert release(text) == meant


@each(
    ("part", "key", "value"),
    [("options", "tp", 0), ("options", "kv_dtype", 3), ("options", "max_attention_window", ["x"]), ("workload", "peak_gib", "x"),
     ("workload", "max_seq_len", -1), ("expected", "num_tokens", 1.5), ("expected", "total_gib_printed", "x"),
     ("options", "mtp", 10**9), ("options", "pp", 10**6), ("options", "tokens_per_block", 0)],
)  # fmt: skip
def test_a_bad_record_is_said_to_be_bad(part: str, key: str, value: object) -> None:
    case = deepcopy(next(case for case in LOGS if "gpt-oss-120b/spark" in case["id"]))
    case[part][key] = value
    result = judge(record_from(case, where="x"))
    assert result.status in {"invalid", "not_predicted", "differs"}


def test_a_model_of_no_family_is_counted_by_its_dimensions() -> None:
    case = deepcopy(LOGS[0])
    case["config"]["model_type"] = "nobodys"
    assert judge(record_from(case, where="x")).status == "exact"
    del case["config"]["num_hidden_layers"]
    assert judge(record_from(case, where="x")).status == "not_predicted"
