"""Llama 4's chunks, 3.2 Vision's image layers, and layers that share."""

from shipped import load, owners

from kvplan.architectures import read
from kvplan.domain.model import Chunk, Cross, Full, Shared, Softmax


def test_chunks_are_llama_4s_and_every_fourth_layer_sees_everything() -> None:
    reaches = [m.reach for m in owners(load("meta-llama__Llama-4-Scout-17B-16E-Instruct"))]
    assert reaches[:4] == [Chunk(8192), Chunk(8192), Chunk(8192), Full()]


def test_an_mllama_layer_looks_at_the_image_or_at_the_text() -> None:
    model = load("meta-llama__Llama-3.2-11B-Vision")
    looking = [layer.index for layer in model.layers if isinstance(layer.memories[0], Cross)]
    assert looking == [3, 8, 13, 18, 23, 28, 33, 38]
    assert all(len(layer.memories) == 1 for layer in model.layers)


def test_a_shared_layer_and_its_source_stand_where_the_list_says() -> None:
    model = read({"model_type": "llama-cla", "num_hidden_layers": 4, "kv_source_layer": [0, 0, 2, 2]})
    assert [type(layer.memories[0]) for layer in model.layers] == [Softmax, Shared, Softmax, Shared]
