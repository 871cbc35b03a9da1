"""`kvplan receipt`: a server's start-up before it starts; fit, reserve, committee and audit read the same ledger."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from golden import CONFIGS

import kvplan
from kvplan.cli.app import main
from kvplan.errors import OptionError
from kvplan.report.answers.receipt import verdict
from kvplan.units import GIB

LLAMA = str(CONFIGS / "hf" / "meta-llama__Llama-3.1-8B-Instruct.json")
GPT_OSS = str(CONFIGS / "hf" / "openai__gpt-oss-120b.json")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def receipt(model: str = LLAMA, gpu: str = "h200", engine: str = "vllm@0.26", **options: Any) -> kvplan.Receipt:
    return kvplan.receipt(model, gpu, engine=engine, **options)


def test_a_recorded_start_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Llama-3.1-8B on an H200 with vLLM 0.26 (`vllm-receipt/llama-3.1-8b-eager`): every line in bytes."""
    found = receipt(memory=150_109_880_320, enforce_eager=True, utilization=0.9)
    assert found.budget.ledger is not None
    lines = {line.name: line for line in found.budget.ledger.lines}
    assert lines["weights"].exact
    assert {name: line.basis for name, line in lines.items()} == {
        "weights": "rule", "peak activation": "rule", "non-torch": "measured",
    }  # fmt: skip
    assert lines["non-torch"].bytes == 241_172_480
    code, out, _ = run(capsys, "receipt", LLAMA, "-e", "vllm@0.26", "--gpu", "h200")
    assert code == 0
    assert out.startswith("STARTS on h200-sxm-141gb")
    for line in ("Model loading took 15.0 GiB", "GPU KV cache size: ", "Graph capturing finished, took ", "--kv-cache-memory="):
        assert line in out


def test_the_lines_add_up_to_what_is_left() -> None:
    for options in ({}, {"tensor_parallel": 2}, {"pipeline_parallel_size": 2}, {"enforce_eager": True}, {"max_num_seqs": 8}):
        found = receipt(**options)
        assert sum(line.bytes for line in found.budget.lines) == found.budget.cache.bytes
        ledger = found.budget.ledger
        assert ledger is not None
        assert (
            ledger.requested.bytes - sum(line.bytes for line in ledger.lines)
            == ledger.available.bytes
            == found.budget.cache.bytes
        )
        assert ledger.available.low <= ledger.available.bytes <= ledger.available.high


def test_a_program_has_larger_batches_than_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    _, server, _ = run(capsys, "receipt", LLAMA, "-e", "vllm@0.26", "--gpu", "h200")
    _, offline, _ = run(capsys, "receipt", LLAMA, "-e", "vllm@0.26", "--gpu", "h200", "--offline")
    assert "max_num_batched_tokens=8192" in server
    assert "max_num_batched_tokens=16384" in offline
    code, _, err = run(
        capsys, "receipt", LLAMA, "-e", "vllm@0.26", "--gpu", "h200", "--offline", "--set", "usage_context=OPENAI_API_SERVER"
    )
    assert code == 2
    assert "given twice" in err
    for engine, word in (("sglang", "sglang"), ("llama.cpp", "llama.cpp")):
        code, _, err = run(capsys, "receipt", LLAMA, "-e", engine, "--gpu", "h200", "--offline")
        assert code == 2
        assert f"engine {word} has no other defaults offline" in err


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (
            "vllm@0.26",
            "Free memory on device cuda:1 (20.0/80.0 GiB) on startup is less than desired GPU memory utilization (0.92, ",
        ),
        (
            "vllm@0.11",
            "Free memory on device cuda:1 (20.00/80.00 GiB) on startup is less than desired GPU memory utilization (0.9, ",
        ),
    ],
)
def test_other_tenants_end_a_start_in_the_servers_words(capsys: pytest.CaptureFixture[str], engine: str, words: str) -> None:
    arguments = ("receipt", LLAMA, "-e", engine, "--gpu", "h100-sxm", "--memory", "80GiB", "--tp", "2", "--free", "79GiB,20GiB")
    code, out, _ = run(capsys, *arguments)
    assert code == 1
    assert words in out
    assert run(capsys, *arguments[:-1], "79GiB,78GiB")[0] == 0


