"""Real torch tensors against predictions, on the CPU."""

import json
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from msgspec import structs

from kvplan.domain.allocation import Allocation
from kvplan.errors import DoesNotFit, EnvironmentMissing
from kvplan.questions.validate import allocate, session
from kvplan.questions.validate.allocate import allocated
from kvplan.questions.validate.devices import Cpu
from kvplan.questions.validate.tensors import tensor_plan

KINDS = ("gqa", "uneven", "sliding", "mla", "hybrid", "cla", "encoder-decoder")
Predict = Callable[..., Allocation]


@pytest.fixture
def cpu() -> Cpu:
    return Cpu(torch)


@pytest.mark.parametrize(
    "kv_dtype", ["auto", "float32", "float16", "fp8_e4m3", "fp8_e5m2", "int8", "int4", "q8_0", "q4_0", "nvfp4"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_buffer_is_predicted_to_the_byte(cpu: Cpu, predicted: Predict, kind: str, kv_dtype: str) -> None:
    allocation = predicted(kind, kv_dtype=kv_dtype)
    found = session.validate(allocation, cpu)
    assert found.passed
    assert found.failure() == ""
    assert [b.real_bytes for b in found.buffers] == [b.padded_bytes for b in allocation.buffers]
    storage = found.checks[0]
    assert (storage.name, storage.predicted, storage.real) == ("tensor storage", allocation.total_bytes, allocation.total_bytes)
    assert storage.exact


def test_tensors_have_the_shapes_and_types_that_are_planned(cpu: Cpu, predicted: Predict) -> None:
    planned = tensor_plan(predicted("hybrid", kv_dtype="fp8"))
    with allocated(planned, cpu) as real:
        assert [(t.layer, t.name, t.shape, t.dtype) for t in real] == [(t.layer, t.name, t.shape, t.dtype) for t in planned]
    assert [(t.layer, t.name, t.shape, t.dtype) for t in planned] == [
        (0, "conv", (3, 96, 3), "bfloat16"),
        (0, "ssm", (3, 8, 16, 24), "float32"),
        (1, "conv", (3, 96, 3), "bfloat16"),
        (1, "ssm", (3, 8, 16, 24), "float32"),
        (1, "keys", (3, 2, 40, 64), "float8_e4m3fn"),
        (1, "values", (3, 2, 40, 64), "float8_e4m3fn"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_adds_up_to_the_allocation(predicted: Predict, kind: str) -> None:
    allocation = predicted(kind)
    assert sum(t.predicted_bytes for t in tensor_plan(allocation)) == allocation.allocated_bytes


def spoiled(allocation: Allocation, position: int, more_bytes: int) -> Allocation:
    """The same prediction with one buffer wrong."""
    buffers = list(allocation.buffers)
    buffers[position] = structs.replace(buffers[position], padded_bytes=buffers[position].padded_bytes + more_bytes)
    return structs.replace(allocation, buffers=tuple(buffers))


@pytest.mark.parametrize(
    ("more_bytes", "sentence"),
    [
        (1, "layer 0, values, shape (1, 2, 40, 64) of bfloat16: predicted 10,241 bytes, real 10,240"),
        (-1, "layer 3, values, shape (1, 2, 40, 64) of bfloat16: predicted 10,239 bytes, real 10,240"),
        (64, "layer 0, values, shape (1, 2, 40, 64) of bfloat16: predicted 10,256 bytes, real 10,240"),
    ],
)
def test_a_wrong_prediction_is_found_and_named(cpu: Cpu, predicted: Predict, more_bytes: int, sentence: str) -> None:
    right = predicted("gqa", batch_size=1)
    found = session.validate(spoiled(right, 1, more_bytes), cpu)
    assert not found.passed
    assert found.failure() == sentence
    assert [b.difference is None for b in found.buffers] == [True, False]
    assert found.checks[0].real == right.total_bytes


def test_every_byte_is_written_to(cpu: Cpu, predicted: Predict) -> None:
    allocation = predicted("gqa", seq_len=16_384, batch_size=4)
    touched: list[int] = []
    found = session.validate(allocation, cpu, watch=touched.append)
    assert sum(touched) == allocation.total_bytes == 134_217_728
    resident = found.checks[1]
    assert (resident.name, resident.exact) == ("resident set size", False)


def test_memory_is_really_touched() -> None:
    # in a process of its own: this one has freed memory that the allocator may hand out again without growing
    command = [sys.executable, "-m", "kvplan", "validate", "llama-3.1-8b", "-s", "2048", "--device", "cpu", "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    checks = {check["name"]: check for check in json.loads(done.stdout)["validations"][0]["checks"]}
    assert checks["tensor storage"]["real_bytes"] == 268_435_456
    assert checks["resident set size"]["real_bytes"] > 0.9 * 268_435_456


def test_what_does_not_fit_is_refused_before_anything_is_allocated(
    cpu: Cpu, predicted: Predict, born: "list[weakref.ref[Any]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    allocation = predicted("gqa")
    monkeypatch.setattr(
        "kvplan.questions.validate.devices.available_bytes", lambda: cpu.headroom_bytes + allocation.total_bytes - 1
    )
    with pytest.raises(DoesNotFit, match=f"needs {allocation.total_bytes:,} bytes .* and cpu has {allocation.total_bytes - 1:,}"):
        session.validate(allocation, cpu)
    assert born == []
    monkeypatch.setattr("kvplan.questions.validate.devices.available_bytes", lambda: cpu.headroom_bytes + allocation.total_bytes)
    assert session.validate(allocation, cpu).passed


def test_ranks_on_one_machine_share_its_memory(predicted: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    allocation = predicted("gqa")
    monkeypatch.setattr(
        "kvplan.questions.validate.devices.available_bytes", lambda: Cpu.headroom_bytes + 2 * allocation.total_bytes
    )
    assert session.check_fits(allocation, Cpu(torch, sharers=2)) == allocation.total_bytes
    with pytest.raises(DoesNotFit, match="free for each of 3 ranks"):
        session.check_fits(allocation, Cpu(torch, sharers=3))


def test_a_limit_is_kept(cpu: Cpu, predicted: Predict, born: "list[weakref.ref[Any]]") -> None:
    allocation = predicted("gqa")
    with pytest.raises(DoesNotFit, match=f"limit allows {allocation.total_bytes - 1:,} bytes"):
        session.validate(allocation, cpu, limit_bytes=allocation.total_bytes - 1)
    assert born == []
    assert session.validate(allocation, cpu, limit_bytes=allocation.total_bytes).passed


def test_a_prediction_that_is_far_too_small_cannot_take_the_machine(
    cpu: Cpu, predicted: Predict, born: "list[weakref.ref[Any]]"
) -> None:
    right = predicted("gqa")
    wrong = spoiled(right, 0, -right.buffers[0].padded_bytes)
    with pytest.raises(DoesNotFit, match="may be taken"):
        session.validate(wrong, cpu, limit_bytes=right.total_bytes // 2)
    assert born
    assert all(ref() is None for ref in born)


def test_all_tensors_are_freed_afterwards(cpu: Cpu, predicted: Predict, born: "list[weakref.ref[Any]]") -> None:
    found = session.validate(predicted("hybrid"), cpu)
    assert len(born) == sum(len(b.layers) for b in found.buffers)
    assert all(ref() is None for ref in born)


def test_ctrl_c_leaves_nothing_behind_even_while_its_traceback_lives(
    cpu: Cpu, predicted: Predict, born: "list[weakref.ref[Any]]"
) -> None:
    def pressed(touched_bytes: int) -> None:
        if len(born) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        session.validate(predicted("gqa"), cpu, watch=pressed)
    assert caught.tb is not None
    assert len(born) == 3
    assert all(ref() is None for ref in born)


def test_out_of_memory_during_the_run_frees_what_was_held(
    cpu: Cpu, predicted: Predict, born: "list[weakref.ref[Any]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = torch.empty

    def failing(*args: Any, **kwargs: Any) -> Any:
        if len(born) == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.\nmore")
        return watched(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", failing)
    with pytest.raises(DoesNotFit, match="out of memory at layer 1, keys: 30,720 bytes on cpu"):
        session.validate(predicted("gqa"), cpu)
    assert len(born) == 2
    assert all(ref() is None for ref in born)


def test_a_type_that_the_device_cannot_hold_is_one_sentence(
    cpu: Cpu, predicted: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*args: Any, **kwargs: Any) -> Any:
        raise TypeError("Trying to convert Float8_e4m3fn to the MPS backend but it does not have support for that dtype.")

    monkeypatch.setattr(torch, "empty", refusing)
    with pytest.raises(EnvironmentMissing, match=r"torch cannot allocate layer 0, keys: .* does not have support for that dtype"):
        session.validate(predicted("gqa", kv_dtype="fp8"), cpu)


def test_an_old_torch_without_the_type_is_named(cpu: Cpu, predicted: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "float8_e4m3fn")
    with pytest.raises(EnvironmentMissing, match="has no dtype `float8_e4m3fn`"):
        session.validate(predicted("gqa", kv_dtype="fp8"), cpu)


def test_large_tensors_are_touched_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocate, "_PIECE_BYTES", 1000)
    tensor = torch.ones((7, 11, 13), dtype=torch.float32)
    pieces: list[int] = []
    allocate._touch(tensor, pieces.append)
    assert pieces == [1000, 1000, 1000, 1000, 4]
    assert not tensor.any()
