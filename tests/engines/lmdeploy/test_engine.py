"""LMDeploy as an engine: blocks, slots and pools against arithmetic by hand, its refusals, what to type, and laws."""

from typing import Any

import numpy as np
import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st
from strategies import models, tokens

import kvplan
from kvplan.domain.model import Layer, Model, Shared, Softmax, Window
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import Served, Serving, footprint
from kvplan.engines.kernel.tensors import At
from kvplan.engines.lmdeploy.engine import LmdeployOn
from kvplan.engines.lmdeploy.turbomind_engine import TurboMindOn
from kvplan.errors import KvplanError, OptionError, Refused
from kvplan.units import GIB

FULL = Softmax(kv_heads=2, key_dim=64, value_dim=64)
LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 256,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000, "torch_dtype": "bfloat16",
    "max_position_embeddings": 4096,
}  # fmt: skip


def model_of(*kept: Any, **more: Any) -> Model:
    layers = tuple(Layer(index=i, memories=m if isinstance(m, tuple) else (m,)) for i, m in enumerate(kept))
    return Model(name="m", model_type="spec", layers=layers, **more)


def on(model: Any, **options: Any) -> LmdeployOn:
    prepared = make_engine("lmdeploy", options).on(model if isinstance(model, Model) else kvplan.load(model))
    assert isinstance(prepared, LmdeployOn)
    return prepared


def refusal(model: Any, **options: Any) -> str:
    with pytest.raises(Refused) as caught:
        make_engine("lmdeploy", options).on(model if isinstance(model, Model) else kvplan.load(model))
    return caught.value.reason


def test_a_request_takes_whole_blocks_of_64_tokens() -> None:
    row = 2 * 2 * 2 * 64 * 2  # two layers, keys and values of two heads, 16 bits
    for seq_len, blocks in ((1, 1), (64, 1), (65, 2), (1000, 16)):
        assert on(LLAMA).totals(At(seq_len, 3)).allocated == 3 * blocks * 64 * row
    assert on(LLAMA, block_size=128).totals(At(65, 1)).allocated == 128 * row


@each(
    ("policy", "key", "value", "kv_dtype"),
    [
        (0, 128, 128, "bfloat16"),
        ("int8", 64 + 4, 64 + 4, "int8_per_token_head"),
        (4, 32 + 4, 32 + 4, "int4_per_token_head"),
        ("fp8", 64, 64, "fp8_e4m3"),
        (17, 64, 64, "fp8_e5m2"),
        ("turbo_quant", 32 + 4, 16 + 2, "turbo_quant"),
    ],
)
def test_bytes_of_a_head_and_token_by_policy(policy: Any, key: int, value: int, kv_dtype: str) -> None:
    prepared = on(LLAMA, quant_policy=policy)
    assert prepared.block_bytes == 2 * 64 * 2 * (key + value)  # layers, tokens, heads
    assert prepared.kv_dtype == kv_dtype


def test_every_tensor_of_a_kernel_block_is_rounded_up_to_256_bytes() -> None:
    odd = {**LLAMA, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 20}
    assert on(odd, block_size=16).block_bytes == 2 * 768  # 16 x 20 x 2 = 640
    assert on(odd, block_size=32, kernel_block_size=16).block_bytes == 2 * 2 * 768
    pieces = list(on(odd, block_size=16).tensors(At(16, 1)))
    assert [piece.payload for piece in pieces] == [640, 640]


def test_heads_are_divided_and_then_copied() -> None:
    whole = on({**LLAMA, "num_attention_heads": 8}).block_bytes
    for ranks, share in ((2, 2), (4, 2), (8, 2)):
        assert on({**LLAMA, "num_attention_heads": 8}, tp=ranks).block_bytes * share == whole
    assert on({**LLAMA, "num_attention_heads": 8}, tensor_parallel=2).tensor_parallel == 2
    assert "3 is no multiple of 2" in refusal({**LLAMA, "num_attention_heads": 6}, tp=3)
    assert "cannot be divided by tp 8" in refusal({**LLAMA, "num_attention_heads": 12}, tp=8)


def test_latents_stored_as_no_heads_are_one_sentence() -> None:
    config = {
        "model_type": "minicpm3", "hidden_size": 2560, "num_hidden_layers": 2, "num_attention_heads": 40,
        "num_key_value_heads": 0, "intermediate_size": 6400, "vocab_size": 73448, "q_lora_rank": 768, "kv_lora_rank": 256,
        "qk_nope_head_dim": 64, "qk_rope_head_dim": 32,
    }  # fmt: skip
    with pytest.raises(KvplanError, match="`num_key_value_heads` must be a whole number from 1"):
        kvplan.estimate(config, engine="lmdeploy")


