"""Facts of recorded scenarios of SGLang's scheduler: what each step held and kept, and what became of each request.

A scenario names no model: the pool and the server's flags stand in `options`. A request of the workload is `[step of arrival,
prompt, most tokens of output]`; a prompt is a number of tokens of its own, or segments `[name, tokens]`, each the first tokens of
what the name stands for (`out:3` is what request 3 is given, `alone:3` the prompt of request 3 that is a number).
"""

from collections.abc import Hashable, Mapping
from typing import Any, Final

from kvplan.engines.kernel.cases import Case, InvalidCase, whole
from kvplan.engines.sglang.scheduler.replay import Asked, Fate, replay, stretches
from kvplan.engines.sglang.scheduler.settings import Settings
from kvplan.limits import REPLAY_POOL_BLOCKS, REPLAY_PROMPT_BLOCKS, REPLAY_STEPS, REPLAY_WORK

_FACTS: Final = ("steps", "used_tokens", "kept_tokens", "retractions", "hit_tokens", "refused", "aborted", "stuck", "requests")
_COUNTS: Final = ("max_total_tokens", "page_size", "max_running_requests", "context_length", "max_prefill_tokens")
_SWITCHES: Final = ("disable_radix_cache", "disable_overlap_schedule")
_OPTIONS: Final = frozenset({*_COUNTS, *_SWITCHES, "chunked_prefill_size", "schedule_conservativeness"})


def is_scenario(case: Case) -> bool:
    """Whether a record is one of the scheduler."""
    return "requests" in case.workload


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that it holds."""
    return {name: expected[name] for name in _FACTS if name in expected}


def asked(expected: Mapping[str, Any]) -> dict[str, Any]:
    """How many steps lie between two entries of `used_tokens`."""
    return {"every": whole(expected.get("every", 1), "expected.every", 1)}


def predict(case: Case, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The scenario, replayed."""
    trace = replay(_settings(case), _requests(case), most_steps=REPLAY_STEPS, most_work=REPLAY_WORK)
    every = asked["every"]
    return {
        "steps": trace.steps,
        "used_tokens": trace.used_tokens[::every],
        "kept_tokens": trace.kept_tokens[::every],
        "retractions": trace.retractions,
        "hit_tokens": trace.hit_tokens,
        "refused": sorted(trace.refused),
        "aborted": sorted(trace.aborted),
        "stuck": trace.stuck,
        "requests": [_outcome(fate) for fate in trace.requests],
    }


def _outcome(fate: Fate) -> list[Any]:
    """A request's steps of admission, first token and end, how often it was retracted, tokens found at each admission."""
    return [fate.admitted_at, fate.first_token_at, fate.finished_at, fate.retractions, fate.hits]


def _settings(case: Case) -> Settings:
    options = case.options
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise InvalidCase(f"`options.{unknown[0][:40]}` is no option of the scheduler that kvplan knows")
    counts = {name: whole(options.get(name), f"options.{name}", 1) for name in _COUNTS}
    for name in _SWITCHES:
        if not isinstance(options.get(name, False), bool):
            raise InvalidCase(f"`options.{name}` must be true or false")
    chunk, share = options.get("chunked_prefill_size"), options.get("schedule_conservativeness", 1.0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1000:
        raise InvalidCase("`options.schedule_conservativeness` must be a number above 0")
    page, tokens = counts["page_size"], counts["max_total_tokens"]
    if not 2 <= tokens // page <= REPLAY_POOL_BLOCKS:
        raise InvalidCase(f"`options.max_total_tokens` must be from 2 to {REPLAY_POOL_BLOCKS:,} pages")
    return Settings(
        tokens=tokens // page * page,
        page=page,
        requests=counts["max_running_requests"],
        context=counts["context_length"],
        chunk=None if chunk is None else whole(chunk, "options.chunked_prefill_size", 1),
        most_prefill=counts["max_prefill_tokens"],
        radix=not options.get("disable_radix_cache", False),
        overlap=not options.get("disable_overlap_schedule", False),
        conservativeness=float(share),
    )


def _requests(case: Case) -> list[Asked]:
    rows = case.workload["requests"]
    if not isinstance(rows, list):
        raise InvalidCase("`workload.requests` must be a list")
    found, parts = [], 0
    for i, row in enumerate(rows):
        where = f"`workload.requests[{i}]`"
        if not isinstance(row, list) or len(row) != 3:
            raise InvalidCase(f"{where} must be [arrival, prompt, output]")
        prompt = row[1] if isinstance(row[1], list) else [[f"alone:{i}", row[1]]]
        if not all(isinstance(part, list) and len(part) == 2 and isinstance(part[0], str | int) for part in prompt):
            raise InvalidCase(f"{where}: a prompt is a number of tokens, or segments [name, tokens]")
        segments = [(_name(str(name), len(rows)), whole(length, where[1:-1])) for name, length in prompt]
        parts += 1 + len(segments)
        if parts > REPLAY_PROMPT_BLOCKS:
            raise InvalidCase(f"`workload.requests`: prompts of more than {REPLAY_PROMPT_BLOCKS:,} segments in all")
        found.append(
            Asked(
                arrival=whole(row[0], where[1:-1]),
                prompt=stretches(segments),
                tokens=sum(length for _, length in segments),
                output=whole(row[2], where[1:-1], 1),
            )
        )
    return found


def _name(name: str, requests: int) -> Hashable:
    """What a segment is of; the output of a request has the name that the scheduler gives it."""
    of = name.removeprefix("out:")
    if of != name and of.isascii() and of.isdigit() and len(of) < 10 and int(of) < requests:
        return ("out", int(of))
    return name
