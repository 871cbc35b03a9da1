"""Evidence: judged by the combination, from what the recorded cases hold, and never more than they say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from each import each
from golden import ROOT

import kvplan
from kvplan.domain.allocation import Allocation, Evidence
from kvplan.domain.model import Model
from kvplan.engines import ABOUTS, make_engine
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import footprint
from kvplan.engines.kernel.evidence import evidence, records
from kvplan.engines.kernel.releases import parse_version

LLAMA = kvplan.load("llama-3.1-8b")


def judged(model: str | Model, engine: str, maker: str | None = None, **options: Any) -> str:
    known = kvplan.load(model) if isinstance(model, str) else model
    return make_engine(engine, options).on(known).evidence(maker)


@each(
    ("model", "engine", "options", "word"),
    [
        ("llama-3.1-8b", "vllm", {}, "recorded"),
        ("llama-3.1-8b", "vllm", {"kv_dtype": "int4_per_token_head"}, "recorded"),
        # scales of each head: recorded of keys and values, and no latent has such
        ("deepseek-v3", "vllm", {"kv_dtype": "fp8"}, "recorded"),
        ("gemma-3-27b", "vllm", {"kv_dtype": "int8_per_token_head"}, "recorded"),
        # a window at a dtype that only full attention was recorded with
        ("gemma-3-27b", "vllm", {"kv_dtype": "fp8_per_token_head"}, "same rule"),
        ("gemma-3-27b", "vllm", {"kv_dtype": "fp8_e5m2"}, "same rule"),
        ("llama-3.1-8b", "vllm@0.11.0", {"kv_dtype": "fp8"}, "recorded"),
        ("llama-3.1-8b", "vllm@0.11.0", {"kv_dtype": "fp8_e5m2"}, "from source"),  # recorded at 0.32 alone, and rules changed
        ("llama-3.1-8b", "vllm@99", {}, "from source"),  # nobody read it
        ("llama-3.1-8b", "vllm@0.8", {}, "from source"),  # older than anything that was recorded
        ("llama-3.1-8b", "sglang@0.4.9", {}, "from source"),
        ("llama-3.1-8b", "ideal", {}, "theory"),
        ("mamba-2.8b", "ideal", {}, "theory"),
        ("llama-3.1-8b", "llama.cpp", {"cache_type_k": "q8_0"}, "recorded"),
        ("cla-paper/1b-h128-mqa-cla2", "vllm", {}, "hypothetical"),
        ("cla-paper/1b-h128-mqa-cla2", "ideal", {}, "theory"),
    ],
)
def test_the_combination_decides(model: str, engine: str, options: dict[str, Any], word: Evidence) -> None:
    assert judged(model, engine, **options) == word


@each(
    ("engine", "maker", "word"),
    [
        ("vllm", "nvidia", "recorded"),
        ("vllm", "amd", "from source"),
        ("vllm", "google", "from source"),
        ("sglang", "amd", "from source"),
        ("llama.cpp", "nvidia", "same rule"),  # its code was recorded on a CPU, and its rules ask no device
        ("llama.cpp", "apple", "same rule"),
        ("mlx-lm", "apple", "same rule"),
        ("mlx-lm", "nvidia", "from source"),
        ("ideal", "amd", "theory"),
    ],
)
def test_the_maker_of_the_device_counts_where_one_is_named(engine: str, maker: str, word: Evidence) -> None:
    assert judged(LLAMA, engine, maker) == word


def test_a_dtype_that_no_case_holds_is_never_recorded() -> None:
    """Over every recorded engine, kind and dtype of the catalogue's cases: the word is `recorded` only for what is listed."""
    for about in (about for about in ABOUTS.values() if about.recorded):
        found, latest = records(about), parse_version(about.latest)
        for dtype in ("bfloat16", "float16", "fp8_e4m3", "q8_0", "nvfp4", "a dtype that nobody has"):
            held = dtype in found.held["softmax"]
            word = evidence(about, latest, LLAMA, dtype)
            assert (word == "recorded") == held, (about.name, dtype)
            assert word != "same rule" or dtype in {d for dtypes in found.held.values() for d in dtypes}


def test_what_was_never_recorded_is_from_source() -> None:
    assert evidence(About(name="abacus", latest="1"), (1,), LLAMA, "bfloat16") == "from source"


def test_what_nobody_built_is_hypothetical_and_what_nobody_knows_inferred() -> None:
    by_hand = msgspec.structs.replace(LLAMA, origin=None)
    assert judged(by_hand, "transformers") == "hypothetical"
    assert judged(kvplan.variant(LLAMA, "gqa=2"), "vllm") == "hypothetical"
    guessed = msgspec.structs.replace(LLAMA, inferred=True)
    assert judged(guessed, "vllm") == "inferred"
    assert judged(guessed, "ideal") == "inferred"


def test_a_maker_that_was_not_studied_is_said_with_whose_rules() -> None:
    prepared = make_engine("vllm", {}).on(LLAMA)
    answer = footprint(prepared, kvplan.Workload(seq_len=1), "amd")
    assert isinstance(answer, Allocation)
    assert [note for note in answer.notes if "CUDA" in note] == [
        "predicted by CUDA's rules: vllm on AMD's devices was not studied"
    ]
    assert not any("CUDA's rules" in note for note in footprint(prepared, kvplan.Workload(seq_len=1), "nvidia").notes)


def asked(tmp_path: Path, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "kvplan", *words, "-f", "json"], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    data = json.loads(done.stdout)
    assert data["schema"] == 2
    return data


def test_designs_of_a_minute_ago_claim_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nlayers: 4\nattention: {kv_heads: 2, head_dim: 64}\n")
    rows = asked(tmp_path, "compare", "mine.yaml", "llama-3.1-8b", "-e", "ideal,vllm,transformers")["comparison"]
    assert [row["evidence"] for row in rows] == ["theory", "hypothetical", "hypothetical", "theory", "recorded", "recorded"]


def test_a_card_that_is_not_nvidias_gets_no_record_from_the_command_line(tmp_path: Path) -> None:
    (fit,) = asked(tmp_path, "fit", "llama-3.1-8b", "--gpu", "mi300x-192gb", "-e", "vllm", "--context", "8k")["fits"]
    assert fit["evidence"] == "from source"
    assert any("CUDA's rules" in note for note in fit["notes"])