def test_latents_are_whole_on_every_rank_and_want_64_tokens_for_flash_mla() -> None:
    model = kvplan.load("deepseek-v3")
    assert on(model).block_bytes == on(model, tp=8).block_bytes == 61 * 64 * 576 * 2
    assert "Please set block_size to 64 for flash_mla" in refusal(model, block_size=128)
    narrow = on(model, flash_mla=False, block_size=128)
    assert narrow.block_size == 32
    assert "Update `block_size=32` for large `head_dim=576`." in narrow.notes(Workload(seq_len=1))
    assert on(model, compute_capability=89).block_size == 32  # the package is for 9.0 and later


def test_states_have_slots_of_their_own() -> None:
    model = kvplan.load("qwen3.6-27b")
    prepared, plan = on(model), on(model).plan
    for users in (1, 7):
        facts = prepared.facts(Workload(seq_len=100, batch_size=users))
        assert facts.num_state_caches == users + 2
        assert facts.state_bytes == (users + 2) * plan.state_slot_bytes
    told = on(model, max_batch_size=16, prefix_cache_state_budget=5)
    assert told.totals(At(100, 3)).state == (16 + 2 + 5) * plan.state_slot_bytes
    assert any("1,024 sequences: 81,494,802,432 bytes" in note for note in prepared.notes(Workload(seq_len=100, batch_size=1)))
    with pytest.raises(Refused, match="more than max_batch_size, which is 16"):
        told.check(At(1, 17))


def test_the_pool_by_hand() -> None:
    """(F - runtime) x ratio, in blocks; one is for padding, and a request may hold all but one of the others."""
    prepared = on(LLAMA, max_batch_size=8, max_prefill_token_num=1024)
    free, runtime, block = 100_000_000, (1024 + 16) * 1000 * 2, 64 * 2 * 2 * 2 * 64 * 2
    pool = prepared.pool(free)
    assert pool.num_blocks == int((free - runtime) * 0.8) // block
    assert pool.num_tokens == pool.num_blocks * 64
    assert pool.usable_bytes == (pool.num_blocks - 1) * block
    assert (pool.max_model_len, pool.concurrency) == (4096, min(8.0, (pool.num_blocks - 1) / 64))
    assert sum(part["bytes"] for part in pool.groups) == free
    small = prepared.pool(runtime + 30 * block)
    assert small.num_blocks == 24
    assert small.max_model_len == (24 - 2) * 64


@pytest.mark.parametrize(
    ("free", "words"), [(0, "state cache"), (10**6, "kv cache"), (-5, "state cache"), (2_200_000, "kv cache")]
)
def test_too_little_memory_is_refused_in_the_engines_words(free: int, words: str) -> None:
    assert words in on(LLAMA, max_batch_size=8, max_prefill_token_num=1024).pool(free).refused


def test_a_shorter_pass_of_prefill_rescues_a_few_blocks() -> None:
    prepared = on(LLAMA, max_batch_size=1, max_prefill_token_num=8192)
    runtime = (8192 + 2) * 1000 * 2
    pool = prepared.pool(runtime + 10 * prepared.block_bytes)
    assert pool.num_blocks >= 16
    assert pool.log == ("No enough memory. Update max_prefill_token_num=4096",)


def test_a_request_that_is_cut_short_does_not_fit() -> None:
    prepared = on(LLAMA, max_batch_size=1, max_prefill_token_num=1024, session_len=4096)
    blocks = prepared.pool(10**9)
    assert blocks.usable_bytes > 0
    tight = prepared.pool((1024 + 2) * 2000 + int(65 * prepared.block_bytes / 0.8) + 1)
    assert tight.num_blocks == 65  # 64 for requests, 63 for one
    assert tight.usable_bytes == 0


def test_an_unknown_vocabulary_leaves_the_pool_unknown() -> None:
    by_hand = model_of(FULL)
    assert kvplan.estimate(by_hand, engine="lmdeploy", seq_len=64).total_bytes == 64 * 2 * 2 * 64 * 2  # type: ignore[union-attr]
    answer = kvplan.try_reserve(by_hand, memory="1GiB", engine="lmdeploy")
    assert isinstance(answer, kvplan.NotPredicted)
    assert "vocabulary" in answer.reason


