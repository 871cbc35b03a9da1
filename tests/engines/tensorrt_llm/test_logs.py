"""What a TensorRT-LLM server prints while it starts, in the formats of its source, held against predictions."""

from pathlib import Path
from typing import Any

from each import each
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.tensorrt_llm.audit import log
from kvplan.questions.audit.logs import reader_of

VERSION = "[TensorRT-LLM] TensorRT-LLM version: {release}"
ARGUMENTS = (
    "[11/28/2026-01:00:00] [TRT-LLM] [I] LLM Args:\nmodel='x' tensor_parallel_size={tp} pipeline_parallel_size=1 "
    "enable_attention_dp=False kv_cache_config=KvCacheConfig(enable_block_reuse=True, max_tokens=None, "
    "free_gpu_memory_fraction=0.9, dtype='{dtype}', tokens_per_block=32) max_batch_size=64"
)
FIRST = "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 1.00 GiB for max tokens in paged KV cache (8192)."
PEAK = (
    "[11/28/2026-01:00:10] [TRT-LLM] [RANK 0] [I] Peak memory during memory usage profiling (torch + non-torch): 20.00 GiB, "
    "available KV cache memory when calculating max tokens: {left} GiB, fraction is set 0.9, kv size per token is {each} "
    "(bytes/token). device total memory 79.10 GiB, temporary kv cache memory during profiling 1.00 GiB"
)
BLOCK = "[TensorRT-LLM][INFO] Number of tokens per block: 32."
MAX = (
    "[TensorRT-LLM][INFO] Max KV cache blocks per sequence: 4097 [window size=131073], tokens per block=32, "
    "primary blocks={blocks}, secondary blocks=0, max sequence length=131073"
)
LAST = "[TensorRT-LLM][INFO] [MemUsageChange] Allocated {gib} GiB for max tokens in paged KV cache ({tokens})."
SAID: dict[str, Any] = {
    "release": "1.2.0", "tp": 1, "dtype": "auto", "left": "54.09", "each": 131072, "blocks": 13847, "tokens": 443104,
    "gib": "54.09",
}  # fmt: skip


def lines(*parts: str, **said: Any) -> list[str]:
    return "\n".join(parts).format(**{**SAID, **said}).splitlines()


def judged(text: list[str], model: str | None = "llama-3.1-8b") -> list[Result]:
    return log.judge_log("x.log", text, None if model is None else kvplan.load(model))


WHOLE = (VERSION, ARGUMENTS, FIRST, PEAK, BLOCK, MAX, LAST)


def test_a_start_is_exact_its_throw_away_cache_included() -> None:
    [found] = judged(lines(*WHOLE))
    assert (found.status, found.id, found.is_log, found.reason) == ("exact", "x.log:1", True, "")
    facts = {fact.name: fact.recorded for fact in found.facts}
    assert facts["total_gib_printed[8192]"] == 1.0
    assert facts["total_gib_printed[443104]"] == 54.09
    assert facts["kv_bytes_per_token_printed"] == 131072
    assert facts["available_kv_gib_printed"] == 54.09


@each("wrong", [{"gib": "55.09"}, {"each": 131071}, {"left": "54.15"}, {"dtype": "fp8"}, {"tp": 2}, {"tokens": 443136}])
def test_another_number_differs(wrong: dict[str, Any]) -> None:
    [found] = judged(lines(*WHOLE, **wrong))
    assert found.status == "differs"


def test_ranks_that_print_the_same_are_one_start_and_two_starts_are_two() -> None:
    twice = [*lines(*WHOLE), *lines(LAST, LAST)]
    assert len(judged(twice)) == 1
    assert len(judged([*lines(*WHOLE), *lines(*WHOLE)])) == 2


def test_older_releases_print_bytes() -> None:
    text = [
        "[TensorRT-LLM] TensorRT-LLM version: 0.8.0",
        "[TensorRT-LLM][INFO] Allocate 335544320 bytes for k/v cache. ",
        "[TensorRT-LLM][INFO] Using 2560 tokens in paged KV cache.",
    ]
    [found] = judged(text)
    assert {fact.name for fact in found.facts} >= {"kv_bytes[2560]", "num_tokens[2560]"}
    assert found.status == "exact"
    [found] = judged(["[TensorRT-LLM][INFO] Max tokens in paged KV cache: 2560. Allocating 335544321 bytes."])
    assert found.status == "differs"


def test_the_stand_in_of_autodeploy_is_left_alone() -> None:
    fake = "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 0.00 GiB for max tokens in paged KV cache (64)."
    text = ["[TensorRT-LLM][INFO] backend _autodeploy", fake, *lines(LAST)]
    [found] = judged(text)
    assert {fact.name for fact in found.facts} == {"num_tokens[443104]", "total_gib_printed[443104]"}


def test_the_second_manager_prints_its_quota() -> None:
    [found] = judged(lines(VERSION, PEAK, "KV cache manager v2 device quota set to 54.09{more}GiB", more="0"))
    assert found.status == "exact"
    assert "quota_gib_printed" in {fact.name for fact in found.facts}


def test_a_log_needs_a_model_and_a_mark_makes_it_this_family(tmp_path: Path) -> None:
    [found] = judged(lines(*WHOLE), None)
    assert (found.status, found.reason) == ("not_predicted", "a server's log does not describe its model: name it with --model")
    (tmp_path / "x.log").write_text("\n".join(lines(*WHOLE)))
    assert reader_of(tmp_path / "x.log") is log


@given(st.lists(st.text(max_size=60) | st.sampled_from(lines(*WHOLE)), max_size=12))
def test_no_log_breaks_it(text: list[str]) -> None:
    for found in judged(text):
        assert found.status in {"exact", "differs", "not_predicted"}


@given(st.sampled_from(WHOLE), st.integers(0, 10**17), st.sampled_from(["1e400", "0", "99999999999999999999", "1.5.5", "-1"]))
def test_no_number_breaks_it(line: str, tokens: int, gib: str) -> None:
    for found in judged(lines(line, gib=gib, tokens=tokens, left=gib, each=tokens, blocks=tokens)):
        assert found.status in {"exact", "differs", "not_predicted"}
