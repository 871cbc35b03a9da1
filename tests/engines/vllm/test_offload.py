"""vLLM with host memory below its cache: every recorded scenario, what holds for any trace, the command, and refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import here, refused
from each import each
from golden import cases
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from vllm_traffic import answer, workload

import kvplan
from kvplan.domain.traffic import Below, Clock, Outcome, Traffic
from kvplan.engines.vllm.scheduler import of_plan, served
from kvplan.engines.vllm.scheduler.host import Access, HostTier, Key
from kvplan.engines.vllm.scheduler.offload import OffloadingScheduler
from kvplan.engines.vllm.scheduler.replay import Asked, replay
from kvplan.engines.vllm.scheduler.scheduler import Scheduled
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Host, Settings
from kvplan.errors import OptionError, Refused

Row = dict[str, Any]


class Watched(OffloadingScheduler):
    """Also writes down what each step did to the host's memory."""

    def __init__(self, told: Settings, host: Host) -> None:
        super().__init__(told, host)
        self.moved: dict[str, list[list[int]]] = {"stored": [], "loaded": [], "evicted": []}
        self.resident: list[int] = []

    def schedule(self) -> Scheduled:
        before = {name: getattr(self.host, name) for name in self.moved}
        step = super().schedule()
        for name, steps in self.moved.items():
            if number := getattr(self.host, name) - before[name]:
                steps.append([len(self.resident), number])
        assert self.host is not None
        self.resident.append(self.host.resident)
        return step


def scenario(row: Row) -> Row:
    """What we make of a recorded scenario, under the names of its facts."""
    told, (kind, size, _) = row["options"], row["config"]["layers"][0]
    server = Settings(
        groups=(GroupSpec(kind=kind, block_size=size),), scheduler_block_size=size, hash_block_size=size,
        release=tuple(map(int, row["engine_version"].split("."))),
        **{name: value for name, value in told.items() if name not in {"cpu_bytes_to_use", "blocks_per_chunk"}},
    )  # fmt: skip
    scheduler = Watched(server, Host(chunks=row["expected"]["chunks"], blocks_per_chunk=told.get("blocks_per_chunk", 1)))
    asked = [
        Asked(arrival=arrival, prompt=tuple((name, length) for name, length in prompt), max_tokens=tokens)
        for arrival, prompt, tokens in row["workload"]["requests"]
    ]
    trace = replay(server, asked, most_steps=5_000, most_work=10_000_000, scheduler=scheduler)
    return {
        "chunks": row["expected"]["chunks"],
        "requests": [[r.admitted_at, r.first_token_at, r.finished_at, r.hits, r.loaded] for r in trace.requests],
        "preempted_at": [list(at) for at in trace.preempted_at],
        "used_blocks": trace.used_blocks,
        "running": trace.running,
        "waiting": trace.waiting,
        "scheduled_tokens": trace.scheduled_tokens,
        **scheduler.moved,
        "resident": scheduler.resident,
    }


@each("row", lambda: cases("vllm_offload"))
def test_every_recorded_scenario_is_exact(row: Row) -> None:
    assert scenario(row) == row["expected"]


def test_the_recorded_scenarios_tell() -> None:
    rows = cases("vllm_offload")
    assert {row["engine_version"] for row in rows} == {"0.32.0", "0.33.0"}
    for fact in ("stored", "loaded", "evicted", "preempted_at"):
        assert sum(bool(row["expected"][fact]) for row in rows) >= 15, fact


def with_host(chunks: int) -> Any:
    def run(told: Settings, asked: Traffic, clock: Clock, *more: Any) -> Outcome | None:
        return of_plan.serve_above(replace(told, enable_prefix_caching=True), chunks, asked, clock, *more)

    return run


def plainly(told: Settings, *more: Any) -> Outcome:
    return served.serve(replace(told, enable_prefix_caching=True), *more)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_a_host_adds_hits_and_none_adds_nothing(seed: int) -> None:
    told, asked, clock = workload(seed)
    told = replace(told, num_gpu_blocks=told.num_gpu_blocks + 30, scheduler_reserve_full_isl=True)
    without = answer(plainly, told, asked, clock)
    nothing, everything = (answer(with_host(chunks), told, asked, clock) for chunks in (0, 10**6))
    if isinstance(without, str) or isinstance(nothing, str) or isinstance(everything, str):
        assert without == nothing == everything
        return
    assert nothing.below is not None
    assert everything.below is not None
    assert (nothing.below.hit_tokens, nothing.below.most, nothing.below.held_us) == (0, 0, 0)
    assert everything.below.evicted == 0
    assert everything.below.most == everything.below.stored
    if not without.preemptions:
        assert nothing.hit_tokens == without.hit_tokens
        assert nothing.finished_us.tolist() == without.finished_us.tolist()
        assert nothing.held_us.tolist() == without.held_us.tolist()
    for found in (nothing, everything):
        assert (found.finished_us >= 0).tolist() == (without.finished_us >= 0).tolist()
        assert int(found.held_us @ np.arange(len(found.held_us))) == sum(found.timeline.held)


KEYS: list[Key] = [(16 * (i + 1), 0, i) for i in range(6)]


def test_the_least_recently_used_goes_and_what_a_transfer_holds_stays() -> None:
    tier = HostTier(4, (0, 33))
    first, second = Access(), Access()
    assert tier.store(KEYS[:3], first) == KEYS[:3]
    assert tier.ready(KEYS[0]) is False  # still on its way
    assert tier.store(KEYS[3:5], second) is None  # nothing is idle
    tier.was_stored(KEYS[:3])
    tier.ended(first)
    tier.load(KEYS[2:3], second)
    assert tier.store([KEYS[3], KEYS[4]], second) == [KEYS[3], KEYS[4]]
    assert [key for key in KEYS if tier.ready(key) is None] == [KEYS[1], KEYS[5]]  # the tail went first, but what is read stays
    assert (tier.stored, tier.loaded, tier.evicted, tier.most) == (5, 1, 1, 4)


