"""The direct printer and rich agree, so that a pipe and a terminal show the same table."""

from hypothesis import given
from hypothesis import strategies as st

from kvplan.domain.tables import Column, Table, printed
from kvplan.report.formats import table as text

WORDS = st.text(st.characters(categories=["L", "N", "P"]), max_size=9)
SENTENCES = st.text(st.sampled_from("ab-c  \u00b7"), max_size=40)
HEADERS = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=9)
CELLS = {
    "text": WORDS | SENTENCES,
    "verdict": WORDS | SENTENCES,
    "bar": st.floats(0, 1),
    "bytes": st.integers(0, 10**13),
    "count": st.integers(0, 10**13),
    "tokens": st.integers(0, 10**9),
    "ratio": st.floats(0, 1000),
}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=5))
    row = st.tuples(*(CELLS[kind] for kind in kinds))
    return Table(
        title=draw(WORDS),
        columns=tuple(Column(title=draw(HEADERS) or "x" * (not i), key=str(i), kind=kind) for i, kind in enumerate(kinds)),
        rows=tuple(draw(st.lists(row, max_size=5))),
        total=draw(st.none() | row),
    )


@given(tables(), st.sampled_from([1000]) | st.integers(8, 100))
def test_the_direct_printer_equals_rich_to_the_character(table: Table, width: int) -> None:
    shown, keep = printed(table), list(range(len(table.columns)))
    widths = text._cell_widths(shown, keep, width)
    if text._is_narrow(shown) and widths is not None:
        assert text._direct(table, shown, widths) == text._through_rich(table, shown, keep, width, color=False)


def test_a_table_that_is_folded_does_without_rich() -> None:
    columns = (Column(title="two words", key="a"), Column(title="a long heading", key="b", kind="count"))
    table = Table(title="", columns=columns, rows=(("one two three four", 1_000_000),), total=("all", 1_000_000))
    assert text.to_text(table, width=24).splitlines() == [
        "",
        "                 a long",
        " two words      heading",
        " ──────────────────────",
        " one two      1,000,000",
        " three four",
        "",
        " all          1,000,000",
        "",
    ]


def test_wide_characters_are_left_to_rich() -> None:
    table = Table(title="t", columns=(Column(title="name", key="name"),), rows=(("世界",),))
    assert not text._is_narrow(printed(table))
    assert " 世界" in text.to_text(table).splitlines()


def test_a_table_that_does_not_fit_drops_optional_columns_and_then_folds() -> None:
    columns = (Column(title="kind", key="kind"), Column(title="which", key="which", optional=True))
    table = Table(title="a title of several words", columns=columns, rows=(("kind of layer", "0-31"),), notes=("a long note",))
    assert "which" in text.to_text(table, width=40)
    narrow = text.to_text(table, width=16)
    assert "which" not in narrow
    assert all(len(line) <= 16 for line in narrow.splitlines())
    assert all(len(line) <= 8 for line in text.to_text(table, width=8).splitlines())
