"""Typed reads of a config: what is required, what is optional, and the record of both."""

import pytest
from each import each

from kvplan.architectures.kit.config import Config
from kvplan.errors import ConfigError


def test_without_a_default_a_key_is_required() -> None:
    with pytest.raises(ConfigError, match=r"here: `size` is missing \(or `width`\)"):
        Config({"size": None}, "here").integer("size", "width")
    with pytest.raises(ConfigError, match="`name` is missing"):
        Config({}).text("name")


def test_a_default_of_none_makes_a_key_optional_and_notes_nothing() -> None:
    c = Config({})
    assert (c.integer("size", default=None), c.text("name", default=None)) == (None, None)
    assert c.facts == ()
    assert c.read_keys == {"size", "name"}


def test_a_default_is_noted_as_the_classs() -> None:
    c = Config({"text": {}})
    assert c.section("text").integer("size", default=3) == 3
    assert [(fact.key, fact.value, fact.origin) for fact in c.facts] == [("text.size", "3", "class default")]


def test_the_first_key_that_is_not_null_counts() -> None:
    c = Config({"size": None, "width": 5, "breadth": 6})
    assert c.integer("size", "width", "breadth") == 5
    assert [(fact.key, fact.origin) for fact in c.facts] == [("width", "config")]


@each("value", [True, 1.0, "8", 0, 9, [8], {}])
def test_a_number_out_of_range_or_of_another_kind_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="`size` must be a whole number from 1 to 8"):
        Config({"size": value}).integer("size", maximum=8)


def test_a_list_has_an_entry_a_layer() -> None:
    with pytest.raises(ConfigError, match="`kinds` has 2 entries for 3 layers"):
        Config({"kinds": ["a", "b"]}).texts("kinds", length=3)
    with pytest.raises(ConfigError, match=r"`kinds\[1\]` is not a known layer type: `b` \(known: a\)"):
        Config({"kinds": ["a", "b"]}).texts("kinds", allowed=frozenset({"a"}))
