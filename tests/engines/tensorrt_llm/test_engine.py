"""TensorRT-LLM as an engine: blocks, slots and pools against arithmetic by hand, its refusals, what to type, and laws.

The four worked examples of docs/guides/tensorrt-llm.md are here: two managers, shares of windows, a hybrid, an indexer.
"""

import shlex
from time import process_time
from typing import Any

import numpy as np
import pytest
from each import each
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import models, tokens

import kvplan
from kvplan.architectures.describe import describe
from kvplan.domain.gpus import gpu
from kvplan.domain.machine import Machine
from kvplan.domain.model import Layer, Model, Shared, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import Serving, footprint
from kvplan.engines.kernel.tensors import At
from kvplan.engines.tensorrt_llm.engine import TrtllmOn
from kvplan.engines.tensorrt_llm.layers import stage_layers
from kvplan.engines.tensorrt_llm.pool import NO_BLOCKS, fitting_windows
from kvplan.engines.tensorrt_llm.storage import grain, grains_of, side_by_side, slot_counts, slots_in
from kvplan.errors import OptionError, Refused
from kvplan.units import GIB, MIB

FULL = Softmax(kv_heads=2, key_dim=64, value_dim=64)
SLIDES = Softmax(kv_heads=2, key_dim=64, value_dim=64, reach=Window(128))
ROW = 2 * 2 * 64 * 2  # one layer: keys and values of two heads, 16 bits


def model_of(*kept: Any, **more: Any) -> Model:
    layers = tuple(Layer(index=i, memories=m if isinstance(m, tuple) else (m,)) for i, m in enumerate(kept))
    return Model(name="m", model_type="spec", layers=layers, **more)


def on(model: Any, version: str = "", **options: Any) -> TrtllmOn:
    engine = make_engine("tensorrt-llm" + (f"@{version}" if version else ""), options)
    prepared = engine.on(model if isinstance(model, Model) else kvplan.load(model))
    assert isinstance(prepared, TrtllmOn)
    return prepared


def refusal(model: Any, version: str = "", **options: Any) -> str:
    with pytest.raises(Refused) as caught:
        on(model, version, **options)
    return caught.value.reason


# Blocks.


