"""Reading an unknown model type by the shape of its keys."""

from typing import Any

import pytest

from kvplan import architectures
from kvplan.domain.model import Chunk, Full, Latent, Softmax, Window
from kvplan.errors import ConfigError, UnknownArchitecture

SHAPE = {"model_type": "acme-7", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512}


def test_an_unknown_type_is_refused_unless_it_may_be_inferred() -> None:
    with pytest.raises(UnknownArchitecture):
        architectures.read(SHAPE)
    model = architectures.read(SHAPE, infer=True)
    assert model.inferred
    assert "acme-7" in model.notes[0]
    assert {layer.memories for layer in model.layers} == {(Softmax(kv_heads=8, key_dim=64, value_dim=64),)}


def test_a_known_type_is_not_marked_inferred() -> None:
    assert not architectures.read({"model_type": "llama"}, infer=True).inferred


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"num_key_value_heads": 2}, Softmax(kv_heads=2, key_dim=64, value_dim=64)),
        ({"n_kv_heads": 2, "head_dim": 96}, Softmax(kv_heads=2, key_dim=96, value_dim=96)),
        ({"sliding_window": 128}, Softmax(kv_heads=8, key_dim=64, value_dim=64, reach=Window(128))),
        ({"attention_chunk_size": 256}, Softmax(kv_heads=8, key_dim=64, value_dim=64, reach=Chunk(256))),
        ({"sliding_window": 128, "use_sliding_window": False}, Softmax(kv_heads=8, key_dim=64, value_dim=64)),
        (
            {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128},
            Latent(rank=512, rope_dim=64, heads=8, nope_dim=128, value_dim=128),
        ),
    ],
)  # fmt: skip
def test_common_keys_mean_what_they_usually_mean(keys: dict[str, Any], expected: object) -> None:
    model = architectures.read({**SHAPE, **keys}, infer=True)
    assert {layer.memories for layer in model.layers} == {(expected,)}


def test_layer_types_decide_by_shape_too() -> None:
    types = ["sliding_attention", "full_attention"] * 2
    model = architectures.read({**SHAPE, "layer_types": types, "sliding_window": 64}, infer=True)
    reaches = [m.reach for layer in model.layers for m in layer.memories if isinstance(m, Softmax)]
    assert reaches == [Window(64), Full()] * 2


def test_the_text_part_of_an_unknown_wrapper_is_found() -> None:
    known = architectures.read({"model_type": "acme-vl", "text_config": {**SHAPE, "model_type": "llama"}})
    unknown = architectures.read({"model_type": "acme-vl", "text_config": SHAPE}, infer=True)
    assert (len(known.layers), known.inferred) == (4, False)
    assert (len(unknown.layers), unknown.inferred) == (4, True)


@pytest.mark.parametrize("missing", ["num_hidden_layers", "num_attention_heads", "hidden_size"])
def test_nothing_is_assumed_about_an_unknown_class(missing: str) -> None:
    config = {key: value for key, value in SHAPE.items() if key != missing}
    with pytest.raises(ConfigError, match=missing):
        architectures.read(config, infer=True)


@pytest.mark.parametrize("key", ["mamba_d_state", "linear_num_value_heads", "index_head_dim"])
def test_states_and_indexers_are_not_guessed(key: str) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        architectures.read({**SHAPE, key: 16}, infer=True)
    assert "YAML" in caught.value.hint


def test_a_key_of_loops_multiplies_every_layer_as_the_most_that_it_can_mean() -> None:
    keys = {"model_type": "nobody", "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8, "hidden_size": 32}
    for more in ({"n_recurrent_loops": 3}, {"total_ut_steps": 3}, {"loop_config": {"core_start": 1, "num_passes": 3}}):
        model = architectures.read(keys | more, infer=True)
        assert len(model.layers) == 9
        assert model.inferred
