"""transformers: laws that hold for every model, and rules that no recorded case shows."""

from typing import Any

import numpy as np
import pytest
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import models, tokens

from kvplan import architectures
from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Full, Layer, Model, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import Engine, footprint
from kvplan.engines.kernel.releases import ByType, Quirk
from kvplan.engines.kernel.tensors import At
from kvplan.engines.transformers import releases
from kvplan.engines.transformers.options import CACHES
from kvplan.errors import OptionError, Refused
from kvplan.questions.estimate import plan

LLAMA = architectures.read(
    {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}
)
versions = st.sampled_from(["4.36.2", "4.42.0", "4.45.2", "4.49.0", "4.53.3", "4.55.4", "4.56.0", "5.0.0", "5.14.0", "5.23.0"])


def held(model: Model, engine: str = "transformers", *, batch_size: int = 1, seq_len: int = 8, **more: Any) -> Allocation:
    answer = plan(model, Workload(batch_size=batch_size, seq_len=seq_len), engine, **more)
    assert isinstance(answer, Allocation), answer
    return answer


def sliding(window: int) -> Model:
    memory = Softmax(kv_heads=2, key_dim=16, value_dim=16, reach=Window(window))
    return Model(name="m", model_type="spec", layers=(Layer(index=0, memories=(memory,)),))


@settings(max_examples=60)
@given(
    model=models,
    version=versions,
    cache=st.sampled_from(CACHES),
    prompt=st.none() | st.integers(0, 3000),
    room=st.none() | st.integers(1, 5000),
    lengths=st.lists(st.integers(1, 4000), min_size=1, max_size=4),
    batches=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_arrays_give_what_single_estimates_give(
    model: Model, version: str, cache: str, prompt: int | None, room: int | None, lengths: list[int], batches: list[int]
) -> None:
    options = {"cache": cache, "prompt_len": prompt, "max_cache_len": room}
    engine: Engine = make_engine(f"transformers@{version}", options)
    try:
        prepared = engine.on(model)
    except Refused:
        return
    sums = prepared.totals(At(np.array(lengths).reshape(-1, 1), np.array(batches).reshape(1, -1), 7))
    for i, length in enumerate(lengths):
        for j, batch in enumerate(batches):
            try:
                one = footprint(prepared, Workload(batch_size=batch, seq_len=length, encoder_len=7))
            except Refused:  # groups of a quantised cache do not divide this one
                continue
            assert np.broadcast_to(sums.payload, (len(lengths), len(batches)))[i, j] == one.payload_bytes
            assert np.broadcast_to(sums.allocated, (len(lengths), len(batches)))[i, j] == one.allocated_bytes


@settings(max_examples=60)
@given(model=models, version=versions, length=tokens, batch=st.integers(1, 64))
def test_storages_are_as_large_as_their_shapes(model: Model, version: str, length: int, batch: int) -> None:
    import math

    sizes = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "uint8": 1, "int8": 1}
    answer = plan(model, Workload(batch_size=batch, seq_len=length), f"transformers@{version}")
    if isinstance(answer, NotPredicted):
        return
    for buffer in answer.buffers:
        assert buffer.padded_bytes == math.prod(buffer.shape) * sizes[buffer.dtype] * buffer.count


@given(length=st.integers(1, 200), window=st.integers(2, 60))
def test_a_growing_window_shows_one_token_less_and_stores_what_was_concatenated(length: int, window: int) -> None:
    after_decode = held(sliding(window), seq_len=length, prompt_len=length - 1)
    after_prompt = held(sliding(window), seq_len=length, prompt_len=length)
    token = 2 * 2 * 16 * 2
    assert after_decode.payload_bytes == after_prompt.payload_bytes == token * min(length, window - 1)
    assert after_decode.allocated_bytes == token * min(length, window)
    assert after_prompt.allocated_bytes == token * length


def test_a_window_of_one_drops_nothing() -> None:
    """`keys[:, :, -1 + 1:]` is the whole tensor."""
    assert held(sliding(1), seq_len=50).payload_bytes == held(sliding(10_000), seq_len=50).payload_bytes


def test_a_cache_without_a_config_and_every_release_before_4_56_know_no_windows() -> None:
    whole = 2 * 2 * 16 * 2 * 50
    assert held(sliding(8), seq_len=50, cache="plain").payload_bytes == whole
    assert held(sliding(8), "transformers@4.55.4", seq_len=50).payload_bytes == whole
    assert held(sliding(8), "transformers@4.56.0", seq_len=50).payload_bytes < whole


