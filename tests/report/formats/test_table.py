"""Tables for people: nothing is lost, no name is folded, what matters least goes first, and colours change no character."""

import re
from collections import Counter

import pytest
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplan.domain.tables import BAR, Column, Table, common_unit, printed
from kvplan.report.folding import folded, narrowed, widened
from kvplan.report.formats.markdown import to_markdown
from kvplan.report.formats.table import to_text
from kvplan.units import in_unit

WORDS = st.text(st.characters(categories=["L", "N", "P"]), max_size=9)
SENTENCES = st.text(st.sampled_from("ab-c  \u00b7/_."), max_size=40)
HEADERS = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=9)
CELLS = {
    "text": WORDS | SENTENCES,
    "name": WORDS,
    "verdict": WORDS | SENTENCES,
    "bytes": st.integers(0, 10**13),
    "count": st.integers(0, 10**13),
    "tokens": st.integers(0, 10**9),
    "ratio": st.floats(0, 1000),
}
SGR = re.compile(r"\x1b\[[0-9;]*m")
PLAIN = SGR.sub


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=5))
    row = st.tuples(*(CELLS[kind] for kind in kinds))
    return Table(
        title="",
        columns=tuple(Column(title=draw(HEADERS) or "x" * (not i), key=str(i), kind=kind) for i, kind in enumerate(kinds)),
        rows=tuple(draw(st.lists(row, max_size=5))),
        total=draw(st.none() | row),
    )


def _characters(texts: list[str]) -> Counter[str]:
    return Counter("".join("".join(texts).split()))


@settings(max_examples=60)
@given(tables(), st.integers(20, 120))
def test_every_character_of_every_cell_is_shown_within_the_width(table: Table, width: int) -> None:
    shown = printed(table)
    text = to_text(table, width=width)
    wanted = [*shown.headers, *(cell for row in shown.rows for cell in row), *(shown.total or [])]
    found = _characters([line for line in text.splitlines() if set(line) != {"─"}])
    assert found == _characters(wanted)
    if text.isascii():
        assert max(map(len, text.splitlines())) <= width


@settings(max_examples=30)
@given(tables(), st.integers(20, 120))
def test_colours_change_no_character(table: Table, width: int) -> None:
    assert SGR.sub("", to_text(table, width=width, color=True)) == to_text(table, width=width)


def test_what_is_folded_is_folded_between_words_and_at_the_marks_of_paths() -> None:
    columns = (Column(title="two words", key="a"), Column(title="a long heading", key="b", kind="count"))
    table = Table(title="", columns=columns, rows=(("one two three four", 1_000_000),), total=("all", 1_000_000))
    assert to_text(table, width=24).splitlines() == [
        "                  a long",
        "two words        heading",
        "────────────────────────",
        "one two        1,000,000",
        "three four",
        "",
        "all            1,000,000",
    ]
    assert folded("model_executor/model_loader, through the allocator", 20) == [
        "model_executor/",
        "model_loader,",
        "through the",
        "allocator",
    ]
    assert folded("abcdefgh", 3) == ["abc", "def", "gh"]


def test_a_name_is_never_folded_while_anything_else_can_give() -> None:
    name = "owner/a-very-long-name-of-a-model-FP8-dynamic"
    columns = (
        Column(title="model", key="model", kind="name"),
        Column(title="why", key="why"),
        Column(title="what it takes", key="bytes", kind="count"),
    )
    table = Table(title="", columns=columns, rows=((name, "a reason of several words", 123_456_789),))
    for width in range(len(name) + 24, 120):
        text = to_text(table, width=width)
        assert name in text
        assert "123,456,789" in text
        assert max(map(len, text.splitlines())) <= width


def test_columns_go_in_the_order_of_their_rank_and_say_what_they_said() -> None:
    columns = (
        Column(title="model", key="model", kind="name"),
        Column(title="kv dtype", key="kv_dtype", kind="name", drop=4, instead="kv dtype: bfloat16"),
        Column(title="cache", key="cache", kind="bytes"),
        Column(title="bytes", key="bytes", kind="count", drop=1, instead=""),
        Column(title="parameters", key="parameters", kind="count", drop=2),
        Column(title="evidence", key="evidence", drop=3, instead="evidence: recorded"),
    )
    row = ("a-model-of-26-characters--", "bfloat16", 2**30, 2**30, 8_000_000_000, "recorded")
    table = Table(title="", columns=columns, rows=(row,))
    shown = {width: to_text(table, width=width) for width in (100, 80, 64, 50, 40)}
    headings = {width: text.splitlines()[0].split() for width, text in shown.items()}
    assert headings[100] == ["model", "kv", "dtype", "cache", "GiB", "bytes", "parameters", "evidence"]
    assert headings[80] == ["model", "kv", "dtype", "cache", "GiB", "parameters", "evidence"]
    assert headings[64] == ["model", "kv", "dtype", "cache", "GiB", "evidence"]
    assert headings[50] == ["model", "kv", "dtype", "cache", "GiB"]
    assert headings[40] == ["model", "cache", "GiB"]
    assert "note" not in shown[80]
    assert shown[64].endswith("note: a wider terminal also shows parameters\n")
    assert "note: evidence: recorded\n" in shown[50]
    assert "note: kv dtype: bfloat16\n" in shown[40]
    assert all(max(map(len, text.splitlines())) <= width for width, text in shown.items())


