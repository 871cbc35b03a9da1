"""Public reports of vLLM's numbers: each is exact, or the guide lists it with what is missing."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from each import each

import kvplan
from kvplan import architectures
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.pool import needed_bytes
from kvplan.errors import Refused

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


def _two_stages(version: str, **options: object) -> tuple[list[int], int]:
    """What a request needs on each stage of the reporter's DeepSeek-V4-Pro, and the blocks that 400 GiB a worker make."""
    case = row("deepseek-v4-pro/vllm-pp2")
    flags = {**case["options"], "max_model_len": case["workload"]["max_model_len"], "max_num_batched_tokens": 8192}
    plan = Vllm.made({**flags, **options}, version).on(architectures.read(case["config"])).plan
    needed = [needed_bytes(plan, stage, plan.max_model_len) for stage in (0, 1)]
    return needed, min(400 * 2**30 // block for block in plan.block_bytes)


#: What each release's own `get_kv_cache_configs` says of the layers that its `models/deepseek_v4` registers, executed: bytes that
#: a request needs on the two stages, and blocks. Windows and states that are held whole take the latents' blocks.
_WHOLE: Final = ([240_175_104_768, 235_485_204_480], 6_986)  # 223.68 GiB: what the report printed
_APART: Final = [5_554_142_208, 5_207_008_320]


@each(
    ("version", "whole", "expected"),
    [(version, True, _WHOLE) for version in ("0.20.0", "0.21.0", "0.22.0", "0.23.0", "0.24.0", "0.25.1", "0.26.0", "0.27.0")]
    + [("0.29.0", True, _WHOLE)]
    + [("0.20.0", None, (_APART, 561_486)), ("0.22.0", None, (_APART, 561_486))]
    + [("0.23.0", None, (_APART, 567_901)), ("0.25.1", None, (_APART, 567_901))],
)  # fmt: skip
def test_deepseek_v4_pro_on_two_stages_is_what_each_release_plans(
    version: str, whole: bool | None, expected: tuple[list[int], int]
) -> None:
    assert _two_stages(version, disable_hybrid_kv_cache_manager=whole) == expected


def test_since_0_31_deepseek_v4_does_not_start_without_the_hybrid_manager() -> None:
    with pytest.raises(Refused, match="bounded_replay"):
        _two_stages("0.31.0", disable_hybrid_kv_cache_manager=True)


@each(
    ("version", "options", "whole"),
    [
        ("0.21.0", {"kv_transfer_config": '{"kv_connector": "OffloadingConnector"}'}, True),  # any connector
        ("0.21.0", {"kv_offloading_size": 100.0}, False),  # its connector is chosen after the groups
        ("0.21.0", {"kv_transfer_config": '{"kv_connector": "NixlConnector"}', "disable_hybrid_kv_cache_manager": False}, False),
        ("0.22.0", {"kv_transfer_config": '{"kv_connector": "OffloadingConnector"}'}, False),
        ("0.22.0", {"kv_transfer_config": '{"kv_connector": "LMCacheConnectorV1"}'}, True),
        ("0.22.0", {"kv_offloading_size": 100.0}, False),
    ],
)
def test_a_connector_turns_groups_off_where_the_release_says_so(version: str, options: dict[str, Any], whole: bool) -> None:
    assert (_two_stages(version, **options)[0] == _WHOLE[0]) == whole
