"""`-e ollama`: what is allocated is llama.cpp's, of a context that Ollama asks for."""

from typing import Any

import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import kvplan
from kvplan.cli.app import main
from kvplan.domain.model import Model
from kvplan.engines import make_engine
from kvplan.engines.kernel.tensors import At
from kvplan.errors import OptionError
from kvplan.units import GIB

LLAMA, GEMMA, QWEN = (kvplan.load(name) for name in ("llama-3.1-8b", "gemma-3-4b", "qwen3.5-9b"))


def with_store(model: Model, **said: Any) -> Model:
    """The model as if a local install had it."""
    assert model.origin is not None
    return replace(model, origin=replace(model.origin, store={"name": "mine:1", **said}))


@pytest.mark.parametrize("model", [LLAMA, GEMMA], ids=lambda m: m.name)
@given(seq_len=st.integers(4, 131072), batch_size=st.integers(1, 8))
def test_the_bytes_are_llama_cpps_at_the_batch_that_it_is_started_with(model: Model, seq_len: int, batch_size: int) -> None:
    on = make_engine("ollama", {}).on(model)
    batch = on.facts(kvplan.Workload(seq_len=seq_len, batch_size=batch_size)).to_dict()["num_batch"]  # type: ignore[union-attr]
    same = make_engine("llama.cpp", {"batch": batch, "ubatch_size": batch}).on(model)
    at = At(max(seq_len, 2048 if model is GEMMA else 4), batch_size)
    assert on.totals(At(seq_len, batch_size)).allocated == same.totals(at).allocated


def test_many_cells_at_once_are_those_one_by_one() -> None:
    grid = kvplan.sweep([GEMMA], engine="ollama", seq_len="1k,4k,5k,32k,33k,64k", batch_size="1,2,8").to_frame()
    for row in grid.to_dict("records"):
        one = kvplan.estimate(GEMMA, engine="ollama", seq_len=row["seq_len"], batch_size=row["batch_size"])
        assert row["total_bytes"] == one.total_bytes, row


@each(
    ("options", "batch_size", "seq_len"),
    [
        ({}, 1, 4096),
        ({"device_memory_bytes": 24 * GIB}, 1, 32768),
        ({"device_memory_bytes": 24 * GIB, "gpus": 2}, 1, 131072),  # 262,144, and the model has 131,072
        ({"device_memory_bytes": 24 * GIB, "gpu_overhead": 2 * GIB}, 1, 4096),
        ({"OLLAMA_CONTEXT_LENGTH": "16384", "OLLAMA_NUM_PARALLEL": "4"}, 4, 16384),
        ({"num_ctx": 8192, "context_length": 16384}, 1, 8192),
    ],
    ids=str,
)
def test_what_it_makes_room_for_when_nobody_asks(options: dict[str, Any], batch_size: int, seq_len: int) -> None:
    found = kvplan.estimate(LLAMA, engine="ollama", **options)
    assert (found.workload.batch_size, found.workload.seq_len) == (batch_size, seq_len)
    assert found.total_bytes == batch_size * seq_len * 131072


def test_other_engines_keep_their_default() -> None:
    assert kvplan.estimate(LLAMA, engine="llama.cpp").workload.seq_len == 8192
    assert kvplan.estimate(LLAMA).workload.seq_len == 8192


def test_the_models_parameters_go_before_the_servers_variable_and_after_the_request() -> None:
    model = with_store(LLAMA, parameters={"num_ctx": 2048, "stop": ["x"]})
    assert kvplan.estimate(model, engine="ollama", context_length=16384).workload.seq_len == 2048
    assert kvplan.estimate(model, engine="ollama", num_ctx=512).workload.seq_len == 512
    assert any("num_ctx 2048 goes before" in word for word in kvplan.estimate(model, engine="ollama").needs)


@each("value", ["8k", 1.5, 2**60, [1], None])
def test_a_parameter_that_is_no_number_is_refused_in_a_sentence(value: Any) -> None:
    with pytest.raises(OptionError, match="num_ctx is no number"):
        kvplan.estimate(with_store(LLAMA, parameters={"num_ctx": value}), engine="ollama")


def test_some_families_get_one_slot_by_the_config_blob() -> None:
    assert "one slot" in kvplan.try_estimate(QWEN, engine="ollama", batch_size=2).reason  # type: ignore[union-attr]
    assert kvplan.estimate(QWEN, engine="ollama", num_parallel=4).workload.batch_size == 1
    assert any("changes nothing" in note for note in kvplan.estimate(QWEN, engine="ollama", num_parallel=4).notes)
    told = with_store(LLAMA, family="qwen35")
    assert "qwen35" in kvplan.try_estimate(told, engine="ollama", batch_size=2).reason  # type: ignore[union-attr]


def test_quantised_values_need_flash_attention() -> None:
    assert kvplan.estimate(LLAMA, engine="ollama", kv_cache_type="Q8_0").kv_dtype == "q8_0"
    no = kvplan.try_estimate(LLAMA, engine="ollama", kv_cache_type="q8_0", flash_attention=False)
    assert "flash_attn" in no.reason  # type: ignore[union-attr]
    old = kvplan.try_estimate(LLAMA, engine="ollama", kv_cache_type="q8_0", compute_capability=52, device_memory_bytes=8 * GIB)
    assert "flash_attn" in old.reason  # type: ignore[union-attr]


