"""Server logs of SGLang: the lines of recorded plans around which a server's own stand, and logs of other releases."""

from typing import Any

from each import each
from golden import cases

import kvplan
from kvplan import architectures
from kvplan.engines.sglang.audit.configs import bare
from kvplan.engines.sglang.audit.log import MARKS, judge_log, starts
from kvplan.engines.sglang.audit.printed import Between

PLANS = cases("sglang_planning")
#: What a log does not say: the card, the pipeline stage, the drafter, the role of a split server, an environment.
UNSAID = {"pp_size", "speculative_algorithm", "disaggregation_mode", "dcp_size"}
LLAMA = [
    "[2026-01-31 13:50:20] server_args=ServerArgs(model_path='m', tp_size=2, mem_fraction_static=0.83, page_size=None)",
    "[2026-01-31 13:50:30 TP0] Load weight begin. avail mem=78.58 GB",
    "[2026-01-31 13:50:38 TP0] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=71.02 GB",
    "[2026-01-31 13:50:39 TP0] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 941000, K size: 28.72 GB, V size: 28.72 GB",
    "[2026-01-31 13:50:39 TP1] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 941000, K size: 28.72 GB, V size: 28.72 GB",
    "[2026-01-31 13:50:44 TP0] max_total_num_tokens=941000, chunked_prefill_size=8192, max_prefill_tokens=16384, "
    "max_running_requests=3675, context_len=131072, available_gpu_mem=12.11 GB",
]
BEFORE = ["[2025-03-08 12:29:21 TP0] KV Cache is allocated. #tokens: 46611, K size: 1.42 GB, V size: 1.42 GB"]


def server_log(case: dict[str, Any]) -> list[str]:
    """A log as SGLang would have written it around the recorded lines, for a second device too."""
    flags = {"model_path": "m", **case["options"]}
    args = ", ".join(f"{name}={value!r}" for name, value in flags.items())
    lines = [f"[2026-09-01 10:00:00] server_args=ServerArgs({args})"]
    lines += [f"[2026-09-01 10:00:0{rank} TP{rank}] {line}" for rank in (0, 1) for line in case["expected"]["logs"]]
    sizes, chunk = case["expected"]["sizes"], case["expected"]["resolved"]["chunked_prefill_size"]
    lines.append(
        f"[2026-09-01 10:00:05 TP0] max_total_num_tokens={sizes['max_total_num_tokens']}, chunked_prefill_size={chunk}, "
        f"max_prefill_tokens=16384, max_running_requests={sizes['max_running_requests']}, available_gpu_mem=9.87 GB"
    )
    return lines


def test_the_lines_of_recorded_plans_agree_in_a_servers_log() -> None:
    compared, facts = 0, set()
    for case in PLANS:
        work = case["workload"]
        unsaid = UNSAID & case["options"].keys() or {"env", "draft_config"} & work.keys() or "pools_error" in case["expected"]
        if unsaid or work["compute_capability"] != [9, 0] or case["config"]["model_type"] == "deepseek_v4":
            continue
        model = architectures.read(bare(case["config"]), source=case["id"], name="model")
        (result,) = judge_log("server.log", server_log(case), model)
        wrong = [f"{f.name}: {f.predicted}, printed {f.recorded}" for f in result.facts if not f.agrees]
        assert result.status == "exact", f"{case['id']}: {wrong} {result.reason}"
        facts |= {fact.name for fact in result.facts}
        compared += 1
    assert compared > 700
    assert facts >= {
        "num_tokens", "k_gib_printed", "kv_gib_printed", "full_k_gib_printed", "swa_v_gib_printed", "total_gib_printed",
        "conv_gib_printed", "ssm_gib_printed", "max_running_requests", "swa_tokens",
    }  # fmt: skip


def test_a_servers_log_is_read() -> None:
    (result,) = judge_log("server.log", LLAMA, kvplan.load("llama-3.1-8b"))
    assert result.status == "exact", result
    decisive = {fact.name for fact in result.facts if fact.counts}
    assert decisive == {"num_tokens", "k_gib_printed", "v_gib_printed", "max_running_requests"}


def test_a_log_without_a_dtype_or_arguments_is_read_and_says_what_was_assumed() -> None:
    (result,) = judge_log("old.log", BEFORE, kvplan.load("qwen2.5-32b"))
    assert "defaults were taken" in result.reason
    assert {fact.name: fact.recorded for fact in result.facts} == {
        "k_gib_printed": 1.42, "v_gib_printed": 1.42, "num_tokens": 46611,
    }  # fmt: skip


def test_a_log_of_another_model_differs() -> None:
    (result,) = judge_log("server.log", LLAMA, kvplan.load("deepseek-v3"))
    assert result.status == "differs"


def test_another_printed_number_differs() -> None:
    for old, new in (("28.72 GB, V", "28.73 GB, V"), ("#tokens: 941000", "#tokens: 951000"), ("=3675", "=3676")):
        (result,) = judge_log("server.log", [line.replace(old, new) for line in LLAMA], kvplan.load("llama-3.1-8b"))
        assert result.status == "differs", old


def test_a_log_without_a_model_is_not_predicted() -> None:
    (result,) = judge_log("server.log", LLAMA, None)
    assert result.status == "not_predicted"
    assert "--model" in result.reason


def test_two_starts_in_one_log_are_two_results() -> None:
    assert [start.line for start in starts([*LLAMA, *LLAMA])] == [1, 1 + len(LLAMA)]


def test_a_drafters_pool_is_left_alone() -> None:
    drafted = [LLAMA[0].replace("page_size", "speculative_algorithm='EAGLE3', page_size"), *LLAMA[1:5]]
    drafted += [LLAMA[1], LLAMA[3].replace("28.72", "0.90")]
    (start,) = starts(drafted)
    assert start.shown["k_gib_printed"] == 28.72


@each(
    "line",
    [
        "KV Cache is allocated. #tokens: , K size: 1 GB, V size: 1 GB",
        "KV Cache is allocated. #tokens: ,,,, K size: ... GB, V size: 1..2 GB",
        "max_total_num_tokens=99999999999999999999, chunked_prefill_size=-1, max_running_requests=1",
        "server_args=ServerArgs(tp_size=0, page_size=-3)",
        "Mamba Cache is allocated. max_mamba_cache_size: 1, conv_state size: 1GB, ssm_state size: 9999999999999GB ",
        "SWAKVPool mem usage: 1.0 GB, swa size: 1, full size: 1",
    ],
)
def test_a_garbled_line_costs_no_more_than_its_result(line: str) -> None:
    for model in ("llama-3.1-8b", "gpt-oss-20b", "mamba-2.8b"):
        for result in judge_log("odd.log", [line, *LLAMA], kvplan.load(model)):
            assert result.status in {"exact", "differs", "not_predicted"}


def test_an_interval_is_like_what_lies_in_it() -> None:
    assert Between(3, 7).like(5) == 5
    assert Between(3, 7).like(9) == 7
    assert Between(3, 7).like("x") == 3


def test_the_marks_are_of_lines_that_are_read() -> None:
    assert all(any(mark in line for line in [*LLAMA, *BEFORE, *TWO_POOLS, *STATES]) for mark in MARKS)


TWO_POOLS = ["SWAKVPool mem usage: 36.69 GB, swa size: 171008, full size: 213761"]
STATES = ["Mamba Cache is allocated. max_mamba_cache_size: 218, conv_state size: 0.37GB, ssm_state size: 30.80GB"]
