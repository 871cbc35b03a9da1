"""`kvplan replay`: the command, its answer, replicas that are merged, and how many GPUs are needed."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import here, refused
from golden import GUIDES

import kvplan
from kvplan.domain.traffic import INTERVALS, Meter, merged
from kvplan.errors import OptionError, Refused

TRACE = GUIDES / "monday.csv"
ASKED = ("--model", "llama-3.1-8b", "--gpu", "l40s", "--prefill-rate", "8000", "--decode-rate", "30")


def asked(**more: Any) -> kvplan.Replay:
    return kvplan.replay(TRACE, "llama-3.1-8b", more.pop("gpu", "l40s"), prefill_rate=8000, decode_rate=30, **more)


def test_the_answer_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    end = here(capsys, "replay", str(TRACE), *ASKED, "-f", "json")
    found = json.loads(end.out)["replay"]
    for key in ("capacity", "peak", "p50", "p99"):
        assert found[f"{key}_bytes"] % found["block_bytes"] == 0
    assert found["p50_tokens"] <= found["p99_tokens"] <= found["peak_tokens"] <= found["capacity_tokens"]
    assert found["capacity_low_tokens"] <= found["capacity_tokens"] <= found["capacity_high_tokens"]
    assert found["requests"] == 400
    assert found["rates"] == "given"
    assert max(found["timeline"]["peak_tokens"]) == found["peak_tokens"]
    assert len(found["timeline"]["mean_tokens"]) <= 2 * INTERVALS
    assert here(capsys, "replay", str(TRACE), *ASKED, "-f", "json").out == end.out  # the same answer again
    row = next(csv.DictReader(io.StringIO(here(capsys, "replay", str(TRACE), *ASKED, "-f", "csv").out)))
    assert int(row["peak_tokens"]) == found["peak_tokens"]
    shown = here(capsys, "replay", str(TRACE), *ASKED)
    assert shown.code == 0
    assert f"{found['peak_tokens']:,} tokens" in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    assert "█" in shown.out


def test_rates_that_are_not_given_are_said_to_be_assumed() -> None:
    found = kvplan.replay(TRACE, "llama-3.1-8b", "l40s", decode_rate=30, search=False)
    assert found.rates.startswith("assumed: prefill: half of")
    assert "decode" not in found.rates
    assert found.gpus_needed is None


def test_replicas_are_servers_of_their_own_whoever_runs_them(tmp_path: Path) -> None:
    """Two replicas: the answer is that of two halves, and byte for byte the same from one process and from two."""
    two = asked(gpu="l40s:2", search=False)
    lines = TRACE.read_text(encoding="utf-8").splitlines(keepends=True)
    halves = []
    for first in (1, 2):
        path = tmp_path / f"{first}.csv"
        path.write_text(lines[0] + "".join(lines[first::2]), encoding="utf-8")
        halves.append(kvplan.replay(path, "llama-3.1-8b", "l40s", prefill_rate=8000, decode_rate=30, search=False))
    assert two.peak == max(half.peak for half in halves)
    assert two.outcome.steps == sum(half.outcome.steps for half in halves)
    assert two.outcome.waited == sum(half.outcome.waited for half in halves)
    spread = asked(gpu="l40s:2", search=False, workers=2)
    assert json.dumps(spread.to_dict()) == json.dumps(two.to_dict())
    assert two.gpus == 2


def test_a_route_is_a_column(tmp_path: Path) -> None:
    lines = TRACE.read_text(encoding="utf-8").splitlines()
    path = tmp_path / "routed.csv"
    text = [f"{lines[0]},node", *(f"{line},{'ab'[i % 2]}" for i, line in enumerate(lines[1:]))]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    routed = kvplan.replay(path, "llama-3.1-8b", "l40s", prefill_rate=8000, decode_rate=30, route="node")
    in_turn = asked(gpu="l40s:2", search=False)
    assert routed.replicas == 2
    assert routed.outcome.held_us.tolist() == in_turn.outcome.held_us.tolist()
    assert routed.gpus_needed is None


def test_gpus_needed_have_room_and_one_fewer_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def spread(task: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
        parts = list(pieces)
        sent.append(len(parts))
        return map(task, parts)

    with monkeypatch.context() as patched:  # whoever computes the replicas computes those that are tried, too
        patched.setattr("kvplan.api.replay.runner", lambda workers, scheduler: spread)
        tight = asked(memory="26GiB", max_model_len=16384)
    assert not tight.keeps_up
    needed = tight.gpus_needed
    assert needed is not None
    assert sent[0] == 1
    assert needed in sent[1:]
    assert needed - 1 in sent
    assert asked(gpu=f"l40s:{needed}", memory="26GiB", max_model_len=16384, search=False).keeps_up
    assert not asked(gpu=f"l40s:{needed - 1}", memory="26GiB", max_model_len=16384, search=False).keeps_up


def test_windows_and_states_are_followed_step_by_step(tmp_path: Path) -> None:
    lines = TRACE.read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path / "short.csv"
    path.write_text("".join(lines[:9]), encoding="utf-8")
    found = kvplan.replay(path, "gpt-oss-20b", "h100", prefill_rate=8000, decode_rate=30, max_num_batched_tokens=2048)
    assert found.keeps_up
    assert 0 < found.peak < found.blocks
    assert found.resident > 0


def test_llama_server_has_slots() -> None:
    found = asked(engine="llama.cpp", parallel=8, ctx_size=131072, search=False)
    assert (found.pool.num_tokens, found.pool.max_model_len) == (131072, 16384)
    assert 0 < found.peak <= found.blocks
    assert ((found.outcome.finished_us > 0) | (found.outcome.admitted_us < 0)).all()
    assert any("were not held against recorded runs" in note for note in found.notes)
    with pytest.raises(Refused, match=r"does not start llama-3\.1-8b on l40s-48gb: its context of 1,048,576 cells takes"):
        asked(engine="llama.cpp", ctx_size=2**20)


def test_ollama_has_the_slots_of_its_llama_server() -> None:
    found = asked(engine="ollama", num_parallel=4, num_ctx=32768, search=False)
    same = asked(engine="llama.cpp", parallel=4, ctx_size=131072, kv_unified=False, search=False)  # and a batch of 2,048
    assert (found.pool.engine, found.pool.num_tokens, found.pool.max_model_len) == ("ollama", 131072, 32768)
    assert (found.outcome.admitted_us == same.outcome.admitted_us).all()
    assert (found.outcome.finished_us == same.outcome.finished_us).all()
    assert found.outcome.waited > 0
    assert any("llama.cpp b10488" in note for note in found.notes)
    with pytest.raises(Refused, match=r"num_ctx is 4,096, and a request has [\d,]+ tokens"):
        asked(engine="ollama", num_ctx=4096, search=False)
    with pytest.raises(Refused, match="the steps of llama-server b9840 are not written down"):
        asked(engine="ollama@0.31", search=False)


def test_sglang_has_a_scheduler_of_its_own() -> None:
    found = asked(engine="sglang", search=False)
    assert 0 < found.peak <= found.blocks
    assert found.outcome.refused == 0
    assert (found.outcome.finished_us > 0).all()
    assert not any("recorded runs" in note for note in found.notes)


def test_what_is_not_followed_is_said() -> None:
    with pytest.raises(Refused, match="step by step is not written down"):
        asked(engine="tensorrt-llm")
    with pytest.raises(Refused, match=r"known from 0\.29 on"):
        asked(engine="vllm@0.20.0")
    with pytest.raises(Refused, match=r"does not start llama-3\.1-8b on l40s-48gb") as problem:
        asked(memory="22GiB")
    assert "max_model_len=" in problem.value.hint


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--prefill-rate", "-5"), "--prefill-rate: expected tokens a second"),
        (("--decode-rate", "nan"), "--decode-rate: expected tokens a second"),
        (("--columns", "arrival=when"), "the trace has no column `when`"),
        (("--route", "node"), "--route: the trace has no column `node`"),
        (("--plot", "x.gif"), "--plot: `x.gif` ends in none of .svg, .pdf, .png"),
    ],
)
def test_wrong_options_get_one_sentence(capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str) -> None:
    others = [word for pair in zip(ASKED[::2], ASKED[1::2], strict=True) if pair[0] != more[0] for word in pair]
    refused(here(capsys, "replay", str(TRACE), *others, *more), words=words)


def test_too_many_cards_and_cards_that_do_not_divide() -> None:
    with pytest.raises(OptionError, match="not a multiple of the 2"):
        asked(gpu="l40s:3", tensor_parallel=2)
    with pytest.raises(OptionError, match="replicas can be replayed"):
        asked(gpu="l40s:5000")


def test_intervals_that_are_made_wider_hold_the_same() -> None:
    """Meters of several servers end at different times: merged intervals hold what they held."""
    lines = []
    for steps in (100, 5000):
        meter = Meter(10, 0, 1000)
        time = np.arange(steps, dtype=np.int64) * 700
        meter.add(time, np.full(steps, 3), np.full(steps, 700))
        assert sum(meter.timeline.held) == 3 * 700 * steps
        lines.append(meter.timeline)
    whole = merged(lines)
    assert sum(whole.held) == 3 * 700 * 5100
    assert max(whole.peaks) == 3
    assert len(whole.held) <= 2 * INTERVALS


def test_media_are_tokens_of_the_prompts() -> None:
    """A trace with images is the trace whose prompts are so much longer, in engines that count them differently."""
    trace = {"arrival_s": [0.0, 0.2, 0.3], "input_tokens": [900, 40, 300], "output_tokens": [20, 20, 9], "images": [2, 0, 1]}
    rates = {"prefill_rate": 8000, "decode_rate": 30, "search": False}
    for engine, each in (("vllm", 1371), ("sglang", 1371)):
        found = kvplan.replay(trace, "qwen2.5-vl-7b", "h100", engine=engine, images="1x1024x1024", **rates).to_dict()
        longer = {k: v for k, v in trace.items() if k != "images"} | {"input_tokens": [900 + 2 * each, 40, 300 + each]}
        plain = kvplan.replay(longer, "qwen2.5-vl-7b", "h100", engine=engine, **rates).to_dict()
        assert (found.pop("media_tokens"), found.pop("media_requests")) == (3 * each, 2)
        differ = {"media_tokens", "media_requests", "columns", "notes"}
        assert {k: v for k, v in found.items() if k not in differ} == {k: v for k, v in plain.items() if k not in differ}
        assert any("encoder" in note for note in found["notes"])


def test_media_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,images\n0,5,1,1x64x64\n1,5,1,1x1x10000\n", encoding="utf-8")
    given = ("replay", str(path), "--gpu", "h100", "--no-search")
    words = "`t.csv`, line 3: absolute aspect ratio must be smaller than 200, got 10000.0"
    refused(here(capsys, *given, "-m", "qwen2.5-vl-7b"), words=words)
    refused(here(capsys, *given, "-m", "llama-3.1-8b"), words="llama-3.1-8b takes no images: its config is a text-only model's")
    assert here(capsys, *given, "-m", "llama-3.1-8b", "--columns", "images=none").code == 0
    refused(here(capsys, *given, "-m", "qwen2.5-vl-7b", "--images", "1x9x9"), words="--images and the trace's column `images`")
    tokens = {"arrival_s": [0.0], "input_tokens": [5], "output_tokens": [1], "image_tokens": [7]}
    with pytest.raises(OptionError, match="takes no images"):
        kvplan.replay(tokens, "llama-3.1-8b", "h100", search=False)
