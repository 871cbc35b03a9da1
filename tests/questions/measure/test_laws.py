"""Laws: what is fitted to some lengths holds at others, and two that both fit are parted."""

import pytest
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplan.questions.measure.laws import Kind, Law, Seen, fitting, parting
from kvplan.questions.measure.measured import measured
from kvplan.questions.measure.observed import Facts, Held, NotMeasured, Observation, Point
from kvplan.questions.measure.series import layer_at, shown_path

LADDER = (3, 4, 8, 25, 76, 229)
MOST = 400


def laws(kind: Kind) -> st.SearchStrategy[Law]:
    rows, sizes = st.integers(1, 5000), st.integers(2, 200)
    if kind == "constant":
        return st.builds(Law, st.just(kind), extra=rows)
    if kind == "token":
        return st.builds(Law, st.just(kind), row=rows, extra=st.integers(0, 5000))
    if kind == "window":
        return st.builds(Law, st.just(kind), row=rows, size=st.integers(5, 200))
    return st.builds(Law, st.just(kind), row=rows, size=sizes)


def seen(law: Law, lengths: tuple[int, ...]) -> list[Seen]:
    return [Seen(tokens, 0, law.bytes(tokens)) for tokens in lengths]


@each("kind", ["constant", "token", "window", "compressed", "step"])
@settings(max_examples=20)
@given(data=st.data())
def test_a_law_is_found_again_from_a_few_lengths(kind: Kind, data: st.DataObject) -> None:
    law, lengths = data.draw(laws(kind)), LADDER
    for _ in range(20):
        candidates = fitting(seen(law, lengths))
        more = parting(candidates, lengths, MOST)
        if more is None:
            break
        lengths = (*lengths, more)
    first = candidates[0]
    assert [first.bytes(tokens) for tokens in range(3, max(lengths))] == [law.bytes(tokens) for tokens in range(3, max(lengths))]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 2**53), min_size=6, max_size=6), st.permutations(LADDER))
def test_what_fits_gives_every_value(values: list[int], lengths: list[int]) -> None:
    given_ = [Seen(tokens, 0, value) for tokens, value in zip(lengths, values, strict=True)]
    for law in fitting(given_):
        assert all(law.bytes(one.seq_len) == one.bytes for one in given_)


def test_squares_fit_nothing() -> None:
    assert fitting([Seen(tokens, 0, tokens * tokens) for tokens in LADDER]) == []


def test_a_path_names_its_layer() -> None:
    assert layer_at(("layers", "#3/12", "keys"), None) == 1
    assert layer_at(("past", "#1/2", "#3/12"), 12) == 2
    assert layer_at(("#0/2",), 12) is None
    assert shown_path(("layers", "#3/12", "states", "#0/1")) == "layers[3].states[0]"


def test_a_law_that_breaks_beyond_its_lengths_is_not_believed() -> None:
    """Linear in all runs that were fitted, and not in the one that was kept out."""

    def point(tokens: int, size: int, batch: int = 2, *, check: bool = False) -> Point:
        held = Held(path=("kv",), shape=(batch, tokens, 8), dtype="float32", view_bytes=size * batch, storage_bytes=size * batch)
        return Point(batch_size=batch, seq_len=tokens, prompt_len=tokens - 1, held=(held,), check=check)

    points = [point(tokens, tokens * 32) for tokens in LADDER] + [point(8, 256, 3)]
    facts = Facts(name="M", dtype="float32", layers=1)
    right = measured(Observation(facts=facts, points=(*points, point(150, 150 * 32, 1, check=True))))
    wrong = measured(Observation(facts=facts, points=(*points, point(150, 100 * 32, 1, check=True))))
    assert right.passed
    assert not wrong.passed
    assert wrong.failure() == "at 1 x 150 tokens the laws say 4,800 bytes and 3,200 are kept"


def test_what_no_model_can_be_is_refused() -> None:
    held = Held(path=("x",), shape=(2, 2**52), dtype="int8", view_bytes=2**53, storage_bytes=2**53)
    point = Point(batch_size=2, seq_len=3, prompt_len=2, held=(held,))
    with pytest.raises(NotMeasured, match="what it keeps is no model"):
        measured(Observation(facts=Facts(name="M", dtype="float32"), points=(point,)))