def test_a_group_names_its_model_once_for_people_and_always_in_markdown() -> None:
    columns = (Column(title="model", key="model", kind="name", once=True), Column(title="n", key="n", kind="count"))
    table = Table(title="", columns=columns, rows=(("a", 1), ("a", 2), ("b", 3)))
    assert to_text(table).splitlines()[2:] == ["a      1", "       2", "b      3"]
    assert to_markdown(table).count("`a`") == 2


def test_sizes_take_the_unit_of_the_middle_and_show_three_digits_with_their_points_aligned() -> None:
    columns = (Column(title="cache", key="cache", kind="bytes"),)
    table = Table(title="", columns=columns, rows=((2**27,), (2**30,), (2**33,), (2**40,), (0,)))
    assert to_text(table).splitlines() == ["cache GiB", "─────────", "    0.125", "    1.00", "    8.00", "1,024.00", "    0"]
    assert common_unit([2**23] * 52 + [2**26] * 10 + [2**30]) == "MiB"
    assert common_unit([2**10, 2**10, 2**50]) == "TiB"
    assert in_unit(2**23, "GiB") == "0.00781"
    assert in_unit(-(2**23), "GiB") == "-0.00781"


@given(st.integers(1, 2**60), st.sampled_from(["KiB", "MiB", "GiB", "TiB"]))
def test_a_size_in_any_unit_is_right_to_three_digits(amount: int, unit: str) -> None:
    size = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    shown = in_unit(amount, unit)
    if amount / size >= 1e-5:
        assert float(shown.replace(",", "")) == pytest.approx(amount / size, rel=0.005)
    assert shown[0] != "<" or amount / size < 1e-7


@each(("ratio", "words"), [(1 / 16, "1/16"), (0.125, "1/8"), (1.0, "1.00x"), (0.734, "0.734x"), (0.0214, "0.0214x")])
def test_a_part_is_a_fraction_for_people(ratio: float, words: str) -> None:
    columns = (Column(title="relative", key="relative", kind="ratio"),)
    assert printed(Table(title="", columns=columns, rows=((ratio,),))).rows == [[words]]


def test_bars_are_drawn_in_eighths_and_take_the_room_there_is() -> None:
    columns = (Column(title="model", key="model"), Column(title="", key="bar", kind="bar", drop=1, instead=""))
    table = Table(title="", columns=columns, rows=(("a" * 50, 1.0), ("b", 0.73), ("c", 0.78), ("d", 1 / 64), ("e", 0.0)))
    wide, narrow, none = (to_text(table, width=width).splitlines()[2:] for width in (80, 64, 55))
    assert wide[0].endswith("█" * BAR)
    assert narrow[0].endswith("a  " + "█" * 12)
    assert len({line.split()[-1] for line in wide[:4]}) == 4
    assert wide[3].endswith("▍")
    assert wide[4] == "e"
    assert not any(c in "█▏▎▍▌▋▊▉" for line in none for c in line)


def test_the_row_that_was_asked_for_is_bold_and_a_guess_is_yellow() -> None:
    columns = (
        Column(title="", key="mark", kind="mark"),
        Column(title="n", key="n", kind="count"),
        Column(title="fits", key="fits", kind="verdict"),
        Column(title="basis", key="basis", quiet=True),
    )
    rows = (("", 1, "yes", "rule"), ("->", 2, "yes", "assumed"), ("", 3, "no", "rule"))
    _, _, first, second, third = to_text(Table(title="", columns=columns, rows=rows), color=True).splitlines()
    assert "\x1b[1m2\x1b[0m" in second
    assert "\x1b[1;33massumed\x1b[0m" in second
    assert "\x1b[31mno\x1b[0m" in third
    assert "\x1b[2mrule\x1b[0m" in first
    assert "\x1b[32myes\x1b[0m" in first
    assert "\x1b[1m" not in first + third


def test_characters_that_take_two_columns_are_counted_so() -> None:
    columns = (Column(title="name", key="name"), Column(title="n", key="n", kind="count"))
    table = Table(title="t", columns=columns, rows=(("世界", 1), ("a", 2)))
    assert to_text(table).splitlines()[4:] == ["世界  1", "a     2"]


def test_room_is_given_to_those_who_need_least_and_taken_from_the_widest() -> None:
    assert widened([5, 5, 5], [6, 30, 9], 26) == [6, 11, 9]
    assert narrowed([20, 8, 12], [4, 8, 6], 30) == [10, 8, 12]
    assert sum(narrowed([20, 8, 12], [4, 8, 6], 9)) == 9
