"""Gemma: sharing, assistants, T5Gemma's windows, RecurrentGemma."""

from shipped import load, raw

from kvplan.architectures import read
from kvplan.domain.model import Cross, Full, Shared, Softmax, Window


def test_recurrentgemma_slides_in_every_third_layer():
    model = load("google__recurrentgemma-2b")
    assert [i for i, layer in enumerate(model.layers) if isinstance(layer.memories[0], Softmax)] == list(range(2, 26, 3))
    assert model.layers[2].memories[0] == Softmax(kv_heads=1, key_dim=256, value_dim=256, reach=Window(2048))


def test_a_layer_shares_with_the_last_owner_of_its_own_kind() -> None:
    model = load("google__gemma-3n-E2B-it")
    for layer in model.layers[20:]:
        (shared,) = layer.memories
        assert isinstance(shared, Shared)
        kind = raw("google__gemma-3n-E2B-it")["text_config"]["layer_types"]
        assert kind[shared.source] == kind[layer.index]
        assert shared.source in {18, 19}


def test_an_assistant_keeps_nothing_of_its_own() -> None:
    text = {"num_hidden_layers": 4, "num_kv_shared_layers": 4}
    model = read({"model_type": "gemma4_assistant", "text_config": text})
    assert [layer.memories for layer in model.layers] == [()] * 4


def test_a_decoder_that_was_written_back_layer_by_layer_reads_the_same() -> None:
    short = {"model_type": "gemma4_text", "num_hidden_layers": 6, "global_head_dim": 128}
    written = {"model_type": "gemma4_text", "num_hidden_layers": 6, "per_layer_config": {"05": {"head_dim": 128}}}
    assert read(short).layers == read(written).layers


def test_the_encoders_entries_fall_under_the_layers_window() -> None:
    model = read({"model_type": "t5gemma2", "decoder": {}})
    crosses = [m.reach for layer in model.layers for m in layer.memories if isinstance(m, Cross)]
    assert crosses[:6] == [Window(4096)] * 5 + [Full()]
