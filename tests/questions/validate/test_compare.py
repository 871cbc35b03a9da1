"""Pairing of planned and real tensors, whatever made the real ones."""

import json
from collections.abc import Callable

import pytest

from kvplan.domain.allocation import Allocation
from kvplan.questions.validate.compare import Check, RealTensor, Validation, compare
from kvplan.questions.validate.tensors import tensor_plan

Predict = Callable[..., Allocation]


def as_planned(allocation: Allocation) -> list[RealTensor]:
    return [
        RealTensor(layer=t.layer, name=t.name, shape=t.shape, dtype=t.dtype, storage_bytes=t.predicted_bytes)
        for t in tensor_plan(allocation)
    ]


def test_equal_tensors_in_any_order_are_equal(predicted: Predict) -> None:
    allocation = predicted("hybrid")
    found = compare(allocation, tensor_plan(allocation), reversed(as_planned(allocation)))
    assert all(b.difference is None for b in found)
    assert sum(b.real_bytes for b in found) == allocation.total_bytes


def test_a_missing_tensor_counts_nothing_and_is_named(predicted: Predict) -> None:
    allocation = predicted("gqa", batch_size=1)
    real = [t for t in as_planned(allocation) if (t.layer, t.name) != (2, "keys")]
    found = compare(allocation, tensor_plan(allocation), real)
    assert found[0].sentence() == "layer 2, keys, shape (1, 2, 40, 64) of bfloat16: predicted 10,240 bytes, real 0"
    assert found[1].difference is None


def test_a_tensor_that_nobody_planned_is_a_difference(predicted: Predict) -> None:
    allocation = predicted("gqa")
    extra = RealTensor(layer=3, name="scales", shape=(4,), dtype="float32", storage_bytes=16)
    found = compare(allocation, tensor_plan(allocation), [*as_planned(allocation), extra])
    assert len(found) == 3
    assert found[2].sentence() == "layer 3, scales, shape (4,) of float32: predicted 0 bytes, real 16"


@pytest.mark.parametrize(("exact", "real", "passed"), [(True, 5, True), (True, 6, False), (False, 6, True)])
def test_only_exact_figures_can_fail(exact: bool, real: int, passed: bool) -> None:
    assert Check(name="any", predicted=5, real=real, exact=exact).passed is passed


def test_the_json_form_holds_exact_integers(predicted: Predict) -> None:
    allocation = predicted("gqa")
    answer = Validation(
        allocation=allocation,
        device="cpu",
        device_name="cpu",
        torch_version="2",
        checks=(
            Check(name="tensor storage", predicted=2**60, real=2**60 + 1, exact=True),
            Check(name="largest batch", predicted=3, real=3, exact=True, unit="sequences"),
        ),
        buffers=compare(allocation, tensor_plan(allocation), as_planned(allocation)),
    )
    told = json.loads(json.dumps(answer.to_dict()))
    assert (told["checks"][0]["predicted_bytes"], told["checks"][0]["real_bytes"]) == (2**60, 2**60 + 1)
    assert (told["checks"][1]["predicted"], told["checks"][1]["real"], told["checks"][1]["unit"]) == (3, 3, "sequences")
    assert told["equal"] is False
    assert answer.failure() == f"tensor storage: predicted {2**60:,} bytes, real {2**60 + 1:,}"
    assert told["buffers"][0]["layers"] == [0, 1, 2, 3]
