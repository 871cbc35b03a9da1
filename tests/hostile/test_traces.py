"""Traces that want something: what is counted is bounded, and what is beyond the bound is a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from doors import here, refused

import kvplan
from kvplan.domain.traffic import Meter
from kvplan.limits import TRACE_LEAP

#: A token takes a few bytes: a card holds thousands of millions.
THIN = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "hidden_size": 64, "head_dim": 1, "intermediate_size": 64, "vocab_size": 100,
    "max_position_embeddings": 2**32,
}  # fmt: skip
RATES = {"prefill_rate": 1e4, "decode_rate": 1e3}


def test_a_cache_of_too_many_blocks_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace.csv").write_text("arrival_s,input_tokens,output_tokens\n0.1,20,20\n")
    (tmp_path / "config.json").write_text(json.dumps(THIN))
    command = ("replay", str(tmp_path / "trace.csv"), "-m", str(tmp_path / "config.json"), "--gpu", "h100", "-e", "sglang")
    rates = ("--weights", "1GiB", "--prefill-rate", "10000", "--decode-rate", "1000")
    refused(here(capsys, *command, *rates), words="blocks is not replayed")


def test_long_outputs_are_counted_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand million steps in which nothing changes are one leap, and would be as many numbers."""
    trace = tmp_path / "trace.csv"
    tokens = 2 * TRACE_LEAP + 1
    trace.write_text(f"arrival_s,input_tokens,output_tokens\n0.1,20,{tokens}\n0.2,20,5\n")
    add, most = Meter.add, []

    def counted(self: Meter, time: Any, used: Any, duration: Any) -> None:
        most.append(len(time))
        add(self, time, used, duration)

    monkeypatch.setattr(Meter, "add", counted)
    for engine, options in (("vllm", {}), ("sglang", {"page_size": 64})):
        found = kvplan.replay(
            trace,
            {**THIN, "head_dim": 4096, "max_position_embeddings": 2**22},
            "h100",
            engine=engine,
            weights="1GiB",
            search=False,
            **RATES,
            **options,
        )
        assert found.outcome.steps >= tokens
        assert max(most) < 2 * TRACE_LEAP