# The command.

#: Room for 4,784 tokens.
SMALL: dict[str, Any] = {
    "prefill_rate": 20000, "decode_rate": 50, "search": False, "max_model_len": 2560, "num_gpu_blocks_override": 300,
}  # fmt: skip


def conversations() -> dict[str, list[Any]]:
    """Twelve conversations of four turns, in turn, on a server with room for fewer of them."""
    rows = [(turn, talk) for turn in range(4) for talk in range(12)]
    return {
        "arrival_s": [i / 8 for i in range(len(rows))],
        "input_tokens": [512 * (turn + 1) for turn, _ in rows],
        "output_tokens": [20] * len(rows),
        "hash_ids": [[1000 * talk + j for j in range(turn + 1)] for turn, talk in rows],
    }


def test_conversations_come_back_from_the_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = conversations()
    without = kvplan.replay(trace, "llama-3.1-8b", "l40s", **SMALL).to_dict()
    found = kvplan.replay(trace, "llama-3.1-8b", "l40s", host="2GiB", **SMALL)
    told = found.to_dict()
    assert not {key for key in without if key.startswith(("host_", "device_"))}
    assert told["hit_rate"] == pytest.approx(told["device_hit_rate"] + told["host_hit_rate"])
    assert told["hit_rate"] > without["hit_rate"]
    assert told["host_room_bytes"] == 2 * 2**30 // told["host_chunk_bytes"] * told["host_chunk_bytes"]
    assert told["host_stored_bytes"] - told["host_evicted_bytes"] <= told["host_peak_bytes"] <= told["host_room_bytes"]
    assert told["host_loaded_bytes"] == told["host_hit_tokens"] // 16 * told["host_chunk_bytes"]
    assert 0 < told["host_mean_bytes"] < told["host_peak_bytes"]
    two = [kvplan.replay(trace, "llama-3.1-8b", "l40s:2", host="1GiB", workers=n, **SMALL).to_dict() for n in (1, 2)]
    assert json.dumps(two[0]) == json.dumps(two[1])
    path = tmp_path / "talks.jsonl"
    names = list(trace)
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in zip(*trace.values(), strict=True)))

    def words_of(**more: str) -> list[str]:
        told = {"-m": "llama-3.1-8b", "-e": "vllm", "--host": "2GiB"} | {f"{'-' * min(len(k), 2)}{k}": v for k, v in more.items()}
        rates = ("--prefill-rate", "20000", "--decode-rate", "50", "--no-search", "--gpu", "l40s")
        return ["replay", str(path), *rates, *(word for pair in told.items() for word in pair)]

    small = ("--set", "max_model_len=2560", "--set", "num_gpu_blocks_override=300")
    shown = here(capsys, *words_of(), *small)
    assert shown.code == 0
    assert "in host memory" in shown.out
    assert "--kv-offloading-size 2" in " ".join(shown.out.split())
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    assert json.loads(here(capsys, *words_of(), *small, "-f", "json").out)["replay"] | {"trace": ""} == told | {"trace": ""}
    for words, more in (
        ("--host", {"host": "-1"}),
        ("--host", {"host": "x"}),
        ("less than one chunk of 2,097,152", {"host": "1MiB"}),
        ("what comes back from a disk", {"disk": "1TB"}),
        ("known from 0.32 on", {"e": "vllm@0.31.0"}),
        ("not written down", {"e": "sglang"}),
        ("see a window or keep a state", {"m": "gpt-oss-20b"}),
    ):
        refused(here(capsys, *words_of(**more)), words=words)


def test_what_a_host_changes_nothing_of_is_said() -> None:
    trace = {"arrival_s": [0.0, 1.0], "input_tokens": [100, 100], "output_tokens": [5, 5]}
    with pytest.raises(OptionError, match=r"without prefix hashes .* changes nothing"):
        kvplan.replay(trace, "llama-3.1-8b", "l40s", host="64GiB", **SMALL)
    hashed = {**trace, "hash_ids": [[1], [1]]}
    with pytest.raises(OptionError, match="two answers"):
        kvplan.replay(hashed, "llama-3.1-8b", "l40s", host="64GiB", kv_offloading_size=8, **SMALL)
    with pytest.raises(Refused, match="where it caches prefixes"):
        kvplan.replay(hashed, "llama-3.1-8b", "l40s", host="64GiB", enable_prefix_caching=False, **SMALL)
    long = {**hashed, "output_tokens": [2**26, 5]}
    with pytest.raises(Refused, match="followed step by step"):
        kvplan.replay(long, "llama-3.1-8b", "l40s", host="64GiB", **SMALL)


def test_servers_are_added_up() -> None:
    two = kvplan.replay(conversations(), "llama-3.1-8b", "l40s:2", host="1GiB", **SMALL).outcome.below
    assert isinstance(two, Below)
    halves = []
    for first in (0, 1):
        half = {name: values[first::2] for name, values in conversations().items()}
        found = kvplan.replay(half, "llama-3.1-8b", "l40s", host="1GiB", **SMALL).outcome.below
        assert found is not None
        halves.append(found)
    for name in ("hit_tokens", "stored", "loaded", "evicted"):
        assert getattr(two, name) == sum(getattr(half, name) for half in halves)
    assert two.most == max(half.most for half in halves)