def test_one_window_for_all_layers_gives_blocks_back() -> None:
    sliding = {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 1024}
    prepared = on(sliding, max_prefill_token_num=512)
    most = (1024 + 512) // 64 + 1
    assert prepared.blocks(At(64 * most, 1)) == prepared.blocks(At(10**6, 1)) == most
    assert "Sliding window prefix caching is not supported." in on(sliding, enable_prefix_caching=True).pool(10**9).log
    mixed = model_of(FULL, Softmax(kv_heads=2, key_dim=64, value_dim=64, reach=Window(64)))
    assert on(mixed).blocks(At(6400, 1)) == 100 or on(mixed).plan.window_size > 0


@each(
    ("options", "words"),
    [
        ({"quant_policy": 5}, "not a valid quant_policy"),
        ({"quant_policy": "q8_0"}, "not a valid quant_policy"),
        ({"kv_dtype": "nvfp4"}, "not a valid quant_policy"),
        ({"quant_policy": "9" * 5000}, "not a valid quant_policy"),
        ({"cache_max_entry_count": 1.0}, "above 0 and below 1"),
        ({"cache_max_entry_count": 0}, "above 0 and below 1"),
        ({"cache_max_entry_count": "nan"}, "above 0 and below 1"),
        ({"cache_max_entry_count": "x"}, "expected float"),
        ({"block_size": 0}, "block_size"),
        ({"block_size": 2**50}, "block_size"),
        ({"kernel_block_size": 0}, "kernel_block_size"),
        ({"tp": 0}, "tp"),
        ({"session_len": 0}, "session_len"),
        ({"max_batch_size": -1}, "max_batch_size"),
        ({"backend": "vllm"}, "pytorch or turbomind"),
        ({"dtype": "float32"}, "auto, float16 or bfloat16"),
        ({"max_prefill_token_num": -1}, "max_prefill_token_num"),
        ({"cache_max_entry": 0.5}, "did you mean `cache_max_entry_count`"),
        ({"kv_dtype": "fp8", "quant_policy": 8}, "given twice"),
    ],
    ids=str,
)
def test_hostile_options_are_refused_in_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        make_engine("lmdeploy", options)
    said = f"{caught.value} {caught.value.hint}"
    assert words in said
    assert "\n" not in said
    assert len(said) < 400


@each(
    ("model", "options", "words"),
    [
        ("gpt2", {}, "Can not found rewrite"),
        ("llama-3.1-8b", {"block_size": 48}, "kernel_block_size must be >= 16 and a power of 2, but got 48"),
        ("llama-3.1-8b", {"block_size": 8}, "kernel_block_size must be >= 16"),
        ("llama-3.1-8b", {"block_size": 96, "kernel_block_size": 64}, "integer multiple of kernel_block_size"),
        ("llama-3.1-8b", {"tp": 3}, "32 attention heads cannot be divided by tp 3"),
        ("deepseek-v3.2", {"quant_policy": 8}, "Sparse MLA does not support quant_policy=8"),
        ("deepseek-v3.2", {"flash_mla": False}, "requires flash_mla"),
        ("qwen3-next-80b-a3b", {}, "full_attention_interval"),
        ("deepseek-v3", {"backend": "turbomind"}, "TurboMind has no model for deepseek_v3"),
        ("qwen3-8b", {"backend": "turbomind", "quant_policy": 16}, "FP8 quantization is not supported"),
        ("qwen3.6-27b", {"backend": "turbomind"}, "were not studied"),
        ("whisper-large-v3", {}, "encoder"),
    ],
)
def test_refusals_are_the_engines_own(model: str, options: dict[str, Any], words: str) -> None:
    answer = kvplan.try_estimate(model, engine="lmdeploy", seq_len=256, **options)
    assert isinstance(answer, kvplan.NotPredicted)
    assert words in answer.reason
    assert answer.reason.startswith("LMDeploy ")


@pytest.mark.parametrize(
    ("quant", "words"),
    [
        ({"quant_method": "modelopt"}, "Unsupported quant method: modelopt"),
        ({"quant_method": "fp8", "fmt": "float8_e4m3fn"}, "Unsupported fp8 fmt"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "pack-quantized"),
        ({"quant_method": "gptq"}, "Unsupported quant method: gptq"),
    ],
)
def test_weights_that_it_does_not_load_are_refused(quant: dict[str, Any], words: str) -> None:
    assert words in refusal({**LLAMA, "quantization_config": quant})


