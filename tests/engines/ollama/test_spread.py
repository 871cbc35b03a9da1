"""Ollama over cards and host: llama.cpp's places of what it asks for, and what `ollama ps` then shows."""

from typing import Any

import pytest

import kvplan
from kvplan.api.placement import place
from kvplan.cli.app import main
from kvplan.errors import OptionError, Refused
from kvplan.questions.placement.answer import Laid


@pytest.fixture(autouse=True)
def _no_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", "/nowhere")


def laid(model: str, gpu: str, **more: Any) -> Laid:
    found = place(model, gpu, engine="ollama", brief=True, **more)
    assert isinstance(found, Laid), found
    return found


def test_places_are_llama_cpps_at_ollamas_batch() -> None:
    mine = laid("gemma3:4b", "rtx-3060", context=8192)
    batch = kvplan.estimate("gemma3:4b", engine="ollama", seq_len=8192).facts.to_dict()["num_batch"]  # type: ignore[union-attr]
    same = place("gemma3:4b", "rtx-3060", engine="llama.cpp", context=8192, brief=True, batch=batch, ubatch_size=batch)
    assert isinstance(same, Laid)
    assert [p.needed for p in mine.spread.places] == [p.needed for p in same.spread.places]
    assert mine.spread.command == "OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_NUM_PARALLEL=1 ollama serve"


def test_slots_multiply() -> None:
    one, four = (laid("llama3.1:8b", "rtx-4090", context=8192, batch_size=n).spread.sum_of("cache").bytes for n in (1, 4))
    assert four == 4 * one


def test_one_card_where_it_suffices_and_both_where_not() -> None:
    small, large = laid("llama3.1:8b", "rtx-4090:2", context=8192), laid("llama3.3:70b", "rtx-4090:2", context=8192)
    assert [bool(p.blocks) for p in small.spread.devices] == [True]
    assert [bool(p.blocks) for p in large.spread.devices] == [True, True]
    spread = laid("llama3.1:8b", "rtx-4090:2", context=8192, sched_spread=True)
    assert [bool(p.blocks) for p in spread.spread.devices] == [True, True]


def test_what_is_left_on_the_host_is_said_with_what_ps_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "gemma3:27b", "-e", "ollama", "--gpu", "rtx-4060-8gb"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "layers on the cards: num_gpu" in out
    assert "ollama serve; /set parameter num_gpu" in out
    assert "left to itself, ollama 0.32.15 would run with num_ctx 4096" in out
    assert "`ollama ps`: SIZE 17 GB, PROCESSOR" in out
    assert "CPU/GPU" in out


def test_what_fit_keeps_free_is_no_room_unless_layers_are_said() -> None:
    by_itself, said = (laid("llama3.1:8b", "rtx-4060-8gb", **more) for more in ({}, {"num_gpu": 33}))
    (mine,), (theirs,) = by_itself.spread.devices, said.spread.devices
    assert mine.room is not None
    assert theirs.room is not None
    assert theirs.room.bytes - mine.room.bytes == 2**30
    assert 0 < by_itself.longest < said.longest
    assert by_itself.own == said.own == ""


def test_changes_are_ollamas_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "llama3.1:8b", "-e", "ollama", "--gpu", "rtx-4060-8gb", "-s", "20k", "-b", "1"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "every layer on the cards, whatever stays free there: num_gpu 33 -> fits" in out
    assert "OLLAMA_KV_CACHE_TYPE=q8_0 ollama serve" in out
    assert "-ngl" not in out
    assert "-ctk" not in out


def test_ps_of_a_model_that_is_whole_on_the_card() -> None:
    found = place("llama3.1:8b", "rtx-4090", engine="ollama")
    assert isinstance(found, Laid)
    assert "PROCESSOR 100% GPU, CONTEXT 32768" in found.own
    assert "num_ctx 32768" in found.own


def test_windows_show_the_second_of_two_caches() -> None:
    """`ollama ps` keeps the last line of a name (recorded: ollama/memory_size/swa)."""
    from kvplan.engines.ollama.spread import _lost

    spreading = __import__("kvplan.engines.ollama.spread", fromlist=["Spreading"])
    assert spreading.PLACING == ("num_gpu", "main_gpu", "sched_spread")
    on = kvplan.estimate("gemma3:4b", engine="ollama", seq_len=8192)
    parts = on.facts.to_dict()["context"]["parts"]  # type: ignore[union-attr]
    base = next(part for part in parts if part["name"] == "base")
    assert base["k_bytes"] + base["v_bytes"] > 0
    assert _lost((), 0) == (0, 0)


def test_an_older_release_has_no_places() -> None:
    with pytest.raises(OptionError, match="deals no layers out"):
        place("gemma3:4b", "rtx-4090", engine="ollama@0.12.6")


def test_a_release_has_its_llama_cpps_rules() -> None:
    """0.30 brings b9452, which computes logits of a whole batch; 0.31 brings b9840, of one token a slot (#23861)."""
    old, new = (
        place("llama3.1:8b", "rtx-4090", engine=f"ollama@{release}", context=8192, brief=True) for release in ("0.30", "0.31")
    )
    assert isinstance(old, Laid)
    assert isinstance(new, Laid)
    logits = 4 * 512 * (128_256 + 4096)
    buffers = [next(line for line in found.spread.places[0].lines if line.name == "compute") for found in (old, new)]
    assert buffers[0].low >= logits > buffers[1].low


def test_models_that_came_after_a_release_are_refused() -> None:
    """DeepSeek V4 came with b9840, which 0.31 brings."""
    assert kvplan.estimate("deepseek-v4-flash", engine="ollama@0.31", seq_len=4096).total_bytes
    with pytest.raises(Refused, match=r"the llama.cpp of Ollama 0.30: b9452 does not know deepseek4: from b9840 on"):
        kvplan.estimate("deepseek-v4-flash", engine="ollama@0.30", seq_len=4096)
