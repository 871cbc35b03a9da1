"""A model is what it keeps: where it was read decides nothing."""

from hypothesis import given
from msgspec.structs import replace
from strategies import models

from kvplan.domain.model import Fact, Model
from kvplan.domain.origin import Origin


@given(models)
def test_equal_models_are_not_unequal(model: Model) -> None:
    config = {"model_type": "llama"}
    origin = Origin(config=config, text_config=config, text_type=model.model_type)
    same = replace(model, origin=origin, notes=("a note",), provenance=(Fact("key", "1", "config"),))
    assert same == model
    assert not same != model  # noqa: SIM202  (it is a method of its own)
    assert hash(same) == hash(model)


@given(models)
def test_another_name_dtype_or_layer_is_another_model(model: Model) -> None:
    layer = model.layers[0]
    for other in (
        replace(model, name=f"{model.name}x"),
        replace(model, dtype="float64"),
        replace(model, layers=(*model.layers, replace(layer, index=len(model.layers)))),
        None,
    ):
        assert model != other
        assert not model == other  # noqa: SIM201
