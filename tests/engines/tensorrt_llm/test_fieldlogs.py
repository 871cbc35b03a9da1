"""What people's servers printed of their cache: blocks from what was free, and sizes of a dtype that a record leaves open."""

from typing import Any

from golden import cases

from kvplan.engines.kernel.cases import record_from
from kvplan.questions.audit.judge import judge

ROWS = {case["id"].rpartition("/")[2]: case for case in cases("fieldlogs") if "/trtllm-" in case["id"]}


def status(name: str, **changed: Any) -> str:
    case = ROWS[name]
    expected = {**case["expected"], **changed.pop("expected", {})}
    options = {**case["options"], **changed.pop("options", {})}
    return judge(record_from({**case, "expected": expected, "options": options}, where="fieldlogs")).status


def test_the_fraction_of_what_was_free_is_rounded_up_to_blocks() -> None:
    assert status("trtllm-631-blocks") == "exact"
    assert [status("trtllm-631-blocks", expected={"num_blocks_printed": n}) for n in (630, 632)] == ["differs"] * 2
    assert status("trtllm-631-blocks", expected={"available_gib_printed": 22.1}) == "differs"
    assert status("trtllm-631-blocks", options={"kv_cache_free_gpu_mem_fraction": 0.8}) == "differs"
    assert status("trtllm-631-blocks", options={"kv_dtype": "int8"}) == "differs"


def test_dtypes_that_a_record_leaves_open_are_one_where_all_take_as_much() -> None:
    assert status("trtllm-12800") == "exact"
    assert status("trtllm-12800", options={"kv_dtype": "fp16/fp8"}) == "not_predicted"
    assert status("trtllm-12800", expected={"total_gib_printed": 0.78}) == "differs"