def test_awq_checkpoints_are_kept_in_float16() -> None:
    assert on({**LLAMA, "quantization_config": {"quant_method": "awq", "bits": 4}}).kv_dtype == "float16"


def test_what_to_type_is_what_was_predicted() -> None:
    prepared = on(
        LLAMA, quant_policy=8, tp=2, block_size=128, kernel_block_size=64, max_prefill_token_num=4096, dtype="float16",
        enable_prefix_caching=True, cache_max_entry_count=0.5,
    )  # fmt: skip
    assert prepared.command(Serving(model="org/a b", context=3000, batch_size=5)) == (
        "lmdeploy serve api_server 'org/a b' --backend pytorch --session-len 3000 --max-batch-size 5 --cache-max-entry-count 0.5 "
        "--quant-policy int8 --tp 2 --cache-block-seq-len 128 --kernel-block-size 64 --dtype float16 "
        "--max-prefill-token-num 4096 --enable-prefix-caching"
    )
    told = prepared.command(Serving(model="m", context=1, batch_size=1, utilization=0.37))
    assert "--cache-max-entry-count 0.37 " in told


def test_turbomind_is_read_from_its_source_and_says_so() -> None:
    prepared = make_engine("lmdeploy", {"backend": "turbomind", "quant_policy": 4, "cache_block_seq_len": 128}).on(
        kvplan.load("qwen3-8b")
    )
    assert isinstance(prepared, TurboMindOn)
    assert prepared.block_bytes == 36 * 8 * 2 * 128 * (64 + 4)
    assert prepared.evidence() == "from source"
    assert any("by reading its source" in note for note in prepared.notes(Workload(seq_len=1)))
    pool = prepared.pool(10 * GIB)
    assert pool.num_blocks == int(float(10 * GIB) * 0.8) // prepared.block_bytes
    assert pool.log == ("Object cache budget: 8192.00 MB from free 10240.00 MB and ratio 0.800",)


def test_no_builder_shares_caches_between_layers() -> None:
    prepared = on(model_of(FULL, Shared(source=0)))
    assert prepared.totals(At(64, 1)).allocated == 2 * on(model_of(FULL)).totals(At(64, 1)).allocated
    assert any("shares caches" in note for note in prepared.notes(Workload(seq_len=1)))


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "quant_policy": st.sampled_from([0, 4, 8, 16, 17, 42]),
        "block_size": st.sampled_from([16, 32, 64, 128]),
        "max_batch_size": st.integers(1, 300),
        "tp": st.sampled_from([1, 2, 4]),
        "backend": st.sampled_from(["pytorch", "turbomind"]),
        "flash_mla": st.booleans(),
    },
)


@given(models, OPTIONS, tokens, st.integers(1, 64))
def test_laws_over_random_models(model: Model, options: dict[str, Any], seq_len: int, batch_size: int) -> None:
    try:
        prepared = make_engine("lmdeploy", options).on(model)
        answer = footprint(prepared, Workload(seq_len=seq_len, batch_size=batch_size))
    except Refused:
        return
    assert isinstance(prepared, Served)
    totals, facts = prepared.totals(At(seq_len, batch_size)), answer.facts
    assert 0 <= totals.payload <= totals.allocated == answer.allocated_bytes
    assert facts.kv_bytes + facts.state_bytes == totals.allocated
    assert facts.kv_bytes == facts.request_blocks * batch_size * facts.block_bytes
    arrays = prepared.totals(At(np.array([1, seq_len]), np.array([1, batch_size])))
    assert (int(arrays.allocated[1]), int(arrays.payload[1])) == (totals.allocated, totals.payload)
    if prepared.linear_in_batch:
        assert prepared.totals(At(seq_len, 2 * batch_size)).allocated == 2 * totals.allocated
    assert prepared.totals(At(seq_len + 64, batch_size)).allocated >= totals.allocated
    answer.to_dict(per_layer=True)


