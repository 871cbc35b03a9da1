"""Phi-4-mini-flash: one layer that seven read."""

from collections import Counter

from shipped import load, states_of

from kvplan.domain.model import Shared, Softmax, Window


def test_phi4_flash_keeps_one_full_layer_that_seven_read():
    model = load("microsoft__Phi-4-mini-flash-reasoning")
    counted = Counter(layer.memories for layer in model.layers)
    full = Softmax(kv_heads=20, key_dim=64, value_dim=64)
    assert counted[(full,)] == 1
    assert counted[(Shared(source=17),)] == 7
    assert counted[()] == 7
    assert counted[(Softmax(kv_heads=20, key_dim=64, value_dim=64, reach=Window(512)),)] == 8
    assert len(states_of(model)) == 9
