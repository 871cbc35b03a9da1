"""Every recorded plan of LMDeploy 0.18.0, and TurboMind's layout; and that no prediction sees the recorded values.

`lmdeploy.jsonl` is the shared record. `lmdeploy_more.jsonl` was recorded here with the same recorder: real configs with keys
changed, under random options.
"""

from collections import Counter
from functools import cache
from typing import Any

import pytest
from each import each
from golden import cases

from kvplan import architectures
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.kernel.verdicts import Result
from kvplan.engines.lmdeploy import audit
from kvplan.engines.lmdeploy.layers import make_plan
from kvplan.questions.audit.judge import judge
from kvplan.units import ceil_div

FILES = {"lmdeploy": 830, "lmdeploy_more": 440}


@cache
def judged(name: str) -> list[Result]:
    """The verdict on every record of a file."""
    return [judge(record_from(case, where=name)) for case in cases(name)]


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_plan_is_exact(name: str) -> None:
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
    for result in judged("lmdeploy"):
        names.update({fact.name for fact in result.facts})
    assert set(names) == {
        "ok", "total_bytes", "kv_bytes", "state_bytes", "block_bytes", "num_blocks", "tokens", "block_size", "kernel_block_size",
        "max_batch_size", "max_prefill_token_num", "runtime_bytes", "state_slot_bytes", "num_state_caches", "num_layers",
        "kv_heads_total", "k_head_dim", "v_head_dim", "dtype", "window_size", "prefix_caching", "use_flash_mla", "vocab_size",
        "layer_block_bytes", "head_data_bytes", "head_param_bytes",
    }  # fmt: skip
    assert names["num_blocks"] > 500


def test_every_tensor_of_a_block_has_the_recorded_bytes() -> None:
    """The engine's own list: name, shape of a kernel block, dtype, bytes with alignment, rows (layers), contiguous."""
    compared = 0
    for case in cases("lmdeploy"):
        listed = case["expected"].get("tensors")
        if not listed:
            continue
        asked = record_from(case, where="x").case
        plan = make_plan(architectures.read(case["config"], source="x"), audit._options(asked))
        mine = sorted((ceil_div(tensor.raw_bytes, 256) * 256, len(tensor.layers)) for tensor in plan.tensors)
        theirs = sorted((row[3], row[4]) for row in listed)
        assert sum(size * rows for size, rows in mine) == sum(size * rows for size, rows in theirs), case["id"]
        assert [size for size, _ in mine if size] == sorted(size for size, _ in theirs if size), case["id"]
        compared += 1
    assert compared > 400


def test_altering_a_record_leaves_the_prediction_alone() -> None:
    differing = 0
    for case in cases("lmdeploy")[::7]:
        changed = {
            key: value + 1 if isinstance(value, int) and not isinstance(value, bool) else value
            for key, value in case["expected"].items()
        }
        kept = judge(record_from(case, where="x"))
        other = judge(record_from({**case, "expected": changed}, where="x"))
        assert [f.predicted for f in other.facts] == [f.predicted for f in kept.facts], case["id"]
        differing += other.status == "differs"
    assert differing > 60


@each(
    "broken",
    [
        {"workload": {}},
        {"workload": {"free_bytes": "80GB"}},
        {"workload": {"free_bytes": -1}},
        {"config": None},
        {"options": {"backend": "turbomind"}, "workload": {"kv_heads": 0, "head_dim": 128}},
        {"options": {"backend": "turbomind"}, "workload": {"kv_heads": 8, "head_dim": 128, "attention_layers": 0}},
    ],
    ids=str,
)
def test_a_broken_record_is_invalid_or_not_predicted_in_one_sentence(broken: dict[str, Any]) -> None:
    good = next(case for case in cases("lmdeploy") if case["expected"].get("ok") and case["config"])
    result = judge(record_from({**good, **broken}, where="x"))
    assert result.status in {"invalid", "not_predicted"}
    assert result.reason
    assert "\n" not in result.reason
