"""ExLlamaV3 as an engine: pages and slots against arithmetic by hand, its refusals, what to type, and laws over random models."""

from typing import Any

import numpy as np
import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st
from strategies import models, tokens

import kvplan
from kvplan.domain.model import Full, Layer, Model, Recurrent, Shared, Softmax, State, Window
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.exllamav3.engine import ExLlamaV3On
from kvplan.engines.kernel.engine import Serving, footprint
from kvplan.engines.kernel.tensors import At
from kvplan.errors import OptionError, Refused

FULL = Softmax(kv_heads=2, key_dim=64, value_dim=64)
SLIDING = Softmax(kv_heads=2, key_dim=64, value_dim=64, reach=Window(512))
CONV = Recurrent(kind="short_conv", states=(State(name="conv", shape=(32,), kernel=3),))


def model_of(*kept: Any, **more: Any) -> Model:
    layers = tuple(Layer(index=i, memories=m if isinstance(m, tuple) else (m,)) for i, m in enumerate(kept))
    return Model(name="m", model_type="spec", layers=layers, **more)


def on(model: Model, **options: Any) -> ExLlamaV3On:
    prepared = make_engine("exllamav3", options).on(model)
    assert isinstance(prepared, ExLlamaV3On)
    return prepared


def allocated(model: Model, seq_len: int, batch_size: int = 1, **options: Any) -> int:
    return on(model, **options).totals(At(seq_len, batch_size)).allocated


def test_a_page_of_256_tokens_is_the_least() -> None:
    row = 2 * 2 * 64 * 2  # keys and values of two heads, fp16
    for seq_len, pages in ((1, 1), (256, 1), (257, 2), (10_000, 40)):
        assert allocated(model_of(FULL), seq_len) == pages * 256 * row
        assert allocated(model_of(FULL), seq_len, 3) == 3 * pages * 256 * row


@each(("mode", "bits"), [("Q8", 17), ("Q6", 13), ("Q4", 9), ("8,8", 17), ("8,4", 13), ("2, 3", 6), ("q8_0", 17), ("q5_0", 11)])
def test_packed_values_take_their_bits_and_half_a_bit_for_scales(mode: str, bits: int) -> None:
    """Keys and values together: twice the mean of their bits, and 16 bits for each 32 values."""
    assert allocated(model_of(FULL), 256, cache_mode=mode) * 8 == 256 * 2 * 64 * bits


@each("mode", ["FP16", "fp16", "bf16", "bfloat16", "auto", "half"])
def test_sixteen_bits_are_fp16_whatever_they_are_called(mode: str) -> None:
    prepared = on(model_of(FULL, dtype="bfloat16"), cache_mode=mode)
    assert prepared.kv_dtype == "float16"
    assert {piece.dtype for piece in prepared.tensors(At(1, 1))} == {"float16"}


def test_what_does_not_fill_a_group_of_32_is_dropped() -> None:
    odd = Softmax(kv_heads=1, key_dim=40, value_dim=40)
    assert allocated(model_of(odd), 256, cache_mode="Q4") == 256 * 2 * (4 * 4 + 2)


def test_narrower_values_are_stored_as_wide_as_keys() -> None:
    wide = Softmax(kv_heads=1, key_dim=192, value_dim=128)
    totals = on(model_of(wide)).totals(At(256, 1))
    assert totals.allocated == 256 * 2 * 192 * 2
    assert totals.payload == 256 * (192 + 128) * 2


def test_windows_only_mask_where_an_architecture_has_no_rings() -> None:
    prepared = on(model_of(SLIDING, FULL))
    assert prepared.totals(At(4096, 1)).allocated == 2 * allocated(model_of(FULL), 4096)
    assert prepared.totals(At(4096, 1)).payload == (4096 + 512) * 2 * 2 * 64 * 2
    assert any("windows only mask" in note for note in prepared.notes(Workload(seq_len=4096)))


