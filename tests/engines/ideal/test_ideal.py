"""`ideal`: the quick sums of a sweep are the tensors' sums, and its laws hold for any model."""

from hypothesis import given
from hypothesis import strategies as st
from strategies import models, tokens

from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines.ideal.engine import Ideal, IdealOptions
from kvplan.engines.kernel.engine import footprint
from kvplan.engines.kernel.retention import growth_period
from kvplan.engines.kernel.tensors import At

dtypes = st.sampled_from(["auto", "fp8", "q4_0", "nvfp4", "int4", "int8_per_token_head"])


def payload(engine: Ideal, model: Model, length: int, batch: int = 1, encoder_len: int = 0) -> int:
    """The sum over the tensors themselves."""
    pieces = engine.on(model).tensors(At(length, batch, encoder_len))
    return sum(piece.payload * len(piece.layers) for piece in pieces)


@given(models, tokens, st.integers(0, 64), st.integers(0, 4096), dtypes)
def test_the_totals_are_the_tensors_sums(model: Model, length: int, batch: int, encoder_len: int, dtype: str) -> None:
    engine = Ideal(IdealOptions(kv_dtype=dtype))
    totals = engine.on(model).totals(At(length, batch, encoder_len))
    assert totals.payload == totals.allocated == payload(engine, model, length, batch, encoder_len)
    states = (p.payload * len(p.layers) for p in engine.on(model).tensors(At(length, batch, encoder_len)) if p.per == "sequence")
    assert totals.state == sum(states)


@given(models, tokens)
def test_the_next_tokens_cost_is_what_it_adds(model: Model, length: int) -> None:
    engine, period = Ideal(), growth_period(model)
    added = payload(engine, model, length + period) - payload(engine, model, length)
    assert engine.on(model).bytes_per_token(length) == -(-added // period)


@given(models, tokens, tokens, st.integers(1, 64))
def test_more_tokens_or_sequences_never_take_fewer_bytes(model: Model, a: int, b: int, batch: int) -> None:
    low, high = sorted((a, b))
    assert payload(Ideal(), model, low, batch) <= payload(Ideal(), model, high, batch)
    assert payload(Ideal(), model, low, batch) <= payload(Ideal(), model, low, batch + 1)


@given(models, tokens)
def test_the_sum_of_layers_and_of_groups_is_the_total(model: Model, length: int) -> None:
    answer = footprint(Ideal().on(model), Workload(seq_len=length, batch_size=3, encoder_len=7))
    assert sum(layer.bytes for layer in answer.layers) == answer.total_bytes
    assert sum(group.bytes for group in answer.groups) == answer.total_bytes


@given(models, tokens)
def test_one_device_is_the_whole(model: Model, length: int) -> None:
    assert payload(Ideal(IdealOptions(tensor_parallel=1)), model, length) == payload(Ideal(), model, length)
