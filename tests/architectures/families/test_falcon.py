"""Falcon-Mamba and Falcon-H1."""

from shipped import ideal, load, states_of

from kvplan.architectures import read
from kvplan.domain.model import Recurrent, Softmax


def test_falcon_mamba_believes_its_intermediate_size():
    assert states_of(load("tiiuae__falcon-mamba-7b"))[0].states[1].shape == (8192, 16)


def test_falcon_h1_has_both_memories_in_every_layer():
    model = load("tiiuae__Falcon-H1-7B-Instruct")
    assert all([type(m) for m in layer.memories] == [Softmax, Recurrent] for layer in model.layers)
    assert ideal(model, 1).bytes_per_token == 44 * 2 * 2 * 128 * 2
    assert states_of(model)[0].states[0].shape == (3072 + 2 * 256,)


def test_falcon_h1_with_a_null_width_expands_its_hidden_size():
    changes = {"model_type": "falcon_h1", "mamba_n_heads": 64}
    assert states_of(read({**changes, "mamba_d_ssm": None}))[0].states[1].shape == (64, 128, 256)
    assert states_of(read(changes))[0].states[1].shape == (64, 16, 256)
