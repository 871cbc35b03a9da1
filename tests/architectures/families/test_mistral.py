"""Mistral: Large 4's latents, and a text part of the wrapper's own type."""

from collections import Counter

from shipped import latents, load, raw

from kvplan.architectures import read
from kvplan.domain.model import Index, Shared


def test_mistral_large_4_keeps_no_rotary_keys_in_every_fourth_layer():
    model = load("mistralai__Mistral-Large-4-1T-A52B")
    assert Counter(latent.rope_dim for latent in latents(model)) == {64: 54, 0: 18}
    assert {latent.nope_dim + latent.rope_dim for latent in latents(model)} == {128}


def test_mistral_large_4_layers_that_share_keep_only_their_indexer():
    changes = {"num_hidden_layers": 4, "kv_source_layers": [0, 1, 0, 1], "indexer_types": ["full", "full", "full", "shared"]}
    model = read({"model_type": "mistral_large4_text", **changes})
    assert model.layers[2].memories == (Shared(source=0), Index(dim=128))
    assert model.layers[3].memories == (Shared(source=1),)


def test_a_part_of_the_same_type_is_found_inside_its_wrapper() -> None:
    model = load("mistralai__Ministral-3-3B-2512")
    assert len(model.layers) == raw("mistralai__Ministral-3-3B-2512")["text_config"]["num_hidden_layers"] == 26
