"""kvplan's quick dataclasses behave as the standard ones do."""

import copy
import dataclasses
import inspect
import pickle

import pytest

from kvplan.domain.model import Full, Layer, Model, Softmax, Window
from kvplan.domain.records import dataclass


@dataclass(frozen=True, slots=True)
class Quick:
    """A record."""

    first: int
    second: int = 2
    third: list = dataclasses.field(default_factory=list, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Standard:
    """The same, by the standard decorator."""

    first: int
    second: int = 2
    third: list = dataclasses.field(default_factory=list, compare=False, repr=False)


def test_a_record_is_built_compared_hashed_and_shown_as_a_standard_dataclass() -> None:
    for cls in (Quick, Standard):
        assert cls(1) == cls(first=1, second=2, third=[9]) != cls(1, 3)
        assert hash(cls(1)) == hash(cls(1, third=[9]))
        assert repr(cls(1)) == f"{cls.__name__}(first=1, second=2)"
        assert cls(1).third is not cls(1).third
        assert dataclasses.asdict(cls(1)) == {"first": 1, "second": 2, "third": []}
        assert dataclasses.replace(cls(1), second=5).second == 5
        assert [f.name for f in dataclasses.fields(cls)] == ["first", "second", "third"]
    assert list(inspect.signature(Quick).parameters) == list(inspect.signature(Standard).parameters)
    assert Quick(1) != Standard(1)


@pytest.mark.parametrize("cls", [Quick, Standard])
def test_a_record_refuses_wrong_arguments_and_changes(cls: type) -> None:
    for args, kwargs in (((), {}), ((1, 2, [], 4), {}), ((1,), {"first": 1}), ((1,), {"other": 1})):
        with pytest.raises(TypeError):
            cls(*args, **kwargs)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls(1).first = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del cls(1).first
    assert not hasattr(cls(1), "__dict__")


def test_positional_values_are_refused_where_the_class_wants_names() -> None:
    with pytest.raises(TypeError):
        Softmax(8, 128, 128)
    assert inspect.signature(Softmax).parameters["kv_heads"].kind is inspect.Parameter.KEYWORD_ONLY


def test_a_model_survives_pickling_and_copying() -> None:
    memory = Softmax(kv_heads=8, key_dim=128, value_dim=128, reach=Window(4))
    model = Model(name="m", model_type="llama", layers=(Layer(index=0, memories=(memory,)),))
    assert pickle.loads(pickle.dumps(model)) == copy.deepcopy(model) == model
    assert hash(copy.copy(memory)) == hash(memory)
    match memory:
        case Softmax(kv_heads=8, reach=Window(size=size)):
            assert size == 4
        case _:
            pytest.fail("a record must match by its fields")
    assert Full() == Full() != Window(1)
