"""Layer types in one vocabulary, and what they see."""

import pytest
from each import each

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Heads
from kvplan.architectures.kit.layers import (
    CHUNKED,
    CONVOLUTION,
    FULL,
    LINEAR,
    SLIDING,
    SPELLINGS,
    decoder,
    draft_count,
    layer_types,
    reach,
    read_window,
)
from kvplan.domain.model import Chunk, Cross, Full, Window
from kvplan.errors import ConfigError


@each("kind", SPELLINGS)
def test_every_spelling_is_read_as_its_kind(kind: str) -> None:
    spelled = sorted(SPELLINGS[kind])
    assert layer_types(Config({"layer_types": spelled}), len(spelled), kind) == [kind] * len(spelled)


def test_a_kind_that_the_class_does_not_have_is_refused() -> None:
    c = Config({"layer_types": ["full", "mamba"]})
    assert layer_types(c, 2, FULL, LINEAR) == [FULL, LINEAR]
    with pytest.raises(ConfigError, match=r"`layer_types\[1\]` is not a known layer type"):
        layer_types(c, 2, FULL, SLIDING)


def test_no_list_is_none_and_a_list_of_another_length_is_refused() -> None:
    assert layer_types(Config({}), 2, FULL) is None
    with pytest.raises(ConfigError, match="has 1 entries for 2 layers"):
        layer_types(Config({"layer_types": ["full"]}), 2, FULL)
    assert layer_types(Config({"blocks": ["conv"]}), None, CONVOLUTION, keys=("kinds", "blocks")) == [CONVOLUTION]


@each(
    ("config", "gated", "expected"),
    [
        ({}, False, 64),
        ({"sliding_window": 8}, False, 8),
        ({"sliding_window": None}, False, None),
        ({"sliding_window": 8, "use_sliding_window": False}, False, None),
        ({"sliding_window": 8}, True, None),
        ({"sliding_window": 8, "use_sliding_window": True}, True, 8),
    ],
)
def test_a_window_is_there_null_or_switched_off(config: dict[str, object], gated: bool, expected: int | None) -> None:
    assert read_window(Config(config), 64, gated=gated) == expected


def test_a_layer_sees_what_its_kind_says() -> None:
    c = Config({})
    seen = [reach(c, kind, 8, 16) for kind in (FULL, SLIDING, CHUNKED, LINEAR)]
    assert seen == [Full(), Window(8), Chunk(16), Full()]
    assert reach(Config({"use_sliding_window": False}), SLIDING, None) == Full()
    with pytest.raises(ConfigError, match="`sliding_window` is missing"):
        reach(c, SLIDING, None)


def test_prediction_layers_see_everything_unless_they_slide() -> None:
    heads, c = Heads(2, 8, 4, 64), Config({"num_nextn_predict_layers": 2})
    far, near = (decoder(c, heads, [SLIDING] * 2, 8, drafts_slide=slide) for slide in (False, True))
    assert [memory.reach for (memory,) in far.drafts] == [Full()] * 2
    assert [memory.reach for (memory,) in near.drafts] == [Window(8)] * 2
    assert far.layers == near.layers


def test_nobody_assumes_prediction_layers_unless_the_class_does() -> None:
    c = Config({})
    assert (draft_count(c, default=None), c.facts) == (0, ())
    assert draft_count(c, default=1) == 1
    assert [fact.origin for fact in c.facts] == ["class default"]


def test_cross_attention_has_the_layers_heads_and_reach() -> None:
    (layer,) = decoder(Config({"add_cross_attention": True}), Heads(1, 8, 4, 64), [SLIDING], 8).layers
    assert layer[1] == Cross(kv_heads=4, key_dim=64, value_dim=64, reach=Window(8))
