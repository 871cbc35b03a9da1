"""SGLang: laws that hold for every model, and rules that no recorded case shows alone."""

import math
from typing import Any

import numpy as np
import pytest
from each import each
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import models, tokens

import kvplan
from kvplan import architectures
from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.gpus import gpus
from kvplan.domain.model import Chunk, Full, Index, Latent, Layer, Memory, Model, Recurrent, Softmax, State, Window
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import footprint
from kvplan.engines.kernel.tensors import At
from kvplan.engines.sglang.backends import uneven
from kvplan.engines.sglang.engine import Sglang, SglangOn
from kvplan.engines.sglang.options import SglangOptions, cache_dtype
from kvplan.errors import KvplanError, OptionError, Refused
from kvplan.loading.catalogue import names
from kvplan.questions.estimate import plan

GIB = 2**30
PUBLISHED = [name for name in names() if "/" not in name]
flags = st.fixed_dictionaries(
    {},
    optional={
        "page_size": st.sampled_from([1, 16, 64, 128]),
        "kv_cache_dtype": st.sampled_from(["auto", "fp8_e4m3", "bf16", "fp8_e5m2"]),
        "tp_size": st.sampled_from([1, 2, 4]),
        "pp_size": st.sampled_from([1, 2]),
        "compute_capability": st.sampled_from([75, 80, 90, 100, 120]),
        "device_memory_bytes": st.sampled_from([16 * GIB, 24 * GIB, 80 * GIB, 180 * GIB]),
        "max_running_requests": st.sampled_from([1, 16, 300]),
        "disable_radix_cache": st.booleans(),
        "swa_full_tokens_ratio": st.sampled_from([0.25, 0.8, 1.0]),
        "max_total_tokens": st.sampled_from([4096, 70_000]),
    },
)
heads = st.builds(
    Softmax,
    kv_heads=st.sampled_from([1, 2, 4, 8]),
    key_dim=st.sampled_from([32, 64, 128, 192]),
    value_dim=st.sampled_from([32, 64, 128]),
    reach=st.one_of(st.just(Full()), st.builds(Window, st.integers(2, 4096)), st.builds(Chunk, st.integers(2, 8192))),
)
latent = st.builds(
    Latent, rank=st.sampled_from([256, 512]), rope_dim=st.sampled_from([0, 64]), heads=st.just(16), nope_dim=st.just(128),
    value_dim=st.just(128),
)  # fmt: skip
states = st.builds(
    lambda kind, rows, width: Recurrent(
        kind=kind,
        states=(
            State(name="conv", shape=(16 * rows,), kernel=4),
            State(name="s", shape=(4 * rows, width, *((8,) if kind != "mamba" else ())), dtype="float32"),
        ),
    ),
    st.sampled_from(["mamba", "mamba2", "kda"]),
    st.integers(1, 64),
    st.sampled_from([16, 128]),
)
kept = st.one_of(
    st.tuples(heads), st.tuples(heads), st.tuples(latent), st.tuples(latent, st.just(Index(dim=128))), st.tuples(states),
    st.tuples(heads, states),
)  # fmt: skip
#: Models of kinds that SGLang serves; most combinations of them start.
served = st.builds(
    lambda palette, picks: Model(
        name="m",
        model_type="spec",
        layers=tuple(Layer(index=i, memories=palette[pick % len(palette)]) for i, pick in enumerate(picks)),
        dtype="bfloat16",
        max_tokens=8192,
    ),
    st.lists(kept, min_size=1, max_size=3),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
)
published = st.sampled_from([n for n in PUBLISHED if "rwkv" not in n]).map(kvplan.load)


def on(model: Model | str, **options: Any) -> SglangOn:
    """The engine on a model that it serves."""
    made = make_engine("sglang", options)
    assert isinstance(made, Sglang)
    return made.on(kvplan.load(model) if isinstance(model, str) else model)


def started(model: Model, options: dict[str, Any]) -> SglangOn:
    """The same, or this example is of no use."""
    try:
        return on(model, **options)
    except KvplanError:
        assume(False)
        raise


