"""vLLM: laws that hold for every model, and rules that no recorded case shows alone."""

import math
from typing import Any

import numpy as np
import pytest
from each import each
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from strategies import models, tokens

import kvplan
from kvplan import architectures
from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Chunk, Full, Index, Latent, Layer, Model, Recurrent, Softmax, State, Window
from kvplan.domain.origin import Origin
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import footprint
from kvplan.engines.kernel.tensors import At
from kvplan.engines.vllm.engine import Vllm, VllmOn
from kvplan.engines.vllm.options import VllmOptions
from kvplan.engines.vllm.waste import PARTS
from kvplan.errors import OptionError, Refused
from kvplan.questions.estimate import plan
from kvplan.questions.sweep.grid import Sweep

LLAMA = architectures.read(
    {
        "model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "hidden_size": 4096, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
    }
)  # fmt: skip
versions = st.sampled_from(["0.6.0", "0.11.0", "0.19.0", "0.26.0", "0.32.0"])
flags = st.fixed_dictionaries(
    {},
    optional={
        "block_size": st.sampled_from([16, 32, 64, 128]),
        "kv_cache_dtype": st.sampled_from(["auto", "fp8", "int8_per_token_head", "int4_per_token_head", "bf16"]),
        "tensor_parallel_size": st.sampled_from([1, 2, 4]),
        "pipeline_parallel_size": st.sampled_from([1, 2]),
        "max_num_batched_tokens": st.sampled_from([512, 2048, 8192]),
        "enable_prefix_caching": st.booleans(),
        "disable_hybrid_kv_cache_manager": st.booleans(),
        "kv_cache_layout": st.sampled_from(["", "BLHNC"]),
        "mamba_cache_mode": st.sampled_from(["auto", "none", "all"]),
    },
)


reaches = st.one_of(
    st.just(Full()), st.just(Full()), st.builds(Window, st.integers(2, 4096)), st.builds(Chunk, st.integers(2, 8192))
)
softmax = st.builds(
    Softmax,
    kv_heads=st.sampled_from([1, 2, 4, 8]),
    key_dim=st.sampled_from([32, 64, 128, 192]),
    value_dim=st.sampled_from([32, 64, 128]),
    reach=reaches,
)
latent = st.builds(
    Latent,
    rank=st.sampled_from([256, 512]),
    rope_dim=st.sampled_from([0, 64]),
    heads=st.just(16),
    nope_dim=st.just(128),
    value_dim=st.just(128),
)
states = st.builds(
    lambda kind, rows, width: Recurrent(
        kind=kind,
        states=(State(name="conv", shape=(4 * rows,), kernel=4), State(name="s", shape=(4 * rows, width), dtype="float32")),
    ),
    st.sampled_from(["mamba", "mamba2", "gated_delta", "kda"]),
    st.integers(1, 64),
    st.sampled_from([16, 128, 1024]),
)
kept = st.one_of(
    st.tuples(softmax), st.tuples(softmax), st.tuples(latent), st.tuples(latent, st.just(Index(dim=128))), st.tuples(states),
    st.tuples(softmax, states), st.just(()),
)  # fmt: skip
#: Models of kinds that vLLM serves; most combinations of them start.
served = st.builds(
    lambda palette, picks: Model(
        name="m",
        model_type="spec",
        layers=tuple(Layer(index=i, memories=palette[pick % len(palette)]) for i, pick in enumerate(picks)),
        dtype="bfloat16",
    ),
    st.lists(kept, min_size=1, max_size=3),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
)


def started(model: Model, version: str, options: dict[str, Any]) -> VllmOn:
    """vLLM serving the model, or this example is of no use."""
    try:
        return serving(model, version, options)
    except (OptionError, Refused):
        reject()


def serving(model: Model, version: str, options: dict[str, Any]) -> VllmOn:
    """vLLM serving the model."""
    engine = make_engine(f"vllm@{version}", options)
    assert isinstance(engine, Vllm)
    return engine.on(model)


def held(prepared: VllmOn, **workload: int) -> Allocation:
    return footprint(prepared, Workload(**workload))


