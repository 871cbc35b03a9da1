"""Facts of recorded mlx-lm prompt caches: the bytes of every entry, as the library's `nbytes` says them.

A record has one prompt and its generated tokens (`generate_step`), or the prompts of a batch (`BatchGenerator`), stopped
once each sequence has `generated` tokens.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from kvplan.engines.kernel.cases import Case, Covered, InvalidCase, Read, spelled_out, whole
from kvplan.engines.kernel.tensors import At
from kvplan.engines.mlx_lm import audit_tiers
from kvplan.engines.mlx_lm.batches import batched_rows
from kvplan.engines.mlx_lm.engine import MlxLm, MlxLmOn
from kvplan.engines.mlx_lm.growth import Calls
from kvplan.engines.mlx_lm.layers import Moment, Rotating, pieces

_OPTIONS: Final = ("max_kv_size", "kv_bits", "kv_group_size", "quantized_kv_start", "prefill_step_size")
_BATCHED: Final = ("max_kv_size", "prefill_step_size")
#: Tokens that the recorder asked for beyond `generated`: a sequence that waited longer for the others has left.
_BEYOND: Final = 50
_TOTALS: Final = ("total_bytes", "kv_bytes", "state_bytes")


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The totals, and the bytes of each entry; in the record, runs of equal entries are `[bytes, how many]`."""
    if audit_tiers.is_tier(case):
        return audit_tiers.recorded(expected)
    facts: dict[str, Any] = {name: expected[name] for name in _TOTALS if name in expected}
    runs = expected.get("per_layer_bytes")
    if runs is not None:
        facts["per_layer_bytes"] = [whole(each, "expected.per_layer_bytes") for each in spelled_out(runs, "per_layer_bytes")]
    return facts


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """The facts of the `mlx-lm` engine for the recorded prompts."""
    tier = audit_tiers.is_tier(case)
    batched = audit_tiers.batched(case) if tier else "prompt_lens" in case.workload
    on = MlxLm.made(_options(case, batched=batched), _release(case.engine_version)).on(read(case.config, ""))
    if tier:
        return audit_tiers.predict(case, on)
    moment = _batch(case, on) if batched else _alone(case, on)
    entries = [sum(p.padded * p.count for p in pieces((entry,), on.storage, moment)) for entry in on.reading.entries]
    states = [p.padded * p.count for p in pieces(on.reading.entries, on.storage, moment) if p.per == "sequence"]
    total, state = sum(entries), sum(states)
    return {"total_bytes": total, "kv_bytes": total - state, "state_bytes": state, "per_layer_bytes": entries}


def covers(case: Case, facts: Collection[str], read: Read) -> Covered | None:
    """What a record holds: caches as the library made them, on a CPU; of the server's prompt cache, nothing more."""
    if audit_tiers.is_tier(case):
        return None
    batched = "prompt_lens" in case.workload
    on = MlxLm.made(_options(case, batched=batched), _release(case.engine_version)).on(read(case.config, ""))
    return Covered(model=on.read, stored=on.stored, release=on.engine.release)


def _alone(case: Case, on: MlxLmOn) -> Moment[int]:
    """One prompt, or several equal ones: after `max_tokens` of them the cache holds the last generated one too."""
    prompt = case.count("prompt_len", minimum=1)
    tokens, sequences = prompt + case.count("max_tokens", default=0), case.count("batch", default=1, minimum=1)
    on.check(At(tokens, sequences))
    return Moment(calls=Calls.of(tokens, prompt, on.engine.options.prefill_step_size), sequences=sequences)


def _batch(case: Case, on: MlxLmOn) -> Moment[int]:
    prompts, generated = _prompts(case.workload["prompt_lens"]), case.count("generated", minimum=1)
    on.check(At(max(prompts) + generated, len(prompts)))
    windows = [m.window for entry in on.reading.entries for m in entry.members if isinstance(m, Rotating)]
    options = on.engine.options
    rows = batched_rows(
        prompts,
        generated,
        windows,
        chunk=options.prefill_step_size,
        prompt_concurrency=options.prompt_concurrency,
        decode_concurrency=options.decode_concurrency,
        max_tokens=generated + _BEYOND,
    )
    calls = Calls.of(max(prompts) + generated, max(prompts), options.prefill_step_size)
    return Moment(calls=calls, sequences=rows.sequences, batched=rows)


def _prompts(given: Any) -> Sequence[int]:
    if not isinstance(given, list) or not 1 <= len(given) <= 10_000:
        raise InvalidCase("`workload.prompt_lens` must be a list of prompt lengths")
    return [whole(length, "workload.prompt_lens", 1) for length in given]


def _options(case: Case, *, batched: bool) -> dict[str, Any]:
    """What was asked of `generate_step` or `BatchGenerator` (which packs nothing), by its own names; the server's names for
    the batch sizes."""
    taken = _BATCHED if batched else _OPTIONS
    options = {name: case.options[name] for name in taken if case.options.get(name) is not None}
    options |= {"dtype": case.options.get("kv_dtype", "auto")}
    named = {"completion_batch_size": "decode_concurrency", "prefill_batch_size": "prompt_concurrency"}
    return options | {own: case.options[name] for name, own in named.items() if case.options.get(name) is not None}


def _release(text: str) -> str | None:
    """`mlx-lm 0.32.2 / mlx 0.32.4 (linux cpu)` -> `0.32.2`."""
    words = text.replace("/", " ").split()
    return words[words.index("mlx-lm") + 1] if "mlx-lm" in words[:-1] else text or None