def test_a_request_takes_whole_blocks_whose_size_depends_on_the_release() -> None:
    for version, size in (("0.17.0", 64), ("0.18.0", 32), ("1.4.0", 32)):
        for seq_len in (1, size, size + 1, 1000):
            assert on(model_of(FULL, FULL), version).totals(At(seq_len, 3)).allocated == 3 * -(-seq_len // size) * size * 2 * ROW
    assert on(model_of(FULL), tokens_per_block=128).totals(At(129, 1)).allocated == 256 * ROW


@pytest.mark.parametrize(("version", "blocks"), [("1.0.0", 4), ("1.2.0", 4), ("1.3.0", 3), ("1.4.0", 3)])
def test_tokens_became_blocks_by_rounding_up_before_1_3(version: str, blocks: int) -> None:
    assert on(model_of(FULL), version, max_tokens=97).pool(GIB).num_blocks == (blocks if version < "1.3" else 3)
    assert on(model_of(FULL), version, max_tokens=97).pool(GIB).num_tokens == blocks * 32


@each(("dtype", "each"), [("fp8", 1), ("bf16", 2), ("float16", 2), ("float32", 4), ("nvfp4", 0.5 + 1 / 16)])
def test_bytes_of_an_element_scales_included(dtype: str, each: float) -> None:
    assert on(model_of(FULL), kv_cache_dtype=dtype).stage.token_bytes == int(2 * 2 * 64 * each)


def test_the_checkpoint_says_the_dtype_where_nobody_does() -> None:
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 256,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000, "torch_dtype": "bfloat16",
    }  # fmt: skip
    assert on(config).kv_dtype == "bfloat16"
    assert on({**config, "quantization_config": {"kv_cache_quant_algo": "FP8"}}).kv_dtype == "fp8_e4m3"
    assert on({**config, "quantization_config": {"kv_cache_quant_algo": "NVFP4"}}).kv_dtype == "nvfp4"
    scheme = {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    assert on({**config, "quantization_config": scheme}).kv_dtype == "fp8_e4m3"


def test_heads_are_divided_upwards_and_values_are_as_wide_as_keys() -> None:
    odd = Softmax(kv_heads=3, key_dim=64, value_dim=32)
    assert on(model_of(odd), tp_size=2).stage.token_bytes == 2 * 2 * 64 * 2
    assert on(model_of(odd), tp_size=2, enable_attention_dp=True).stage.token_bytes == 2 * 3 * 64 * 2


def test_the_last_pipeline_rank_has_the_drafters_layers() -> None:
    prepared = on(model_of(FULL, FULL, FULL), "1.3.0", pp_size=2, num_nextn_predict_layers=3)
    assert [len(stage.kept) for stage in prepared.settled.stages] == [2, 4]
    assert prepared.stage.token_bytes == 4 * ROW
    assert len(on(model_of(FULL), "1.4.0", num_nextn_predict_layers=3).stage.kept) == 2  # one for all from 1.4 on
    assert [list(stage_layers(5, 2, rank)) for rank in (0, 1)] == [[0, 1, 2], [3, 4]]


def test_another_models_drafter_takes_as_many_tokens() -> None:
    prepared = on(model_of(FULL), draft=model_of(FULL, FULL))
    assert prepared.totals(At(32, 1)).allocated == 3 * 32 * ROW
    assert any("drafter" in piece.name for piece in prepared.tensors(At(32, 1)))


def test_what_a_layer_shares_has_buffers_of_its_own() -> None:
    assert on(model_of(FULL, Shared(source=0))).stage.token_bytes == 2 * ROW


# Worked example 1: Llama 3.1 8B by both managers, of 60 GiB.


def test_worked_example_of_two_managers() -> None:
    each = 32 * 2 * 8 * 128 * 2  # layers, keys and values, heads, width, bytes
    assert each == 131_072
    budget = int(60 * GIB * 0.9)
    first = on("llama-3.1-8b", use_kv_cache_manager_v2=False).pool(60 * GIB)
    tokens_there = budget // each
    assert (first.num_tokens, first.num_blocks) == (tokens_there // 32 * 32, 13_824)
    assert first.log[-1] == "[MemUsageChange] Allocated 54.00 GiB for max tokens in paged KV cache (442368)."
    second = on("llama-3.1-8b").pool(60 * GIB)
    grains = 32 * MIB  # 54 GiB are more than 512 x 2 MiB x 2**4
    assert grain(budget) == grains
    assert second.allocated_bytes == -(-budget // grains) * grains
    assert second.num_blocks == -(-budget // grains) * grains // (32 * each)
    assert second.log == ("KV cache manager v2 device quota set to 54.0GiB",)


# Worked example 2: gpt-oss-120b, 18 layers of a window of 128 and 18 of every token, of 40 GiB.


def test_worked_example_of_shares_of_windows() -> None:
    each = 18 * 2 * 8 * 64 * 2  # of either kind of layer
    told = {"max_attention_window": "128,131073", "use_kv_cache_manager_v2": False}
    amount = int(40 * GIB * 0.9)
    pool = on("gpt-oss-120b", "1.3.0", **told).pool(40 * GIB)
    assert [part.blocks for part in pool.parts] == [int(amount * 0.5 / each // 32)] * 2 == [16_384] * 2
    shares = on("gpt-oss-120b", "1.3.0", **told, window_size_shares="0.1,0.9").pool(40 * GIB)
    assert [part.blocks for part in shares.parts] == [int(amount * part / each // 32) for part in (0.1, 0.9)]
    # a request of 8,192 tokens: 128 / 32 + 1 blocks of a window, 256 of every token
    held = on("gpt-oss-120b", "1.3.0", **told).totals(At(8192, 1)).allocated
    assert held == (5 + 256) * 32 * each
    # the second manager takes windows from the config, and gives a block back as soon as the window has left it
    own = on("gpt-oss-120b")
    assert own.totals(At(8192, 1)).allocated == (4 + 256) * 32 * each
    # slots of both kinds have one size, and so one pool
    assert [part.windows for part in own.pool(40 * GIB).parts] == [(128, None)]


# Worked example 3: Qwen3-Next-80B-A3B, 12 layers of attention and 36 of states, 64 requests, 40 GiB.


def test_worked_example_of_a_hybrid() -> None:
    conv = (2 * 16 * 128 + 32 * 128) * 3 * 2  # channels of queries, keys and values, 3 earlier inputs
    matrix = 32 * 128 * 128 * 2  # the model's dtype: 16 bits
    state, each = 36 * (conv + matrix), 12 * 2 * 2 * 256 * 2
    assert (state, each) == (39_518_208, 24_576)
    first = on("qwen3-next-80b-a3b", use_kv_cache_manager_v2=False, max_batch_size=64).pool(40 * GIB)
    amount = int(40 * GIB * 0.9)
    assert first.num_tokens == (amount - 65 * state) // each // 32 * 32  # 64 sequences and a dummy
    assert [part.blocks for part in first.parts] == [first.num_tokens // 32, 65]
    second = on("qwen3-next-80b-a3b", max_batch_size=64).pool(40 * GIB)
    slots = {part.state: part.blocks for part in second.parts}
    assert slots[True] >= 65
    refused = on("qwen3-next-80b-a3b").pool(40 * GIB).refused  # 2,048 sequences
    least = 2049 * state + 32 * each
    assert refused == (
        "The V2 Mamba GPU cache quota is too small for live recurrent states and attention pages: "
        f"got {amount} bytes, need at least {least} bytes."
    )
    estimate = on("qwen3-next-80b-a3b").totals(At(4096, 8))
    assert estimate.allocated == 8 * 4096 * each + 9 * state


# Worked example 4: DeepSeek V3.2, latents with an indexer, fp8.


def test_worked_example_of_an_indexer() -> None:
    each = 61 * (512 + 64 + 128 + 4)  # a latent in fp8, an index key in 8 bits and its scale
    prepared = on("deepseek-v3.2", kv_cache_dtype="fp8", compute_capability=100)
    assert prepared.stage.token_bytes == each == 43_188
    assert prepared.totals(At(33, 1)).allocated == 64 * each
    assert on("deepseek-v3.2", kv_cache_dtype="bf16").stage.token_bytes == 61 * (2 * 576 + 132)
    assert on("deepseek-v3.2").settled.tokens_per_block == 64  # FlashMLA, on a Hopper
    assert on("deepseek-v3.2", "1.3.0", num_nextn_predict_layers=3, kv_cache_dtype="fp8").stage.token_bytes == 64 * 708


# Pools.


def test_windows_that_no_request_could_fill_are_lowered_from_the_smallest() -> None:
    assert fitting_windows({10: 1, 20: 1}, 100) == [10, 20]
    assert fitting_windows({10: 1, 20: 1}, 25) == [10, 15]  # 10 of both, 5 more of the larger
    assert fitting_windows({10: 1, 20: 1}, 8) == [4, 4]


def test_shares_must_be_as_many_as_windows() -> None:
    prepared = on(model_of(FULL, FULL, max_tokens=4096), max_attention_window="128,4097", window_size_shares="1")
    with pytest.raises(Refused, match="Number of shares in TRTLLM_WINDOW_SIZE_SHARES"):
        prepared.pool(GIB)


def test_a_pool_without_a_block_is_the_engines_refusal() -> None:
    assert on(model_of(FULL)).pool(100).refused == NO_BLOCKS
    assert on("llama-3.1-8b").pool(0).refused.startswith("Quota not set.")
    assert on(model_of(FULL)).pool(100).usable_bytes == 0


def test_a_window_longer_than_the_pool_is_said_to_be_lowered() -> None:
    [line, *_] = on(model_of(FULL, max_tokens=4096), max_tokens=64).pool(GIB).log
    assert line == "Attention window size 4097 exceeds upper bound 64 for available blocks. Reducing to 64."


def test_a_host_tier_is_shown_as_secondary_blocks() -> None:
    [line, *_] = on(model_of(FULL, max_tokens=64), host_cache_size=100 * 32 * ROW).pool(GIB).log
    assert "secondary blocks=100," in line


def test_a_part_of_the_budget_is_an_encoders() -> None:
    options = {"cross_kv_cache_fraction": 0.5}
    pool = on("whisper-large-v3", **options).pool(10 * GIB)
    own, other = pool.parts
    assert (own.cross, other.cross) == (False, True)
    assert own.blocks == other.blocks == int(10 * GIB * 0.9) // 2 // (32 * 2 * 20 * 64 * 2) // 32
    assert "require cross_kv_cache_fraction" in refusal("whisper-large-v3")


@each("grains", [1, 2, 3, 7, 50, 1001])
def test_slots_of_grains_are_the_most_that_fit(grains: int) -> None:
    for sizes in ((5,), (8, 3), (2**21, 2**15)):
        count, used = slots_in(grains, sizes, 16)
        assert used <= grains
        assert grains_of(count + 1, sizes, 16) > grains or not count


def test_memory_is_shared_out_by_weight_and_a_group_gets_its_least() -> None:
    assert slot_counts(100, [(10,), (10,)], [0.5, 0.5], 10, [1, 1]) == [50, 50]
    assert slot_counts(100, [(10,), (10,)], [0.9, 0.1], 10, [1, 1]) == [90, 10]
    assert slot_counts(100, [(10,), (10,)], [0.9, 0.1], 10, [1, 20]) == [80, 20]
    with pytest.raises(Refused, match="Insufficient quota"):
        slot_counts(10, [(10,), (10,)], [0.5, 0.5], 10, [8, 8])
    assert side_by_side([4, 1, 4, 1, 1]) == (8, 3)


# Refusals, options, commands.


@each(
    ("model", "options", "said"),
    [
        ("falcon-7b", {}, "Unknown architecture for AutoModelForCausalLM: "),
        ("llama-3.1-8b", {"kv_cache_dtype": "int8"}, "Cannot support int8 KV cache."),
        ("llama-3.1-8b", {"tp_size": 3}, "assert self.num_heads % tp_size == 0: 32 heads over tp_size 3"),
        ("llama-3.1-8b", {"pp_size": 33}, "pp_size 33 is more than the 32 layers"),
        ("qwen3-next-80b-a3b", {"tp_size": 64}, "assert self.num_heads % tp_size == 0"),
    ],
)
def test_refusals_are_the_engines_own(model: str, options: dict[str, Any], said: str) -> None:
    assert said in refusal(model, **options)


def test_the_second_manager_is_a_matter_of_release_and_class() -> None:
    assert "no KVCacheManagerV2" in refusal("llama-3.1-8b", "1.2.0", use_kv_cache_manager_v2=True)
    assert not on("llama-3.1-8b", "1.3.0").settled.second
    assert on("llama-3.1-8b", "1.3.0", use_kv_cache_manager_v2=True).settled.second
    assert on("llama-3.1-8b").settled.second
    assert not on("mistral-7b-v0.1").settled.second


@each(
    ("name", "value"),
    [("tp_size", 0), ("kv_cache_dtype", "fp9"), ("kv_cache_free_gpu_memory_fraction", 1.0), ("max_attention_window", "a"),
     ("max_attention_window", "0"), ("window_size_shares", "0.5,0.6"), ("backend", "onnx"), ("avg_seq_len", 0),
     ("cross_kv_cache_fraction", 1.0), ("num_nextn_predict_layers", 1000), ("use_kv_cache_manager_v2", "perhaps"),
     ("mamba_ssm_cache_dtype", "fp8"), ("host_cache_size", -1)],
)  # fmt: skip
def test_a_bad_option_is_named(name: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        make_engine("tensorrt-llm", {name: value})
    assert caught.value.option == name


def test_what_to_type_has_underscores_and_a_line_of_yaml_for_what_has_no_flag() -> None:
    serving = Serving(model="a'b c", context=4096, batch_size=8)
    plain = on("llama-3.1-8b", tp_size=2).command(serving)
    assert shlex.split(plain) == [
        "trtllm-serve", "a'b c", "--max_seq_len", "4096", "--max_batch_size", "8", "--kv_cache_free_gpu_memory_fraction", "0.9",
        "--tp_size", "2",
    ]  # fmt: skip
    told = on("llama-3.1-8b", kv_cache_dtype="fp8", max_attention_window="128,4096").command(serving)
    assert told.endswith("--config <(echo '{kv_cache_config: {dtype: fp8, max_attention_window: [128, 4096]}}')")
    full = on("deepseek-v3", enable_attention_dp=True, num_nextn_predict_layers=1, tp_size=8).command(serving)
    assert "enable_attention_dp: true, speculative_config: {decoding_type: MTP, num_nextn_predict_layers: 1}" in full


def test_a_ledger_has_bands_with_a_basis() -> None:
    tensors = describe(kvplan.load("llama-3.1-8b"))
    assert tensors is not None
    found = on("llama-3.1-8b").ledger(Machine(gpu=gpu("h100-sxm-80gb")), tensors)
    assert found is not None
    assert [line.name for line in found.lines] == ["context", "weights", "activations"]
    assert [line.basis for line in found.lines] == ["assumed", "derived", "assumed"]
    assert all(line.low <= line.bytes <= line.high for line in found.lines)


def test_notes_say_what_is_not_in_the_numbers() -> None:
    notes = footprint(on("qwen3-next-80b-a3b", pp_size=2), Workload(seq_len=10, batch_size=2)).notes
    assert any("makes room for 2,048 sequences" in note for note in notes)
    assert any("pipeline rank" in note for note in notes)
    slides = footprint(on("gpt-oss-120b", "1.3.0"), Workload(seq_len=10)).notes
    assert any("windows save nothing here" in note for note in slides)
    with pytest.raises(Refused, match="max_batch_size"):
        on(model_of(FULL), max_batch_size=2).check(At(1, 3))


# Laws.


@given(models, tokens, st.integers(1, 64), st.sampled_from(["1.2.0", "1.3.0", "1.4.0"]), st.booleans())
def test_laws_over_random_models(model: Model, seq_len: int, batch: int, version: str, second: bool) -> None:
    options = {"use_kv_cache_manager_v2": second and version >= "1.3", "cross_kv_cache_fraction": 0.5}
    try:
        prepared = on(model, version, **options)
    except Refused:
        return
    at = At(seq_len, batch, 100)
    found = prepared.totals(at)
    assert 0 <= found.payload <= found.allocated
    assert prepared.totals(At(seq_len + 1, batch, 100)).allocated >= found.allocated
    assert prepared.totals(At(seq_len, batch + 1, 100)).allocated >= found.allocated
    arrays = prepared.totals(At(np.array([seq_len]), np.array([batch]), 100))
    assert (int(arrays.payload[0]), int(arrays.allocated[0])) == (found.payload, found.allocated)
    shown = footprint(prepared, Workload(seq_len=seq_len, batch_size=batch, encoder_len=100))
    assert shown.allocated_bytes == found.allocated
    whole = prepared.totals(At(seq_len, 2 * batch, 100)).allocated
    if prepared.linear_in_batch:
        assert whole == 2 * found.allocated


@given(models, st.integers(0, 2**36), st.integers(0, 2**34), st.booleans())
def test_more_memory_never_makes_a_smaller_pool_and_no_pool_exceeds_its_budget(
    model: Model, free: int, more: int, second: bool
) -> None:
    options = {"use_kv_cache_manager_v2": second, "cross_kv_cache_fraction": 0.5, "max_batch_size": 4}
    try:
        prepared = on(model, **options)
        pool, larger = prepared.pool(free), prepared.pool(free + more)
    except Refused:
        return
    assert bool(larger.refused) <= bool(pool.refused)
    if pool.refused:
        return
    if not second:
        assert pool.allocated_bytes <= free
        assert all(a.blocks <= b.blocks for a, b in zip(pool.parts, larger.parts, strict=True))
    most = pool.max_model_len
    assert most == 0 or prepared.holds(pool, At(most, 1, 0)) or pool.short


@given(st.integers(1, 40), st.integers(1, 2**20), st.booleans())
def test_a_pool_holds_what_its_blocks_hold(blocks: int, seq_len: int, slides: bool) -> None:
    model = model_of(FULL, SLIDES if slides else FULL)
    prepared = on(model, use_kv_cache_manager_v2=False, max_tokens=blocks * 32)
    pool = prepared.pool(2**40)
    assume(not pool.refused)
    assert prepared.holds(pool, At(seq_len, 1)) == (-(-seq_len // 32) <= blocks)


def test_the_least_fraction_holds_the_workload() -> None:
    prepared = on("llama-3.1-8b")
    found = prepared.shared(At(8192, 4), 60 * GIB, 15 * GIB)
    assert found is not None
    text, pool = found
    assert prepared.holds(pool, At(8192, 4))
    less = on("llama-3.1-8b", kv_cache_free_gpu_memory_fraction=float(text) - 0.0001, max_batch_size=4).pool(60 * GIB)
    assert not prepared.holds(less, At(8192, 4))
    assert prepared.shared(At(2**30, 4), 60 * GIB, 15 * GIB) is None


def test_a_sweep_costs_at_most_ten_times_ideals_time() -> None:
    def once(engine: str) -> float:
        begun = process_time()
        kvplan.sweep("gpt-oss-120b", engine=engine, seq_len=range(1, 100_001, 50), batch_size=range(1, 101)).to_frame()
        return process_time() - begun

    assert min(once("tensorrt-llm") for _ in range(3)) <= 10 * min(once("ideal") for _ in range(3))
