"""Every line of a `generate()` process: a pass that grows with its requests, and bands where nobody followed the code."""

import json
from functools import cache
from typing import Any

import pytest
from golden import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.architectures.describe import describe
from kvplan.domain.gpus import gpu
from kvplan.domain.ledger import Ledger, Line
from kvplan.domain.machine import Learned, Machine
from kvplan.domain.model import Full, Layer, Model, Softmax
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.tensors import At
from kvplan.engines.transformers.engine import TransformersOn
from kvplan.engines.transformers.process import FRAGMENTS
from kvplan.loading import load

HF = GOLDEN.parent / "configs" / "hf"
PASS = "prompt's pass"
MODELS = ("llama-3.1-8b", "gemma-3-27b", "deepseek-v2-lite", "gpt-oss-20b", "falcon-h1-1.5b", "whisper-large-v3")


@cache
def prepared(model: str, engine: str = "transformers", told: tuple[tuple[str, Any], ...] = ()) -> TransformersOn:
    found = make_engine(engine, dict(told)).on(load(model))
    assert isinstance(found, TransformersOn)
    return found


def ledger(model: str, batch: int, tokens: int, card: str = "h100-sxm-80gb", **more: Any) -> Ledger:
    encoder, engine = more.pop("encoder", 0), more.pop("engine", "transformers")
    on = prepared(model, engine, tuple(more.items()))
    at = Workload(batch_size=batch, seq_len=tokens, encoder_len=encoder)
    return on.ledger_of(machine(card), describe(on.model), at)


@cache
def machine(card: str) -> Machine:
    return Machine(gpu=gpu(card))


def line(found: Ledger, name: str) -> Line:
    wanted = found.line(name)
    assert wanted is not None, [line.name for line in found.lines]
    return wanted


def test_blocks_that_no_tensor_uses_are_inside_their_band() -> None:
    """What the smallest card on which a pass ends has beside the tensors of its widest moment."""
    shares, wrong = [], []
    for row in (json.loads(text) for text in (GOLDEN / "transformers_fragments.jsonl").read_text().splitlines()):
        needed = row["smallest_bytes"] - row["peak_bytes"]
        found = line(ledger(str(HF / f"{row['config']}.json"), row["batch"], row["prefill"], dtype="bfloat16"), FRAGMENTS)
        shares.append(needed / row["peak_bytes"])
        if not found.low <= needed <= found.high or found.basis != "measured":
            wrong.append((row["config"], needed, found.low, found.high))
        best = found.bytes / row["peak_bytes"]
        assert abs(best - 0.18) < 0.02, row["config"]
    assert not wrong
    assert abs(sorted(shares)[len(shares) // 2] - 0.18) < 0.02


def needs(model: str, batch: int, tokens: int, encoder: int) -> list[int]:
    """What a process needs in all: at best, at least, at most."""
    found = ledger(model, batch, tokens, encoder=encoder)
    on = prepared(model)
    held = on.totals(At(tokens, batch, encoder)).allocated
    return [held + getattr(found.taken, side) for side in ("bytes", "low", "high")]


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(MODELS), st.integers(1, 64), st.integers(1, 9000))
def test_more_requests_and_longer_ones_need_no_less(model: str, batch: int, tokens: int) -> None:
    encoder = 256 if model == "whisper-large-v3" else 0
    here = needs(model, batch, tokens, encoder)
    assert here[1] <= here[0] <= here[2]
    for more in (needs(model, batch + 1, tokens, encoder), needs(model, batch, tokens + 1, encoder)):
        assert all(a <= b for a, b in zip(here, more, strict=True)), (here, more)


def test_whole_megabytes_leave_no_more_than_a_token_less() -> None:
    """Tensors of whole 2 MiB count no more than their bytes, those a token shorter up to 1 MiB more: not to a search."""
    fewer, whole = (needs("llama-3.1-8b", 1, tokens, 0) for tokens in (2559, 2560))
    assert all(a < b for a, b in zip(fewer, whole, strict=True))


def test_what_was_not_followed_is_a_band_that_says_so() -> None:
    cases = {
        "a card without fused attention": ledger("llama-3.1-8b", 2, 4096, "t4-16gb"),
        "Metal": ledger("llama-3.1-8b", 2, 4096, "m3-max-64gb"),
        "an encoder": ledger("whisper-large-v3", 2, 512, encoder=2048),
        "a static cache": ledger("llama-3.1-8b", 2, 4096, cache="static"),
        "a quantised cache": ledger("llama-3.1-8b", 2, 4096, cache="quantized"),
        "an older release": ledger("llama-3.1-8b", 2, 4096, engine="transformers@4.57.0"),
    }
    known = line(ledger("llama-3.1-8b", 2, 4096), PASS)
    assert known.basis == "rule"
    assert known.high - known.low < 0.02 * known.bytes
    for what, found in cases.items():
        band = line(found, PASS)
        assert band.basis == "assumed", what
        assert band.high >= 1.5 * band.bytes > 0, what
        assert known.source in band.source or "no row" in band.source, what
    eager = line(ledger("llama-3.1-8b", 2, 4096, "t4-16gb"), PASS)
    assert eager.high > 2 * 32 * 4096**2 * 2  # scores of every head


def test_a_model_that_was_described_by_its_heads_has_a_wide_band() -> None:
    layers = tuple(Layer(index=i, memories=(Softmax(kv_heads=8, key_dim=128, value_dim=128, reach=Full()),)) for i in range(4))
    by_hand = Model(name="by-hand", model_type="any", layers=layers, attention_heads=32, weights_bytes=2**30)
    fit = kvplan.fit(by_hand, "h100", engine="transformers", context="8k")
    assert fit.span is not None
    assert 0 < fit.span[0] < fit.batch_size < fit.span[1]
    names = {line.name: line for line in fit.budget.lines}
    assert names["weights"].bytes == -(2**30)
    assert (names[PASS].basis, names[PASS].low < names[PASS].high < 0) == ("assumed", True)


def test_what_a_machine_was_measured_to_hold_stands_in_its_own_lines() -> None:
    learned = Learned(total=80 * 2**30, context=600 * 2**20, source="torch", basis="measured")
    on = prepared("llama-3.1-8b")
    card = Machine(gpu=gpu("h100-sxm-80gb"), learned=learned, free=(70 * 2**30,))
    found = on.ledger_of(card, describe(on.model), Workload(batch_size=1, seq_len=1024))
    said = {line.name: (line.bytes, line.basis, line.exact) for line in found.lines}
    assert said["context"] == (600 * 2**20, "measured", True)
    assert said["other processes"] == (10 * 2**30, "measured", True)
    assert found.total.bytes == 80 * 2**30


@pytest.mark.parametrize("prompt", [1, 512, 8192])
def test_a_prompt_that_is_shorter_leaves_more(prompt: int) -> None:
    short, whole = ledger("llama-3.1-8b", 4, 8192, prompt_len=prompt), ledger("llama-3.1-8b", 4, 8192)
    assert (short.taken.bytes < whole.taken.bytes) == (prompt < 8192)
    assert short.taken.bytes <= whole.taken.bytes


def test_beams_go_through_as_sequences_of_their_own() -> None:
    beams = ledger("llama-3.1-8b", 2, 2048, num_beams=4)
    assert line(beams, PASS).bytes == line(ledger("llama-3.1-8b", 8, 2048), PASS).bytes
