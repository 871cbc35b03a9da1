"""MiniMax: lightning, softmax and sparse layers."""

import pytest
from shipped import ideal, load

from kvplan.domain.model import Index, Softmax


def test_minimax_text_01_has_softmax_in_ten_of_eighty_layers():
    found = ideal(load("MiniMaxAI__MiniMax-Text-01"), 1000)
    assert found.bytes_per_token == 10 * 2 * 8 * 128 * 2
    assert found.state_bytes == 146_800_640  # 70 layers, as transformers held them in bfloat16


def test_minimax_m2_is_softmax_everywhere_with_three_prediction_layers():
    model = load("nvidia__MiniMax-M2.5-NVFP4")
    assert {layer.memories for layer in model.layers} == {(Softmax(kv_heads=8, key_dim=128, value_dim=128),)}
    assert len(model.drafts) == 3


@pytest.mark.parametrize("name", ["MiniMaxAI__MiniMax-M3", "nvidia__MiniMax-M3-NVFP4"])
def test_minimax_m3_indexes_all_but_its_first_three_layers(name):
    model = load(name)
    assert [len(layer.memories) for layer in model.layers] == [1] * 3 + [2] * 57
    assert model.layers[3].memories[1] == Index(dim=128)
    assert [layer.memories for layer in model.drafts] == [model.layers[-1].memories]
