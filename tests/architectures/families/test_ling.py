"""Ling: generations under one model type."""

from shipped import states_of

from kvplan.architectures import read
from kvplan.domain.model import Latent


def test_ling_3_reads_head_dim_as_the_linear_layers_unless_a_saved_config_says_otherwise():
    released = read({"model_type": "bailing_hybrid", "head_dim": 64})
    saved = read({"model_type": "bailing_hybrid", "head_dim": 64, "linear_head_dim": 128})
    assert states_of(released)[0].states[1].shape == (32, 64, 64)
    assert states_of(saved)[0].states[1].shape == (32, 128, 128)


def test_ling_2_5_is_lightning_attention_under_the_same_model_type():
    model = read({"model_type": "bailing_hybrid", "num_hidden_layers": 8, "layer_group_size": 5, "group_norm_size": 4})
    assert [isinstance(layer.memories[0], Latent) for layer in model.layers] == [False] * 4 + [True] * 4
    (state,) = states_of(model)[0].states
    assert (state.shape, state.kernel) == ((32, 128, 128), 0)
