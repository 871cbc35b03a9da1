"""Facts of recorded scenarios of vLLM's scheduler: what each tick held, and what became of each request.

A scenario names no model: its groups of layers stand in `config.groups`, as the engine's planner made them. A request of the
workload is `[tick of arrival, prompt, most tokens of output, priority]`; a prompt is a number of tokens of its own, or
segments `[name, tokens]`, each the first tokens of what the name stands for (`out:3` is what request 3 is given).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kvplan.engines.kernel.cases import Case, InvalidCase, whole
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.vllm.scheduler.replay import Asked, Replayed, replay
from kvplan.engines.vllm.scheduler.settings import Settings
from kvplan.limits import REPLAY_POOL_BLOCKS, REPLAY_PROMPT_BLOCKS, REPLAY_STEPS, REPLAY_WORK
from kvplan.units import MAX_COUNT

_FACTS: Final = ("steps", "used_blocks", "preemptions", "hit_tokens", "requests")
#: What follows from the rest.
_DERIVED: Final = frozenset({"max_in_flight_tokens", "prefix_match_unit"})
_OF_A_GROUP: Final = ("kind", "block_size", "window", "chunk", "mode", "checkpoint_blocks", "checkpoint_alignment")

#: Groups of the largest models; what has more is given fewer steps.
_USUAL_GROUPS: Final = 8


def is_scenario(case: Case) -> bool:
    """Whether a record is one of the scheduler."""
    return "groups" in case.config and "requests" in case.workload


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that it holds."""
    return {name: expected[name] for name in _FACTS if name in expected}


def asked(expected: Mapping[str, Any]) -> dict[str, Any]:
    """How many ticks lie between two entries of `used_blocks`."""
    return {"every": whole(expected.get("every", 1), "expected.every", 1)}


def predict(case: Case, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The scenario, replayed."""
    settings = _settings(case)
    times = max(1, len(settings.groups) // _USUAL_GROUPS)  # every group is looked at in every step
    trace = replay(settings, _requests(case, settings), most_steps=REPLAY_STEPS // times, most_work=REPLAY_WORK // times)
    return {
        "steps": trace.steps,
        "used_blocks": trace.used_blocks[:: asked["every"]],
        "preemptions": trace.preemptions,
        "hit_tokens": trace.hit_tokens,
        "requests": _outcomes(trace),
    }


def _outcomes(trace: Replayed) -> list[list[Any]]:
    """A request's ticks of admission, first token and end, how often it was displaced, tokens hit at each admission."""
    return [[r.admitted_at, r.first_token_at, r.finished_at, r.preemptions, r.hits] for r in trace.requests]


def _settings(case: Case) -> Settings:
    groups = case.config.get("groups")
    if not isinstance(groups, list) or not 1 <= len(groups) <= 64 or not all(isinstance(group, dict) for group in groups):
        raise InvalidCase("`config.groups` must be a list of 1 to 64 objects")
    given: dict[str, Any] = {name: value for name, value in case.options.items() if name not in _DERIVED}
    given |= {name: case.config.get(name) for name in ("scheduler_block_size", "hash_block_size")}
    given["groups"] = [{name: group[name] for name in _OF_A_GROUP if name in group} for group in groups]
    given["release"] = parse_version(case.engine_version)
    unknown = sorted(given.keys() - set(Settings.__struct_fields__))
    if unknown:
        raise InvalidCase(f"`options.{unknown[0][:40]}` is no option of the scheduler that kvplan knows")
    try:
        settings = msgspec.convert(given, Settings)
    except msgspec.ValidationError as problem:
        raise InvalidCase(f"options of the scheduler: {problem}") from problem
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """Numbers that make sense together.

    Raises:
        InvalidCase: they do not.
    """
    for name in ("max_model_len", "max_num_batched_tokens", "max_num_seqs", "scheduler_block_size", "hash_block_size"):
        whole(getattr(settings, name), f"options.{name}", 1)
    if not 2 <= settings.num_gpu_blocks <= REPLAY_POOL_BLOCKS:
        raise InvalidCase(f"`options.num_gpu_blocks` must be from 2 to {REPLAY_POOL_BLOCKS:,}")
    if not 0 <= settings.watermark <= 1:
        raise InvalidCase("`options.watermark` must be from 0 to 1")
    for name in ("long_prefill_token_threshold", "max_num_active_seqs", "prefix_cache_retention_interval"):
        value = getattr(settings, name)
        if value is not None:
            whole(value, f"options.{name}")
    for spec in settings.groups:
        whole(spec.block_size, "config.groups[].block_size", 1)
        if settings.scheduler_block_size % spec.block_size or (
            settings.enable_prefix_caching and spec.block_size % settings.hash_block_size
        ):
            raise InvalidCase("`config.groups`: block sizes must divide the scheduler's and be multiples of `hash_block_size`")
        if spec.kind == "sliding":
            whole(spec.window, "config.groups[].window", 1)
        if spec.kind == "chunked":
            whole(spec.chunk, "config.groups[].chunk", 1)
            if settings.enable_prefix_caching and spec.block_size != settings.alignment:
                raise InvalidCase("`config.groups`: vLLM finds no prefixes of chunked groups beside other block sizes")
        if spec.checkpoint_alignment is not None:
            whole(spec.checkpoint_alignment, "config.groups[].checkpoint_alignment", 1)


def _requests(case: Case, settings: Settings) -> list[Asked]:
    rows = case.workload["requests"]
    if not isinstance(rows, list):
        raise InvalidCase("`workload.requests` must be a list")
    requests, units = [], 0
    for i, row in enumerate(rows):
        if not isinstance(row, list) or not 3 <= len(row) <= 4:
            raise InvalidCase(f"`workload.requests[{i}]` must be [arrival, prompt, output, priority]")
        prompt = row[1] if isinstance(row[1], list) else [[f"alone:{i}", row[1]]]
        if not all(isinstance(part, list) and len(part) == 2 and isinstance(part[0], str | int) for part in prompt):
            raise InvalidCase(f"`workload.requests[{i}]`: a prompt is a number of tokens, or segments [name, tokens]")
        segments = tuple((str(name), whole(length, f"workload.requests[{i}]")) for name, length in prompt)
        units += 1 + sum(length for _, length in segments) // settings.hash_block_size
        if units > REPLAY_PROMPT_BLOCKS:
            raise InvalidCase(f"`workload.requests`: prompts of more than {REPLAY_PROMPT_BLOCKS:,} blocks in all")
        priority = row[3] if len(row) > 3 else 0
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_COUNT:
            raise InvalidCase(f"`workload.requests[{i}]`: a priority is a whole number")
        arrival, output = whole(row[0], f"workload.requests[{i}]"), whole(row[2], f"workload.requests[{i}]", 1)
        requests.append(Asked(arrival=arrival, prompt=segments, max_tokens=output, priority=priority))
    return requests
