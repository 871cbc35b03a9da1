"""What is printed to be typed is taken by the server's own parser, and holds what it promises."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import problems
from each import each
from golden import GOLDEN, ROOT

import kvplan
from kvplan.domain.workload import Workload
from kvplan.engines import ABOUTS, PREDICTED, default_engine, make_engine, option_names
from kvplan.engines.kernel.engine import Serving, footprint
from kvplan.errors import KvplanError, Refused
from kvplan.questions.changes import lighter_weights

MODELS = [
    "llama-3.1-8b",
    "llama-3.2-1b",
    "gemma-2-9b",
    "gemma-3-27b",
    "gemma-3-12b",
    "qwen3-8b",
    "qwen3-14b",
    "qwen2.5-7b",
    "qwen3-0.6b",
    "qwen3.6-27b",
    "gpt-oss-20b",
    "deepseek-v3",
    "mistral-7b",
    "mixtral-8x7b",
    "phi-4",
    "falcon-h1-7b",
    "mamba-2.8b",
    "bamba-9b",
    "aya-23-8b",
    "olmo-2-7b",
    "glm-4-9b",
    "starcoder2-7b",
    "command-r-35b",
    "whisper-large-v3",
    "gpt2",
    "llama-3.3-70b",
    "apertus-8b",
    "llama-4-scout",
    "granite-3.1-8b",
    "qwen3-next-80b-a3b",
    "minimax-m2",
    "afm-4.5b",
]
#: Engine -> sets of options that are asked for together.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "vllm": [
        {"kv_dtype": "fp8", "tensor_parallel": 2, "block_size": "32", "max_num_batched_tokens": "2048", "enforce_eager": "true"},
        {"enable_prefix_caching": "false", "speculative_config": '{"method": "ngram", "num_speculative_tokens": 3}'},
        {"dtype": "half", "kv_cache_dtype": "fp8_e5m2", "mamba_cache_mode": "align"},
        {"kv_cache_layout": "HND", "limit_mm_per_prompt": "2", "cudagraph_mode": "NONE", "cudagraph_capture_sizes": "1,2,4"},
        {"enable_chunked_prefill": "false", "max_num_seqs": "7", "max_model_len": "4096", "pipeline_parallel_size": 2},
    ],
    "vllm@0.11.0": [{"kv_dtype": "fp8", "cudagraph_capture_sizes": "1,2", "enable_lora": "true", "swap_space": "8"}],
    "sglang": [
        {"kv_dtype": "fp8_e4m3", "tensor_parallel": 2, "page_size": "64", "chunked_prefill_size": "4096"},
        {"disable_radix_cache": "true", "max_running_requests": "5", "swa_eviction_interval": "64", "enable_multimodal": "false"},
    ],
    "llama.cpp": [
        {"kv_dtype": "q8_0", "ubatch_size": "1024", "flash_attn": "on", "offload_kqv": "false"},
        {"cache_type_k": "q8_0", "swa_full": "true", "kv_unified": "true", "batch": "4096"},
    ],
    "lmdeploy": [{"kv_dtype": "int8", "tensor_parallel": 2, "enable_prefix_caching": "true", "max_prefill_token_num": "4096"}],
    "tensorrt-llm": [
        {"kv_dtype": "fp8", "tensor_parallel": 2, "tokens_per_block": "64", "max_num_tokens": "4096"},
        {"pp_size": "2", "max_batch_size": "5", "max_seq_len": "2048", "kv_cache_free_gpu_memory_fraction": "0.5"},
    ],
    "mlx-lm": [{"kv_bits": "8", "prefill_step_size": "512"}, {"max_kv_size": "4096"}],
    "exllamav3": [{"kv_dtype": "q6_0", "chunk_size": "1024"}, {"cache_mode": "8,6", "gpu_split": "20,24", "tensor_parallel": 2}],
}  # fmt: skip


def commands(engine: str, options: dict[str, Any], name: str) -> list[str]:
    try:
        model = kvplan.load(name)
        on = make_engine(engine, options).on(model)
        asked = [
            Serving(model=model.hub or name, context=4096, batch_size=3, utilization=0.9, options=options, weights_dtype=dtype)
            for dtype in (("",) if options else ("", "fp8", "bnb-4bit", "awq"))
        ]
        return [on.command(serving) for serving in asked]
    except KvplanError:
        return []


@each("engine", OPTIONS)
def test_every_command_is_taken_by_the_servers_own_parser(engine: str) -> None:
    seen = 0
    for name in MODELS:
        for options in ({}, *OPTIONS[engine]):
            for command in commands(engine, options, name):
                assert problems(engine.partition("@")[0], command, engine.partition("@")[2] or None) == [], command
                seen += 1
    assert seen > 60


@each(
    ("command", "why"),
    [
        ("vllm serve a/b --max-model-len", "without a value"),
        ("vllm serve a/b --max-model-lenn 5", "unknown"),
        ("vllm serve a/b --dtype int4", "none of"),
        ("vllm serve a/b --max-model-len many", "no int"),
        ("vllm serve a/b --speculative-config {", "no JSON"),
        ("vllm serve a/b --max-model-len 5 --max-model-len 5", "twice"),
        ("vllm a/b", "no program"),
    ],
)
def test_the_parser_sees_what_is_wrong(command: str, why: str) -> None:
    assert any(why in problem for problem in problems("vllm", command))


def test_whatever_an_engine_can_be_asked_is_in_its_command() -> None:
    """Of every option of the two servers with many: named with another value than its default, its flag or variable appears."""
    given = {"max_num_batched_tokens": 4096, "mamba_cache_mode": "align", "async_scheduling": False, "max_lora_rank": 32}
    also = {"page_size": 64, "mamba_full_memory_ratio": 0.5, "max_total_tokens": 9999}
    for engine, options in (("vllm", given), ("sglang", also)):
        command = (
            make_engine(engine, options)
            .on(kvplan.load("llama-3.1-8b"))
            .command(Serving(model="m", context=1024, batch_size=1, options=options))
        )
        for name, value in options.items():
            flag = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            assert flag in shlex.split(command), command
        assert set(options) <= option_names(engine)


def test_weights_are_made_lighter_by_a_flag_or_a_line_says_what_is_needed() -> None:
    on = make_engine("vllm", {}).on(kvplan.load("llama-3.1-8b"))
    light = Serving(model="m", context=1024, batch_size=1, weights_dtype="fp8")
    assert "--quantization fp8" in on.command(light)
    assert on.needs(light) == ()
    needed = Serving(model="m", context=1024, batch_size=1, weights_dtype="int4")
    assert "quantization" not in on.command(needed)
    assert on.needs(needed) == ("needs a checkpoint in int4",)


def test_a_drafter_is_typed_with_its_own_name() -> None:
    options = {"draft": kvplan.load("llama-3.2-1b")}
    serving = Serving(model="m", context=1024, batch_size=1, options=options)
    command = make_engine("vllm", options).on(kvplan.load("llama-3.1-8b")).command(serving)
    words = shlex.split(command)
    assert '"model": "meta-llama/Llama-3.2-1B"' in words[words.index("--speculative-config") + 1]
    assert problems("vllm", command) == []


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("meta-llama/Llama-3.1-8B", "-m FILE.gguf"),
        ("bartowski/Llama-3.1-8B-GGUF", "-hf bartowski/Llama-3.1-8B-GGUF"),
        ("/models/mine", "-m FILE.gguf"),
    ],
)
def test_llama_server_is_given_a_gguf(name: str, start: str) -> None:
    on = make_engine("llama.cpp", {}).on(kvplan.load("llama-3.1-8b"))
    serving = Serving(model=name, context=1024, batch_size=1)
    assert on.command(serving).startswith(f"llama-server {start} -c 1024")
    assert bool(on.needs(serving)) == ("FILE" in start)


def test_a_gguf_file_is_typed_as_it_is_and_means_its_engine_whatever_it_is_called(tmp_path: Path) -> None:
    blob = tmp_path / ("sha256-" + "ab" * 32)
    blob.write_bytes((GOLDEN / "gguf" / "llama-3.1-8b-q4km-like.gguf").read_bytes())
    fit = kvplan.fit(str(blob), "rtx-4090", context="4k")
    assert fit.question.engine == "llama.cpp"
    assert fit.flags.startswith(f"llama-server -m {blob} -c ")
    assert problems("llama.cpp", fit.flags) == []
    assert fit.needs == ()


def test_embedders_and_rerankers_get_their_flags() -> None:
    model = kvplan.load("qwen3-0.6b")
    for use, flag in (("embed", "--embedding"), ("rerank", "--reranking")):
        asked = Serving(model="m", context=1024, batch_size=1, use=use)
        assert make_engine("llama.cpp", {}).on(model).command(asked).endswith(flag)
        assert "--runner pooling" in make_engine("vllm", {}).on(model).command(asked)
        assert "--is-embedding" in make_engine("sglang", {}).on(model).command(asked)


def test_the_usual_engine_follows_the_file_the_owner_and_the_maker() -> None:
    assert default_engine("x.gguf") == default_engine("x", gguf=True) == default_engine("x", maker="apple") == "llama.cpp"
    assert default_engine("mlx-community/x", maker="apple") == "mlx-lm"
    assert default_engine("x", maker="nvidia") == default_engine("x") == "vllm"
    fit = kvplan.fit("llama-3.1-8b", "m3-max", memory="64GiB", context="8k")
    assert fit.question.engine == "llama.cpp"
    assert "vllm" not in fit.flags


@each("engine", [name for name in PREDICTED if ABOUTS[name].program])
def test_what_an_estimate_says_to_type_runs_as_printed(engine: str) -> None:
    try:
        answer = footprint(make_engine(engine, {}).on(kvplan.load("llama-3.1-8b")), Workload(seq_len=4096, batch_size=2))
    except Refused:
        pytest.skip("refused")
    if answer.typed:
        assert problems(engine, answer.typed) == [], answer.typed
        assert "Llama-3.1-8B" in answer.typed + " ".join(answer.needs)


# Commands of kvplan's own: they run, and hold.


def run(tmp_path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kvplan", *words], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "COLUMNS": "200"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        "fit llama-3.1-8b --gpu h100 -e vllm --free 40GiB --context 8k -b 4",
        "fit llama-3.1-8b --gpu rtx-4090 -e vllm --target '32 users at 32k' --set block_size=32 --reserve 3GiB",
        "fit deepseek-v3 --weights 688GB --gpu h200:8 -e vllm --target '64 users at 32k'",
    ],
)
def test_every_fix_runs_as_printed_and_holds(asked: str, tmp_path: Path) -> None:
    done = run(tmp_path, *shlex.split(asked))
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    fixes = [lines[i + 1].strip() for i, line in enumerate(lines) if line.startswith("FIX: ")]
    assert fixes, done.stdout
    assert not any(line.startswith("type: ") for line in lines)
    for option in ("--free", "--reserve", "--set"):
        kept = [fix for fix in fixes if option in fix or "larger GPU" in fix]
        assert option not in asked or kept, (option, fixes)
    for fix in fixes[:3]:
        again = run(tmp_path, *shlex.split(fix)[1:])
        assert again.returncode == 0, (fix, again.stdout[:300], again.stderr)
    assert not any("per_token_head" in fix for fix in fixes if "deepseek" in asked)


def test_a_makers_name_is_a_filter_and_all_are_those_of_the_engine(tmp_path: Path) -> None:
    asked = {"engine": "vllm", "target": "8 users at 8k"}
    for word, vendors in (("all", {"nvidia"}), ("amd", {"amd"}), ("nvidia", {"nvidia"})):
        tried = kvplan.fit("llama-3.1-8b", word, **asked).tried
        assert {fit.question.gpu.vendor for fit in tried} == vendors
    assert {fit.question.gpu.vendor for fit in kvplan.fit("llama-3.1-8b", "apple", target="1 user at 8k").tried} == {"apple"}


# What a checkpoint and a card decide where nothing is typed.

FP8_CACHE = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}


def test_auto_is_the_cache_that_the_checkpoint_asks_for() -> None:
    config = dict(kvplan.load("llama-3.1-8b").origin.config)  # type: ignore[union-attr]
    asks = config | {"quantization_config": {"quant_method": "compressed-tensors", "kv_cache_scheme": FP8_CACHE}}
    own, plain = (kvplan.estimate(one, seq_len=8192, engine="vllm") for one in (asks, config))
    told = kvplan.estimate(config, seq_len=8192, engine="vllm", kv_dtype="fp8")
    assert (own.kv_dtype, own.total_bytes) == (told.kv_dtype, told.total_bytes) == ("fp8", plain.total_bytes // 2)
    assert any("the checkpoint asks for it" in note for note in own.notes)
    assert kvplan.estimate(asks, seq_len=8192, engine="vllm", kv_dtype="bf16").total_bytes == plain.total_bytes


def test_a_card_without_bfloat16_runs_in_float16_and_refuses_the_other_in_the_engines_words() -> None:
    fit = kvplan.fit("llama-3.1-8b", "t4:2", context="4k")
    assert fit.allocation is not None
    assert fit.allocation.kv_dtype == "float16"
    assert fit.flags.endswith("--dtype half")
    with pytest.raises(Refused, match=r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0"):
        kvplan.fit("llama-3.1-8b", "t4:2", context="4k", dtype="bfloat16")
    assert "--dtype" not in kvplan.fit("llama-3.1-8b", "h100", context="4k").flags


@pytest.mark.parametrize(("card", "fp8"), [("v100-sxm-32gb", False), ("t4:2", True), ("a100-80gb", True)])
def test_what_an_old_card_cannot_multiply_is_not_offered(card: str, fp8: bool, tmp_path: Path) -> None:
    """vLLM's Marlin kernel takes fp8 weights from compute capability 7.5 on (a T4), and no card before 8.0 has bfloat16."""
    done = run(tmp_path, *shlex.split(f"fit llama-3.1-8b --gpu {card} -e vllm --target '24 users at 24k'"))
    assert done.returncode == 1, done.stderr
    shown = " ".join(done.stdout.split())
    assert ("--kv-cache-dtype bfloat16" in shown) == (card == "a100-80gb" and "what to type" in shown)
    done = run(tmp_path, *shlex.split(f"fit llama-3.1-8b --gpu {card} -e vllm --context 64k -f json"))
    (fit,) = json.loads(done.stdout)["fits"]
    offered = {row["kv_dtype"] for row in fit["alternatives"]}
    assert ("bfloat16" in offered) == (card == "a100-80gb")
    assert "fp8_e4m3" in offered
    model = kvplan.load("llama-3.1-8b")
    found = kvplan.fit(model, card, engine="vllm", context="24k", batch_size=9)
    lighter = lighter_weights(model, found.question.weights, "vllm", found.question.gpu)
    assert {dtype for dtype, _ in lighter} == ({"fp8", "int4"} if fp8 else {"int4"})


def test_no_fix_is_in_weights_that_the_card_cannot_multiply(tmp_path: Path) -> None:
    done = run(tmp_path, *shlex.split("fit qwen3-14b --gpu v100-sxm-32gb -e vllm --context 32k -b 1"))
    assert done.returncode == 1, done.stdout
    assert "--weights-dtype int4" in done.stdout
    assert "--weights-dtype fp8" not in done.stdout


def test_what_trtllm_serve_has_no_flag_for_is_yaml_that_it_reads() -> None:
    """Options of `KvCacheConfig` stand in the file of `--config`, which is echoed: bash and YAML give the same values back."""
    (command,) = commands("tensorrt-llm", {"kv_dtype": "fp8", "tokens_per_block": "64", "enable_block_reuse": "false"}, MODELS[0])
    words = shlex.split(command.partition("--config <(echo ")[2].removesuffix(")"))
    assert yaml.safe_load(*words) == {"kv_cache_config": {"dtype": "fp8", "tokens_per_block": 64, "enable_block_reuse": False}}
    assert problems("tensorrt-llm", command) == []
    assert problems("tensorrt-llm", command.replace("--max_seq_len", "--max-seq-len")) != []