@settings(max_examples=200)
@given(models | served | published, flags, tokens, st.integers(1, 64))
def test_every_model_is_planned_or_refused_in_a_sentence(model: Model, options: dict[str, Any], length: int, batch: int) -> None:
    try:
        answer = plan(model, Workload(seq_len=length, batch_size=batch, encoder_len=7), "sglang", **options)
    except OptionError:
        return
    if isinstance(answer, NotPredicted):
        assert answer.reason
        return
    assert 0 <= answer.payload_bytes <= answer.total_bytes
    assert answer.bytes_per_token >= 0
    assert answer.bookkeeping_bytes > 0
    assert len(answer.layers) >= len(model.layers)
    assert sum(layer.bytes for layer in answer.layers) <= answer.total_bytes
    for buffer in answer.buffers:
        item = {"bfloat16": 2, "float16": 2, "float32": 4}.get(buffer.dtype, 1)
        assert buffer.padded_bytes == math.prod(buffer.shape) * buffer.count * item


@settings(max_examples=100)
@given(served | published, flags, st.lists(tokens, min_size=1, max_size=5), st.integers(1, 9))
def test_arrays_of_lengths_give_what_each_length_gives(
    model: Model, options: dict[str, Any], lengths: list[int], batch: int
) -> None:
    prepared = started(model, options)
    array = np.array(lengths, dtype=np.int64)
    many = prepared.totals(At(array, np.full_like(array, batch)))
    for i, length in enumerate(lengths):
        one = prepared.totals(At(length, batch))
        assert (int(many.payload[i]), int(many.allocated[i])) == (one.payload, one.allocated)
        assert int(np.broadcast_to(many.bookkeeping, array.shape)[i]) == one.bookkeeping
        assert int(np.broadcast_to(many.state, array.shape)[i]) == one.state


@settings(max_examples=100)
@given(served | published, flags, tokens, st.integers(1, 9))
def test_requests_add_up_and_longer_ones_take_no_less(model: Model, options: dict[str, Any], length: int, batch: int) -> None:
    prepared = started(model, options)
    one, several = prepared.totals(At(length, 1)), prepared.totals(At(length, batch))
    assert several.allocated == one.allocated * batch
    assert several.payload == one.payload * batch
    longer = prepared.totals(At(length + prepared.args.page_size, 1))
    assert longer.allocated >= one.allocated


