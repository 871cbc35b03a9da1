"""Hunyuan 4: shared indexers."""

from kvplan.architectures import read


def test_hy_v4_shares_indexers_three_layers_in_four():
    model = read({"model_type": "hy_v4"})
    assert sum(len(layer.memories) == 2 for layer in model.layers) == 10
    assert len(model.layers) == 34
