"""Each device's part of a spread process, allocated in turn: the parts are the whole, and each lies where its layers do."""

import json
from typing import Any

import pytest

from kvplan.api.validate import validate_parts
from kvplan.cli.app import main
from kvplan.errors import DoesNotFit
from kvplan.questions.validate.compare import Validation


def parts(gpu: str, **more: Any) -> dict[str, Validation]:
    found = validate_parts("gemma-3-1b", gpu, engine="llama.cpp", seq_len=1024, device="cpu", **more)
    return {each.part: each for each in found}


def layers(found: Validation) -> set[int]:
    return {layer for buffer in found.buffers for layer in buffer.layers}


def test_the_parts_are_the_whole() -> None:
    """26 layers over two cards and the host, and all in one place; every one as the engine's own buffer."""
    whole = parts("rtx-4090")
    split = parts("rtx-4090:2", tensor_split="3,1", n_gpu_layers=17)
    assert list(split) == ["CUDA0", "CUDA1", "Host"]
    assert [len(layers(each)) for each in split.values()] == [13, 3, 10]
    assert set.union(*map(layers, split.values())) == layers(whole["CUDA0"]) == set(range(26))
    storages = {name: each.checks[0].real for name, each in split.items()}
    assert sum(storages.values()) == whole["CUDA0"].checks[0].real
    assert all(each.passed for each in split.values())
    buffers = {name: next(check for check in each.checks if check.name == "the engine's buffer") for name, each in split.items()}
    assert {name: check.predicted for name, check in buffers.items()} == storages
    host = parts("rtx-4090:2", offload_kqv=False)
    assert list(host) == ["Host"]
    assert host["Host"].checks[0].real == whole["CUDA0"].checks[0].real


def test_rows_of_packed_types_are_padded_on_cards_alone() -> None:
    """A row of 256 elements in q8_0 is padded to 512 on CUDA: information there, exact on the host."""
    card, host = parts("rtx-4090", kv_dtype="q8_0")["CUDA0"], parts("rtx-4090", kv_dtype="q8_0", offload_kqv=False)["Host"]
    padded, plain = (next(check for check in each.checks if check.name == "the engine's buffer") for each in (card, host))
    assert padded.predicted is not None
    assert padded.predicted - padded.real == 26 * 2 * 384  # 256 more elements a tensor, 272 bytes, and to whole 128
    assert not padded.exact
    assert card.passed
    assert (plain.exact, plain.equal) == (True, True)


def test_a_part_that_does_not_fit_is_named() -> None:
    with pytest.raises(DoesNotFit, match="CUDA0: the cache needs"):
        parts("rtx-4090:2", limit="1MiB")


def test_the_command_says_each_device_and_that_they_went_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["validate", "gemma-3-1b", "-e", "llama.cpp", "-s", "256", "--device", "cpu"]
    assert main([*asked, "--gpu", "rtx-4090:2", "-ts", "1,1", "-f", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["validations"]
    assert [each["part"] for each in told] == ["CUDA0", "CUDA1"]
    assert main([*asked, "--gpu", "rtx-4090:2", "-ts", "1,1"]) == 0
    shown = capsys.readouterr().out
    assert "one after the other, each freed before the next" in shown
    assert "CUDA1 on cpu" in shown
    for wrong in (["-ngl", "3"], ["--gpu", "rtx-4090", "--probe-max"], ["--gpu", "rtx-4090", "-ts", "x"], ["--gpu", "nothing"]):
        assert main([*asked, *wrong]) in {1, 2}
        assert "Traceback" not in capsys.readouterr().err
