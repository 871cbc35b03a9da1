"""Rows of real cache objects, call by call, against the closed forms; one formula for ints and arrays."""

import numpy as np
import pytest
from golden import cases
from hypothesis import given
from hypothesis import strategies as st

from kvplan.engines.mlx_lm.batches import MAX_ROUNDS, batched_rows
from kvplan.engines.mlx_lm.growth import STEP, Calls, chunked_rows, growing_rows, rotating_rows
from kvplan.errors import OptionError

ROWS = cases("mlx_lm_rows")
chunks = st.integers(1, 3000)
lengths = st.integers(1, 20_000)
windows = st.integers(1, 3000)


def rows_of(cache: str, calls: Calls, size: int, keep: int):  # type: ignore[no-untyped-def, type-arg]
    if cache == "KVCache":
        return growing_rows(calls)
    return rotating_rows(calls, size, keep) if cache == "RotatingKVCache" else chunked_rows(calls, size)


def test_every_recorded_schedule_gives_the_rows_of_the_real_object() -> None:
    """1,800 random schedules of prompts, chunk sizes, windows and generated tokens, fed to mlx-lm's own cache classes."""
    assert len(ROWS) == 1800
    assert {row["cache"] for row in ROWS} == {"KVCache", "RotatingKVCache", "ChunkedKVCache"}
    for row in ROWS:
        told = (row["cache"], row["size"], row["keep"])
        total, prompt, chunk = row["prompt"] + row["generated"], row["prompt"], row["prefill_step_size"]
        assert rows_of(told[0], Calls.of(total, prompt, chunk), *told[1:]) == row["rows"], row
        read = Calls(tokens=prompt - 1, prefilled=prompt - 1, chunk=chunk)
        assert rows_of(told[0], read, *told[1:]) == row["rows_after_prompt"], row


@given(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=6), chunks, windows, st.sampled_from([0, 4]))
def test_arrays_give_what_ints_give(asked: list[tuple[int, int]], chunk: int, size: int, keep: int) -> None:
    tokens = np.array([max(pair) for pair in asked])
    prompts = np.array([min(pair) for pair in asked])
    for cache in ("KVCache", "RotatingKVCache", "ChunkedKVCache"):
        together = rows_of(cache, Calls.of(tokens, prompts, chunk), size, keep)
        alone = [rows_of(cache, Calls.of(max(pair), min(pair), chunk), size, keep) for pair in asked]
        assert together.tolist() == alone


@given(lengths, lengths, chunks, windows)
def test_an_array_holds_what_is_visible_and_no_chunk_and_step_more(tokens: int, prompt: int, chunk: int, size: int) -> None:
    calls = Calls.of(tokens, min(prompt, tokens), chunk)
    assert tokens <= growing_rows(calls) < tokens + STEP + chunk
    assert min(tokens, size) <= rotating_rows(calls, size) <= max(size, min(tokens + STEP, size))
    assert min(tokens, size) <= chunked_rows(calls, size) < size + 2 * (STEP + chunk)


@given(st.integers(1, 20), lengths, windows)
def test_chunks_of_whole_steps_make_whole_steps(steps: int, tokens: int, size: int) -> None:
    calls = Calls.of(tokens, tokens, steps * STEP)
    assert growing_rows(calls) == -(-tokens // STEP) * STEP
    assert rotating_rows(Calls.of(tokens, 1, steps * STEP), size) == min(size, -(-tokens // STEP) * STEP)


@given(st.integers(1, 8), st.integers(1, 600), st.integers(1, 12), chunks, windows)
def test_a_batch_of_equal_prompts_has_the_rows_of_one(count: int, prompt: int, generated: int, chunk: int, window: int) -> None:
    rows = batched_rows([prompt] * count, generated, [window], chunk=chunk)
    calls = Calls.of(prompt + generated, prompt, chunk)
    assert (rows.sequences, rows.growing, rows.rotating) == (count, growing_rows(calls), {window: rotating_rows(calls, window)})


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12), st.integers(1, 5), chunks)
def test_rows_of_a_batch_hold_its_longest_sequence(prompts: list[int], generated: int, chunk: int) -> None:
    rows = batched_rows(prompts, generated, [4096], chunk=chunk)
    assert rows.sequences == len(prompts)
    assert rows.growing >= max(prompts) + generated
    assert rows.rotating[4096] >= min(4096, max(prompts) + generated)


@pytest.mark.parametrize(("prompts", "generated"), [([1] * 33, 1), ([10], MAX_ROUNDS), ([MAX_ROUNDS * 3000], 1)])
def test_a_batch_that_would_take_too_long_to_follow_is_refused(prompts: list[int], generated: int) -> None:
    with pytest.raises(OptionError, match="more than is followed"):
        batched_rows(prompts, generated, [])