def test_rings_do_not_grow_and_are_never_packed() -> None:
    gemma = kvplan.load("gemma-4-31b")
    short, long = (kvplan.estimate(gemma, engine="exllamav3", seq_len=n, kv_dtype="q4_0") for n in (256, 65536))
    assert isinstance(short, kvplan.Allocation)
    assert isinstance(long, kvplan.Allocation)
    assert short.state_bytes == long.state_bytes
    assert {b.dtype for b in long.buffers if b.per == "sequence"} == {"float16"}
    full = kvplan.estimate(gemma, engine="exllamav3", seq_len=65536, kv_dtype="q4_0", swa_full=True)
    assert isinstance(full, kvplan.Allocation)
    assert full.state_bytes == 0
    assert full.total_bytes > long.total_bytes


def test_states_are_for_each_job_and_drafts_lengthen_them() -> None:
    hybrid = model_of(FULL, CONV)
    page = allocated(model_of(FULL), 1)
    assert allocated(hybrid, 1, 3) == 3 * (page + 32 * 3 * 2)
    assert allocated(hybrid, 1, 3, max_batch_size=8) == 3 * page + 8 * 32 * 3 * 2
    assert allocated(hybrid, 1, draft_mode="ngram") == page + 32 * (3 + 4) * 2
    assert allocated(hybrid, 1, draft_mode="ngram", draft_num_tokens=9) == page + 32 * (3 + 9) * 2
    assert allocated(hybrid, 1, draft_mode="disabled", draft_num_tokens=9) == page + 32 * 3 * 2


def test_a_drafter_has_a_cache_of_the_same_tokens() -> None:
    draft = model_of(FULL)
    prepared = on(model_of(FULL, FULL), draft=draft, draft_cache_mode="Q4")
    pieces = [piece for piece in prepared.tensors(At(1000, 2)) if not piece.layers]
    assert {piece.kind for piece in pieces} == {"drafter"}
    assert sum(piece.padded for piece in pieces) == allocated(draft, 1000, 2, cache_mode="Q4")
    assert prepared.facts(Workload(seq_len=1000, batch_size=2)).draft_bytes == allocated(draft, 1000, 2, cache_mode="Q4")


def test_prediction_layers_are_a_drafter_only_when_asked() -> None:
    model = kvplan.load("qwen3.6-27b")
    plain, drafting = (
        kvplan.estimate(model, engine="exllamav3", seq_len=1024, **o) for o in ({}, {"draft_mode": "mtp"})
    )  # fmt: skip
    assert isinstance(plain, kvplan.Allocation)
    assert isinstance(drafting, kvplan.Allocation)
    assert drafting.facts.draft_bytes == 1024 * 2 * 4 * 256 * 2
    assert drafting.facts.max_history == 4
    assert drafting.total_bytes > plain.total_bytes + drafting.facts.draft_bytes  # the main cache's states too


def test_a_given_cache_is_allocated_whole_and_holds_no_more() -> None:
    prepared = on(model_of(FULL), cache_size=4096, max_batch_size=2)
    assert prepared.totals(At(1, 1)).allocated == prepared.totals(At(2048, 2)).allocated == 4096 * 512
    prepared.check(At(2048, 2))
    with pytest.raises(Refused, match=r"only 16 available") as caught:
        prepared.check(At(2049, 2))
    assert caught.value.see == "a cache_size of 4608 holds them"
    with pytest.raises(Refused, match="more than max_batch_size, which is 2"):
        prepared.check(At(1, 3))


