"""Members whose layers are dealt out over several cards, unevenly, or partly left on the host: bytes are the engine's own."""

import json
from typing import Any

import pytest

import kvplan
from kvplan.api.placement import place
from kvplan.cli.app import main
from kvplan.errors import SpecError
from kvplan.questions.committee.placing import Item, loads_of
from kvplan.questions.committee.placing import place as placed
from kvplan.questions.placement.answer import Laid


def member(**more: Any) -> dict[str, Any]:
    known = {
        "name": "chat",
        "model": "qwen2.5-32b",
        "engine": "llama.cpp",
        "weights_dtype": "q4_k_m",
        "context": "8k",
        "users": 1,
    }
    return {**known, **more}


def plan(*members: dict[str, Any], gpu: str = "rtx-4090:2") -> kvplan.Committee:
    return kvplan.committee({"gpu": gpu, "members": list(members)}, advise=False)


@pytest.fixture(scope="module")
def uneven() -> kvplan.Committee:
    small = {"name": "small", "weights": "10GiB", "engine": "llama.cpp"}
    return plan(member(cards=[0, 1], options={"tensor_split": "3,1"}), small)


def test_each_card_has_what_fit_says_of_it(uneven: kvplan.Committee) -> None:
    part = uneven.parts[0]
    laid = place(
        "qwen2.5-32b", "rtx-4090:2", engine="llama.cpp", weights_dtype="q4_k_m", context="8k", tensor_split="3,1", brief=True
    )
    assert isinstance(laid, Laid)
    assert [part.on(card) for card in (0, 1)] == [each.needed.high for each in laid.spread.devices]
    assert part.on(0) > 2 * part.on(1)
    assert part.slack_bytes == 0
    assert uneven.total_bytes == part.on(0) + part.on(1) + uneven.parts[1].bytes
    assert "-ts 3,1" in part.flag
    assert part.environment == "CUDA_VISIBLE_DEVICES=0,1"


def test_others_go_where_less_was_dealt(uneven: kvplan.Committee) -> None:
    assert uneven.parts[1].cards == (1,)
    first, second = uneven.cards
    assert first.free_bytes == uneven.plan.room_bytes - uneven.parts[0].on(0)
    assert second.free_bytes == uneven.plan.room_bytes - uneven.parts[0].on(1) - uneven.parts[1].bytes


def test_placing_counts_bytes_card_by_card() -> None:
    dealt = Item(bytes=9, devices=2, pinned=(0, 1), by_card=(9, 2))
    assert placed([dealt, Item(bytes=7)], 2, 10) == ((0, 1), (1,))
    assert placed([dealt, Item(bytes=9)], 2, 10) is None
    assert loads_of([dealt, Item(bytes=7)], ((0, 1), (1,)), 2) == [9, 9]


def test_equal_shares_are_typed_and_a_reserve_that_was_said_counts_on_each() -> None:
    found = plan(member(cards=[0, 1], reserve="2GiB")).parts[0]
    assert "-ts 1,1" in found.flag
    assert found.spread is not None
    kept = [sum(line.bytes for line in each.lines if line.name in {"weights", "cache"}) for each in found.spread.devices]
    assert [found.on(card) for card in (0, 1)] == [size + 2 * 2**30 for size in kept]


def test_layers_that_stay_on_the_host_take_no_card() -> None:
    whole, half = plan(member(), gpu="rtx-4090"), plan(member(options={"n_gpu_layers": 33}), gpu="rtx-4090")
    assert half.parts[0].bytes < whole.parts[0].bytes * 3 // 4
    assert half.parts[0].spread is not None
    assert half.parts[0].spread.host.blocks == 32
    assert "-ngl 33" in half.parts[0].flag


def test_what_one_card_does_not_hold_is_offered_to_several(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.yaml"
    lines = [f"    {key}: {value}" for key, value in member(model="llama-3.1-70b").items()]
    path.write_text("gpu: rtx-4090:2\nmembers:\n  -" + "\n".join(lines)[3:] + "\n")
    assert main(["committee", str(path)]) == 1
    assert "--set 'chat.cards=[0, 1]'" in capsys.readouterr().out
    assert main(["committee", str(path), "--set", "chat.cards=[0, 1]"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "card 0: layers 0-40; card 1: layers 41-79, output" in shown


def test_a_member_of_ollama_lies_where_ollama_puts_it(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """On one of its cards where that suffices, on both where it is told so or one is too small; with its own variables."""
    known = {"engine": "ollama", "cards": [0, 1], "weights_dtype": None}

    def on(**more: Any) -> kvplan.Committee:
        return plan(member(**{**known, "model": "llama3.1:8b", **more}))

    one, both = (on(options=options).parts[0] for options in ({"num_parallel": 2}, {"sched_spread": True}))
    laid = place("llama3.1:8b", "rtx-4090:2", engine="ollama", context="8k", batch_size=2, brief=True)
    assert isinstance(laid, Laid)
    assert [one.on(card) for card in (0, 1)] == [laid.spread.devices[0].needed.high, 0]
    assert both.on(0) > 0 < both.on(1)
    assert "OLLAMA_SCHED_SPREAD=1 ollama serve" in both.flag
    said = on(options={"num_gpu": 20}).parts[0]
    assert said.spread is not None
    assert (said.spread.host.blocks, "/set parameter num_gpu 20" in said.needs) == (13, True)
    small = {"name": "small", "weights": "1.2GiB", "reserve": "0", "engine": "llama.cpp", "cards": [0]}
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps({"gpu": "rtx-4090:2", "members": [member(**{**known, "model": "llama3.3:70b"}), small]}))
    assert main(["committee", str(path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "CUDA_VISIBLE_DEVICES=0,1 OLLAMA_CONTEXT_LENGTH=8192" in shown
    assert "card 0: layers 0-40; card 1: layers 41-79, output" in shown
    assert "of card 0 stay free, and it keeps 1.00 GiB: started after the others it leaves layers to the CPU" in shown
    assert "of card 1 stay free" not in shown


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"cards": [0, 2]}, "names card 2"),
        ({"cards": [0, 1], "engine": "vllm", "weights_dtype": "fp8"}, "takes 1"),
        ({"cards": [0, 1], "options": {"tensor_split": "x"}}, "is no share"),
    ],
)
def test_what_cannot_be_names_the_line(more: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        plan(member(**more))