@given(st.integers(0, 2**36), st.integers(1, 64), st.integers(1, 32768), st.sampled_from(["pytorch", "turbomind"]))
def test_the_fraction_that_is_told_is_the_least_that_holds_the_users(free: int, users: int, context: int, backend: str) -> None:
    def blocks(share: float) -> int:
        told = {"backend": backend, "max_batch_size": users, "session_len": context, "cache_max_entry_count": share}
        pool = make_engine("lmdeploy", told).on(model).pool(free)  # type: ignore[attr-defined]
        return pool.num_blocks - pool.null_blocks if pool.usable_bytes else 0

    model = kvplan.load("qwen3-8b")
    prepared = make_engine("lmdeploy", {"backend": backend, "session_len": context}).on(model)
    assert isinstance(prepared, Served)
    needed, found = users * -(-context // 64), prepared.shared(At(context, users), free, 0)
    if found is None:
        assert blocks(0.9999) < needed
        return
    share = float(found[0])
    assert found[1].num_blocks - found[1].null_blocks >= needed
    assert blocks(share) >= needed
    assert share <= 0.0001 or blocks(share - 0.0001) < needed


@given(st.integers(0, 2**38), st.integers(1, 200), st.sampled_from([0, 4, 16]))
def test_a_pool_never_takes_more_than_there_is_and_grows_with_it(free: int, users: int, policy: int) -> None:
    prepared = on("qwen3.6-27b", max_batch_size=users, quant_policy=policy)
    pool, more = prepared.pool(free), prepared.pool(free + GIB)
    assert pool.refused or pool.allocated_bytes <= free
    assert pool.num_blocks <= more.num_blocks
    assert not (more.refused and not pool.refused)


@given(models)
def test_a_model_either_is_served_or_is_refused_with_a_reason(model: Model) -> None:
    reason = ""
    try:
        make_engine("lmdeploy", {}).on(model)
    except Refused as problem:
        reason = problem.reason or "\n"
    assert "\n" not in reason


@pytest.mark.parametrize(("model", "weights"), [("qwen3.6-27b", "56GB"), ("qwen3-8b", "16GB"), ("mistral-7b-v0.1", "15GB")])
def test_fit_starts_the_server_that_it_types_and_no_more_requests_fit(model: str, weights: str) -> None:
    found = kvplan.fit(model, "h100-sxm-80gb", engine="lmdeploy", context="16k", weights=weights)
    assert found.fits
    assert f"--session-len 16384 --max-batch-size {found.batch_size} --cache-max-entry-count 0.8" in found.flags

    def held(users: int) -> bool:
        prepared = on(model, session_len=16384, max_batch_size=users, device_name="h100-sxm-80gb")
        pool = prepared.pool(found.budget.cache_bytes)
        return pool.usable_bytes > 0 and prepared.blocks(At(16384, users)) <= pool.num_blocks - 1

    assert held(found.batch_size)
    assert not held(found.batch_size + 1)
    assert found.pool is not None
    assert found.pool.num_blocks == on(model, session_len=16384, max_batch_size=found.batch_size).pool(
        found.budget.cache_bytes
    ).num_blocks  # fmt: skip


def test_the_share_is_of_what_the_weights_leave() -> None:
    default, told = (
        kvplan.fit("qwen3-8b", "h100-sxm-80gb", engine="lmdeploy", context="16k", weights="16GB", **more)
        for more in ({}, {"utilization": 0.5})
    )
    assert default.budget.cache_bytes == told.budget.cache_bytes
    assert told.batch_size < default.batch_size
    assert "--cache-max-entry-count 0.5" in told.flags
    by_name = kvplan.fit(
        "qwen3-8b", "h100-sxm-80gb", engine="lmdeploy", context="16k", weights="16GB", cache_max_entry_count=0.5
    )  # fmt: skip
    assert by_name.batch_size == told.batch_size
    assert "--cache-max-entry-count 0.5" in by_name.flags


def test_a_window_that_gives_no_block_back_makes_no_token_cheaper() -> None:
    """Blocks are given back where all layers slide; else a token past the window still costs every layer's share of a block."""
    token = 2 * 64 * 2 * 2  # keys and values of two heads in 16 bits
    text = LLAMA | {"model_type": "gemma3_text", "sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}
    mixed = on({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text})
    assert mixed.plan.window_size == -1
    assert mixed.bytes_per_token(4096) == 2 * token
    all_slide = on(LLAMA | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 32})
    assert all_slide.plan.window_size == 32
    assert all_slide.bytes_per_token(4096) == 0
    turbomind = make_engine("lmdeploy", {"backend": "turbomind"}).on(kvplan.load(LLAMA))
    assert turbomind.bytes_per_token(4096) == 2 * token
