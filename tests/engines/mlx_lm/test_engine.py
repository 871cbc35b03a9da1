"""The engine on models, real and random: laws, options, refusals, notes and what to type."""

import shlex

import numpy as np
import pytest
import strategies as own
from each import each
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.domain.model import Cross, Layer, Model, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import Serving, footprint
from kvplan.engines.kernel.tensors import At
from kvplan.engines.mlx_lm.engine import MlxLm, MlxLmOn
from kvplan.errors import KvplanError, OptionError, Refused
from kvplan.questions.estimate import predict

FULL = Softmax(kv_heads=2, key_dim=64, value_dim=64)
options = st.fixed_dictionaries(
    {},
    optional={
        "prefill_step_size": st.sampled_from([1, 100, 300, 512, 2048]),
        "max_kv_size": st.sampled_from([8, 100, 4096]),
        "prompt_len": st.integers(1, 5000),
    },
)


def on(model: Model | str, **given: object) -> MlxLmOn:
    read = kvplan.load(model) if isinstance(model, str) else model
    made = make_engine("mlx-lm", given)
    assert isinstance(made, MlxLm)
    return made.on(read)


def made_of(*memories: Softmax | Cross) -> Model:
    layers = tuple(Layer(index=i, memories=(memory,)) for i, memory in enumerate(memories))
    return Model(name="m", model_type="spec", layers=layers, attention_heads=4)


def prepared(model: Model, given: dict[str, object]) -> MlxLmOn | None:
    try:
        return on(model, **given)
    except Refused:
        return None


@given(own.models, options, st.integers(1, 20_000), st.integers(1, 20))
def test_totals_are_the_sums_of_the_tensors_and_lie_below_the_peak(
    model: Model, given: dict[str, object], tokens: int, batch: int
) -> None:
    found = prepared(model, given)
    if found is None:
        return
    at = At(tokens, batch)
    pieces = list(found.tensors(at))
    totals = found.totals(at)
    assert totals.allocated == sum(p.padded * p.count for p in pieces) <= found.most_bytes(at)
    assert totals.payload == sum(p.payload * p.count for p in pieces) <= totals.allocated
    assert totals.state == sum(p.padded * p.count for p in pieces if p.per == "sequence")
    facts = found.facts(Workload(seq_len=tokens, batch_size=batch))
    assert facts.kv_bytes + facts.state_bytes == totals.allocated
    assert sum(cache.count for cache in facts.caches) >= facts.entries


@given(own.models, options, st.lists(st.integers(1, 20_000), min_size=1, max_size=5), st.integers(1, 9))
def test_arrays_of_lengths_give_what_single_lengths_give(
    model: Model, given: dict[str, object], tokens: list[int], batch: int
) -> None:
    found = prepared(model, given)
    if found is None:
        return
    lengths = np.array(tokens)
    together = found.totals(At(lengths, lengths * 0 + batch))
    alone = [found.totals(At(n, batch)) for n in tokens]
    zero = lengths * 0  # a total that is the same for all lengths may stay an int
    assert (together.allocated + zero).tolist() == [t.allocated for t in alone]
    assert (together.payload + zero).tolist() == [t.payload for t in alone]
    assert (together.state + zero).tolist() == [t.state for t in alone]


@given(own.models, st.integers(1, 10_000), st.integers(1, 64))
def test_sequences_add_up(model: Model, tokens: int, batch: int) -> None:
    found = prepared(model, {})
    if found is not None and found.linear_in_batch:
        assert found.totals(At(tokens, batch)).allocated == batch * found.totals(At(tokens, 1)).allocated


@given(st.integers(1, 3000), st.integers(0, 3000), st.sampled_from([4, 8]), st.sampled_from([32, 64]))
def test_packed_arrays_take_their_bits_and_two_numbers_a_group(tokens: int, start: int, bits: int, group: int) -> None:
    plain = on(made_of(FULL)).totals(At(tokens, 1)).allocated
    found = on(made_of(FULL), kv_bits=bits, kv_group_size=group, quantized_kv_start=start).totals(At(tokens, 1)).allocated
    assert found * 16 * group == plain * (bits * group + 32) if tokens >= start else found == plain


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=4), st.integers(1, 3000))
def test_packing_starts_at_the_same_length_in_arrays(tokens: list[int], start: int) -> None:
    found = on(made_of(FULL), kv_bits=4, quantized_kv_start=start)
    lengths = np.array(tokens)
    assert found.totals(At(lengths, lengths * 0 + 1)).allocated.tolist() == [found.totals(At(n, 1)).allocated for n in tokens]


