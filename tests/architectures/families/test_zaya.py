"""ZAYA1: what its convolutions look back at."""

from kvplan.architectures import read


def test_zaya_keeps_what_its_two_convolutions_look_back_at():
    model = read({"model_type": "zaya", "num_hidden_layers": 1, "cca_time0": 3})
    conv, delayed = model.layers[0].memories[1].states
    assert (conv.shape, delayed.shape) == ((1280, 3), (128,))
