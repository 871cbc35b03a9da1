"""The index of families and wrappers: every name leads to a reader, and only one."""

import subprocess
import sys
from collections import Counter
from importlib import import_module

import pytest

from kvplan import architectures
from kvplan.domain.model import Softmax
from kvplan.errors import ConfigError


def test_no_model_type_has_two_families() -> None:
    counted = Counter(model_type for types in architectures.FAMILIES.values() for model_type in types)
    assert [model_type for model_type, number in counted.items() if number > 1] == []


def test_no_model_type_is_both_a_wrapper_and_a_text_model() -> None:
    assert {t for types in architectures.FAMILIES.values() for t in types} & set(architectures.WRAPPERS) == set()


@pytest.mark.parametrize("wrapper", sorted(architectures.WRAPPERS))
def test_a_wrapper_implies_a_known_text_model(wrapper: str) -> None:
    path, implied = architectures.WRAPPERS[wrapper]
    assert path
    assert implied in {t for types in architectures.FAMILIES.values() for t in types}


@pytest.mark.parametrize("model_type", architectures.known_model_types())
def test_a_bare_model_type_reads_or_names_the_key_that_it_lacks(model_type: str) -> None:
    try:
        model = architectures.read({"model_type": model_type})
    except ConfigError as error:
        assert str(error).startswith("config.json: `")  # noqa: PT017 - either outcome is right, and this one is worded
    else:
        assert model.layers


def test_every_row_of_a_table_is_in_the_index() -> None:
    for family in ("plain", "sliding", "gemma", "encoder_decoder"):
        module = import_module(f"kvplan.architectures.{family}")
        rows = {*module.ROWS, *getattr(module, "_OWN", {})}
        assert rows == set(architectures.FAMILIES[family]), family
    for family in ("kv_names", "layer_maps"):
        module = import_module(f"kvplan.architectures.{family}")
        assert set(module._READERS) == set(architectures.FAMILIES[family]), family


def test_a_wrapper_whose_part_names_the_wrapper_again_is_read_as_its_text_model() -> None:
    config = {"model_type": "qwen2_vl", "text_config": {"model_type": "qwen2_vl", "num_hidden_layers": 3}}
    assert len(architectures.read(config).layers) == 3


def test_a_flat_wrapper_is_read_at_its_top_level() -> None:
    model = architectures.read({"model_type": "qwen2_vl", "num_hidden_layers": 3, "num_attention_heads": 64})
    assert len(model.layers) == 3


def test_some_wrappers_complete_what_their_text_part_leaves_out() -> None:
    (merged,) = architectures.read({"model_type": "voxtral", "text_config": {"num_hidden_layers": 2}}).layers[0].memories
    (not_merged,) = architectures.read({"model_type": "paligemma", "text_config": {"num_hidden_layers": 2}}).layers[0].memories
    assert merged == Softmax(kv_heads=8, key_dim=128, value_dim=128)
    assert not_merged == Softmax(kv_heads=16, key_dim=256, value_dim=256)  # Gemma's own class, not PaliGemma's text part


def test_reading_one_family_imports_no_other() -> None:
    code = (
        "import sys; from kvplan import architectures as a; a.read({'model_type': 'llama'});"
        "print(*sorted(m.split('.')[2] for m in sys.modules if m.startswith('kvplan.architectures.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["config", "index", "plain", "rows", "shapes"]
