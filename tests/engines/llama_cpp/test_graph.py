"""Graphs built tensor by tensor: ggml's allocator, recorded buffers to the byte, and records under other options."""

import copy
import json
from functools import cache
from typing import Any

from each import each
from golden import GOLDEN, cases

from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.verdicts import ComparedFact
from kvplan.engines.llama_cpp.context import Refusal, make_context
from kvplan.engines.llama_cpp.memory import Params
from kvplan.engines.llama_cpp.placement.band import Band
from kvplan.engines.llama_cpp.placement.caches import with_caches
from kvplan.engines.llama_cpp.placement.graph.heap import Heap, Node, peaks
from kvplan.gguf.hparams import read_hparams
from kvplan.questions.audit.judge import judge

MIB = 2**20
#: Recorded buffers that come out to two thousandths; the device.
BUILT = {
    "deepseek-ai/DeepSeek-R1/Q4_K_M/4x80-cmoe": (0, 1, 2, 3),
    "deepseek-ai/DeepSeek-R1/Q4_K_M/1gpu-cmoe": (0,),
    "MiniMaxAI/MiniMax-M2.5/Q4_K_M/4x80-cmoe": (0, 1, 2, 3),
    "meta-llama/Llama-4-Scout/Q4_K_M/1gpu-cmoe": (0,),
    "Qwen/Qwen3-30B-A3B/Q4_K_M/1gpu-ncmoe20": (0,),
    "openai/gpt-oss-120b/MXFP4/2gpu-ncmoe24": (0,),
    "ibm-granite/granite-4.0-h-small/Q4_K_M/1gpu-ncmoe20": (0,),
    "mistralai/Mamba-Codestral-7B-v0.1/Q8_0/2gpu": (0, 1),
    "nvidia/Nemotron-H-56B-Base-8K/Q8_0/2gpu": (0,),
    "small/falcon-h1-24/F16/rpc-2dev-np2": (0, 1),
    "small/qwen3next-16/F16/rpc-2dev-np4": (0, 1),
}


@cache
def recorded() -> dict[str, dict[str, Any]]:
    return {case["id"]: case for case in cases("llama_cpp_devices")}


def others() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((GOLDEN / "llama_cpp_graphs.json").read_text(encoding="utf-8"))["rows"]
    return found


def buffers(case: dict[str, Any]) -> list[ComparedFact]:
    return [fact for fact in judge(record_from(case, where="x")).facts if fact.inside]


@each("row", others, ids=lambda row: row["id"])
def test_buffers_of_other_options(row: dict[str, Any]) -> None:
    base = recorded()[row["of"]]
    devices = [{"name": f"{number}", "compute_bytes": size} for number, size in enumerate(row["compute_bytes"])]
    case = {**base, "options": {**base["options"], **row["options"]}, "expected": {"ok": True, "devices": devices}}
    for fact in buffers(case):
        assert fact.low <= fact.recorded <= fact.high, (fact.name, fact.low, fact.recorded, fact.high)


@each(("name", "devices"), lambda: BUILT.items(), ids=lambda value: str(value))
def test_a_graph_comes_out_as_recorded(name: str, devices: tuple[int, ...]) -> None:
    facts = {fact.name: fact for fact in buffers(recorded()[f"llama.cpp-devices/{name}"])}
    for device in devices:
        fact = facts[f"devices[{device}].compute_bytes"]
        assert abs(fact.predicted - fact.recorded) <= fact.recorded // 500, (device, fact.predicted, fact.recorded)


def test_experts_of_other_devices_leave_a_gap_that_the_next_does_not_fit_into() -> None:
    """DeepSeek-R1: the gate's copy, what it reads, and the larger copy of the last matrix behind them: 2016 + 14.5 + 2940 MiB."""
    (fact,) = [
        fact
        for fact in buffers(recorded()["llama.cpp-devices/deepseek-ai/DeepSeek-R1/Q4_K_M/4x80-cmoe"])
        if fact.name == "devices[0].compute_bytes"
    ]
    assert round(fact.predicted / MIB, 1) == 2016 + 14.5 + 2940


def test_a_tensor_goes_into_the_smallest_gap() -> None:
    heap = Heap(1)
    first, wall, second, _ = (heap.take(size) for size in (100, 10, 60, 10))
    heap.give(first, 100)
    heap.give(second, 60)
    assert heap.take(50) == second
    assert heap.take(50) == first
    assert wall == 100
    assert heap.take(70) == 180
    assert heap.peak == 250


def test_an_operation_takes_the_place_of_what_only_it_reads_unless_that_is_a_view() -> None:
    def graph(*, view: bool, again: bool) -> int:
        first = Node(100, 0, (25,))
        seen = Node(100, 0, (25,), (first,), of=first) if view else first
        nodes = [first, *([seen] if view else []), Node(100, 0, (25,), (seen,), in_place=True)]
        if again:
            nodes.append(Node(4, 0, (1,), (seen,)))
        return peaks(nodes, [4])[0].bytes

    assert graph(view=False, again=False) == 100
    assert graph(view=True, again=False) == 200
    assert graph(view=False, again=True) == 204


def test_attention_over_caches_on_the_host_has_copies_of_them() -> None:
    h = read_hparams(recorded()["llama.cpp-devices/meta-llama/Meta-Llama-3.1-8B/Q4_K_M/1gpu"]["config"])
    context = make_context(h, Params(n_ctx=65536, n_seq_max=1))
    assert not isinstance(context, Refusal)
    cache = 65536 * 1024 * 2  # keys of one block, and as much for values
    none = Band(low=1, best=1, high=1)
    on_host = with_caches(none, context, (-1,) * 16 + (0,) * 17, weight=MIB, beside=0)
    assert on_host.low == 2 * cache * 95 // 100
    assert on_host.high == 3 * cache * 105 // 100
    assert with_caches(none, context, (0,) * 33, weight=MIB, beside=0).high == MIB * 105 // 100


def test_a_file_that_lacks_a_matrix_has_the_wider_band() -> None:
    case = copy.deepcopy(recorded()["llama.cpp-devices/Qwen/Qwen3-30B-A3B/Q4_K_M/1gpu-ncmoe20"])
    before = buffers(case)[0]
    for group in case["tensors"]["blocks"]:
        group["tensors"] = [tensor for tensor in group["tensors"] if tensor[0] != "ffn_up_exps.weight"]
    after = buffers(case)[0]
    assert after.high - after.low > before.high - before.low
