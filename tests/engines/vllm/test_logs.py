"""Start-up logs of vLLM servers, 0.6 to 0.32: recorded lines of named models agree to the printed digits."""

import json
from pathlib import Path
from typing import Any

import pytest
from each import each
from golden import cases

import kvplan
from kvplan import architectures
from kvplan.cli.app import main
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.vllm.audit.fieldlog import versions
from kvplan.engines.vllm.audit.log import judge_log, starts
from kvplan.engines.vllm.audit.printed import Values, interval
from kvplan.questions.audit.judge import judge
from kvplan.units import GIB

FIELD = cases("fieldlogs")
PLANS = cases("vllm")
#: Field logs of named models that differ, with the reason. The list only shrinks: a case that becomes exact fails the test.
KNOWN_GAPS = {
    "fieldlog/qwen3-next-80b/vllm-16.63": "exact with a max_model_len of 131,072: the record's 65,536 is its sibling's",
    "fieldlog/qwen3.8-27b/vllm-block-1648-spec": (
        "the record tells neither the drafter nor the cache dtype; fp8 with 7 proposed tokens gives 1,648 and 0.73 %"
    ),
}
#: Field logs that hold too little, or are of another server, with the words of the reason.
NOT_PREDICTED = {
    "fieldlog/glm53/vllm-rocm-tp4": "vllm-ATOM",
    "fieldlog/qwen3.6-27b-int4/vllm-2x3090-262k": "cache's dtype",
    "fieldlog/qwen3.8-27b-fp8/vllm-2x5090-147k": "cache's dtype",
    "fieldlog/deepseek-coder-v2-236b/vllm-0.5.4-2368": "neither the memory nor the blocks",
    "fieldlog/llama31-405b-fp8/vllm-8xh100-79392": "neither the memory nor the blocks",
    "fieldlog/glm5.3-flash/vllm-2spark-356667": "EXL3",
    "fieldlog/glm5.3-flash/vllm-28.73": "no config",
    "fieldlog/deepseek-v4/vllm-rocm-191": "ROCm",
    "fieldlog/unknown-98304/vllm-tp2-151": "no config",
    "fieldlog/nemotron-4x3090/vllm-314979": "no config",
    "fieldlog/nemo-rl-qwen3-8b/vllm-fp8-2x": "none of the facts",
    "fieldlog/qwen3.8-27b/vllm-kv-share": "none of the facts",
    "fieldlog/inkling/vllm-fp8-gain": "none of the facts",
}


def judged(case: dict[str, Any]) -> Result:
    return judge(record_from(case, where="fieldlogs.jsonl"))


def test_every_field_log_of_vllm_agrees_or_is_listed_with_a_reason() -> None:
    ours = [case for case in FIELD if case["engine_version"].startswith("vllm")]
    assert len(ours) == 37
    for case in ours:
        result = judged(case)
        if case["id"] in NOT_PREDICTED:
            assert result.status == "not_predicted", case["id"]
            assert NOT_PREDICTED[case["id"]] in result.reason, case["id"]
            continue
        differing = [f"{f.name}: {f.predicted}, printed {f.recorded}" for f in result.facts if not f.agrees]
        assert bool(differing) == (case["id"] in KNOWN_GAPS), f"{case['id']}: {differing or 'no longer a gap'}"


def test_another_printed_number_differs() -> None:
    for case in FIELD:
        if case["engine_version"].startswith("vllm") and judged(case).status == "exact":
            for name in ("num_tokens", "num_gpu_blocks"):
                if name in case["expected"] and "available" in str(case["expected"]):
                    more = case["expected"] | {name: case["expected"][name] + 10_000}
                    assert judged(case | {"expected": more}).status == "differs", case["id"]


