"""Buffers by device, the engine's own breakdown, forks, and bare excerpts."""

import pytest

from kvplan import load
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.llama_cpp.audit.log import judge_log

ONE_CARD = """\
build: 9700 (abcdef12) with cc
llama_model_load_from_file_impl: using device CUDA0 (NVIDIA GeForce RTX 3090) - 23736 MiB free
load_tensors: offloaded 33/33 layers to GPU
llama_context: n_seq_max     = 1
llama_context: n_ctx         = 8192
llama_kv_cache:      CUDA0 KV buffer size =  1024.00 MiB
llama_kv_cache: size = 1024.00 MiB (  8192 cells,  32 layers,  1/1 seqs), K (f16):  512.00 MiB, V (f16):  512.00 MiB
sched_reserve:      CUDA0 compute buffer size =   258.50 MiB
common_memory_breakdown_print: |   - CUDA0 (RTX 3090) | 24135 = 17841 + ( 5686 =  4403 +    1024 +     258) +         607 |
"""


def judged(text: str, model: str = "llama-3.1-8b") -> Result:
    (result,) = judge_log("x.log", text.splitlines(), load(model))
    return result


def test_one_card_and_its_breakdown() -> None:
    result = judged(ONE_CARD)
    assert result.status == "exact"
    facts = {fact.name: (fact.predicted, fact.recorded) for fact in result.facts}
    assert facts["CUDA0.KV_mib"] == (1024.0, 1024.0)
    assert facts["breakdown[CUDA0].context"] == (1024, 1024)
    (buffer,) = [fact for fact in result.facts if fact.name == "CUDA0.compute_mib"]
    assert buffer.low <= 258.5 <= buffer.high


@pytest.mark.parametrize(
    ("old", "new"), [("CUDA0 KV buffer size =  1024.00", "CUDA0 KV buffer size =  1023.00"), ("+    1024 +", "+    1025 +")]
)
def test_a_wrong_buffer_is_a_difference(old: str, new: str) -> None:
    assert judged(ONE_CARD.replace(old, new)).status == "differs"


def test_a_bare_line_says_its_sequences_and_types() -> None:
    line = (
        "llama_kv_cache: size = 2176.00 MiB ( 32768 cells,  32 layers,  4/1 seqs), K (q8_0): 1088.00 MiB, V (q8_0): 1088.00 MiB"
    )
    result = judged(line)
    assert result.status == "exact", [fact for fact in result.facts if not fact.agrees]


def test_rows_for_rolling_back_stand_in_the_line() -> None:
    line = (
        "llama_memory_recurrent: size =  448.88 MiB (     1 cells,  64 layers,  1 seqs  2 rs_seq), "
        "R (f32):   16.88 MiB, S (f32):  432.00 MiB, P (f32):    0.00 MiB"
    )
    cache = "llama_kv_cache: size =  512.00 MiB (  8192 cells,  16 layers,  1/1 seqs), K (f16):  256.00 MiB, V (f16):  256.00 MiB"
    result = judged(f"{cache}\n{line}", "qwen3.6-27b")
    assert result.status == "exact", [fact for fact in result.facts if not fact.agrees]


@pytest.mark.parametrize(
    ("line", "name"),
    [("llama_init: mla_attn = 0", "ik_llama.cpp"), ("Welcome to KoboldCpp", "koboldcpp"), ("[LM Studio] loading", "LM Studio")],
)
def test_a_fork_that_names_itself_is_said(line: str, name: str) -> None:
    assert name in judged(f"{line}\n{ONE_CARD}").reason


def test_types_of_a_fork_are_not_compared() -> None:
    result = judged(ONE_CARD.replace("(f16)", "(turbo3)"))
    assert result.status == "not_predicted"
    assert "turbo3" in result.reason