@each(
    ("options", "words"),
    [
        ({"cache_size": 5000}, "use 4864 or 5120"),
        ({"cache_size": 0}, "at least 1"),
        ({"cache_size": -256}, "at least 1"),
        ({"cache_size": 2**60}, "at least 1"),
        ({"cache_mode": "Q5"}, "cache_mode must be"),
        ({"cache_mode": "1,4"}, "cache_mode must be"),
        ({"cache_mode": "9,9"}, "cache_mode must be"),
        ({"cache_mode": "8,8,8"}, "cache_mode must be"),
        ({"cache_mode": "fp8"}, "cache_mode must be"),
        ({"cache_mode": "Q" * 10_000}, "cache_mode must be"),
        ({"kv_dtype": "int8"}, "cache_mode must be"),
        ({"draft_cache_mode": "6,5"}, "draft_cache_mode must be"),
        ({"draft_mode": "eagle"}, "one of model, disabled, mtp, ngram"),
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"max_seq_len": -2}, "max_seq_len"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"tensor_parallel": 0}, "tensor_parallel"),
        ({"tensor_parallel": 2**40}, "more than 64"),
        ({"gpu_split": "20,x"}, "gpu_split must be"),
        ({"gpu_split": "-1"}, "gpu_split must be"),
        ({"gpu_split": ",".join(["1"] * 65)}, "more than 64"),
        ({"recurrent_dtype": "bf16"}, "recurrent_dtype"),
        ({"sysmem_kv_cache": -1}, "sysmem_kv_cache"),
        ({"kv_dtype": "q8_0", "cache_mode": "Q8"}, "given twice"),
        ({"cachesize": 256}, "did you mean `cache_size`"),
        ({"draft": "llama"}, "draft"),
    ],
    ids=str,
)
def test_hostile_options_are_refused_in_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        make_engine("exllamav3", options)
    said = f"{caught.value} {caught.value.hint}"
    assert words in said
    assert "\n" not in said
    assert len(said) < 400


@each(
    ("model", "options", "words"),
    [
        ("deepseek-v2", {}, "Unknown architecture DeepseekV2ForCausalLM in config.json"),
        ("llama-3.1-8b", {"draft_mode": "mtp"}, "does not define a 'mtp' component model"),
        ("qwen3-next-80b-a3b", {"tensor_parallel": 2}, "Tensor-parallel is not currently implemented for Qwen3NextForCausalLM"),
        ("llama-3.1-8b", {"tensor_parallel": 2, "layer_map": "0,1"}, "not currently implemented for relayered models"),
        ("llama-3.1-8b", {"layer_map": "0..32"}, "the model has layers 0 to 31"),
        ("llama-3.1-8b", {"layer_map": "a"}, "Invalid integer list item: 'a'"),
        ("llama-3.1-8b", {"layer_map": "0..31," * 10_000}, "layer_map names more than"),
        ("llama-3.1-8b", {"sysmem_kv_cache": 60}, "smaller than two pages"),
        ("whisper-large-v3", {}, "whisper"),
        ("llama-3.1-8b", {"compute_capability": 75}, "All GPUs must be ampere"),
    ],
)
def test_refusals_are_the_engines_own(model: str, options: dict[str, Any], words: str) -> None:
    answer = kvplan.try_estimate(model, engine="exllamav3", seq_len=256, **options)
    assert isinstance(answer, kvplan.NotPredicted)
    assert words in answer.reason
    assert answer.reason.startswith("ExLlamaV3 1.6.5 does not load ")


def test_experts_chosen_by_groups_are_refused() -> None:
    answer = kvplan.try_estimate("deepseek-v3", engine="exllamav3", seq_len=256)
    assert isinstance(answer, kvplan.NotPredicted)
    assert "Group-limited expert routing (n_group = 8, topk_group = 4) is not supported" in answer.reason


def test_a_layer_map_has_a_cache_for_each_occurrence() -> None:
    once = kvplan.estimate("llama-3.1-8b", engine="exllamav3", seq_len=256)
    mapped = kvplan.estimate("llama-3.1-8b", engine="exllamav3", seq_len=256, layer_map="0..31,16..31")
    assert isinstance(once, kvplan.Allocation)
    assert isinstance(mapped, kvplan.Allocation)
    assert mapped.total_bytes * 32 == once.total_bytes * 48
    assert mapped.layers[16].bytes == 2 * mapped.layers[0].bytes