@settings(max_examples=100)
@given(served | published, flags, st.integers(1, 2**37))
def test_a_pool_holds_no_more_than_its_budget(model: Model, options: dict[str, Any], budget: int) -> None:
    """Beside the page that pads every pool, the states' slot that pads theirs, and what the limit of a user leaves."""
    prepared = started(model, options)
    pool = prepared.pool(budget)
    if pool.refused:
        assert pool.num_tokens == 0
        assert not prepared.holds(pool, At(1, 1))
        return
    page, reading = prepared.args.page_size, prepared.args.reading
    assert pool.num_tokens % page == 0
    assume(not (uneven(reading) and (reading.stateful or reading.sliding)))  # values stored as wide as keys, and not priced so
    rows = sum(g["slot_bytes"] * (g["layers"] or 1) for g in pool.groups if g["slot_bytes"] and g["charged"])
    assert sum(g["bytes"] for g in pool.groups if g["charged"]) <= budget + rows * page * 2
    assert pool.allocated_bytes == sum(g["bytes"] for g in pool.groups if g["charged"])
    more = prepared.pool(budget + budget // 8 + 1)
    assert more.refused or more.num_tokens >= pool.num_tokens


@settings(max_examples=60)
@given(served | published, flags, st.integers(2**30, 2**37), st.integers(1, 8192), st.integers(1, 4096))
def test_what_is_held_at_once_has_its_rows_and_its_requests(
    model: Model, options: dict[str, Any], budget: int, length: int, batch: int
) -> None:
    prepared = started(model, options)
    pool = prepared.pool(budget)
    assume(not pool.refused)
    at = At(length, batch)
    if prepared.holds(pool, at):
        assert batch <= prepared.reserved(budget)[prepared.rank].sizes.requests
        assert batch == 1 or prepared.holds(pool, At(length, batch - 1))
        assert length == 1 or prepared.holds(pool, At(length - 1, batch))
        if not prepared.args.reading.sliding and prepared.args.speculation.algorithm == "" and pool.block_bytes:
            assert batch * -(-length // prepared.args.page_size) <= pool.num_tokens // prepared.args.page_size


@settings(max_examples=60)
@given(served | published, st.sampled_from([2, 3, 4]), st.integers(2**31, 2**37))
def test_pipeline_stages_split_the_layers_and_share_the_least_tokens(model: Model, stages: int, budget: int) -> None:
    prepared = started(model, {"pp_size": stages})
    try:
        found = prepared.reserved(budget)
    except Refused:
        return
    assert len({stage.sizes.tokens for stage in found}) == 1
    assert {stage.sizes.available_bytes for stage in found} == {found[0].sizes.available_bytes}


def test_the_theory_is_the_least_where_sglang_keeps_everything() -> None:
    """Granted: index keys in 8 bits, convolutions in bfloat16, and models of which it does not keep all (its notes say so)."""
    compared = 0
    for name in PUBLISHED:
        model = kvplan.load(name)
        real = kvplan.try_estimate(model, seq_len=5000, batch_size=2, engine="sglang")
        if isinstance(real, NotPredicted) or any("SGLang has no class" in note or "no states" in note for note in real.notes):
            continue
        if model.model_type in {"zaya", "bailing_hybrid"} or real.kv_dtype not in {"bfloat16", "float16"}:
            continue  # rows in every second layer; states as wide as the attention's heads
        least = kvplan.estimate(granted(model), seq_len=5000, batch_size=2, kv_dtype=real.kv_dtype)
        assert isinstance(least, Allocation)
        assert real.allocated_bytes >= least.payload_bytes, name
        compared += 1
    assert compared > 300


def granted(model: Model) -> Model:
    layers = tuple(Layer(index=x.index, memories=tuple(as_stored(m) for m in x.memories)) for x in model.layers)
    return replace(model, layers=layers, dtype="bfloat16" if model.dtype == "float32" else model.dtype)


def as_stored(memory: Memory) -> Memory:
    if isinstance(memory, Index):
        return replace(memory, dtype="fp8_e4m3")
    if isinstance(memory, Recurrent):
        return replace(memory, states=tuple(replace(s, dtype="bfloat16" if s.kernel else s.dtype) for s in memory.states))
    return memory


# Rules by themselves.


def total(model: str, seq_len: int, **options: Any) -> int:
    answer = footprint(on(model, **options), Workload(seq_len=seq_len))
    return answer.total_bytes


def test_pages_round_up_and_heads_split_or_are_replicated() -> None:
    assert total("llama-3.1-8b", 100, page_size=64) == 128 * 131_072
    assert total("llama-3.1-8b", 100, tp_size=8) == 100 * 131_072 // 8
    assert total("llama-3.1-8b", 100, tp_size=16) == 100 * 131_072 // 8
    assert total("llama-3.1-8b", 100, tp_size=8, dp_size=8, enable_dp_attention=True) == 100 * 131_072


def test_latents_are_the_same_on_every_device() -> None:
    assert total("deepseek-v3", 100) == total("deepseek-v3", 100, tp_size=8) == 100 * 61 * 576 * 2


def test_context_parallelism_shares_latents_and_repeats_index_keys() -> None:
    alone, shared = on("deepseek-v3.2", tp_size=8), on("deepseek-v3.2", tp_size=8, dcp_size=2)
    index = {piece.name: piece.padded for piece in alone.tensors(At(1024, 1))}
    again = {piece.name: piece.padded for piece in shared.tensors(At(1024, 1))}
    assert again["kv_buffer"] * 2 == index["kv_buffer"]
    assert again["index_k_with_scale_buffer"] == index["index_k_with_scale_buffer"]


def test_windows_take_what_the_scheduler_may_hold_beside_them() -> None:
    pieces = {piece.name: piece for piece in on("gpt-oss-20b").tensors(At(32_768, 1)) if len(piece.layers) == 12}
    assert pieces["k_buffer"].shape[0] == 127 + 128 + 1 + 1
    short = {piece.name: piece for piece in on("gpt-oss-20b").tensors(At(100, 1))}
    assert all(piece.shape[0] == 100 for piece in short.values())


def test_prefixes_that_are_not_reused_make_the_sliding_pool_as_small_as_requests_need() -> None:
    capped = on("gpt-oss-20b", disable_radix_cache=True, max_running_requests=32)
    sizes = capped.reserved(49_714_745_344)[0].sizes
    assert sizes.sliding_tokens == 24_609
    assert sizes.tokens > on("gpt-oss-20b").reserved(49_714_745_344)[0].sizes.tokens


def test_a_hybrid_runs_as_many_requests_as_it_has_states_for() -> None:
    pool = on("qwen3-next-80b-a3b", max_mamba_cache_size=100).pool(40 * GIB)
    assert any("max_running_requests is capped to 20 by the mamba state cache" in line for line in pool.log)
    lean = on("qwen3-next-80b-a3b", max_mamba_cache_size=100, disable_radix_cache=True)
    assert lean.reserved(40 * GIB)[0].sizes.requests == 100


def test_a_drafter_is_charged_as_layers_of_the_model() -> None:
    one = on("deepseek-v3", speculative_algorithm="EAGLE")
    pieces = [piece for piece in one.tensors(At(100, 1)) if piece.kind == "drafter"]
    assert [piece.padded for piece in pieces] == [100 * 576 * 2]
    assert one.layout.cell == 62 * 576 * 2
    alone = on("deepseek-v3", speculative_algorithm="NGRAM", speculative_ngram_max_bfs_breadth=1)
    assert not [piece for piece in alone.tensors(At(100, 1)) if piece.kind == "drafter"]


def test_a_drafters_states_are_kept_until_they_are_verified() -> None:
    plain = on("qwen3-next-80b-a3b").totals(At(1, 1)).state
    drafted = on("qwen3-next-80b-a3b", speculative_algorithm="EAGLE").totals(At(1, 1)).state
    assert drafted > plain


def test_the_whole_of_deepseek_v4_is_one_request() -> None:
    pieces = {piece.name: piece for piece in on("deepseek-v4-flash").tensors(At(1024, 2))}
    assert pieces["swa_kv_pool"].padded == 2 * 3 * 149_760
    assert pieces["c4_kv_pool"].padded == 2 * 4 * 37_440
    assert pieces["c128_state_pool"].shape == (2 * 128, 4096)


@each(
    ("model", "words"),
    [
        ("gemma-3-27b", "does not use the windows"),
        ("gemma-3n-e4b", "does not read the sharing"),
        ("jamba", "keeps no states"),
        ("whisper-large-v3", "keeps the encoder's tokens"),
        ("zamba2-7b", "SGLang has no class Zamba2ForCausalLM"),
    ],
)
def test_what_sglang_does_not_use_of_a_model_is_said(model: str, words: str) -> None:
    assert any(words in note for note in on(model).notes(Workload(seq_len=1)))


def test_more_is_said_where_it_matters() -> None:
    notes = on("llama-3.1-8b", pp_size=3).notes(Workload(seq_len=200_000))
    assert any("pipeline stage of 3" in note for note in notes)
    assert any("more than 131,072 tokens" in note for note in notes)
    older = make_engine("sglang@0.4.9", {}).on(kvplan.load("llama-3.1-8b"))
    assert any("SGLang 0.5.23" in note for note in older.notes(Workload(seq_len=1)))
    assert older.evidence() == "from source"
    assert on("llama-3.1-8b").evidence() == "recorded"


@each(
    ("model", "options", "words"),
    [
        ("llama-3.1-8b", {"context_length": 200_000}, "User-specified context_length (200000) is greater"),
        ("llama-3.1-8b", {"mamba_radix_cache_strategy": "extra_buffer"}, "needs mamba state, got LlamaForCausalLM"),
        ("llama-3.1-8b", {"kv_cache_dtype": "mxfp8"}, "requires an SM100+"),
        ("llama-3.1-8b", {"kv_cache_dtype": "nvfp4"}, "requires Blackwell"),
        ("llama-3.1-8b", {"kv_cache_dtype": "fp4_mx_block16"}, "KV4 MHA expects attention_backend"),
        ("llama-3.1-8b", {"attn_dp_size": 2, "dp_size": 2, "tp_size": 4}, "are not supported"),
        ("llama-3.1-8b", {"dcp_size": 2}, "--dcp-size 2 is more than"),
        ("llama-3.1-8b", {"pp_size": 64}, "--pp-size 64 is more than"),
        ("deepseek-v3.2", {"kv_cache_dtype": "fp8_e5m2"}, "DeepSeek DSA only supports"),
        ("deepseek-v4-flash", {"kv_cache_dtype": "bf16"}, "asserts a uint8 store"),
        ("deepseek-v4-flash", {"kv_cache_dtype": "fp8_e5m2"}, "is not supported for DeepseekV4ForCausalLM"),
        ("deepseek-v4-flash", {"speculative_algorithm": "NEXTN"}, "Only EAGLE and DSPARK"),
        ("deepseek-v4-flash", {"disable_hybrid_swa_memory": True}, "no pools without its windows"),
        ("lfm2-1.2b", {"page_size": 16}, "no_buffer only supports page_size=1"),
        ("lfm2-1.2b", {"mamba_radix_cache_strategy": "extra_buffer"}, "extra_buffer is not supported for Lfm2ForCausalLM"),
        ("qwen3-next-80b-a3b", {"mamba_radix_cache_strategy": "no_buffer"}, "do not support overlap schedule"),
        ("qwen3-next-80b-a3b", {"tp_size": 3}, "cannot split the states"),
        ("deepseek-v3.2", {"speculative_algorithm": "EAGLE", "speculative_num_steps": 3, "speculative_eagle_topk": 2,
                           "speculative_num_draft_tokens": 4}, "only supported on ('flashinfer', 'fa3', 'triton')"),
        ("laguna-xs.2", {}, "at least one SWA layer"),
        ("rwkv-4-169m-pile", {}, "sizes its cache by attention heads"),
        ("qwen4-exp", {}, "keeps more beside its cache"),
        ("vibevoice-1.5b", {}, "does not read `decoder_config`"),
    ],
)  # fmt: skip
def test_refusals_are_the_engines_own(model: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises((Refused, OptionError), match=r".") as problem:
        on(model, **options)
    assert words in str(problem.value)


@each(
    ("model", "options", "budget", "words"),
    [
        ("llama-4-scout-17b-16e", {}, GIB // 2, "cannot hold even one request"),
        (
            "llama-4-scout-17b-16e",
            {"disable_radix_cache": True, "max_running_requests": 32},
            30 * GIB,
            "leaves no room for the full",
        ),
        ("qwen3-next-80b-a3b", {}, 2**20, "Not enough GPU memory for hybrid"),
        ("qwen3-next-80b-a3b", {"max_mamba_cache_size": 4}, 40 * GIB, "too small to serve any requests"),
        ("llama-3.1-8b", {}, 1000, "Not enough memory"),
        ("deepseek-v4-flash", {}, GIB, "SWA pool (0 tokens)"),
    ],
)
def test_memory_that_does_not_do_is_refused_in_the_pool(model: str, options: dict[str, Any], budget: int, words: str) -> None:
    pool = on(model, **options).pool(budget)
    assert words in pool.refused
    assert isinstance(kvplan.try_reserve(model, memory=budget, engine="sglang", **options), Pool)


def test_a_config_that_asks_for_an_fp8_cache_gets_one() -> None:
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 8,
        "num_key_value_heads": 2, "hidden_size": 512, "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"},
    }  # fmt: skip
    assert on(architectures.read(config)).kv_dtype == "fp8_e4m3"
    assert on(architectures.read({**config, "quantization_config": {}})).kv_dtype == "bfloat16"


def test_fit_asks_every_pool_and_the_next_request_does_not_fit() -> None:
    fit = kvplan.fit("gpt-oss-20b", gpu="h100", engine="sglang", context=32_768, weights="13GiB")
    prepared, pool = on("gpt-oss-20b", context_length=32_768), fit.pool
    assert pool is not None
    assert prepared.holds(pool, At(32_768, fit.batch_size))
    assert not prepared.holds(pool, At(32_768, fit.batch_size + 1))
    assert fit.flags.startswith("python -m sglang.launch_server --model-path openai/gpt-oss-20b --context-length 32768")
    assert "--mem-fraction-static 0.83" in fit.flags


def test_the_static_fraction_is_the_utilization_that_fit_assumes() -> None:
    assert make_engine("sglang", {}).utilization(kvplan.load("llama-3.1-8b")) == 0.83
    assert make_engine("sglang", {"mem_fraction_static": "0.7"}).utilization(kvplan.load("llama-3.1-8b")) == 0.7
    fit = kvplan.fit("llama-3.1-8b", gpu="h100", engine="sglang")
    assert f"--mem-fraction-static {fit.budget.utilization:g}" in fit.flags


def test_a_card_of_the_catalogue_is_measured_as_nvidia_smi_measures_it() -> None:
    card = next(card for card in gpus() if card.cuda_total_bytes and card.reported_bytes and card.vendor == "nvidia")
    assert card.cuda_total_bytes != card.reported_bytes
    told = SglangOptions(device_name=card.id, device_memory_bytes=card.cuda_total_bytes or 0)
    assert told.memory_mib * 2**20 == card.reported_bytes
    assert SglangOptions(device_name="x", device_memory_bytes=GIB).memory_mib == 1024


# Options that nobody should give.


@each(
    ("options", "words"),
    [
        ({"tp_size": 0}, "tp_size"),
        ({"tp_size": 2**63}, "tp_size"),
        ({"tp_size": 4, "attn_dp_size": 3}, "not a multiple of the 3"),
        ({"tp_size": 4, "dp_size": 8, "enable_dp_attention": True}, "not a multiple of the 8"),
        ({"mem_fraction_static": 0.0}, "mem_fraction_static"),
        ({"mem_fraction_static": float("nan")}, "mem_fraction_static"),
        ({"mem_fraction_static": float("inf")}, "mem_fraction_static"),
        ({"swa_full_tokens_ratio": 1.5}, "swa_full_tokens_ratio"),
        ({"swa_full_tokens_ratio": float("nan")}, "swa_full_tokens_ratio"),
        ({"mamba_full_memory_ratio": -1.0}, "mamba_full_memory_ratio"),
        ({"mamba_full_memory_ratio": float("inf")}, "mamba_full_memory_ratio"),
        ({"chunked_prefill_size": -2}, "chunked_prefill_size"),
        ({"page_size": 0}, "page_size"),
        ({"kv_cache_dtype": "int8"}, "no cache dtype `int8`"),
        ({"kv_cache_dtype": "x" * 10_000}, "no cache dtype"),
        ({"dtype": "int4"}, "dtype"),
        ({"disaggregation_mode": "both"}, "disaggregation_mode"),
        ({"mamba_radix_cache_strategy": "\x1b[31m"}, "mamba_radix_cache_strategy"),
        ({"swa_eviction_interval": 0}, "swa_eviction_interval"),
        ({"vlm_cache_size_mb": -1}, "vlm_cache_size_mb"),
        ({"device_memory_bytes": 0}, "device_memory_bytes"),
        ({"compute_capability": 9}, "compute_capability"),
        ({"speculative_algorithm": "DFLASH"}, "does not know what `DFLASH`"),
        ({"speculative_algorithm": "EAGLE", "speculative_num_steps": 3}, "speculative_eagle_topk beside it"),
        ({"speculative_algorithm": "EAGLE", "speculative_eagle_topk": 3}, "speculative_num_steps beside them"),
        ({"draft": "a/model"}, "draft"),
        ({"mem_fraction_statik": 1}, "mem_fraction_static"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as problem:
        on("llama-3.1-8b", **options)
    assert words in f"{problem.value} {problem.value.hint}"
    assert len(str(problem.value)) < 300


def test_a_cache_dtype_is_read_in_every_spelling() -> None:
    assert {cache_dtype(text) for text in ("fp8", "FP8_E4M3", "torch.float8_e4m3fn", "fp8e4m3")} == {"fp8_e4m3"}
    assert cache_dtype("auto") == "auto"


def test_texts_from_the_command_line_become_values() -> None:
    made = Sglang.made(
        {
            "kv_dtype": "bf16",
            "tensor_parallel": "2",
            "page_size": "none",
            "mem_fraction_static": "0.5",
            "disable_radix_cache": "yes",
        }
    )
    assert made.options == SglangOptions(kv_cache_dtype="bf16", tp_size=2, mem_fraction_static=0.5, disable_radix_cache=True)


HOSTILE: list[dict[str, Any]] = [
    {"architectures": "LlamaForCausalLM"},
    {"architectures": [["x"]]},
    {"architectures": ["A" * 10_000]},
    {"rope_scaling": {"factor": float("nan")}},
    {"rope_scaling": {"factor": 10**400, "rope_type": "linear"}},
    {"rope_scaling": {"rope_type": [1], "factor": 2.0}},
    {"quantization_config": {"kv_cache_scheme": [1], "quant_method": 7}},
    {"quantization_config": {"quantization": "x", "kv_cache_quant_algo": {"a": 1}}},
    {"quantization_config": 7, "architectures": ["GptOssForCausalLM"]},
    {"vision_config": {"num_hidden_layers": -1, "hidden_size": "wide"}},
    {"vision_config": {"num_hidden_layers": 10**30, "hidden_size": 10**30}},
    {"layer_types": ["sliding_attention"]},
    {"loop_num": 10**18},
    {"num_nextn_predict_layers": "many"},
    {"sparse_attention_config": {"sparse_attention_freq": "x"}},
    {"index_kpool": "x"},
    {"model_max_length": 10**30},
    {"max_sequence_length": 0},
    {"compress_ratios": "x"},
    {"mamba_ssm_dtype": ["x"]},
    {"zaya_layers": [None, 1]},
    {"sliding_window": "x"},
]


@each("change", HOSTILE, ids=str)
@each("base", ["llama", "gpt_oss", "qwen3_next", "gemma3", "zaya", "deepseek_v3"])
def test_odd_keys_of_a_config_cost_a_sentence_at_most(base: str, change: dict[str, Any]) -> None:
    config: dict[str, Any] = {
        "model_type": base, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512,
        "head_dim": 64, "sliding_window": 128, "torch_dtype": "bfloat16", **change,
    }  # fmt: skip
    try:
        model = architectures.read(config, source="odd")
    except KvplanError:
        return
    said = []
    for options in ({}, {"speculative_algorithm": "EAGLE"}, {"pp_size": 2}):
        try:
            prepared = on(model, **options)
            prepared.totals(At(1000, 1))
            prepared.notes(Workload(seq_len=1))
            prepared.pool(8 * GIB)
        except KvplanError as problem:
            said.append(problem.render())
    assert all(len(text) < 2000 for text in said)


def test_zaya_in_transformers_own_form_is_said_to_be_read_as_the_older_one() -> None:
    found = kvplan.estimate("zaya1-8b", engine="sglang", seq_len=4096)
    assert isinstance(found, kvplan.Allocation)
    assert any("takes every second of the 40 layers" in note for note in found.notes)


def test_a_dtype_that_no_cache_is_kept_in_is_refused() -> None:
    """Found by `tools/attack --only description --seed 42 --input 554`."""
    layer = Layer(index=0, memories=(Softmax(kv_heads=1, key_dim=8, value_dim=8),))
    answer = plan(Model(name="m", model_type="spec", layers=(layer,), dtype="float64"), Workload(seq_len=8), "sglang")
    assert isinstance(answer, NotPredicted)
    assert "float64" in answer.reason
