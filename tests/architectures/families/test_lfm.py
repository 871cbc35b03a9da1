"""LFM2 and LFM3: convolutions, attention, windows."""

from collections import Counter

from shipped import load, states_of

from kvplan.domain.model import Softmax, Window


def test_lfm2_has_convolutions_of_three_taps_and_lfm3_also_windows():
    second, third = load("LiquidAI__LFM2-1.2B"), load("LiquidAI__LFM3-1.7B")
    assert len(states_of(second)) == 10
    assert states_of(second)[0].states[0].kernel == 3
    reaches = Counter(m.reach for layer in third.layers for m in layer.memories if isinstance(m, Softmax))
    assert reaches[Window(256)] == 5
    assert len(states_of(third)) == 13