def test_a_static_cache_has_room_for_what_generate_prepares() -> None:
    token = 2 * 2 * 16 * 2 * 2
    assert held(LLAMA, seq_len=9, cache="static").allocated_bytes == 9 * token
    assert held(LLAMA, seq_len=9, cache="static", max_cache_len=100).allocated_bytes == 100 * token
    assert held(LLAMA, seq_len=9, cache="static", max_length=12).allocated_bytes == 11 * token
    assert held(LLAMA, "transformers@4.48.3", seq_len=9, cache="static", max_length=12).allocated_bytes == 12 * token


def test_beams_multiply_the_batch() -> None:
    assert held(LLAMA, num_beams=4, num_return_sequences=2).allocated_bytes == held(LLAMA, batch_size=4).allocated_bytes


def test_the_quantized_cache_quantizes_again_when_enough_tokens_wait() -> None:
    waiting = held(LLAMA, seq_len=64 + 15, prompt_len=64, cache="quantized", residual_length=16, q_group_size=16)
    again = held(LLAMA, seq_len=64 + 16, prompt_len=64, cache="quantized", residual_length=16, q_group_size=16)
    assert again.payload_bytes < waiting.payload_bytes
    assert {b.name for b in again.buffers if b.payload_bytes} == {
        f"_quantized_{part}.{name}" for part in ("keys", "values") for name in ("_data._data", "_scale", "_shift")
    }


REFUSED: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("openai-gpt", {"model_type": "openai-gpt"}, "transformers", {}),
    ("4.40", {"model_type": "gemma2"}, "transformers@4.40.0", {}),
    ("before 4.36", {"model_type": "llama"}, "transformers@4.35.2", {}),
    ("KeyError", {"model_type": "deepseek_v4"}, "transformers", {"cache": "static"}),
    ("full attention", {"model_type": "gemma2"}, "transformers", {"cache": "quantized"}),
    ("get_seq_length", {"model_type": "bamba"}, "transformers", {}),
    ("IndexError", {"model_type": "t5", "num_layers": 2, "num_decoder_layers": 4}, "transformers", {}),
    ("no place", {"model_type": "jamba"}, "transformers", {"cache": "plain"}),
    ("do not divide", {"model_type": "llama"}, "transformers", {"cache": "quantized", "q_group_size": 55}),
    ("`nbits`", {"model_type": "llama"}, "transformers", {"cache": "quantized", "nbits": 8}),
    ("`axis_key`", {"model_type": "llama"}, "transformers", {"cache": "quantized", "backend": "hqq", "axis_key": -1}),
]


@each(("words", "config", "engine", "options"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_the_library_cannot_do_is_said(words: str, config: dict[str, Any], engine: str, options: dict[str, Any]) -> None:
    answer = plan(architectures.read(config), Workload(seq_len=64), engine, **options)
    assert isinstance(answer, NotPredicted)
    assert words in answer.reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache": "statc"}, "static"),
        ({"dtype": "fp8"}, "quantized"),
        ({"max_cache_len": 0}, "max_cache_len"),
        ({"kv_dtype": "q8_0"}, "dtype"),
    ],
)
def test_options_that_do_not_exist_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        plan(LLAMA, Workload(seq_len=8), "transformers", **options)
    assert words in str(caught.value) + caught.value.hint


def test_falcon_caches_every_query_head_of_its_new_architecture() -> None:
    """`FalconAttention._split_heads` broadcasts before the cache is updated."""
    config = {"model_type": "falcon", "num_hidden_layers": 1, "num_attention_heads": 8, "hidden_size": 64, "num_kv_heads": 2}
    model = architectures.read({**config, "new_decoder_architecture": True})
    assert held(model).buffers[0].shape == (1, 8, 8, 8)
    assert held(model, "ideal").buffers[0].shape == (1, 2, 8, 8)


def test_gpt_neo_keeps_what_its_local_layers_do_not_see() -> None:
    model = architectures.read({"model_type": "gpt_neo", "num_layers": 2, "window_size": 16})
    assert held(model, seq_len=500).payload_bytes > held(model, "ideal", seq_len=500).payload_bytes
    assert all(b.shape[2] == 500 for b in held(model, seq_len=500).buffers)


def test_every_row_of_the_version_table_has_a_source_and_rows_are_in_order() -> None:
    rules = [rule for rule in vars(releases).values() if isinstance(rule, Quirk | ByType)]
    assert len(rules) > 10
    for rule in rules:
        for rows in rule.rows.values() if isinstance(rule, ByType) else [rule.rows]:
            since = [row[0] for row in rows]
            assert since == sorted(set(since))
            assert all(row[2] for row in rows)


def test_reaches_of_the_model_are_untouched() -> None:
    model = architectures.read({"model_type": "gpt_neo", "num_layers": 2})
    held(model)
    assert any(not isinstance(m.reach, Full) for layer in model.layers for m in layer.memories if isinstance(m, Softmax))
