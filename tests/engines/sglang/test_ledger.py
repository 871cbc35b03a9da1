"""SGLang's memory before its pools, what it prints of it, and the least that it must be told."""

from typing import Any

import pytest
from each import each
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import kvplan
from kvplan.architectures.describe import describe
from kvplan.domain.gpus import gpu
from kvplan.domain.ledger import Ledger
from kvplan.domain.machine import Learned, Machine
from kvplan.engines import make_engine
from kvplan.engines.kernel.tensors import At
from kvplan.engines.sglang.arguments import allowance, settle
from kvplan.engines.sglang.audit.log import judge_log
from kvplan.engines.sglang.engine import SglangOn
from kvplan.engines.sglang.ledger.build import weight_line
from kvplan.engines.sglang.pool import rest_bytes, share_out
from kvplan.errors import Refused

GIB = 2**30
H100 = gpu("h100-sxm-80gb")
#: `mem usage` of `Load weight end` in published logs: model, flags, GiB.
PUBLISHED = [
    ("llama-3.1-8b", {}, 15.11),
    ("llama-3-8b", {"tp_size": 2}, 7.5),
    ("qwen3-14b", {"tp_size": 4}, 7.08),
    ("qwen3-32b", {}, 61.07),
    ("lfm2-700m", {}, 1.52),
    ("qwen3.5-4b", {}, 8.62),
    ("qwen3.5-9b", {}, 17.17),
    ("gemma-4-e4b", {}, 15.56),
    ("kimi-k2.5", {"tp_size": 8}, 73.58),
]
SIZED = ["llama-3.1-8b", "gpt-oss-20b", "qwen3-next-80b-a3b", "deepseek-v3", "deepseek-v4-flash", "gemma-3-27b", "mamba2-2.7b"]


def on(name: str, **options: Any) -> SglangOn:
    prepared = make_engine("sglang", options).on(kvplan.load(name))
    assert isinstance(prepared, SglangOn)
    return prepared


def ledger(name: str, machine: Machine | None = None, **options: Any) -> Ledger:
    prepared, tensors = on(name, **options), describe(kvplan.load(name))
    assert tensors is not None
    found = prepared.ledger(machine or Machine(gpu=H100), tensors)
    assert found is not None
    return found


