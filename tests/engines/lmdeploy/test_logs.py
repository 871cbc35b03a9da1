"""What an LMDeploy server prints while it starts, in the formats of its source, held against predictions."""

from pathlib import Path
from typing import Any

import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.lmdeploy import startup
from kvplan.questions.audit.logs import judge_log, reader_of
from kvplan.units import MIB

OPTIONS = (
    "2026-01-01 10:00:00,000 - lmdeploy - INFO - async_engine.py:133 - input backend=pytorch, backend_config="
    "PytorchEngineConfig(dtype='auto', tp={tp}, dp={dp}, dp_rank=0, ep=1, session_len=None, max_batch_size=None, "
    "attn_tp_size=None, cache_max_entry_count=0.8, prefill_interval=16, block_size=64, kernel_block_size=-1, num_cpu_blocks=0, "
    "num_gpu_blocks=0, adapters=None, max_prefill_token_num=8192, enable_prefix_caching=False, device_type='cuda', "
    "quant_policy=<QuantPolicy.{policy}>, empty_init=False)"
)
FREE = "2026-01-01 10:00:09,000 - lmdeploy - DEBUG - base.py:346 - minimal free gpu memory: {free} mb"
RUNTIME = "2026-01-01 10:00:09,000 - lmdeploy - DEBUG - base.py:388 - estimated max runtime memory: {runtime} mb"
CACHE = (
    "2026-01-01 10:00:11,000 - lmdeploy - INFO - base.py:439 - Building CacheEngine with config: \n"
    "CacheConfig(max_batches={batch}, block_size=64, num_cpu_blocks=0, num_gpu_blocks={blocks}, kernel_block_size=64, "
    "window_size=-1, cache_max_entry_count=0.8, max_prefill_token_num={prefill}, cudagraph_capture_batch_sizes=None, "
    "enable_prefix_caching=False, quant_policy=<QuantPolicy.{policy}>, device_type='cuda', num_state_caches={slots}, "
    "prefix_cache_state_budget=0, states_shapes=[], num_reserved_gpu_blocks=1, role=<EngineRole.Hybrid: 1>)."
)
SAID = {
    "tp": 1, "dp": 1, "policy": "NONE: 0", "free": 64912, "runtime": 2967, "batch": 1024, "blocks": 5506, "prefill": 8192,
    "slots": None,
}  # fmt: skip


def lines(*parts: str, **said: Any) -> list[str]:
    return "\n".join(parts).format(**{**SAID, **said}).splitlines()


def judged(text: list[str], model: str | None = "qwen3-8b") -> list[Result]:
    return startup.judge_log("x.log", text, None if model is None else kvplan.load(model))


def test_a_start_is_exact_and_its_memory_leaves_a_band() -> None:
    [found] = judged(lines(OPTIONS, FREE, RUNTIME, CACHE))
    assert (found.status, found.id, found.is_log) == ("exact", "x.log:1", True)
    facts = {fact.name: fact for fact in found.facts}
    assert set(facts) == {
        "runtime_mib_printed", "block_size", "kernel_block_size", "num_gpu_blocks", "max_prefill_token_num",
    }  # fmt: skip
    assert (facts["num_gpu_blocks"].low, facts["num_gpu_blocks"].high) == (5506, 5506)


@pytest.mark.parametrize("wrong", [{"blocks": 5505}, {"runtime": 2968}, {"prefill": 4096}])
def test_another_number_differs(wrong: dict[str, int]) -> None:
    [found] = judged(lines(OPTIONS, FREE, RUNTIME, CACHE, **wrong))
    assert found.status == "differs"
    assert sum(not fact.agrees for fact in found.facts) == 1


def test_options_are_read_and_the_batch_comes_from_the_cache() -> None:
    prepared_blocks = kvplan.reserve(
        "qwen3.6-27b", memory=20_000 * MIB, engine="lmdeploy", quant_policy=8, tp=2, max_batch_size=16
    )
    assert isinstance(prepared_blocks, kvplan.Pool)
    said = {"policy": "INT8: 8", "tp": 2, "batch": 16, "free": 20_000, "blocks": prepared_blocks.num_blocks, "slots": 18}
    [found] = judged(lines(OPTIONS, FREE, CACHE, **said), "qwen3.6-27b")
    assert found.status == "exact", found
    assert {fact.name for fact in found.facts} >= {"num_state_caches", "num_gpu_blocks"}


def test_without_the_memory_the_rest_is_compared_and_two_starts_are_two_results() -> None:
    found = judged([*lines(OPTIONS, CACHE), *lines(OPTIONS, FREE, RUNTIME, CACHE)])
    assert [result.status for result in found] == ["exact", "exact"]
    assert {fact.name for fact in found[0].facts} == {"block_size", "kernel_block_size"}


def test_a_drafters_cache_is_left_out() -> None:
    drafter = [line.replace("CacheEngine", "Spec CacheEngine") for line in lines(CACHE, blocks=1)]
    [found] = judged([*lines(OPTIONS, FREE, CACHE), *drafter])
    assert found.status == "exact"


def test_a_refusal_is_predicted_in_its_words() -> None:
    [found] = judged([*lines(OPTIONS, FREE, free=1000), "RuntimeError: No enough gpu memory for kv cache."])
    assert (found.status, found.facts[0].name) == ("exact", "refused")
    [late] = judged([*lines(OPTIONS, FREE), "RuntimeError: No enough gpu memory for kv cache."])
    assert late.status == "differs"


def test_turbomind_prints_one_line() -> None:
    line = "[TM][INFO] Object cache budget: {} MB from free 20480.37 MB and ratio 0.800"
    assert judged([line.format("16384.30")], None)[0].status == "exact"
    assert judged([line.format("16385.30")], None)[0].status == "differs"


def test_what_cannot_be_told_says_why() -> None:
    assert "name it with --model" in judged(lines(OPTIONS, FREE, CACHE), None)[0].reason
    assert "data parallelism" in judged(lines(OPTIONS, FREE, CACHE, dp=2))[0].reason
    assert "Can not found rewrite" in judged(lines(OPTIONS, FREE, CACHE), "gpt2")[0].reason
    assert judged(["nothing here"]) == []


def test_the_command_finds_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("\n".join(lines(OPTIONS, FREE, RUNTIME, CACHE)), encoding="utf-8")
    assert reader_of(path) is startup
    assert [result.status for result in judge_log(path, startup, kvplan.load("qwen3-8b"))] == ["exact"]


@given(st.lists(st.one_of(st.sampled_from(lines(OPTIONS, FREE, RUNTIME, CACHE)), st.text(max_size=80)), max_size=12))
def test_lines_in_any_order_never_crash(text: list[str]) -> None:
    for result in judged(text):
        assert "\n" not in result.reason


@each("value", ["1.5", "9" * 18, "-7", "'x'", "None", "1e9", "<A.B: 3>", "True"])
@each("name", ["num_gpu_blocks", "block_size", "max_batches", "tp", "quant_policy", "max_prefill_token_num"])
def test_hostile_values_are_one_sentence(name: str, value: str) -> None:
    text = [f"backend_config=PytorchEngineConfig({name}={value})", *lines(FREE), f"CacheConfig({name}={value}, block_size=64)"]
    for result in judged(text):
        assert "\n" not in result.reason
