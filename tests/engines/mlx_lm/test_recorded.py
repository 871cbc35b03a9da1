"""Every recorded prompt cache of mlx-lm 0.32.2; and that no prediction sees the recorded values.

`mlx_lm.jsonl` is the shared record. `mlx_lm_more.jsonl` was recorded here with the same recorder: small models of modules
that the shared file lacks, and configs with a key left out or contradicting the module's own reading.
"""

from typing import Any

import pytest
from each import each
from golden import cases

from kvplan import architectures
from kvplan.engines.kernel.cases import record_from
from kvplan.engines.mlx_lm.growth import Calls
from kvplan.engines.mlx_lm.layers import Moment, Storage, peak_bytes, pieces
from kvplan.engines.mlx_lm.models import OWN, PLAIN, module_of, read
from kvplan.questions.audit.judge import judge

FILES = {"mlx_lm": 1175, "mlx_lm_more": 903}
FACTS = {"total_bytes", "kv_bytes", "state_bytes", "per_layer_bytes"}


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_cache_is_exact(name: str) -> None:
    found = cases(name)
    assert len(found) == FILES[name]
    wrong = []
    for case in found:
        result = judge(record_from(case, where=name))
        assert {fact.name for fact in result.facts} == FACTS
        if result.status != "exact":
            differing = [f"{f.name}: {f.predicted}, recorded {f.recorded}" for f in result.facts if not f.agrees]
            wrong.append(f"{result.id}: {result.status} {result.reason} {'; '.join(differing)[:300]}")
    assert not wrong, "\n".join(wrong[:20])


def altered(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    return [[run[0] + 1, run[1]] for run in value] if isinstance(value, list) else value


def test_altering_a_record_leaves_the_prediction_alone() -> None:
    for case in cases("mlx_lm")[::25]:
        changed = {key: altered(value) if key in FACTS else value for key, value in case["expected"].items()}
        kept = judge(record_from(case, where="x"))
        other = judge(record_from({**case, "expected": changed}, where="x"))
        assert [f.predicted for f in other.facts] == [f.predicted for f in kept.facts]
        assert other.status == "differs" if case["expected"]["total_bytes"] else True


def test_a_record_without_a_prompt_or_with_bad_runs_is_invalid_in_one_sentence() -> None:
    good = cases("mlx_lm")[0]
    for broken in (
        {"workload": {"batch": 1}},
        {"workload": {"prompt_lens": [], "generated": 1}},
        {"workload": {"prompt_lens": [3, "x"], "generated": 1}},
        {"workload": {"prompt_lens": [3], "generated": 0}},
        {"expected": {"per_layer_bytes": [[1, 10**9]]}},
        {"expected": {"per_layer_bytes": 7}},
    ):
        result = judge(record_from({**good, **broken}, where="x"))
        assert result.status == "invalid"
        assert "\n" not in result.reason


@each("case", cases("mlx_lm_peaks"), ids=lambda c: f"{c['config']['model_type']}-p{c['prompt']}+{c['generated']}")
def test_the_peak_is_the_most_that_the_library_held_between_two_calls(case: dict[str, Any]) -> None:
    model, options = architectures.read(case["config"]), case["options"]
    found = read(model, options.get("max_kv_size"))
    assert found is not None
    storage = Storage(
        dtype=model.dtype,
        bits=options.get("kv_bits"),
        group=options.get("kv_group_size", 64),
        start=options.get("quantized_kv_start", 5000),
    )
    calls = Calls.of(case["prompt"] + case["generated"], case["prompt"], options.get("prefill_step_size", 2048))
    moment = Moment(calls=calls, sequences=1)
    assert sum(p.padded * p.count for p in pieces(found.entries, storage, moment)) == case["total_bytes"]
    assert peak_bytes(found.entries, storage, moment) == case["peak_bytes"]


def test_the_records_cover_most_modules() -> None:
    """Without a module in the records, nothing but its source stands behind it."""
    seen = {module_of(architectures.read(case["config"])) for name in FILES for case in cases(name)}
    unseen = (PLAIN | OWN) - seen
    # bitnet and muse_spark need Metal, olmo another package; the others had no usable config when these were recorded
    assert unseen <= {"bitnet", "muse_spark", "olmo", "gear", "prism_hadamard_qwen35", "bailing_moe_v3"}, sorted(unseen)
