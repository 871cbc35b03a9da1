"""The largest batch that really fits, beside the predicted one."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.ideal.engine import IdealOn
from kvplan.errors import DoesNotFit, OptionError
from kvplan.questions.validate.devices import Cpu, Cuda
from kvplan.questions.validate.probe import chosen_limit, probe_largest_batch
from kvplan.units import GIB, MIB

LOAD = Workload(seq_len=100, encoder_len=5)


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "fp8", "q8_0"])
@pytest.mark.parametrize("kind", ["gqa", "sliding", "mla", "hybrid", "cla", "encoder-decoder"])
def test_the_largest_real_batch_is_the_predicted_one(model_of: Callable[..., Model], kind: str, kv_dtype: str) -> None:
    found = probe_largest_batch(
        make_engine("ideal", {"kv_dtype": kv_dtype}), model_of(kind), LOAD, Cpu(torch), limit_bytes=3 * MIB + 12345
    )
    batch, storage = found.checks
    assert found.passed
    assert (batch.name, batch.unit) == ("largest batch", "sequences")
    assert batch.predicted == batch.real > 0
    assert storage.real == found.allocation.total_bytes <= 3 * MIB + 12345
    each = found.allocation.total_bytes // batch.real
    assert storage.real + each > 3 * MIB + 12345
    assert {step.batch_size for step in found.steps if step.fits} <= set(range(1, batch.real + 1))
    assert batch.real + 1 in {step.batch_size for step in found.steps if not step.fits}


def test_a_limit_below_one_sequence_fits_none(model_of: Callable[..., Model]) -> None:
    found = probe_largest_batch(make_engine("ideal", {}), model_of("gqa"), LOAD, Cpu(torch), limit_bytes=1000)
    assert found.passed
    assert [(c.predicted, c.real) for c in found.checks] == [(0, 0)]
    assert found.checks[0].remark.startswith("not even one sequence fits under 1,000 bytes")


def test_a_device_that_gives_less_than_predicted_is_a_difference(
    model_of: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.empty

    def stingy(shape: Any, **kwargs: Any) -> Any:
        if shape[0] > 5:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return real(shape, **kwargs)

    monkeypatch.setattr(torch, "empty", stingy)
    found = probe_largest_batch(make_engine("ideal", {}), model_of("gqa"), LOAD, Cpu(torch), limit_bytes=MIB * 2)
    assert (found.checks[0].predicted, found.checks[0].real) == (10, 5)
    assert found.failure() == "largest batch: predicted 10 sequences, real 5"


def test_a_prediction_that_is_too_small_is_a_difference(model_of: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    from msgspec import structs

    right = IdealOn.tensors

    def half(self: IdealOn, at: Any) -> Any:
        return tuple(structs.replace(piece, padded=piece.padded // 2) for piece in right(self, at))

    monkeypatch.setattr(IdealOn, "tensors", half)
    found = probe_largest_batch(make_engine("ideal", {}), model_of("gqa"), LOAD, Cpu(torch), limit_bytes=MIB * 2)
    assert (found.checks[0].predicted, found.checks[0].real) == (20, 10)
    assert not found.passed


def test_every_step_frees_its_tensors(model_of: Callable[..., Model], born: "list[weakref.ref[Any]]") -> None:
    found = probe_largest_batch(make_engine("ideal", {}), model_of("gqa"), LOAD, Cpu(torch), limit_bytes=MIB)
    assert len(found.steps) > 3
    assert len(born) > 8
    assert all(ref() is None for ref in born)


def test_the_cpu_needs_a_limit_and_a_gpu_keeps_a_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="needs a limit"):
        chosen_limit(Cpu(torch), None)
    monkeypatch.setattr(Cuda, "free_bytes", lambda self: 64 * GIB)
    assert chosen_limit(Cuda(torch, 0), None) == 62 * GIB
    monkeypatch.setattr(Cuda, "free_bytes", lambda self: GIB)
    assert chosen_limit(Cuda(torch, 0), None) == 512 * MIB
    with pytest.raises(DoesNotFit, match="limit is 1,073,741,825 bytes, and cuda:0 has 1,073,741,824 free"):
        chosen_limit(Cuda(torch, 0), GIB + 1)
