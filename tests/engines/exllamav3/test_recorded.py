"""Every recorded cache of ExLlamaV3 1.6.5 and TabbyAPI, tensor by tensor; and that no prediction sees the recorded values.

`exllamav3.jsonl` is the shared record. `exllamav3_more.jsonl` was recorded here with the same recorder: real configs with keys
changed, layer maps, splits over cards and random options of TabbyAPI, over every architecture.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from each import each
from golden import cases

from kvplan import architectures
from kvplan.domain.model import Model
from kvplan.engines.exllamav3 import audit
from kvplan.engines.exllamav3.models import as_read
from kvplan.engines.exllamav3.pool import pages, states
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.verdicts import Result
from kvplan.questions.audit.judge import judge

FILES = {"exllamav3": 1270, "exllamav3_more": 1147}


def read(config: Mapping[str, Any], name: str = "") -> Model:
    return architectures.read(config, source="test", name=name)


@cache
def judged(name: str) -> list[Result]:
    """The verdict on every record of a file."""
    return [judge(record_from(case, where=name)) for case in cases(name)]


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_cache_is_exact(name: str) -> None:
    found = judged(name)
    assert len(found) == FILES[name]
    wrong = []
    for result in found:
        if result.status != "exact":
            differing = [f"{f.name}: {f.predicted}, recorded {f.recorded}" for f in result.facts if not f.agrees]
            wrong.append(f"{result.id}: {result.status} {result.reason} {'; '.join(differing)[:300]}")
    assert not wrong, "\n".join(wrong[:20])


def test_every_number_of_a_record_is_compared() -> None:
    names: Counter[str] = Counter()
    for result in judged("exllamav3"):
        names.update({fact.name for fact in result.facts})
    plain = {"total_bytes", "kv_bytes", "state_bytes", "host_state_bytes", "num_pages", "num_kv_layers", "num_state_layers"}
    assert set(names) == {
        "ok", "split", "per_layer_bytes", "checkpoint_bytes", *plain, "slot_size", "max_slots", "tokens",
        "cache_bytes_per_device", "units_per_device", "max_seq_len", "cache_size", "max_batch_size", "chunk_size", "max_history",
        *(f"draft.{name}" for name in (*plain, "per_layer_bytes", "checkpoint_bytes")),
    }  # fmt: skip
    assert names["per_layer_bytes"] > 900


def test_every_tensor_has_the_recorded_shape_and_dtype_in_order() -> None:
    compared = 0
    for case in cases("exllamav3"):
        if "groups" not in case["expected"] or "frontend" in case["options"]:
            continue
        asked = record_from(case, where="x").case
        model = as_read(audit._model(asked, read))
        slots, mode, count = audit._slots(asked), audit._mode(asked), case["workload"]["max_num_tokens"] // 256
        mine: Counter[tuple[str, tuple[Any, ...]]] = Counter()
        for entry in audit._kept(asked, model):
            if entry.paged is not None:
                mine["kv", tuple((p.shape, p.dtype) for _, p in pages((entry,), count, mode))] += 1
            if entry.slot is not None:
                planes = [p for _, p in states((entry,), slots, slots.jobs, 1) if not p.on_host]
                mine["state", tuple((p.shape, p.dtype) for p in planes)] += 1
        theirs: Counter[tuple[str, tuple[Any, ...]]] = Counter()
        for kind, _, tensors, how_many in case["expected"]["groups"]:
            theirs[kind, tuple((tuple(shape), dtype) for shape, dtype in tensors)] += how_many
        assert mine == theirs, case["id"]
        compared += 1
    assert compared == 918


def altered(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [altered(item) for item in value]
    return {k: altered(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_altering_a_record_leaves_the_prediction_alone() -> None:
    differing = 0
    for case in cases("exllamav3")[::9]:
        runs = {"per_layer_bytes", "units_per_device"} & case["expected"].keys()
        changed = {key: value if key in runs else altered(value) for key, value in case["expected"].items()}
        kept = judge(record_from(case, where="x"))
        other = judge(record_from({**case, "expected": changed}, where="x"))
        assert [f.predicted for f in other.facts] == [f.predicted for f in kept.facts], case["id"]
        differing += other.status == "differs"
    assert differing > 60


@each(
    "broken",
    [
        {"workload": {}},
        {"workload": {"max_num_tokens": "8k"}},
        {"workload": {"max_num_tokens": -256}},
        {"options": {"layer_type": "CacheLayer_quant"}},
        {"options": {"recurrent_dtype": "int3"}},
        {"options": {"frontend": "tabbyapi", "draft_model": 7}},
        {"options": {"tensor_parallel": True}},
        {"workload": {"max_num_tokens": 8192, "device_bytes": [1]}, "options": {"tensor_parallel": True}},
        {"expected": {"per_layer_bytes": [[1, 10**9]]}},
        {"expected": {"per_layer_bytes": 7}},
        {"workload": {"channels": 8}},
        {"workload": {"channels": 8, "weights": []}},
        {"workload": {"channels": 8, "weights": [0, 0]}},
        {"config": {"model_type": "llama"}},
        {"config": None},
    ],
    ids=str,
)
def test_a_broken_record_is_invalid_or_not_predicted_in_one_sentence(broken: dict[str, Any]) -> None:
    good = next(case for case in cases("exllamav3") if case["id"].startswith("exllamav3/meta-llama/Llama-3.1-8B"))
    result = judge(record_from({**good, **broken}, where="x"))
    assert result.status in {"invalid", "not_predicted", "differs"}
    assert "\n" not in result.reason
    assert result.status == "differs" or result.reason