HEADERS = {
    "0.6.3": "INFO llm_engine.py:237] Initializing an LLM engine (v0.6.3) with config: model='m', dtype=torch.bfloat16, "
    "max_seq_len={length}, tensor_parallel_size={tp}, kv_cache_dtype=auto, enable_prefix_caching=False",
    "0.11.0": "INFO core.py:77] Initializing a V1 LLM engine (v0.11.0) with config: model='m', speculative_config=None, "
    "dtype=torch.bfloat16, max_seq_len={length}, tensor_parallel_size={tp}, pipeline_parallel_size=1, kv_cache_dtype=auto",
    "0.32.0": "INFO core.py:99] Initializing a V1 LLM engine (v0.32.0) with config: model='m', dtype=torch.bfloat16, "
    "max_seq_len={length}, tensor_parallel_size={tp}, kv_cache_dtype=auto, enable_prefix_caching={caching}",
}


def server_log(case: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """The log of a recorded plan, as its release would have written it around the recorded lines."""
    options, version = case["options"], case["engine_version"]
    header = HEADERS[version].format(
        length=case["workload"]["seq_len"], tp=options.get("tp", 1), caching=options.get("enable_prefix_caching")
    )
    batch = f"INFO Chunked prefill is enabled with max_num_batched_tokens={options['max_num_batched_tokens']}."
    memory = f"INFO gpu_worker.py:298] Available KV cache memory: {entry['available_memory'] / GIB:.2f} GiB"
    return [header, batch, memory, *(f"INFO kv_cache_utils.py:864] {line}" for line in entry["log"])]


def test_the_lines_of_recorded_plans_agree_in_a_servers_log() -> None:
    compared = 0
    for case in PLANS:
        if case["id"].rpartition("/")[2] not in {"default", "tp2", "tp4", "tp8"} or case["engine_version"] not in HEADERS:
            continue
        model = architectures.read(case["config"], name=case["model"])
        for entry in case["expected"]["memory"]:
            if not entry.get("log") or isinstance(entry["available_memory"], list):
                continue
            (result,) = judge_log("server.log", server_log(case, entry), model)
            wrong = [f"{f.name}: {f.predicted}, printed {f.recorded}" for f in result.facts if not f.agrees]
            assert result.status == "exact", f"{case['id']}: {wrong} {result.reason}"
            assert {fact.name for fact in result.facts} >= {"num_tokens", "max_concurrency_printed", "available_kv_gib_printed"}
            compared += 1
    assert compared > 150


V0_LOG = [
    HEADERS["0.6.3"].format(length=20000, tp=1),
    "INFO worker.py:232] Memory profiling results: total_gpu_memory=23.58GiB kv_cache_size=3.81GiB gpu_memory_utilization=0.90",
    "INFO gpu_executor.py:122] # GPU blocks: 1952, # CPU blocks: 2048",
    "INFO gpu_executor.py:126] Maximum concurrency for 20000 tokens per request: 1.56x",
]
REFUSED_LOG = [
    HEADERS["0.11.0"].format(length=4096, tp=1),
    "ERROR ValueError: To serve at least one request with the models's max seq len (4096), (1.00 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (0.58 GiB). Based on the available memory, the estimated maximum "
    "model length is 2368.",
]


def test_a_log_of_the_v0_engine_is_read() -> None:
    (result,) = judge_log("old.log", V0_LOG, kvplan.load("llama-3.1-8b"))
    assert result.status == "exact"
    facts = {fact.name: fact.predicted for fact in result.facts}
    assert facts == {
        "available_kv_gib_printed": 3.81, "num_gpu_blocks": 1952, "num_cpu_blocks": 2048, "max_concurrency_printed": 1.56,
    }  # fmt: skip


def test_a_refusal_is_read() -> None:
    case = next(case for case in FIELD if case["id"] == "fieldlog/qwen2.5-32b-awq/vllm-need-4096")
    (result,) = judge_log("refused.log", REFUSED_LOG, architectures.read(case["config"]))
    assert result.status == "exact", [(f.name, f.predicted, f.recorded) for f in result.facts]
    assert {fact.name for fact in result.facts} == {
        "needed_gib_printed", "available_gib_printed", "estimated_max_model_len_printed",
    }  # fmt: skip


def test_a_log_of_another_model_differs() -> None:
    (result,) = judge_log("old.log", V0_LOG, kvplan.load("deepseek-v3"))
    assert result.status in {"differs", "not_predicted"}


def test_two_starts_in_one_log_are_two_results() -> None:
    assert [start.line for start in starts([*V0_LOG, *V0_LOG])] == [1, 5]


def test_flags_are_read_in_every_spelling() -> None:
    lines = [
        "INFO api_server.py:1896] vLLM API server version 0.32.0",
        "INFO utils.py:233] non-default args: {'model': 'm', 'max_model_len': 4096, 'block_size': 32, 'kv_cache_dtype': 'fp8', "
        "'speculative_config': {'method': 'mtp', 'num_speculative_tokens': 2}}",
        "INFO core.py:77] Initializing a V1 LLM engine (v0.32.0) with config: speculative_config=SpeculativeConfig(method='mtp', "
        "model='m', num_spec_tokens=2), dtype=torch.float16",
        "INFO Asynchronous scheduling is disabled.",
        "(EngineCore pid=7) INFO CPU KV cache size: 1,024 tokens, Maximum concurrency for 4,096 tokens per request: 0.25x",
    ]
    (start,) = starts(lines)
    assert start.version == "0.32.0"
    assert start.flags == {
        "max_model_len": "4096", "block_size": "32", "kv_cache_dtype": "fp8", "dtype": "float16", "async_scheduling": "False",
        "speculative_config": '{"method": "mtp", "num_speculative_tokens": 2}', "device": "cpu",
    }  # fmt: skip
    assert start.printed == {"num_tokens": 1024, "max_concurrency_printed": 0.25}


def test_the_smallest_worker_decides() -> None:
    lines = [f"INFO Available KV cache memory: {size} GiB" for size in ("6.51", "5.02", "6.40")]
    assert starts(lines)[0].printed == {"available_kv_gib_printed": 5.02}


def test_the_command_reads_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.log"
    path.write_text("\n".join(V0_LOG), encoding="utf-8")
    assert main(["audit", str(path), "--model", "llama-3.1-8b"]) == 0
    assert "vllm" in capsys.readouterr().out
    assert main(["audit", str(path), "-f", "json"]) == 1
    found = json.loads(capsys.readouterr().out)["results"][0]
    assert found["status"] == "not_predicted"
    assert "--model" in found["reason"]


HOSTILE = [
    ["Available KV cache memory: " + "9" * 50 + " GiB"],
    ["INFO GPU KV cache size: ,,,, tokens"],
    ["# GPU blocks: 99999999999999999999, # CPU blocks: 1"],
    ["Initializing an LLM engine (v0.6.3) with config: tensor_parallel_size=9999999999, dtype=torch.what", *V0_LOG[1:]],
    ["Initializing an LLM engine (v0.6.3) with config: max_seq_len=0, block_size=-3", *V0_LOG[1:]],
    ["Available KV cache memory: 1.0.0 GiB", *V0_LOG],
    [V0_LOG[0], "Available KV cache memory: 0.00 GiB", V0_LOG[2]],
]


@pytest.mark.parametrize("lines", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_log_is_answered(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("\n".join([*lines, "Available KV cache memory"]), encoding="utf-8")
    for result in kvplan.audit(path, model="llama-3.1-8b").results:
        assert result.status in {"exact", "differs", "not_predicted", "invalid"}


def test_a_printed_size_stands_for_an_interval() -> None:
    low, high = interval(6.51)
    assert (round(low / GIB, 4), round(high / GIB, 4)) == (6.505, 6.515)
    assert interval(0.0)[0] == 0


def test_the_nearest_value_is_shown_when_none_is_the_record() -> None:
    assert Values((10, 20, 30)).like(20) == 20
    assert Values((10, 20, 30)).like(27) == 30


@each(
    ("text", "found"),
    [
        ("vllm 0.6.x (V0)", ("0.6.6",)),
        ("vllm 0.26.0", ("0.26.0",)),
        ("vllm 0.10/0.11 (V1)", ("0.10", "0.11")),
        ("vllm (2026)", ("0.32.0", "0.24.0", "0.19.0", "0.11.0")),
        ("vllm 0.5 XPU (2024-09)", ("0.5",)),
    ],
)
def test_a_release_is_a_number_or_every_set_of_rules(text: str, found: tuple[str, ...]) -> None:
    assert versions(text) == found
