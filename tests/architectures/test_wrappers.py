"""Wrappers: where the text part is, and what the wrapper assumes of it."""

from each import each

from kvplan import architectures
from kvplan.architectures import read
from kvplan.domain.model import Softmax


@each("wrapper", sorted(architectures.WRAPPERS))
def test_a_wrapper_implies_a_known_text_model(wrapper: str) -> None:
    path, implied = architectures.WRAPPERS[wrapper]
    assert path
    assert implied in {t for types in architectures.FAMILIES.values() for t in types}


def test_no_model_type_is_both_a_wrapper_and_a_text_model() -> None:
    assert {t for types in architectures.FAMILIES.values() for t in types} & set(architectures.WRAPPERS) == set()


def test_a_wrapper_whose_part_names_the_wrapper_again_is_read_as_its_text_model() -> None:
    config = {"model_type": "qwen2_vl", "text_config": {"model_type": "qwen2_vl", "num_hidden_layers": 3}}
    assert len(read(config).layers) == 3


def test_a_flat_wrapper_is_read_at_its_top_level() -> None:
    model = read({"model_type": "qwen2_vl", "num_hidden_layers": 3, "num_attention_heads": 64})
    assert len(model.layers) == 3


def test_some_wrappers_complete_what_their_text_part_leaves_out() -> None:
    (merged,) = read({"model_type": "voxtral", "text_config": {"num_hidden_layers": 2}}).layers[0].memories
    (not_merged,) = read({"model_type": "paligemma", "text_config": {"num_hidden_layers": 2}}).layers[0].memories
    assert merged == Softmax(kv_heads=8, key_dim=128, value_dim=128)
    assert not_merged == Softmax(kv_heads=16, key_dim=256, value_dim=256)  # Gemma's own class, not PaliGemma's text part


def test_a_wrapper_is_read_through_its_text_part():
    text = {"num_hidden_layers": 4}
    for outer, inner in (
        ("minicpmv4_7", "qwen3_5_text"),
        ("lfm3_vl", "lfm3"),
        ("inkling2", "inkling2_text"),
        ("kimi_k25", "deepseek_v3"),
    ):
        assert read({"model_type": outer, "text_config": text}).layers == read({"model_type": inner, **text}).layers
    nested = read({"model_type": "nemotron_h_omni", "llm_config": {"model_type": "nemotron_h", "hybrid_override_pattern": "M*E"}})
    assert [len(layer.memories) for layer in nested.layers] == [1, 1, 0]
