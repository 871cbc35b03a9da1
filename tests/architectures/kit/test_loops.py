"""Layers that run several times: which repeat, how often, and what the later passes keep."""

from typing import Any

import pytest
from each import each

from kvplan import architectures
from kvplan.domain.model import Full, Loop, Model, ModelError, Softmax, Window
from kvplan.errors import ConfigError

DORY = {
    "model_type": "dory", "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "n_input_layers": 2, "n_output_layers": 2, "sliding_window": 8,
}  # fmt: skip


def read(**keys: Any) -> Model:
    return architectures.read(keys)


def reaches(model: Model) -> list[Any]:
    return [m.reach for layer in model.layers for m in layer.memories if isinstance(m, Softmax)]


def test_each_loop_of_dory_keeps_its_own_after_all_layers() -> None:
    model = read(**DORY, n_recurrent_loops=3)
    assert model.loop == Loop(first=2, stop=6, passes=3)
    assert len(model.layers) == 8 + 2 * 4
    assert len(model.own_layers) == 8
    assert reaches(model)[8:12] == reaches(model)[2:6] == [Window(8), Full(), Window(8), Window(8)]


def test_the_last_loop_alone_keeps_as_much_as_one_loop() -> None:
    last = read(**DORY, n_recurrent_loops=4, recurrent_kv_cache_mode="last_loop")
    assert last.loop == Loop(first=2, stop=6, passes=4, kept="last")
    assert last.layers == last.own_layers == read(**DORY, n_recurrent_loops=1).layers


def test_released_dory_configs_count_blocks_of_attention_and_mlp() -> None:
    doubled = {key: DORY[key] * 2 for key in ("num_hidden_layers", "n_input_layers", "n_output_layers")}  # type: ignore[operator]
    types = [kind for i in range(8) for kind in ("full_attention" if i % 4 == 3 else "sliding_attention", "mlp")]
    assert read(**{**DORY, **doubled, "layer_types": types}).layers == read(**DORY).layers


def test_dory_assumes_its_class_defaults() -> None:
    model = read(model_type="dory")
    assert model.loop == Loop(first=8, stop=28, passes=2)
    assert len(model.layers) == 56


@each(
    "keys",
    [
        {"n_input_layers": 9},
        {"n_recurrent_layers": 3},
        {"n_recurrent_loops": 0},
        {"n_recurrent_loops": 10**9},
        {"recurrent_kv_cache_mode": "first_loop"},
        {"layer_types": ["full_attention", "mlp"] * 3},
        {"layer_types": ["mlp", "full_attention"] * 4},
    ],
)
def test_loops_that_no_class_takes_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read(**{**DORY, **keys})


def test_inkling_repeats_convolutions_too_and_its_nested_keys_win() -> None:
    nested = {"core_start": 12, "core_end": 18, "num_passes": 2}
    assert read(model_type="inkling2_loop_text").loop == Loop(first=6, stop=18, passes=3)
    model = read(model_type="inkling2_loop_text", loop_num_passes=4, loop_config=nested)
    assert model.loop == Loop(first=12, stop=18, passes=2)
    assert [layer.memories for layer in model.layers[24:]] == [layer.memories for layer in model.layers[12:18]]
    assert all(len(layer.memories) == 2 for layer in model.layers)


def test_later_passes_of_iquest_see_a_window() -> None:
    model = read(model_type="iquestloopcoder", num_hidden_layers=2, loop_num=3, loop_window_size=16)
    assert reaches(model) == [Full()] * 2 + [Window(16)] * 4


def test_ouro_repeats_every_layer() -> None:
    model = read(model_type="ouro", num_hidden_layers=3, num_attention_heads=2, hidden_size=32)
    assert model.loop == Loop(first=0, stop=3, passes=4)
    assert len(model.layers) == 12


def test_other_passes_keep_what_the_later_passes_kept() -> None:
    model = read(model_type="iquestloopcoder", num_hidden_layers=2, loop_window_size=16)
    assert reaches(model.looped(3)) == [Full()] * 2 + [Window(16)] * 4
    assert model.looped(1).layers == model.own_layers
    assert model.looped(2) == model
    with pytest.raises(ModelError):
        model.looped(10**4)


def test_a_loop_needs_its_layers() -> None:
    layers = read(**DORY).own_layers
    with pytest.raises(ModelError):
        Model(name="m", model_type="m", layers=layers, loop=Loop(first=4, stop=9, passes=2, kept="last"))
    with pytest.raises(ModelError):
        Model(name="m", model_type="m", layers=layers, loop=Loop(first=2, stop=6, passes=2))
    with pytest.raises(ModelError):
        Loop(first=2, stop=2, passes=2)
