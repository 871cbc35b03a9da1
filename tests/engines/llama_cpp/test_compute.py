"""Compute buffers: every recorded one inside its band, the bands of most narrow; closed forms; builds."""

from typing import Any

import pytest
from golden import GOLDEN, cases

import kvplan
from kvplan.engines.kernel.verdicts import Audit, Result
from kvplan.engines.llama_cpp.context import Refusal, make_context
from kvplan.engines.llama_cpp.memory import Params
from kvplan.engines.llama_cpp.placement.compute import Band, Rules, compute
from kvplan.engines.llama_cpp.placement.devices import CUDA, Device
from kvplan.engines.llama_cpp.placement.place import Asked, place
from kvplan.engines.llama_cpp.releases import build_of
from kvplan.gguf.hparams import read_hparams

#: Logs whose split or number of slots the record does not say.
UNSAID = {
    "llama-gpu-log/qwen3.5-35b-a3b-q8/cuda2-pp-32k",
    "llama-gpu-log/deepseek-r1/rocm8-pp-8k-nofa",
    "llama-gpu-log/qwen3.6-27b/cuda2-pp-512k",
    "llama-gpu-log/qwen3.8-27b/vulkan-8k-ub2048",
}


def banded(found: Audit) -> list[Any]:
    return [fact for result in found.results for fact in result.facts if fact.inside]


def test_logs_of_real_cards() -> None:
    found = kvplan.audit(GOLDEN / "llama_cpp_gpu_logs.jsonl")
    assert {result.id for result in found.results if result.status != "exact"} == UNSAID
    facts = banded(found)
    assert len(facts) == 69
    assert all(fact.agrees for fact in facts)


def judge_case(case: dict[str, Any]) -> Result:
    from kvplan.engines.kernel.cases import record_from
    from kvplan.questions.audit.judge import judge

    return judge(record_from(case, where="x"))


def test_a_buffer_outside_its_band_is_a_difference() -> None:
    case = next(case for case in cases("llama_cpp_gpu_logs") if case["id"].endswith("gpt-oss-20b/cuda-32k"))
    expected = {**case["expected"], "host_compute_mib_printed": 171.15}
    result = judge_case({**case, "expected": expected})
    assert [fact.name for fact in result.facts if not fact.agrees] == ["host_compute_mib_printed"]
    assert result.status == "differs"


def llama_8b(cards: int, **params: Any) -> tuple[Band, ...]:
    keys = next(case for case in cases("llama_cpp_devices") if "Meta-Llama-3.1-8B" in case["id"])["config"]
    h = read_hparams(keys)
    context = make_context(h, Params(n_ctx=8192, n_seq_max=1, **params))
    assert not isinstance(context, Refusal)
    devices = [Device(name=f"CUDA{i}", backend=CUDA, total_bytes=2**34, free_bytes=2**34) for i in range(cards)]
    placed = place(h, context, (), Asked(), devices)
    assert not isinstance(placed, Refusal)
    return compute(h, context, placed, Rules())


def test_the_closed_form_is_the_rules_example() -> None:
    """Llama-3.1-8B on one card at 8,192 cells: 258.50 MiB and 24.01 MiB."""
    card, host = llama_8b(1)
    assert card.exact
    assert host.exact
    assert [f"{band.best / 2**20:.2f}" for band in (card, host)] == ["258.50", "24.01"]


def test_without_flash_attention_it_is_a_band_that_grows_with_the_context() -> None:
    card, _ = llama_8b(1, flash_attn="off")
    assert card.low < card.high
    assert card.low > 4 * 512 * 32 * 8192 // 2


@pytest.mark.parametrize(
    ("version", "build"),
    [("llama.cpp b8179", 8179), ("llama.cpp (2026-03)", None), ("llama.cpp b4701 (LLamaSharp)", 4701), ("0.5.0", None)],
)
def test_the_build_of_a_version(version: str, build: int | None) -> None:
    assert build_of(version) == build


def test_no_buffer_with_the_output_is_smaller_than_the_logits() -> None:
    """They and what they are multiplied from are two nodes side by side; of a model that was fitted to nothing, too."""
    keys = {
        "general.architecture": "starcoder2", "starcoder2.block_count": 8, "starcoder2.embedding_length": 512,
        "starcoder2.feed_forward_length": 1024, "starcoder2.attention.head_count": 8, "starcoder2.vocab_size": 100_000,
        "starcoder2.context_length": 4096,
    }  # fmt: skip
    h = read_hparams(keys)
    context = make_context(h, Params(n_ctx=4096, n_seq_max=1))
    assert not isinstance(context, Refusal)
    placed = place(h, context, (), Asked(), ())
    assert not isinstance(placed, Refusal)
    (band,) = compute(h, context, placed, Rules())
    assert 4 * 512 * (100_000 + 512) <= band.low <= band.high <= 1.5 * band.low


def test_one_copy_of_weights_lies_beside_what_a_multiplication_reads_and_writes() -> None:
    """Blocks on the host: their matrices come to the card one at a time, so that a larger one costs its own bytes, not thrice."""
    case = next(case for case in cases("llama_cpp_devices") if case["id"].endswith("Meta-Llama-3.1-8B/Q8_0/2gpu-ngl20-ts3-1"))
    found = judge_case(case)
    (band,) = [fact for fact in found.facts if fact.name == "devices[0].compute_bytes"]
    weight, pair = 4096 * 14336 * 34 // 32, 4 * 512 * (2 * 14336 + 2 * 4096)
    assert 0.93 * (weight + pair) - 1 <= band.low <= band.recorded <= band.high <= 1.5 * band.low
