"""Placement over devices: recorded ones exact, and the laws of the split."""

import copy
from collections import Counter
from typing import Any

import pytest
from each import each
from golden import GOLDEN, cases
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.llama_cpp.context import Refusal
from kvplan.engines.llama_cpp.placement.devices import CUDA, METAL, RPC, Device, taking_part
from kvplan.engines.llama_cpp.placement.fit import Given, moved_by
from kvplan.engines.llama_cpp.placement.patterns import Override, overrides
from kvplan.engines.llama_cpp.placement.split import layers_to_devices
from kvplan.errors import OptionError
from kvplan.questions.audit.judge import judge

CASES = cases("llama_cpp_devices")
GIB = 2**30


def cards(*gib: float, **more: Any) -> tuple[Device, ...]:
    return tuple(
        Device(name=f"CUDA{i}", backend=CUDA, total_bytes=int(each * GIB), free_bytes=int(each * GIB), **more)
        for i, each in enumerate(gib)
    )


def runs(layers: int, ngl: int, devices: tuple[Device, ...], split: tuple[float, ...] | None = None) -> dict[int, int]:
    return dict(Counter(layers_to_devices(layers, ngl, devices, split)[:layers]))


def test_every_recorded_placement_and_fit_is_exact() -> None:
    found = kvplan.audit(GOLDEN / "llama_cpp_devices.jsonl")
    assert [result.id for result in found.results if result.status != "exact"] == []
    assert len(found.results) == 238
    assert sum(result.id.startswith("llama.cpp-fit/") for result in found.results) == 46
    assert sum(len(result.facts) for result in found.results) > 4_000
    bands = [fact for result in found.results for fact in result.facts if fact.inside]
    assert len(bands) == 592
    assert all(fact.agrees for fact in bands)
    used = [fact for fact in bands if fact.high]
    assert len(used) == 581
    assert sum(fact.high <= 1.5 * fact.low for fact in used) >= 0.9 * len(used)


@pytest.mark.parametrize("name", ["devices[0].model_bytes", "devices[0].kv_bytes", "n_layers_offloaded", "pipeline_parallel"])
def test_a_wrong_fact_is_a_difference(name: str) -> None:
    case = copy.deepcopy(CASES[0])
    where = case["expected"]["devices"][0] if "." in name else case["expected"]
    key = name.rpartition(".")[2]
    where[key] = "1/2" if isinstance(where[key], str) else not where[key] if isinstance(where[key], bool) else where[key] + 1
    result = judge(record_from(case, where="x"))
    assert [fact.name for fact in result.facts if not fact.agrees] == [name]


def test_the_output_layer_counts_as_one_of_the_layers() -> None:
    assert runs(64, -1, cards(24, 24), (10, 6)) == {0: 41, 1: 23}
    assert runs(79, -1, cards(90, 90, 90, 90), (54, 9, 8, 8)) == {0: 55, 1: 9, 2: 8, 3: 7}
    assert runs(32, 1, cards(24)) == {-1: 32}  # the output layer alone
    assert runs(32, 0, cards(24)) == {-1: 32}


def test_a_few_mib_of_free_memory_move_a_layer() -> None:
    free = [96727, 96727, 96710, 96727]
    devices = tuple(Device(name=f"CUDA{i}", backend=CUDA, total_bytes=f, free_bytes=f) for i, f in enumerate(free))
    assert runs(79, -1, devices) == {0: 21, 1: 20, 2: 19, 3: 19}
    assert runs(79, -1, cards(1, 1, 1, 1)) == {0: 20, 1: 20, 2: 20, 3: 19}


@given(
    layers=st.integers(1, 200),
    ngl=st.integers(-1, 260),
    split=st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_layers_lie_in_the_order_of_devices_and_none_is_lost(layers: int, ngl: int, split: list[float]) -> None:
    found = layers_to_devices(layers, ngl, cards(*[8.0] * len(split)), tuple(split))
    assert len(found) == layers + 1
    assert list(found) == sorted(found)  # the host's first, then device by device
    assert sum(place >= 0 for place in found) == (layers + 1 if ngl < 0 else min(ngl, layers + 1))


def test_integrated_devices_take_part_where_there_is_no_other() -> None:
    shared = Device(name="CUDA9", backend=CUDA, total_bytes=GIB, free_bytes=GIB, integrated=True)
    remote = Device(name="RPC0", backend=RPC, total_bytes=GIB, free_bytes=GIB)
    assert [d.name for d in named(taking_part([*cards(8), shared, remote]))] == ["RPC0", "CUDA0"]
    assert [d.name for d in named(taking_part([shared, remote]))] == ["RPC0", "CUDA9"]


def named(found: tuple[Device, ...] | Refusal) -> tuple[Device, ...]:
    assert not isinstance(found, Refusal)
    return found


def test_devices_that_are_not_there_are_refused() -> None:
    assert taking_part(cards(8), split_mode="none", main_gpu=5) == Refusal("invalid value for main_gpu: 5 (available devices: 1)")
    assert taking_part(cards(8), use_devices=("CUDA7",)) == Refusal("invalid device: CUDA7")
    assert taking_part(cards(8), split_mode="row") == Refusal("device CUDA0 does not support split buffers")


def test_what_a_tensor_takes_in_a_buffer() -> None:
    assert CUDA.alloc("q8_0", 256, 256 * 34 // 32) == -(-(272 + 256 // 32 * 34) // 128) * 128
    assert CUDA.alloc("f16", 256, 512) == 512
    assert CUDA.alloc("q4_k", 3584, 3584 // 256 * 144) == -(-(3584 // 256 * 144) // 128) * 128  # whole multiples of 512
    assert METAL.alloc("f32", 1, 4) == 32


def test_patterns_of_experts_and_of_the_command_line() -> None:
    found = overrides(r"\.ffn_down=CUDA1;output\.weight=CPU", n_cpu_moe=1)
    assert found[:2] == (Override(r"\.ffn_down", "CUDA1"), Override(r"output\.weight", "CPU"))
    assert found[2].moves("blk.0.ffn_gate_up_exps.weight")
    assert not found[2].moves("blk.10.ffn_up_exps.weight")
    assert not overrides(None, cpu_moe=True)[0].moves("blk.1.ffn_up_shexp.weight")


@each("pattern", ["(a+)+b=CPU", "(a|a)*b=CPU", "(=CPU", "a", "=CPU", "a=", "a+b+c+d+e+=CPU", "x" * 600 + "=CPU"])
def test_patterns_that_cannot_be_matched_in_little_time_are_refused(pattern: str) -> None:
    with pytest.raises(OptionError, match="override_tensor"):
        overrides(pattern)


def test_a_distribution_becomes_overrides() -> None:
    found = moved_by((Given(layers=15, part=1, leaves="gate", to="CUDA1"), Given(layers=32, part=2)), 46)
    assert [(each.pattern.partition(".ffn")[0], each.buffer) for each in found] == [
        ("blk\\.14\\", "CUDA1"),
        ("blk\\.(45|46)\\", "CPU"),
    ]