#: Two public reports of gpt-oss-120b on one H100 80 GB: what was left for the cache, and that it did not start.
REPORTS = [
    ("vllm@0.11.0", {"utilization": 0.95, "max_num_batched_tokens": 1024}, 1.71),
    ("vllm@0.10.1", {"utilization": 0.9}, -2.14),
]


@pytest.mark.parametrize(("engine", "options", "left"), REPORTS, ids=[engine for engine, _, _ in REPORTS])
def test_failed_starts_of_public_reports_are_refused(engine: str, options: dict[str, Any], left: float) -> None:
    found = receipt(GPT_OSS, "h100-sxm", engine, **options)
    assert not found.starts
    assert not found.may_start
    assert verdict(found).startswith("DOES NOT START on h100")
    assert abs(found.budget.cache.bytes / GIB - left) < 0.3
    if found.unsure:  # flashinfer's sampler sorts nothing: then it would start
        assert found.notes[-1].endswith("for the cache, the most that these lines allow, would be enough")


def test_a_band_that_straddles_the_limit_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A card of which nobody measured the memory outside torch: the smaller end is not enough, the larger is."""
    unsure = None
    for context in range(30_000, 60_000, 500):
        found = receipt(gpu="l4", engine="vllm@0.19", max_model_len=context, utilization=0.95)
        if found.unsure:
            unsure = context
            break
    assert unsure is not None
    code, out, _ = run(
        capsys, "receipt", LLAMA, "-e", "vllm@0.19", "--gpu", "l4", "--utilization", "0.95", "--set", f"max_model_len={unsure}"
    )
    assert (code, out.startswith("MAY START on l4")) == (1, True)
    code, out, _ = run(capsys, "fit", LLAMA, "-e", "vllm@0.19", "--gpu", "l4", "--utilization", "0.95", "-b", "1",
                       "--context", str(unsure), "--set", "max_num_seqs=256")  # fmt: skip
    assert code == 1
    assert "if the server leaves" in out


def test_an_explanation_says_where_the_rest_of_a_card_goes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", LLAMA, "-e", "vllm@0.26", "--gpu", "h200")
    assert code == 0
    assert "STARTS on h200-sxm-141gb" in out
    assert "peak activation" in out
    _, out, _ = run(capsys, "explain", LLAMA, "-e", "vllm@0.26", "--gpu", "h200", "-f", "json")
    assert json.loads(out)["explanation"]["receipt"]["ledger"]["total"]["basis"] == "measured"


def test_a_release_whose_start_was_not_read_keeps_one_assumed_line() -> None:
    found = receipt(engine="vllm@0.8.0")
    assert found.budget.ledger is None
    assert any(line.basis == "assumed" and "activations" in line.name for line in found.budget.lines)
    assert "one assumed line" in found.notes[0]


def test_machine_formats_hold_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "receipt", LLAMA, "-e", "vllm@0.26", "--gpu", "h200", "-f", "json")
    (found,) = json.loads(out)["receipts"]
    assert found["starts"] is True
    assert {line["name"] for line in found["ledger"]["lines"]} == {"weights", "peak activation", "non-torch"}
    assert found["available"]["bytes"] == found["ledger"]["available"]["bytes"]
    _, out, _ = run(capsys, "receipt", LLAMA, "-e", "vllm@0.26", "--gpu", "h200", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["section"] for row in rows} == {"lines", "beside", "cache"}
    _, out, _ = run(capsys, "receipt", LLAMA, "-e", "vllm@0.26", "--gpu", "h200", "-f", "markdown")
    assert "| weights |" in out


LOG = """\
INFO 04-01 10:00:00 [core.py:77] Initializing a V1 LLM engine (v0.19.0) with config: model='m', dtype=torch.bfloat16, \
max_seq_len=8192, tensor_parallel_size=1, pipeline_parallel_size=1, kv_cache_dtype=auto, enable_prefix_caching=False
INFO Chunked prefill is enabled with max_num_batched_tokens=8192.
INFO Model loading took 14.99 GiB memory and 3.1 seconds
INFO Available KV cache memory: 55.03 GiB
INFO GPU KV cache size: 450,800 tokens
INFO Maximum concurrency for 8,192 tokens per request: 55.03x
INFO Graph capturing finished in 5 secs, took 0.81 GiB
DEBUG Free memory on device (78.68/79.19 GiB) on startup. Desired GPU memory utilization is (0.9, 71.27 GiB). \
Actual usage is 14.99 GiB for weight, 1.71 GiB for peak activation, 0.25 GiB for non-torch memory, and 0.81 GiB for \
CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=57000000000` (53.1 GiB) to fit into \
requested memory, or `--kv-cache-memory=64000000000` (59.6 GiB) to fully utilize gpu memory. Current kv cache memory \
in use is 59089354752 bytes.
"""


def test_a_log_is_read_line_by_line_and_its_machine_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, machine = tmp_path / "server.log", tmp_path / "machine.yaml"
    log.write_text(LOG, encoding="utf-8")
    _, out, _ = run(capsys, "audit", str(log), "--model", LLAMA, "--gpu", "h100-sxm", "--save", str(machine))
    for name in ("weights_gib", "peak_activation_gib", "non_torch_gib"):
        assert name in out
    known = machine.read_text(encoding="utf-8")
    assert "total: 85" in known
    found = receipt(gpu="h100-sxm", engine="vllm@0.19", machine=machine)
    assert found.budget.ledger is not None
    line = found.budget.ledger.line("non-torch")
    assert line is not None
    assert (line.basis, line.exact, round(line.bytes / GIB, 2)) == ("your log", True, 0.25)
    assert found.budget.ledger.total.basis == "your log"
    split = receipt(gpu="h100-sxm", engine="vllm@0.19", machine=machine, tensor_parallel=2)
    assert split.budget.ledger is not None
    line = split.budget.ledger.line("non-torch")
    assert line is not None
    assert line.basis != "your log"  # two processes take another amount


def test_a_cache_of_so_many_bytes_is_not_what_the_rest_leaves() -> None:
    """`--kv-cache-memory-bytes`: no utilisation in the sum, but still in what must be free; nothing checks that it fits."""
    found = receipt(kv_cache_memory_bytes=20 * GIB)
    assert (found.starts, found.budget.cache.bytes, found.budget.cache.exact) == (True, 20 * GIB, True)
    assert sum(line.bytes for line in found.budget.lines) == 20 * GIB
    whole = receipt()
    assert whole.budget.ledger is not None
    assert found.budget.ledger is not None
    assert found.budget.ledger.requested == whole.budget.ledger.requested
    more = receipt(kv_cache_memory_bytes=130 * GIB)
    assert not more.starts
    assert "more than the card has" in more.refused
    assert more.lines[-1] == "torch.OutOfMemoryError: CUDA out of memory."
    assert receipt(kv_cache_memory_bytes=20 * GIB, free="100GiB").refused.startswith("Free memory on device cuda:0")


def test_a_start_up_plan_of_vllm_is_a_machine_file(tmp_path: Path) -> None:
    path = tmp_path / "startup_plan_0f0f.json"
    plan = {"schema": 1, "fingerprint": "0f" * 8, "kv_cache_memory_bytes": 55 * GIB, "free_memory_baseline": 139 * GIB}
    path.write_text(json.dumps(plan), encoding="utf-8")
    found = receipt(machine=str(path))
    assert (found.budget.cache.bytes, found.budget.cache.basis) == (55 * GIB, "your log")
    assert found.pool is not None
    assert found.pool.budget_bytes == 55 * GIB
    assert "0f0f" in found.budget.cache.source
    less = receipt(machine=str(path), free="138GiB")  # less is free than then: it profiles
    assert less.budget.told is None
    assert receipt(machine=str(path), kv_cache_memory_bytes=GIB).budget.cache.bytes == GIB  # the flag wins
    fits = kvplan.fit(LLAMA, "h200", context="8k", engine="vllm@0.26", machine=str(path))
    assert fits.budget.cache.bytes == 55 * GIB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": 2, "fingerprint": "x", "kv_cache_memory_bytes": 5, "free_memory_baseline": 5}', "schema `2`"),
        ('{"schema": 1, "fingerprint": "x", "kv_cache_memory_bytes": "a", "free_memory_baseline": 5}', "whole number of bytes"),
        ('{"schema": 1, "fingerprint": "x", "kv_cache_memory_bytes": 5}', "free_memory_baseline"),
        ("", "is empty"),
        ("machine: [1]", "expected a mapping"),
        ("machine:\n  totl: 5", "unknown key `totl`"),
        ("machine:\n  total: much", "must be a whole number"),
        ("machine:\n  total: -5", "must be a whole number"),
        ("machine:\n  total: true", "must be a whole number"),
        ("machine:\n  source: [1]", "short text"),
        ("a: &a [*a]\n{", "not YAML"),
    ],
)
def test_a_bad_machine_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text(text, encoding="utf-8")
    code, out, err = run(capsys, "receipt", LLAMA, "--gpu", "h200", "--machine", str(path))
    assert (code, out) == (2, "")
    assert words in err


def test_a_log_without_the_machine_saves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "server.log"
    log.write_text("\n".join(LOG.splitlines()[:2]), encoding="utf-8")
    code, _, err = run(capsys, "audit", str(log), "--model", LLAMA, "--save", str(tmp_path / "machine.yaml"))
    assert code == 2
    assert "nothing to save" in err
    assert not (tmp_path / "machine.yaml").exists()


@pytest.mark.parametrize(
    "setting",
    [
        "gpu_memory_utilization=2", "max_num_seqs=0", "kv_cache_memory_bytes=-5",
        "max_num_seqs=99999999999999999999", "cudagraph_capture_sizes=a,b",
        "cudagraph_capture_sizes=-1", "max_lora_rank=0", "limit_mm_per_prompt={", "limit_mm_per_prompt={\"image\": \"x\"}",
        "tensor_parallel_size=0", "data_parallel_size=-3", "max_num_batched_tokens=1e9x",
    ],
)  # fmt: skip
def test_hostile_options_are_one_sentence(capsys: pytest.CaptureFixture[str], setting: str) -> None:
    code, out, err = run(capsys, "receipt", LLAMA, "--gpu", "h200", "--set", setting)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_a_start_of_every_release_is_answered() -> None:
    for release in ("0.11", "0.14", "0.17", "0.19", "0.22", "0.24", "0.26", "0.28", "0.30", "0.33"):
        for gpu in ("h200", "a100-sxm-80gb", "l4", "rtx-4090", "b200"):
            found = receipt(gpu=gpu, engine=f"vllm@{release}", max_model_len=8192)
            assert found.budget.ledger is not None
            assert found.starts or found.unsure or found.refused


def test_how_many_cards_split_the_model_is_said_once() -> None:
    word, own = receipt(tensor_parallel=2), receipt(tensor_parallel_size=2)
    assert word.to_dict() == own.to_dict() != receipt().to_dict()
    with pytest.raises(OptionError, match="one option is given twice, as `tensor_parallel` and as `tensor_parallel_size`"):
        receipt(tensor_parallel=2, tensor_parallel_size=4)
