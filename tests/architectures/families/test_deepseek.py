"""DeepSeek: published sizes, and what V4's maps mean."""

from collections import Counter

from shipped import ideal, latents, load

from kvplan.architectures import read
from kvplan.domain.model import Compressed, Index, Latent, Softmax, Window


def test_deepseek_v3_keeps_70272_bytes_a_token_and_one_prediction_layer():
    model = load("deepseek-ai__DeepSeek-V3")
    assert ideal(model, 1000).payload_bytes == 70_272_000
    assert [layer.memories for layer in model.drafts] == [model.layers[0].memories]


def test_deepseek_v2_keeps_34_560_elements_a_token():
    model = load("deepseek-ai__DeepSeek-V2")
    assert sum(latent.absorbed_elements for latent in latents(model)) == 34_560  # the paper prints 34.6K
    assert model.drafts == ()


def test_deepseek_v2_without_mla_is_ordinary_attention():
    model = read({"model_type": "deepseek_v2", "use_mla": False, "hidden_size": 1280, "num_attention_heads": 10})
    assert model.layers[0].memories == (Softmax(kv_heads=10, key_dim=128, value_dim=128),)


def test_deepseek_v32_adds_an_index_key_to_every_layer_and_its_prediction_layer():
    model = load("deepseek-ai__DeepSeek-V3.2")
    assert {type(m) for layer in model.layers for m in layer.memories} == {Latent, Index}
    assert ideal(model, 1000).payload_bytes == 1000 * 61 * (576 + 128) * 2
    assert [layer.memories for layer in model.drafts] == [model.layers[0].memories]


def test_deepseek_v4_flash_windows_compresses_and_indexes():
    model = load("deepseek-ai__DeepSeek-V4-Flash")
    kinds = Counter(len(layer.memories) for layer in model.layers)
    assert kinds == {1: 2, 3: 21, 2: 20}  # sliding, sparse, heavily compressed
    window, entries, index = model.layers[2].memories
    assert (window.reach, entries.reach, index.reach) == (Window(128), Compressed(4, overlap=True), Compressed(4, overlap=True))
    assert model.layers[3].memories[1].reach == Compressed(128)
    length = 1 << 20
    elements = 43 * 128 * 512 + 21 * (length // 4) * (512 + 128) + 20 * (length // 128) * 512
    assert ideal(model, length).payload_bytes == 2 * elements
    assert [layer.memories for layer in model.drafts] == [(window,)]  # the 44th ratio is 0


def test_deepseek_v4_1_keeps_entries_and_index_keys_in_their_source_layers():
    ratios = {"compress_ratios": [0, 4, 128, 4, 4], "kv_source_layer_ids": [1, 2, 3], "index_source_layer_ids": [1]}
    model = read({"model_type": "deepseek_v41", "num_hidden_layers": 5, "num_nextn_predict_layers": 0, **ratios})
    assert [len(layer.memories) for layer in model.layers] == [1, 3, 2, 2, 1]
