"""Models that mlx-lm reads and no other studied engine: what each layer keeps, and what is refused."""

from typing import Any

import pytest
from each import each

from kvplan import architectures
from kvplan.domain.model import Full, Recurrent, Softmax, Window
from kvplan.errors import ConfigError

BASE = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 2}


def layers(kind: str, **keys: Any) -> list[tuple[Any, ...]]:
    return [layer.memories for layer in architectures.read({"model_type": kind, **BASE, **keys}).layers]


def test_a_looped_model_keeps_every_run_of_every_layer() -> None:
    assert layers("nanbeige", num_loops=3) == [(Softmax(kv_heads=2, key_dim=64, value_dim=64),)] * 18
    assert len(layers("nanbeige", num_loops=1, loop_loss_weights=[0.5])) == 12  # the weights name the loops beyond the first


def test_baichuan_keeps_the_last_key_and_value_beside_its_cache() -> None:
    found = layers("baichuan_m1", sliding_window=100, sliding_window_layers=[1], num_swa_attention_heads=16)
    assert [type(memory) for memory in found[0]] == [Recurrent, Softmax]
    assert [state.shape for state in found[0][0].states] == [(2, 64), (2, 64)]
    assert found[1][1] == Softmax(kv_heads=2, key_dim=32, value_dim=32, reach=Window(100))
    assert {memories[1].reach for i, memories in enumerate(found) if i != 1} == {Full()}


def test_bailings_linear_layers_end_in_a_softmax_one() -> None:
    found = layers("bailing_moe_linear", layer_group_size=4)
    assert [isinstance(memories[0], Softmax) for memories in found] == [False, False, False, True, True, True]
    assert found[0][0].states[0].shape == (8, 64, 64)


def test_plamo_slides_in_all_layers_but_each_nth() -> None:
    found = layers("plamo3", head_dim=64, window_size=300, sliding_window_pattern=3)
    assert [memories[0].reach for memories in found] == [Window(300), Window(300), Full()] * 2
    assert layers("plamo3", head_dim=64, window_size=300, sliding_window=50)[0][0].reach == Window(50)


def test_names_of_their_own_are_read() -> None:
    lille = {"n_layer": 3, "n_head": 8, "n_kv_heads": 2, "n_embd": 512}
    model = architectures.read({"model_type": "lille-130m", **lille})
    assert [layer.memories for layer in model.layers] == [(Softmax(kv_heads=2, key_dim=64, value_dim=64),)] * 3
    assert layers("Klear", head_dim=99) == [(Softmax(kv_heads=2, key_dim=64, value_dim=64),)] * 6


@each(
    ("kind", "keys"),
    [
        ("nanbeige", {"num_loops": 0}),
        ("nanbeige", {"num_loops": 1000, "num_hidden_layers": 1000}),
        ("nanbeige", {"num_loops": "two"}),
        ("baichuan_m1", {"sliding_window_layers": [6], "sliding_window": 8}),
        ("baichuan_m1", {"sliding_window_layers": [1]}),
        ("bailing_moe_linear", {"layer_group_size": 0}),
        ("plamo3", {"sliding_window_pattern": 0}),
        ("plamo3", {"window_size": -1}),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_key(kind: str, keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="`"):
        layers(kind, **keys)