@settings(max_examples=200, deadline=None)
@given(models | served, versions, flags, tokens, st.integers(1, 64))
def test_every_model_is_planned_or_refused_in_a_sentence(
    model: Model, version: str, options: dict[str, Any], length: int, batch: int
) -> None:
    try:
        answer = plan(model, Workload(seq_len=length, batch_size=batch, encoder_len=7), f"vllm@{version}", **options)
    except OptionError:
        return
    if isinstance(answer, NotPredicted):
        assert answer.reason
        return
    details = answer.details
    assert answer.total_bytes == details["request_blocks"] * details["block_bytes"] * batch
    assert answer.total_bytes == details["ideal_bytes"] + sum(details["waste"].values())
    assert set(details["waste"]) == set(PARTS)
    assert all(size >= 0 for cause, size in details["waste"].items() if cause not in {"precision", "replication"})
    assert 0 <= answer.payload_bytes <= answer.total_bytes
    for buffer in answer.buffers:
        assert buffer.padded_bytes == math.prod(buffer.shape) * buffer.count


@settings(max_examples=80, deadline=None)
@given(served, versions, flags, st.lists(tokens, min_size=1, max_size=4), st.lists(st.integers(1, 99), min_size=1, max_size=3))
def test_arrays_give_what_single_estimates_give(
    model: Model, version: str, options: dict[str, Any], lengths: list[int], batches: list[int]
) -> None:
    engine = started(model, version, options)
    sums = engine.totals(At(np.array(lengths).reshape(-1, 1), np.array(batches).reshape(1, -1), 7))
    shape = (len(lengths), len(batches))
    for i, length in enumerate(lengths):
        for j, batch in enumerate(batches):
            one = held(engine, batch_size=batch, seq_len=length, encoder_len=7)
            assert np.broadcast_to(sums.payload, shape)[i, j] == one.payload_bytes
            assert np.broadcast_to(sums.allocated, shape)[i, j] == one.allocated_bytes
            assert np.broadcast_to(sums.state, shape)[i, j] == one.state_bytes


@settings(max_examples=80, deadline=None)
@given(served, versions, flags, tokens, tokens)
def test_more_tokens_never_take_fewer_bytes(model: Model, version: str, options: dict[str, Any], a: int, b: int) -> None:
    engine = started(model, version, options)
    low, high = sorted((a, b))
    assert held(engine, seq_len=low).total_bytes <= held(engine, seq_len=high).total_bytes


@settings(max_examples=80, deadline=None)
@given(served, tokens)
def test_nothing_is_stored_in_fewer_bytes_than_ideal_except_what_is_quantised(model: Model, length: int) -> None:
    # an indexer's keys are fp8 with scales, states follow the cache's dtype, and float32 models run in bfloat16
    kinds = {type(memory) for layer in model.layers for memory in layer.memories}
    assume(not kinds & {Index, Recurrent} and model.dtype != "float32")
    engine = started(model, "0.32.0", {})
    answer = held(engine, seq_len=length)
    ideal = plan(model, Workload(seq_len=length), "ideal")
    assert isinstance(ideal, Allocation)
    cross = sum(b.payload_bytes for b in ideal.buffers if b.per == "encoder")
    assert answer.total_bytes >= ideal.payload_bytes - cross


@settings(max_examples=80, deadline=None)
@given(served, versions, flags, st.integers(0, 2**38), st.integers(1, 1 << 17))
def test_a_pool_is_as_many_blocks_as_fit_and_a_refusal_says_how_long_a_request_may_be(
    model: Model, version: str, options: dict[str, Any], budget: int, length: int
) -> None:
    options = {k: v for k, v in options.items() if k != "pipeline_parallel_size"} | {"max_model_len": length}
    engine = started(model, version, options)
    planned, found = engine.plan, engine.reserved((budget,))
    block = planned.block_bytes[0]
    if not planned.groups:
        assert found.num_blocks == 1
        return
    if not found.refused:
        assert found.num_blocks * block <= budget < (found.num_blocks + 1) * block
        if version == "0.32.0":
            assert planned.blocks(length) < found.num_blocks
        return
    longest = found.estimated_max_model_len or 0
    assert longest < length
    for tried, fits in ((longest, True), (longest + 1, False)):
        if tried and options.get("mamba_cache_mode") != "none":
            again = make_engine(f"vllm@{version}", options | {"max_model_len": tried})
            assert isinstance(again, Vllm)
            said = again.on(model).reserved((budget,)).refused
            if "available Mamba cache blocks" not in said:  # that refusal is of the requests at once, not of their length
                assert bool(said) != fits


def test_auto_length_is_the_longest_that_fits() -> None:
    pool = serving(LLAMA, "0.32.0", {"max_model_len": -1}).pool(3 * 2**30)
    assert pool.max_model_len == 24_560  # 1,536 blocks of 16 tokens, less the null block
    fixed = serving(LLAMA, "0.32.0", {"max_model_len": 24_561}).pool(3 * 2**30)
    assert "estimated maximum model length is 24560" in fixed.refused


