"""OLMo-Hybrid: what its config leaves out."""

from shipped import load, states_of

from kvplan.architectures import read


def test_olmo_hybrid_derives_its_linear_heads():
    model = read({"model_type": "olmo_hybrid"})
    assert model.layers == load("allenai__Olmo-Hybrid-7B").layers
    assert states_of(model)[0].states[1].shape == (30, 96, 192)
