"""Nemotron-H: layers that remember nothing."""

from collections import Counter

from shipped import load


def test_nemotron_h_mlp_and_expert_layers_remember_nothing():
    model = load("nvidia__NVIDIA-Nemotron-3-Super-120B-A12B-FP8")
    kinds = Counter(tuple(type(m).__name__ for m in layer.memories) for layer in model.layers)
    assert kinds == {("Recurrent",): 40, (): 40, ("Softmax",): 8}
    assert [len(layer.memories) for layer in model.drafts] == [1, 0]  # the pattern *E