@each(("name", "options", "printed"), PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
def test_published_starts_load_what_the_band_says(name: str, options: dict[str, Any], printed: float) -> None:
    tensors = describe(kvplan.load(name))
    assert tensors is not None
    prepared = on(name, **options)
    line = weight_line(prepared.args, tensors)
    assert line.low <= printed * GIB <= line.high
    if not prepared.args.reading.multimodal and tensors.config.get("quantization_config") is None:
        assert abs(line.bytes - printed * GIB) < 0.1 * GIB


@pytest.mark.parametrize("fraction", [None, 0.5, 0.9])
def test_what_is_available_is_the_servers_own_sum(fraction: float | None) -> None:
    context = GIB // 2
    machine = Machine(gpu=H100, given=80 * GIB, learned=Learned(context=context))
    options = {} if fraction is None else {"mem_fraction_static": fraction}
    found = ledger("llama-3.1-8b", machine, **options)
    weights = found.line("weights")
    assert weights is not None
    before, args = 80 * GIB - context, on("llama-3.1-8b", **options).args
    own = rest_bytes(args, before / GIB, (before - weights.bytes) / GIB)
    assert abs(found.available.bytes - own) <= 4


def test_pictures_are_a_line_of_their_own() -> None:
    found = ledger("qwen2.5-vl-7b")
    assert [line.name for line in found.lines] == ["gone before loading", "weights", "pictures"]
    assert found.lines[-1].bytes == int(on("qwen2.5-vl-7b").args.reserved_gib * GIB) > 0


def test_a_drafter_is_loaded_before_the_pools_are_sized() -> None:
    plain = ledger("deepseek-v3", tp_size=8)
    drafted = ledger("deepseek-v3", tp_size=8, speculative_algorithm="NEXTN")
    assert plain.line("drafter") is None
    drafter = drafted.line("drafter")
    assert drafter is not None
    assert 1 < drafter.bytes / GIB < 3


@pytest.mark.parametrize(
    ("options", "less"), [({"tp_size": 2}, 0.51), ({"pp_size": 2}, 0.56), ({"tp_size": 4, "ep_size": 4}, 0.27)]
)
def test_devices_share_the_weights(options: dict[str, int], less: float) -> None:
    tensors = describe(kvplan.load("qwen3-30b-a3b"))
    assert tensors is not None
    whole, part = (weight_line(on("qwen3-30b-a3b", **given).args, tensors) for given in ({}, options))
    assert 0.9 * less / 1.12 < part.bytes / whole.bytes < less


def test_attention_groups_hold_attention_whole() -> None:
    tensors = describe(kvplan.load("llama-3.1-8b"))
    assert tensors is not None
    divided = weight_line(on("llama-3.1-8b", tp_size=2).args, tensors)
    groups = weight_line(on("llama-3.1-8b", tp_size=2, dp_size=2, enable_dp_attention=True).args, tensors)
    assert divided.bytes < groups.bytes


def test_other_tenants_leave_less_before_loading() -> None:
    alone, beside = (ledger("llama-3.1-8b", Machine(gpu=H100, given=80 * GIB, free=free)) for free in ((), (60 * GIB,)))
    assert alone.available.bytes - beside.available.bytes == pytest.approx(20 * GIB * 0.83, abs=GIB // 100)


def test_cards_that_are_not_equally_free_are_refused() -> None:
    prepared, machine = on("llama-3.1-8b", tp_size=2), Machine(gpu=H100, free=(70 * GIB, 50 * GIB))
    found = ledger("llama-3.1-8b", machine, tp_size=2)
    said = "The memory capacity is unbalanced. Some GPUs may be occupied by other processes."
    assert prepared.too_little_free(found, machine).startswith(said)
    tensors = describe(kvplan.load("llama-3.1-8b"))
    assert tensors is not None
    assert prepared.startup(found, machine, tensors, prepared.pool(GIB))[0].startswith(f"RuntimeError: {said}")
    assert prepared.too_little_free(found, Machine(gpu=H100, free=(70 * GIB, 64 * GIB))) == ""
    assert on("llama-3.1-8b").too_little_free(found, machine) == ""


def test_a_fraction_above_the_rules_own_is_noted() -> None:
    assert not ledger("llama-3.1-8b").notes
    assert not ledger("llama-3.1-8b", mem_fraction_static=0.8).notes
    (note,) = ledger("llama-3.1-8b", mem_fraction_static=0.95).notes
    assert "may run out of memory later" in note


def test_the_start_up_is_told_in_the_servers_words() -> None:
    prepared, machine = on("gpt-oss-20b"), Machine(gpu=H100, given=80 * GIB, learned=Learned(context=GIB // 2))
    tensors = describe(kvplan.load("gpt-oss-20b"))
    assert tensors is not None
    found = ledger("gpt-oss-20b", machine)
    lines = prepared.startup(found, machine, tensors, prepared.pool(found.available.bytes))
    assert lines[0] == "Load weight begin. avail mem=79.50 GB"
    assert lines[1].startswith("Load weight end. type=GptOssForCausalLM, quant=mxfp4, avail mem=")
    assert lines[-1].startswith("Memory pool end. avail mem=")
    refused = prepared.startup(found, machine, tensors, prepared.pool(0))
    assert refused[-1].startswith("ValueError: ")
    assert not any("Memory pool" in line for line in refused)


def test_request_tables_are_beside_what_is_charged() -> None:
    found = ledger("llama-3.1-8b", Machine(gpu=H100, given=80 * GIB, learned=Learned(context=0)))
    pools = share_out(on("llama-3.1-8b").args, found.available.bytes)
    tables = found.line("request tables")
    assert tables is not None
    assert tables in found.beside
    assert tables.bytes == pools[0].req_to_token_bytes


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(SIZED),
    tokens=st.integers(1, 40_000),
    requests=st.integers(1, 60),
    options=st.fixed_dictionaries(
        {},
        optional={
            "tp_size": st.sampled_from([1, 2]),
            "pp_size": st.sampled_from([1, 2]),
            "disable_radix_cache": st.booleans(),
            "page_size": st.sampled_from([1, 64]),
        },
    ),
)
def test_the_least_budget_holds_the_workload_and_a_byte_less_does_not(
    name: str, tokens: int, requests: int, options: dict[str, Any]
) -> None:
    try:
        plain = on(name, **options)
    except Refused:
        assume(False)
    at = At(tokens, requests)
    least = plain.needed(at)
    assume(least < 2**45)
    told = on(name, **options, max_running_requests=requests)
    assert told.needed(at) == least
    assert told.holds(told.pool(least), at)
    assert not told.holds(told.pool(least - 1), at)


@each("name", SIZED)
def test_the_least_fraction_holds_the_workload(name: str) -> None:
    prepared, at = on(name), At(8192, 8)
    free, loaded = 60 * GIB, 15 * GIB
    shared = prepared.shared(at, free, loaded)
    assert shared is not None
    text, pool = shared
    told = on(name, max_running_requests=8)

    def held(fraction: float) -> bool:
        args = replace(told.args, mem_fraction_static=fraction)
        size = rest_bytes(args, (free + loaded) / GIB, free / GIB)
        return size > 0 and told.holds(told.pool(size), at)

    assert held(float(text))
    assert not held(round(float(text) - 0.0001, 4))
    assert pool.budget_bytes >= told.needed(at)


def test_no_fraction_holds_too_much() -> None:
    assert on("llama-3.1-8b").shared(At(131_072, 4000), 40 * GIB, 15 * GIB) is None


def test_what_is_set_aside_does_not_follow_the_fraction() -> None:
    model = kvplan.load("llama-3.1-8b")
    plain, told = (settle(model, on("llama-3.1-8b", **given).args.options) for given in ({}, {"mem_fraction_static": 0.5}))
    assert allowance(plain) == allowance(told) == int((1 - plain.mem_fraction_static) * 81559 * 2**20)
    assert on("llama-3.1-8b").aside_bytes(At(8192, 8)) <= allowance(plain)


LOG = [
    "[2026-01-31 13:50:20] server_args=ServerArgs(model_path='m', tp_size=1, mem_fraction_static=0.83, page_size=None)",
    "[2026-01-31 13:50:30] Load weight begin. avail mem=78.65 GB",
    "[2026-01-31 13:50:38] Load weight end. elapsed=3.5 s, type=LlamaForCausalLM, avail mem=63.60 GB, mem usage=15.05 GB.",
    "[2026-01-31 13:50:39] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 411488, K size: 25.12 GB, V size: 25.12 GB",
]


def test_a_logs_memory_stands_beside_the_ledgers_and_decides_nothing() -> None:
    model = kvplan.load("llama-3.1-8b")
    (result,) = judge_log("log", LOG, model, tensors=describe(model))
    facts = {fact.name: fact for fact in result.facts}
    assert result.status == "exact"
    assert result.is_log
    weights = facts["weights_gib_printed"]
    assert weights.recorded == 15.05
    assert weights.low < 15.05 < weights.high
    assert not weights.counts
    tokens = facts["num_tokens_by_free_memory"]
    assert tokens.recorded == 411488
    assert tokens.low <= 411488 <= tokens.high
    assert not tokens.counts


def test_a_log_without_its_fraction_is_not_asked_for_tokens() -> None:
    model = kvplan.load("llama-3.1-8b")
    (result,) = judge_log("log", [LOG[0].replace("mem_fraction_static=0.83, ", ""), *LOG[1:]], model)
    assert not {fact.name for fact in result.facts} & {"weights_gib_printed", "num_tokens_by_free_memory"}


def test_figures_that_are_no_numbers_are_left_out() -> None:
    (result,) = judge_log("log", [LOG[0], *(line.replace("78.65", "7.8.6").replace("15.05", "..") for line in LOG[1:])], None)
    assert result.status == "not_predicted"
