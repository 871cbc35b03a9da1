"""Rows: what an absent key, a null and a remainder mean to classes that differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import DERIVED, MHA, Heads, Names, Row, lenient, read_heads
from kvplan.errors import ConfigError


def heads(row: Row, **config: object) -> Heads:
    return read_heads(Config(config), row)


def test_a_row_is_what_an_empty_config_means() -> None:
    assert heads(Row(2, 8, 1024, 4, 96)) == Heads(2, 8, 4, 96)
    assert heads(Row(2, 8, 1024)) == Heads(2, 8, 8, 128)


def test_a_row_that_assumes_nothing_asks_for_everything() -> None:
    with pytest.raises(ConfigError, match="`num_hidden_layers` is missing"):
        heads(Row())
    with pytest.raises(ConfigError, match="`hidden_size` is missing"):
        heads(Row(2, 8))
    assert heads(Row(2, 8, head_dim=64)) == Heads(2, 8, 8, 64)


def test_null_means_what_the_class_makes_of_it() -> None:
    null = {"num_key_value_heads": None, "head_dim": None}
    row = Row(2, 8, 1024, 4, 96)
    assert heads(row, **null) == Heads(2, 8, 8, 128)  # one a query head, and a division
    assert heads(lenient(2, 8, 1024, 4, 96), **null) == Heads(2, 8, 4, 96)  # as if absent
    for key in null:
        refusing = row._replace(refuses_null=("kv_heads", "head_dim"))
        with pytest.raises(ConfigError, match=f"`{key}` is null, which this class does not take"):
            heads(refusing, **{key: None})


def test_null_for_a_number_that_every_class_needs_is_refused_unless_null_is_absence() -> None:
    with pytest.raises(ConfigError, match=r"`num_hidden_layers` is null.* \(its default is 2\)"):
        heads(Row(2, 8, 1024), num_hidden_layers=None)
    assert heads(lenient(2, 8, 1024), num_hidden_layers=None).layers == 2


def test_a_remainder_is_dropped_or_refused() -> None:
    row = Row(2, 8, 1030)
    assert heads(row).dim == 128
    for refusing in (row._replace(refuses_remainder=True), row._replace(names=DERIVED), lenient(2, 8, 1030)):
        with pytest.raises(ConfigError, match="`hidden_size` 1030 is not divisible by 8 query heads"):
            heads(refusing)


def test_a_class_without_a_key_ignores_it_and_says_so() -> None:
    c = Config({"num_key_value_heads": 2, "head_dim": 7})
    assert read_heads(c, Row(2, 8, 1024, names=MHA)) == Heads(2, 8, 8, 128)
    assert {fact.key for fact in c.facts if fact.origin.startswith("ignored: ")} == {"num_key_value_heads", "head_dim"}


def test_the_preferred_name_of_a_key_counts() -> None:
    row = Row(2, 8, 1024, names=Names(heads=("n_head", "num_attention_heads")))
    assert heads(row, n_head=4, num_attention_heads=16).query == 4
    assert heads(row, num_attention_heads=16).query == 16


@given(query=st.integers(1, 64), kv=st.integers(1, 64))
def test_kv_heads_divide_the_query_heads_or_are_refused(query: int, kv: int) -> None:
    for row in (Row(1, 1, head_dim=64), lenient(1, 1, head_dim=64)):
        if query % kv == 0:
            assert heads(row, num_attention_heads=query, num_key_value_heads=kv).kv == kv
        else:
            with pytest.raises(ConfigError, match=f"{kv} does not divide the {query} query heads"):
                heads(row, num_attention_heads=query, num_key_value_heads=kv)
