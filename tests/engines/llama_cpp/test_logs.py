"""Logs of llama.cpp, Ollama and LM Studio against predictions; and field logs of named models, to the printed digits."""

from pathlib import Path
from typing import Any

import pytest
from each import each
from golden import GOLDEN, cases
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.cli.app import main
from kvplan.engines.llama_cpp.audit.log import contexts, judge_log
from kvplan.gguf.memories import model_from_keys
from kvplan.loading import load
from kvplan.questions.audit.logs import reader_of

CASES = cases("llama_cpp")
LOGGED = [case for case in CASES if any("size =" in line and "cells" in line for line in case["expected"].get("log", []))]
FIELD = cases("fieldlogs")

SETTINGS = [
    "llama_context: n_seq_max     = 4",
    "llama_context: n_ctx         = 32768",
    "llama_context: n_ctx_seq     = 8192",
    "llama_context: n_batch       = 2048",
    "llama_context: n_ubatch      = 512",
    "llama_context: flash_attn    = auto",
    "llama_context: kv_unified    = false",
]
NEW = [
    *SETTINGS,
    "llama_kv_cache: size = 4096.00 MiB (  8192 cells,  32 layers,  4/4 seqs), K (f16): 2048.00 MiB, V (f16): 2048.00 MiB",
]
OLD_SPELLINGS = {
    "unified": [
        "llama_context: n_ctx         = 8192",
        "llama_kv_cache_unified: size = 1024.00 MiB (  8192 cells,  32 layers,  1 seqs), "
        "K (f16):  512.00 MiB, V (f16):  512.00 MiB",
    ],
    "init": [
        "llama_new_context_with_model: n_ctx      = 8192",
        "llama_kv_cache_init: kv_size = 8192, offload = 1, type_k = 'f16', type_v = 'f16', n_layer = 32, can_shift = 1",
        "llama_init_from_model: KV self size  = 1024.00 MiB, K (f16):  512.00 MiB, V (f16):  512.00 MiB",
    ],
    "cache line alone": [
        "llama_kv_cache: size = 1024.00 MiB (  8192 cells,  32 layers,  1/1 seqs), K (f16):  512.00 MiB, V (f16):  512.00 MiB",
    ],
    "quantised": [
        "llama_context: n_ctx         = 8192",
        "llama_kv_cache_unified: size =  544.00 MiB (  8192 cells,  32 layers,  1 seqs), "
        "K (q8_0):  272.00 MiB, V (q8_0):  272.00 MiB",
    ],
    "shortened by a person": ["llama_kv_cache: size = 1024.0 MiB (8192 cells, 32 layers)"],
    "lm studio": [
        "[2025-11-02 10:00:01][DEBUG] llama_context: n_ctx = 8192",
        "[2025-11-02 10:00:01][DEBUG] llama_kv_cache: size = 1024.00 MiB (  8192 cells,  32 layers,  1/1 seqs), "
        "K (f16):  512.00 MiB, V (f16):  512.00 MiB",
    ],
}


@each("case", LOGGED, ids=[case["id"] for case in LOGGED])
def test_every_recorded_log_is_exact(case: dict[str, Any]) -> None:
    model = model_from_keys(case["config"], source="x", name=case["model"])
    (result,) = judge_log("log", case["expected"]["log"], model)
    assert (result.status, result.reason) == ("exact", "")
    assert len(result.facts) >= 3


def test_a_log_that_lists_its_metadata_needs_no_model() -> None:
    listed = [case for case in LOGGED if any("llama_model_loader: - kv" in line for line in case["expected"]["log"])]
    statuses = [judge_log("log", case["expected"]["log"], None)[0] for case in listed]
    assert [result.status for result in statuses].count("exact") == 7
    cut = [result for result in statuses if result.status != "exact"]
    assert all(result.status == "not_predicted" and "--model" in result.reason for result in cut)


@each("name", OLD_SPELLINGS)
def test_older_spellings_are_read(name: str) -> None:
    (result,) = judge_log("log", OLD_SPELLINGS[name], load("llama-3.1-8b"))
    assert result.status == "exact", result
    assert len(result.facts) >= 3


def test_a_log_may_show_several_contexts() -> None:
    results = judge_log("server.log", [*NEW, "…", *NEW], load("llama-3.1-8b"))
    assert [(result.id, result.status) for result in results] == [("server.log:1", "exact"), ("server.log:10", "exact")]


