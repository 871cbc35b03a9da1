"""Which layers slide, by the rules that families share."""

from each import each

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Row
from kvplan.architectures.kit.sliding import Rule, all_full, all_slide, by_rope, every, first_of, from_layer, sliding
from kvplan.domain.model import Softmax, Window


def letters(rule: Rule, layers: int = 8, **config: object) -> str:
    return "".join("s" if slides else "F" for slides in rule(Config(config), layers))


@each(
    ("rule", "config", "expected"),
    [
        (all_slide, {}, "ssssssss"),
        (all_full, {}, "FFFFFFFF"),
        (every(4), {}, "sssFsssF"),
        (every(4, "step"), {"step": 2}, "sFsFsFsF"),
        (every(4), {"step": 2}, "sssFsssF"),
        (first_of(4), {}, "FsssFsss"),
        (first_of(4, "step"), {"step": 3}, "FssFssFs"),
        (from_layer(6), {}, "FFFFFFss"),
        (from_layer(6), {"max_window_layers": 1}, "Fsssssss"),
        (by_rope(1), {}, "sssFsssF"),
        (by_rope(0), {}, "FFFsFFFs"),
        (by_rope(0), {"no_rope_layers": [0, 1] * 4}, "sFsFsFsF"),
    ],
)
def test_a_rule_says_which_layers_slide(rule: Rule, config: dict[str, object], expected: str) -> None:
    assert letters(rule, **config) == expected


def windows(config: dict[str, object], row: Row, rule: Rule) -> list[bool]:
    decoder = sliding(row, rule).read(Config(config))
    return [isinstance(memory, Softmax) and memory.reach == Window(64) for (memory,) in decoder.layers]


def test_layer_types_win_over_the_rule_and_without_a_window_nothing_slides() -> None:
    row = Row(4, 8, 1024, window=64)
    assert windows({}, row, every(2)) == [True, False, True, False]
    kinds = ["full_attention", "sliding_attention"] * 2
    assert windows({"layer_types": kinds}, row, every(2)) == [False, True, False, True]
    assert windows({"sliding_window": None}, row, every(2)) == [False] * 4


def test_a_key_that_layer_types_overrule_is_noted_as_ignored() -> None:
    c = Config({"layer_types": ["full"] * 4, "sliding_window_pattern": 2})
    sliding(Row(4, 8, 1024, window=64), every(2, "sliding_window_pattern")).read(c)
    assert {fact.key: fact.origin for fact in c.facts}["sliding_window_pattern"] == "ignored: `layer_types` decides"