def test_what_to_type_is_what_was_predicted() -> None:
    prepared = on(model_of(FULL), cache_mode="8,4", chunk_size=512, tensor_parallel=2, gpu_split="20,24", sysmem_kv_cache=4096)
    assert prepared.typed(Workload(seq_len=5000, batch_size=3)) == (
        "python main.py --model-name m --max-seq-len 5000 --cache-size 15360 --max-batch-size 3 --cache-mode 8,4 "
        "--chunk-size 512 --tensor-parallel true --gpu-split 20 24 --sysmem-kv-cache 4096"
    )
    serving = Serving(model="turboderp/Llama 3", context=300, batch_size=1)
    assert on(model_of(FULL)).command(serving) == (
        "python main.py --model-name 'Llama 3' --max-seq-len 300 --cache-size 512 --max-batch-size 1"
    )
    assert (
        on(model_of(FULL))
        .command(Serving(model="/m/x y", context=1, batch_size=1))
        .startswith("python main.py --model-dir /m --model-name 'x y' ")
    )
    drafting = on(model_of(FULL), draft=model_of(FULL), draft_cache_mode="Q4", draft_num_tokens=5)
    assert "--draft-model-name m --draft-cache-mode Q4 --draft-num-tokens 5" in drafting.typed(Workload(seq_len=1))


def test_every_flag_that_is_typed_is_one_of_tabbyapis() -> None:
    """Names of TabbyAPI e632af4, common/config_models.py."""
    known = {
        "--model-dir", "--model-name", "--max-seq-len", "--cache-size", "--max-batch-size", "--cache-mode", "--chunk-size",
        "--tensor-parallel", "--gpu-split", "--draft-model-name", "--draft-mode", "--draft-cache-mode", "--draft-num-tokens",
        "--sysmem-kv-cache", "--sysmem-recurrent-cache",
    }  # fmt: skip
    options = {"cache_mode": "Q4", "chunk_size": 1024, "tensor_parallel": 2, "gpu_split": "1,1", "draft_mode": "ngram"}
    prepared = on(model_of(FULL), **options, draft_num_tokens=3, sysmem_kv_cache=4096, sysmem_recurrent_cache=0)
    typed = prepared.command(Serving(model="./x", context=1, batch_size=1))
    assert {word for word in typed.split() if word.startswith("--")} <= known


@given(st.integers(0, 2**36), st.sampled_from(["FP16", "Q4", "8,2"]), st.booleans())
def test_the_largest_cache_fits_and_one_page_more_does_not(budget: int, mode: str, hybrid: bool) -> None:
    prepared = on(model_of(FULL, CONV) if hybrid else model_of(FULL), cache_mode=mode)
    pool = prepared.largest_pool(budget)
    if pool.refused:
        assert pool.usable_bytes == 0
        assert budget < pool.block_bytes + 4 * 32 * 3 * 2
        return
    assert pool.allocated_bytes <= budget < pool.allocated_bytes + pool.block_bytes
    again = on(prepared.model, cache_mode=mode, cache_size=pool.num_tokens, max_batch_size=4 if hybrid else 128)
    assert again.totals(At(1, 1)).allocated == pool.allocated_bytes
    assert again.largest_pool(budget).num_tokens == pool.num_tokens


def test_a_given_cache_that_does_not_fit_is_refused() -> None:
    pool = on(model_of(FULL), cache_size=1 << 20).largest_pool(1 << 20)
    assert pool.refused == "Insufficient VRAM in split for model and cache"


@each("cards", [2, 3, 4, 8, 16])
def test_the_fullest_card_has_at_least_its_share(cards: int) -> None:
    model = kvplan.load("llama-3.1-8b")
    one, split = (allocated(model, 8192, **o) for o in ({}, {"tensor_parallel": cards}))
    assert split * cards >= one
    assert split == one // cards if cards != 3 else one // 3 < split < one // 2  # eight heads: 3, 3 and 2 in turn


def test_latents_stay_whole_on_some_card_and_compressed_entries_are_on_every_card() -> None:
    latent = kvplan.load("kimi-k2")
    assert allocated(latent, 8192, tensor_parallel=2) * 61 == allocated(latent, 8192) * 31  # 61 layers, in turn
    compressed = kvplan.load("deepseek-v4-flash")
    assert allocated(compressed, 8192, tensor_parallel=2) == allocated(compressed, 8192)