def test_a_wrong_number_and_a_missing_cache_differ() -> None:
    (wrong,) = judge_log("x", [line.replace("4096.00", "4097.00") for line in NEW], load("llama-3.1-8b"))
    assert wrong.status == "differs"
    assert [(f.name, f.predicted, f.recorded) for f in wrong.facts if not f.agrees] == [
        ("cache[0].size_mib", "4096.00", "4097.00")
    ]
    (half,) = judge_log("x", NEW, load("gemma-3-27b"))
    assert (half.status, half.reason) == ("differs", "2 cache objects are predicted")


def test_a_model_without_gguf_keys_is_not_predicted() -> None:
    (result,) = judge_log("x", NEW, load({"name": "x", "attention": {"kv_heads": 1, "head_dim": 64}, "layers": 2}))
    assert result.status == "not_predicted"
    (nameless,) = judge_log("x", NEW, None)
    assert "--model" in nameless.reason


def test_the_command_audits_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.log"
    path.write_text("\n".join(["srv  load_model: loading model", *NEW]) + "\n", encoding="utf-8")
    assert main(["audit", str(path), "--model", "llama-3.1-8b"]) == 0
    assert "llama.cpp" in capsys.readouterr().out
    assert main(["audit", str(path), "--model", "gemma-3-27b"]) == 1
    assert main(["audit", str(path), "--model", "no-such-model"]) == 2
    assert main(["audit", str(path)]) == 1
    assert "--model" in capsys.readouterr().out.replace("\n", " ")


def test_a_log_without_a_cache_is_invalid_and_cases_stay_cases(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("llama_model_loader: loaded meta data\n", encoding="utf-8")
    (result,) = kvplan.audit(path).results
    assert (result.status, result.reason) == ("invalid", "the log shows no cache being created")
    assert reader_of(GOLDEN / "llama_cpp.jsonl") is None
    assert reader_of(tmp_path / "missing") is None


@given(
    st.lists(
        st.sampled_from([*NEW, *(line for lines in OLD_SPELLINGS.values() for line in lines)]) | st.text(max_size=60), max_size=12
    )
)
def test_any_lines_are_read_or_left_alone(lines: list[str]) -> None:
    for result in judge_log("x", lines, load("llama-3.1-8b")):
        assert result.status in {"exact", "differs", "not_predicted"}


@given(st.integers(0, 10**30), st.sampled_from(["n_ctx", "n_seq_max", "n_batch", "n_ubatch", "n_rs_seq"]))
def test_absurd_settings_do_not_raise(number: int, name: str) -> None:
    for result in judge_log("x", [f"llama_context: {name} = {number}", NEW[-1]], load("llama-3.1-8b")):
        assert result.status in {"exact", "differs", "not_predicted"}


def test_a_binary_log_with_endless_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"\xff\0" * 300_000 + b"\n" + "\n".join(NEW).encode() + b"\n" + b"llama_context: " * 100_000)
    (result,) = kvplan.audit(path, model="llama-3.1-8b").results
    assert result.status == "exact"
    assert contexts([]) == []


LLAMA_FIELD = [case for case in FIELD if case["engine_version"].startswith("llama.cpp")]


@each("case", LLAMA_FIELD, ids=[case["id"] for case in LLAMA_FIELD])
def test_field_logs_of_named_models_agree_to_the_printed_digits(case: dict[str, Any]) -> None:
    (result,) = kvplan.audit(case).results
    if "model_type" not in case["config"]:
        assert (result.status, result.reason) == ("not_predicted", "the record holds no config that describes the model")
        return
    assert result.status == "exact", [fact for fact in result.facts if not fact.agrees]
    assert any(fact.name.endswith("_printed") or "_printed[" in fact.name for fact in result.facts)


def test_a_wrong_digit_in_a_field_log_differs() -> None:
    case = next(case for case in LLAMA_FIELD if case["id"] == "fieldlog/llama31-405b/llamacpp-4096")
    case = {**case, "expected": {**case["expected"], "k_mib_printed": 1008.5}}
    (result,) = kvplan.audit(case).results
    assert [(f.name, f.predicted) for f in result.facts if not f.agrees] == [("k_mib_printed", 1008.0)]
