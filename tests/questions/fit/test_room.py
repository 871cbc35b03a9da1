"""The largest batch under a limit is the inverse of the estimate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan.domain.model import Full, Layer, Memory, Model, Recurrent, Shared, Softmax, State, Window
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.errors import OptionError
from kvplan.questions.estimate import plan
from kvplan.questions.fit.room import largest, largest_batch

small = st.integers(1, 64)
softmax: st.SearchStrategy[Memory] = st.builds(
    Softmax,
    kv_heads=st.integers(1, 8),
    key_dim=small,
    value_dim=small,
    reach=st.one_of(st.builds(Full), st.builds(Window, st.integers(1, 512))),
)
recurrent: st.SearchStrategy[Memory] = st.builds(
    lambda shape: Recurrent(states=(State(name="ssm", shape=shape, dtype="float32"),)), st.tuples(small, small)
)
models = st.builds(
    lambda kept: Model(name="any", model_type="test", layers=tuple(Layer(index=i, memories=(m,)) for i, m in enumerate(kept))),
    st.lists(st.one_of(softmax, recurrent), min_size=1, max_size=4),
)


@given(models, st.integers(1, 5000), st.integers(0, 2**36), st.sampled_from(["auto", "fp8", "q8_0", "nvfp4"]))
def test_the_largest_batch_fits_and_one_more_does_not(model: Model, seq_len: int, limit_bytes: int, kv_dtype: str) -> None:
    found = largest_batch(make_engine("ideal", {"kv_dtype": kv_dtype}), model, seq_len, limit_bytes)
    assert isinstance(found, int)

    def total(batch_size: int) -> int:
        return plan(model, Workload(seq_len=seq_len, batch_size=batch_size), kv_dtype=kv_dtype).total_bytes  # type: ignore[union-attr]

    assert total(found) <= limit_bytes < total(found + 1)


@given(st.integers(0, 10**6), st.integers(1, 2**21))
def test_the_search_finds_the_border(border: int, ceiling: int) -> None:
    tried: list[int] = []

    def fits(count: int) -> bool:
        tried.append(count)
        return count <= border

    assert largest(fits, ceiling=ceiling) == min(border, ceiling)
    assert len(tried) <= 2 * max(border, 1).bit_length() + 2
    assert all(1 <= count <= ceiling for count in tried)


def test_a_cache_that_does_not_grow_has_no_largest_batch() -> None:
    model = Model(name="mlp", model_type="test", layers=(Layer(index=0),))
    with pytest.raises(OptionError, match="does not grow with the batch"):
        largest_batch(make_engine("ideal", {}), model, 10, 100)


def test_the_size_against_the_limit_may_be_another_one() -> None:
    layer = Layer(index=0, memories=(Softmax(kv_heads=1, key_dim=1, value_dim=1),))
    sharing = Layer(index=1, memories=(Shared(source=0),))
    model = Model(name="one", model_type="test", layers=(layer, sharing))
    engine = make_engine("ideal", {})
    assert largest_batch(engine, model, 10, 400) == 10
    assert largest_batch(engine, model, 10, 400, size=lambda allocation: 2 * allocation.total_bytes) == 5


@given(st.integers(0, 2000), st.integers(0, 2500), st.integers(1, 1500))
def test_a_search_that_begins_near_the_answer_finds_the_same(most: int, near: int, ceiling: int) -> None:
    assert largest(lambda n: n <= most, ceiling=ceiling, near=near) == min(most, ceiling)