@given(st.lists(st.integers(1, 6000), min_size=1, max_size=5))
def test_the_next_token_never_costs_less_than_nothing(tokens: list[int]) -> None:
    """The call that packs a cache makes it smaller, which is not the price of a token."""
    found, lengths = on(made_of(FULL), kv_bits=4), np.array(tokens)
    prices = found.bytes_per_token(lengths)
    assert prices.tolist() == [found.bytes_per_token(n) for n in tokens]
    assert prices.tolist() == [2 * 2 * 64 * 2 if n < 5000 else 2 * 2 * (64 * 4 // 8 + 4) for n in tokens]


def test_a_model_by_hand_gets_the_general_rule_and_is_told_so() -> None:
    model = made_of(FULL, Softmax(kv_heads=1, key_dim=64, value_dim=64, reach=Window(128)))
    answer = footprint(on(model), Workload(seq_len=1000))
    assert [b.shape for b in answer.buffers] == [(1, 2, 1024, 64), (1, 2, 1024, 64), (1, 1, 128, 64), (1, 1, 128, 64)]
    assert any("no config behind the model" in note for note in answer.notes)


def test_options_that_do_nothing_or_not_yet_are_said() -> None:
    assert any("max_kv_size does nothing" in n for n in on("gemma-3-12b", max_kv_size=512).notes(Workload(seq_len=100)))
    assert not any("max_kv_size" in n for n in on("qwen3-8b", max_kv_size=512).notes(Workload(seq_len=100)))
    assert any("kv_bits does nothing" in n for n in on("deepseek-v3.2", kv_bits=8).notes(Workload(seq_len=9000)))
    assert any("once 5,000 tokens" in n for n in on("qwen3-8b", kv_bits=8).notes(Workload(seq_len=100)))
    assert any("beyond 32 sequences" in n for n in on("qwen3-8b").notes(Workload(seq_len=100, batch_size=33)))
    assert any("while a prompt is read" in n for n in on("gemma-3-12b").notes(Workload(seq_len=9000)))


@each(
    ("model", "given", "workload", "words"),
    [
        ("gemma-3-12b", {"kv_bits": 8}, Workload(seq_len=5000), "RotatingKVCache Quantization NYI"),
        ("deepseek-v3", {"kv_bits": 8}, Workload(seq_len=5001), "cannot read a quantised cache"),
        ("gpt-neox-20b", {"kv_bits": 8}, Workload(seq_len=5000), "not divisible by the quantization group size 64"),
        ("qwen3-8b", {"kv_bits": 8, "max_kv_size": 512}, Workload(seq_len=5000), "RotatingKVCache Quantization NYI"),
        ("qwen3-8b", {"kv_bits": 8}, Workload(seq_len=10, batch_size=2), "one sequence at a time"),
        ("llama-4-scout-17b-16e", {}, Workload(seq_len=10, batch_size=2), "ChunkedKVCache does not support batching"),
        ("gemma-2-9b", {}, Workload(seq_len=10, batch_size=2), "fails with more than one sequence"),
        ("bloom", {}, Workload(seq_len=10), "Model type bloom not supported."),
    ],
)
def test_what_the_library_refuses_is_refused_in_its_words(
    model: str, given: dict[str, object], workload: Workload, words: str
) -> None:
    answer = predict(make_engine("mlx-lm", given), kvplan.load(model), workload)
    assert isinstance(answer, kvplan.NotPredicted)
    assert words in answer.reason
    assert "Failure(" not in answer.reason
    assert answer.reason.startswith("mlx-lm") or "mlx-lm" in answer.reason


def test_dynamic_rotary_scaling_runs_one_sequence_where_it_computes_with_the_offset() -> None:
    config = {"model_type": "internlm2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    dynamic = kvplan.load({**config, "rope_scaling": {"type": "dynamic", "factor": 2.0}})
    with pytest.raises(Refused, match="fails with more than one sequence"):
        on(dynamic).check(At(10, 2))
    on(kvplan.load(config)).check(At(10, 2))


def test_what_fails_later_works_until_then() -> None:
    assert on("gemma-3-12b", kv_bits=8).totals(At(4999, 1)) == on("gemma-3-12b").totals(At(4999, 1))
    on("gemma-3-12b", kv_bits=8).check(At(4999, 1))
    packed = on("deepseek-v3", kv_bits=8, quantized_kv_start=0)
    packed.check(At(1, 1))  # packed after the only call, so nobody reads it
    with pytest.raises(Refused, match="cannot read a quantised cache"):
        packed.check(At(2, 1))
    on("llama-4-scout-17b-16e").check(At(4999, 1))


def test_an_encoder_is_refused() -> None:
    with pytest.raises(Refused, match="decoders only"):
        on(made_of(Cross(kv_heads=1, key_dim=8, value_dim=8)))


@each(
    "given",
    [
        {"kv_bits": 7}, {"kv_bits": 0}, {"kv_bits": -4}, {"kv_bits": 16}, {"kv_bits": "many"}, {"kv_bits": 10**30},
        {"kv_bits": 4, "kv_group_size": 16}, {"kv_bits": 4, "kv_group_size": 0}, {"max_kv_size": 0}, {"max_kv_size": -1},
        {"max_kv_size": 2**60}, {"prefill_step_size": 0}, {"prefill_step_size": -2048}, {"prefill_step_size": 10**40},
        {"quantized_kv_start": -1}, {"prompt_len": 0}, {"decode_concurrency": 0}, {"prompt_concurrency": 0},
        {"dtype": "fp8"}, {"dtype": ""}, {"dtype": "float16; rm"}, {"kv_dtype": "q8_0"}, {"kv_dtype": "bf16", "dtype": "fp16"},
        {"max_kv_sise": 512}, {"rotating_kv_max_size": 512}, {"tensor_parallel": 2},
    ],
)  # fmt: skip
def test_bad_options_are_one_clear_sentence(given: dict[str, object]) -> None:
    with pytest.raises(OptionError) as caught:
        make_engine("mlx-lm", given)
    assert "\n" not in str(caught.value)


@each("chunk", [1, 2, 3, 255, 257, 10**6, 2**53])
@each("tokens", [1, 2, 4097, 2**40])
def test_extreme_chunks_and_lengths_are_counted(chunk: int, tokens: int) -> None:
    found = on("qwen3-8b", prefill_step_size=chunk).totals(At(tokens, 1))
    assert found.allocated >= found.payload >= tokens


@each(
    "change",
    [
        {"sliding_window_pattern": 0}, {"sliding_window_pattern": "LLLG"}, {"sliding_window": 0}, {"sliding_window": [1]},
        {"num_attention_heads": "8"}, {"num_attention_heads": 0}, {"hidden_size": -1}, {"head_dim": 0},
    ],
)  # fmt: skip
def test_hostile_keys_never_leave_a_traceback(change: dict[str, object]) -> None:
    base = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    for kind in ("gemma3_text", "cohere2", "exaone4", "qwen2", "llama", "minimax", "phi-msft", "recurrent_gemma", "gemma4_text"):
        try:
            predict(make_engine("mlx-lm", {}), kvplan.load({"model_type": kind, **base, **change}), Workload(seq_len=300))
        except KvplanError as problem:
            assert "\n" not in str(problem)  # noqa: PT017 - either outcome is right, and this one is worded


def test_the_command_types_what_was_asked() -> None:
    serving = Serving(model="a model; rm x", context=4096, batch_size=40)
    words = shlex.split(on("qwen3-8b").command(serving))
    assert words[:3] == ["mlx_lm.server", "--model", "a model; rm x"]
    assert words[3:7] == ["--decode-concurrency", "40", "--prompt-concurrency", "8"]
    assert words[7:] == ["--prompt-cache-bytes", str(on("qwen3-8b").totals(At(4096, 40)).allocated)]
    one = Serving(model="m", context=4096, batch_size=1)
    assert on("qwen3-8b", max_kv_size=512).command(one) == "mlx_lm.generate --model m --max-kv-size 512"
    packed = on("qwen3-8b", kv_bits=4, kv_group_size=32, quantized_kv_start=0, prefill_step_size=512).command(one)
    assert "--prefill-step-size 512 --kv-bits 4 --kv-group-size 32 --quantized-kv-start 0" in packed


def test_a_release_that_was_not_studied_is_said() -> None:
    notes = make_engine("mlx-lm@0.30.1", {}).on(kvplan.load("qwen3-8b")).notes(Workload(seq_len=1))
    assert any("no other release was studied" in note for note in notes)