def test_gpu_split_says_how_free_the_cards_are() -> None:
    model = kvplan.load("llama-3.1-8b")
    assert allocated(model, 256, tensor_parallel=2, gpu_split="24,8") * 4 == allocated(model, 256) * 3
    assert allocated(model, 256, tensor_parallel=2, gpu_split="24") == allocated(model, 256)
    summed = kvplan.estimate(model, engine="exllamav3", seq_len=256, gpu_split="24,8")
    assert isinstance(summed, kvplan.Allocation)
    assert any("sum of all cards" in note for note in summed.notes)


def test_a_sharing_map_by_hand_is_taken_at_its_word() -> None:
    prepared = on(model_of(FULL, Shared(source=0)))
    assert prepared.totals(At(256, 1)).allocated == allocated(model_of(FULL), 256)
    assert any("shares caches" in note for note in prepared.notes(Workload(seq_len=1)))


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "cache_mode": st.sampled_from(["FP16", "Q4", "Q8", "7,3"]),
        "max_batch_size": st.integers(1, 300),
        "cache_size": st.integers(1, 64).map(lambda n: n * 256),
        "draft_mode": st.sampled_from(["ngram", "disabled"]),
        "recurrent_dtype": st.sampled_from(["half", "float"]),
        "tensor_parallel": st.integers(1, 5),
    },
)


@given(models, OPTIONS, tokens, st.integers(1, 64))
def test_laws_over_random_models(model: Model, options: dict[str, Any], seq_len: int, batch_size: int) -> None:
    try:
        prepared = on(model, **options)
        answer = footprint(prepared, Workload(seq_len=seq_len, batch_size=batch_size))
    except Refused:
        return
    totals = prepared.totals(At(seq_len, batch_size))
    facts = prepared.facts(Workload(seq_len=seq_len, batch_size=batch_size))
    assert 0 <= totals.payload <= totals.allocated == answer.allocated_bytes
    assert facts.kv_bytes + facts.state_bytes + facts.draft_bytes == totals.allocated
    assert facts.kv_bytes == facts.num_pages * facts.page_bytes
    assert sum(buffer.padded_bytes for buffer in answer.buffers) == sum(layer.bytes for layer in answer.layers)
    for buffer in answer.buffers:  # the shape says the bytes
        assert buffer.padded_bytes % buffer.count == 0
    arrays = prepared.totals(At(np.array([1, seq_len]), np.array([1, batch_size])))
    assert (int(arrays.allocated[1]), int(arrays.payload[1])) == (totals.allocated, totals.payload)
    assert int(np.broadcast_to(arrays.state, (2,))[1]) == totals.state
    if prepared.linear_in_batch:
        assert prepared.totals(At(seq_len, 2 * batch_size)).allocated == 2 * totals.allocated
    assert prepared.totals(At(seq_len + 256, batch_size)).allocated >= totals.allocated
    answer.to_dict(per_layer=True)


@given(models)
def test_a_model_either_is_held_or_is_refused_with_a_reason(model: Model) -> None:
    reason = ""
    try:
        on(model).largest_pool(2**34)
    except Refused as problem:
        reason = problem.reason or "\n"
    assert "\n" not in reason


def test_reaches_that_are_full_are_paid_in_full() -> None:
    assert on(model_of(FULL)).main[0].reach == Full()


@pytest.mark.parametrize("model", ["qwen3-14b", "qwen3.6-27b", "gpt-oss-20b"])
def test_fit_types_a_cache_that_fits_and_no_more_requests_do(model: str) -> None:
    found = kvplan.fit(model, "rtx-4090", engine="exllamav3", context="16k", weights="12GB", kv_dtype="q8_0")
    assert found.fits
    assert f"--max-seq-len 16384 --cache-size {16384 * found.batch_size} --max-batch-size {found.batch_size}" in found.flags
    assert "--cache-mode Q8" in found.flags
    read = kvplan.load(model)
    assert allocated(read, 16384, found.batch_size, cache_mode="Q8") <= found.budget.cache_bytes
    assert allocated(read, 16384, found.batch_size + 1, cache_mode="Q8") > found.budget.cache_bytes