@each(
    "options",
    [
        {"num_ctx": -1}, {"num_parallel": 2**31}, {"gpus": 65}, {"gpu_overhead": -1}, {"kv_cache_type": "fp8"}, {"nope": 1},
        {"num_parallel": 2, "OLLAMA_NUM_PARALLEL": 2}, {"OLLAMA_KV_CACHE_TYPE": "q8_0", "kv_dtype": "q4_0"}, {"num_batch": 0},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_option_is_said(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        make_engine("ollama", options)
    assert str(caught.value).isprintable()


def test_older_releases_are_refused_with_the_way_out() -> None:
    no = kvplan.try_estimate(LLAMA, engine="ollama@0.12.3")
    assert "0.12.3" in no.reason  # type: ignore[union-attr]
    assert "0.30" in no.see  # type: ignore[union-attr]


def test_num_ctx_times_num_parallel_in_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    """REPORTS.md, Q6: `num_ctx` 8192 with OLLAMA_NUM_PARALLEL=4."""
    assert main(["estimate", "llama-3.1-8b", "-e", "ollama", "--set", "num_ctx=8192", "--set", "OLLAMA_NUM_PARALLEL=4"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "ollama 0.32.15 · float16 · 4 x 8,192 tokens" in out
    assert "4 slots of 8,192 tokens: the cache is allocated for 32,768" in out
    assert "4,294,967,296" in out


def test_fit_says_what_to_set_and_why_it_would_offload(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", "/nowhere")
    assert main(["fit", "llama3.1:8b", "-e", "ollama", "--gpu", "rtx-4060-8gb"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "ollama serve then: ollama run llama3.1:8b" in out
    assert "33/33 layers on the cards" in out
    assert "more does not fail, it offloads (llama-server keeps 1,024 MiB of a card free" in out
    assert "would run with num_ctx 4096" in out
    assert "tokens less, by its default for this memory" in out
    assert main(["fit", "llama3.1:8b", "-e", "ollama", "--gpu", "rtx-4060-8gb", "-s", "8k", "--reserve", "1GiB"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "by itself Ollama starts 1 x 4,096 tokens here: 0.50 GiB of cache" in out
    assert "OLLAMA_KV_CACHE_TYPE=q8_0" in out


def test_a_default_that_is_too_large_offloads() -> None:
    on = make_engine("ollama", {"device_memory_bytes": 24 * GIB}).on(LLAMA)
    kept, gone = on.own_way(5 * GIB)[0], on.own_way(3 * GIB)[0]
    assert "stays on the card" in kept
    assert "leaves layers to the CPU" in gone
    said = make_engine("ollama", {"num_ctx": 4096}).on(LLAMA)
    assert "never lowered" in said.own_way(5 * GIB)[1]
    assert not make_engine("llama.cpp", {}).on(LLAMA).own_way(GIB)


# Older releases, whose own engine was read.


def test_a_published_load_of_the_own_engine() -> None:
    found = kvplan.estimate("gpt-oss-120b", engine="ollama@0.11.10", seq_len=8192)
    assert found.total_bytes == 450 * 2**20  # as the public log of test_logs.py has it
    assert found.evidence == "from source"


@pytest.mark.parametrize(
    ("release", "batch_size", "seq_len"), [("0.6.5", 4, 2048), ("0.6.7", 2, 4096), ("0.10.0", 1, 4096), ("0.15.5", 1, 4096)]
)
def test_defaults_of_older_releases(release: str, batch_size: int, seq_len: int) -> None:
    found = kvplan.estimate(GEMMA, engine=f"ollama@{release}").workload
    assert (found.batch_size, found.seq_len) == (batch_size, seq_len)


def test_older_releases_ignore_cache_types() -> None:
    f16, q8 = (kvplan.estimate(GEMMA, engine="ollama@0.12.6", kv_cache_type=kind) for kind in ("f16", "q8_0"))
    assert q8.total_bytes * 32 == f16.total_bytes * 17
    for options in ({"kv_cache_type": "q5_1"}, {"kv_cache_type": "q8_0", "flash_attention": False}):
        found = kvplan.estimate(GEMMA, engine="ollama@0.12.6", **options)  # type: ignore[arg-type]
        assert found.kv_dtype == "float16"
        assert any("is ignored" in note for note in found.notes)
    early = kvplan.estimate(GEMMA, engine="ollama@0.6.3", kv_cache_type="q8_0")
    assert any("flash attention is off" in note for note in early.notes)


def test_which_engine_an_older_release_ran() -> None:
    assert "llama.cpp of its time" in kvplan.try_estimate(QWEN, engine="ollama@0.12.3").reason  # type: ignore[union-attr]
    assert "llama.cpp of its time" in kvplan.try_estimate("qwen3-8b", engine="ollama@0.12.5").reason  # type: ignore[union-attr]
    assert kvplan.estimate("qwen3-8b", engine="ollama@0.12.4").total_bytes
    assert kvplan.estimate(LLAMA, engine="ollama@0.12.4", new_engine=True).total_bytes == 4096 * 131072
    assert "not read" in kvplan.try_estimate(QWEN, engine="ollama@0.17.1").reason  # type: ignore[union-attr]


def test_many_cells_of_the_own_engine_are_those_one_by_one() -> None:
    grid = kvplan.sweep([GEMMA], engine="ollama@0.12.7", seq_len="1k,4k,8k", batch_size="1,4").to_frame()
    for row in grid.to_dict("records"):
        one = kvplan.estimate(GEMMA, engine="ollama@0.12.7", seq_len=row["seq_len"], batch_size=row["batch_size"])
        assert row["total_bytes"] == one.total_bytes, row


def test_slots_of_an_older_release() -> None:
    no = kvplan.try_estimate(GEMMA, engine="ollama@0.12.7", num_parallel=2, batch_size=3)
    assert "room for 2" in no.reason  # type: ignore[union-attr]
    short = kvplan.try_estimate(GEMMA, engine="ollama@0.12.7", num_ctx=4096, seq_len=5000)
    assert "num_ctx is 4,096" in short.reason  # type: ignore[union-attr]
