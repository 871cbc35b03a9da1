"""Kimi-Linear and K3: the map of linear layers."""

from shipped import ideal, latents, load, states_of

from kvplan.architectures import read
from kvplan.domain.model import Latent


def test_kimi_linear_reads_the_released_lists_which_count_from_one():
    nested = {"full_attn_layers": [4, 8], "kda_layers": [1, 2, 3, 5, 6, 7], "head_dim": 128, "num_heads": 32}
    model = read({"model_type": "kimi_linear", "num_hidden_layers": 8, "linear_attn_config": nested})
    assert [i for i, layer in enumerate(model.layers) if isinstance(layer.memories[0], Latent)] == [3, 7]
    one = ideal(model, 1).state_bytes // 6
    assert one == 2_170_880  # one layer's page in vLLM: 3 columns of 12,288 and a float32 matrix a head


def test_kimi_k3_has_24_latents_and_69_states():
    model = load("moonshotai__Kimi-K3")
    assert (len(latents(model)), len(states_of(model))) == (24, 69)
