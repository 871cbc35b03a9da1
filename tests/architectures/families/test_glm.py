"""GLM: indexers and their schedules."""

from shipped import latents, load, states_of

from kvplan.architectures import read
from kvplan.domain.model import Compressed, Index


def test_glm_5_2_owns_21_indexers_and_glm_5_1_one_a_layer():
    def indexers(name):
        return sum(isinstance(m, Index) for layer in load(name).layers for m in layer.memories)

    assert indexers("zai-org__GLM-5.2") == 21  # as SGLang counts them
    assert indexers("zai-org__GLM-5.1") == 78


def test_index_schedules_agree_however_they_are_written():
    base = {"model_type": "glm_moe_dsa", "num_hidden_layers": 8}
    every = read({**base, "index_topk_freq": 4, "index_skip_topk_offset": 3})
    letters = "".join("F" if len(layer.memories) == 2 else "S" for layer in every.layers)
    assert letters == "FFFSSSFS"
    words = [{"F": "full", "S": "shared"}[letter] for letter in letters]
    for other in ({"index_topk_pattern": letters}, {"index_topk_pattern": words}, {"indexer_types": words}):
        assert read({**base, **other}).layers == every.layers


def test_glm_5_3_flash_scores_pools_of_tokens_and_has_no_rotary_keys():
    model = load("zai-org__GLM-5.3-Flash")
    assert len(states_of(model)) == 34
    assert {latent.absorbed_elements for latent in latents(model)} == {512}
    assert model.layers[3].memories[1] == Index(dim=128, reach=Compressed(16))