def test_one_device_more_never_holds_more() -> None:
    sizes = [
        held(serving(LLAMA, "0.32.0", {"tensor_parallel_size": tp}), seq_len=4096).total_bytes for tp in (1, 2, 4, 8, 16, 32)
    ]
    assert sizes == [512 * 2**20 // n for n in (1, 2, 4, 8, 8, 8)]


def test_what_devices_hold_alike_is_called_replication() -> None:
    answer = held(serving(LLAMA, "0.32.0", {"tensor_parallel_size": 32}), seq_len=4096)
    assert answer.details["waste"] == {**dict.fromkeys(PARTS, 0), "replication": answer.total_bytes * 3 // 4}


def hybrid(window: int | None, **heads: int) -> Model:
    memory = Softmax(reach=Window(window) if window else Full(), **{"kv_heads": 8, "key_dim": 128, "value_dim": 128} | heads)
    full = Softmax(kv_heads=8, key_dim=128, value_dim=128)
    layers = [Layer(index=i, memories=(full if i % 4 == 3 else memory,)) for i in range(8)]
    return Model(name="m", model_type="spec", layers=tuple(layers), max_tokens=4096)


def test_a_window_is_held_with_the_tokens_in_flight() -> None:
    engine = serving(hybrid(128), "0.32.0", {"max_num_batched_tokens": 512})
    rows = held(engine, seq_len=4096).details["cache_groups"]
    assert [row["request_blocks"] for row in rows] == [math.ceil((127 + 1024) / 16) + 1] * 3 + [256]
    old = serving(hybrid(128), "0.11.0", {"max_num_batched_tokens": 512})
    assert held(old, seq_len=4096).details["cache_groups"][0]["request_blocks"] == math.ceil((127 + 512) / 16) + 1


def test_pages_that_do_not_divide_are_padded() -> None:
    model = hybrid(128, kv_heads=3)
    row = held(serving(model, "0.32.0", {}), seq_len=64).details["cache_groups"][0]
    assert (row["content_bytes"], row["page_bytes"], row["block_size"]) == (3 * 8192, 8 * 8192, 16)
    answer = plan(model, Workload(seq_len=64), "vllm@0.11.0")
    assert isinstance(answer, NotPredicted)


def test_pages_that_divide_get_longer_blocks() -> None:
    model = hybrid(128, kv_heads=4)
    row = held(serving(model, "0.32.0", {}), seq_len=64).details["cache_groups"][0]
    assert (row["page_bytes"], row["block_size"]) == (8 * 8192, 32)


def test_the_only_kind_of_layer_may_have_pages_of_several_sizes_in_one_group() -> None:
    layers = tuple(Layer(index=i, memories=(Softmax(kv_heads=i + 1, key_dim=64, value_dim=64),)) for i in range(4))
    model = Model(name="m", model_type="spec", layers=layers)
    rows = held(serving(model, "0.32.0", {}), seq_len=16).details["cache_groups"]
    assert [row["group_bytes"] for row in rows] == [10 * 64 * 2 * 2 * 16]


def test_without_the_hybrid_manager_windows_are_held_whole() -> None:
    engine = serving(hybrid(128), "0.32.0", {"disable_hybrid_kv_cache_manager": True})
    answer = held(engine, seq_len=4096)
    assert answer.total_bytes == 8 * 4096 * 4096
    assert answer.details["waste"]["retention"] == 6 * (4096 - 128) * 4096


def test_the_last_stage_holds_the_drafter() -> None:
    model = Model(name="m", model_type="spec", layers=LLAMA.layers, drafts=LLAMA.layers[:1], dtype="bfloat16", max_tokens=8192)
    options = {"pipeline_parallel_size": 2, "speculative_config": '{"method": "mtp", "num_speculative_tokens": 2}'}
    planned = serving(model, "0.32.0", options).plan
    assert [sum(len(group.members) for group in stage) for stage in planned.stages] == [16, 17]


@pytest.mark.parametrize(("count", "stages", "sizes"), [(61, 2, [31, 30]), (32, 3, [11, 11, 10]), (10, 4, [2, 3, 3, 2])])
def test_layers_that_do_not_divide_go_to_stages_before_the_last(count: int, stages: int, sizes: list[int]) -> None:
    model = Model(
        name="m", model_type="spec", layers=tuple(Layer(index=i, memories=LLAMA.layers[0].memories) for i in range(count))
    )
    planned = serving(model, "0.32.0", {"pipeline_parallel_size": stages}).plan
    assert [sum(len(group.members) for group in stage) for stage in planned.stages] == sizes


def test_an_indexed_latent_takes_blocks_of_64_and_rows_of_656_bytes_in_fp8() -> None:
    memories = (Latent(rank=512, rope_dim=64, heads=128, nope_dim=128, value_dim=128), Index(dim=128))
    model = Model(name="m", model_type="spec", layers=tuple(Layer(index=i, memories=memories) for i in range(2)), max_tokens=4096)
    for dtype, row in (("auto", 1152), ("fp8", 656)):
        answer = held(serving(model, "0.32.0", {"kv_cache_dtype": dtype}), seq_len=64)
        assert answer.details["block_size"] == 64
        assert answer.total_bytes == 2 * 64 * (row + 132)


@each(
    ("name", "value", "words"),
    [
        ("kv_cache_dtype", "fp9", "one of auto, bfloat16"),
        ("kv_cache_layout", "HNC", "unknown value"),
        ("speculative_config", "{", "JSON object"),
        ("speculative_config", '{"method": "mtp", "num_speculative_tokens": 0}', "num_speculative_tokens"),
        ("gpu_memory_utilization", "1.5", "at most 1"),
        ("max_model_len", "-7", "from 1"),
        ("draft", "some/model", "expected Model"),
    ],
)
def test_a_flag_that_vllm_would_not_take_is_an_option_error(name: str, value: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        plan(LLAMA, Workload(seq_len=1), "vllm", **{name: value})
    assert words in f"{caught.value} {caught.value.hint}"


@each(
    ("options", "expected"),
    [
        ({}, 8192),
        ({"usage_context": "LLM_CLASS"}, 16384),
        ({"device_name": "NVIDIA A100-SXM4-80GB"}, 2048),
        ({"device_memory_bytes": 24 * 2**30}, 2048),
        ({"device_memory_bytes": 180 * 2**30}, 16384),
        ({"device": "cpu", "usage_context": "LLM_CLASS"}, 4096),
        ({"enable_chunked_prefill": False}, 100_000),
    ],
)
def test_the_batch_that_vllm_chooses_depends_on_the_gpu(options: dict[str, Any], expected: int) -> None:
    assert VllmOptions(**options).batch((0, 32), 100_000).tokens == expected


def test_a_sweep_equals_single_estimates() -> None:
    for name in ("llama-3.1-8b", "gemma-3-27b", "deepseek-v3"):
        model = kvplan.load(name)
        sweep = Sweep(models=[model], seq_lens=[1, 100_000], batch_sizes=[1, 3], engines=["vllm"])
        rows = sweep.to_frame().to_dict("records")
        assert len(rows) == 4
        for row in rows:
            one = plan(model, Workload(seq_len=row["seq_len"], batch_size=row["batch_size"]), "vllm")
            assert isinstance(one, Allocation)
            assert row["total_bytes"] == one.total_bytes


def test_a_state_for_every_block_takes_whole_chunks_and_grows_with_the_tokens() -> None:
    conv, ssm = State(name="conv", shape=(1024,), kernel=4), State(name="ssm", shape=(64, 64, 16), dtype="float32")
    layers = [Recurrent(kind="mamba2", states=(conv, ssm)), Softmax(kv_heads=8, key_dim=128, value_dim=128)]
    model = Model(
        name="m", model_type="spec", layers=tuple(Layer(index=i, memories=(m,)) for i, m in enumerate(layers)),
        dtype="bfloat16", max_tokens=65536, origin=Origin(config={}, text_config={"chunk_size": 256}, text_type="spec"),
    )  # fmt: skip
    answer = held(serving(model, "0.31.0", {"mamba_cache_mode": "all"}), seq_len=4096)
    assert answer.details["block_size"] == answer.details["mamba_block_size"] == 256
    assert [row["request_blocks"] for row in answer.details["cache_groups"]] == [16, 16]
    aligned = held(serving(model, "0.32.0", {}), seq_len=4096)
    assert [row["request_blocks"] for row in aligned.details["cache_groups"]] == [3, 4096 // aligned.details["block_size"] + 1]


def test_the_memory_flag_replaces_what_there_is() -> None:
    pool = serving(LLAMA, "0.32.0", {"kv_cache_memory_bytes": 20 * 2**30}).pool(2**20)
    assert (pool.budget_bytes, pool.num_tokens) == (20 * 2**30, 163_840)
