"""What an SGLang server printed at start-up, held against the prediction, to the printed digits.

A start begins where the server prints its arguments, or loads weights again after its pools. Every device prints the same
lines; the first of them count, so a drafter's own pool, which comes later, is left alone. Sizes are predicted from the tokens
and slots beside them, tokens from the sizes, running requests and windows' tokens from the tokens. The model is named with
`--model`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

from kvplan import limits
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.described import Described
from kvplan.domain.machine import Learned
from kvplan.domain.model import Model
from kvplan.engines.kernel.options import build_options
from kvplan.engines.kernel.printed import Between, written_like
from kvplan.engines.kernel.verdicts import ComparedFact, Result
from kvplan.engines.sglang.about import ABOUT
from kvplan.engines.sglang.arguments import Arguments, settle
from kvplan.engines.sglang.audit import startup
from kvplan.engines.sglang.audit.printed import sizes, tokens_of
from kvplan.engines.sglang.layers import layout
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.pool import capped
from kvplan.engines.sglang.requests import asked_requests, request_cap
from kvplan.errors import KvplanError

#: A line with one of these makes a file a log of this family.
MARKS: Final = (
    "server_args=ServerArgs(", "KV Cache is allocated.", "Mamba Cache is allocated.", "SWAKVPool mem usage",
    "max_total_num_tokens=",
)  # fmt: skip
_LONGEST: Final = 2**15  # characters of a line that are looked at
_FLAGS: Final = frozenset(
    {
        "kv_cache_dtype", "dtype", "tp_size", "pp_size", "dp_size", "attn_dp_size", "enable_dp_attention", "dcp_size",
        "page_size", "context_length", "mem_fraction_static", "chunked_prefill_size", "max_running_requests",
        "max_total_tokens", "swa_full_tokens_ratio", "disable_radix_cache", "disable_overlap_schedule",
        "disable_hybrid_swa_memory", "attention_backend", "prefill_attention_backend", "decode_attention_backend",
        "mamba_full_memory_ratio", "max_mamba_cache_size", "mamba_ssm_dtype", "speculative_algorithm",
        "speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens", "mamba_radix_cache_strategy",
        "speculative_ngram_max_bfs_breadth", "dsa_prefill_backend", "dsa_decode_backend", "disaggregation_mode",
        "enable_multimodal",
    }
)  # fmt: skip
_FLAG: Final = re.compile(r"(?<![\w.])([a-z_]{2,40})=(?:'([^']{0,60})'|(None|True|False|-?[\d.]{1,20}))")
_N: Final = r"([\d,]{1,20})"
_G: Final = r"([\d.]{1,12}) ?GB"
_ROWS: Final = re.compile(
    rf"(Full |SWA )?KV Cache is allocated\.(?: dtype: torch\.(\w{{1,30}}),)? #tokens: {_N}, "
    rf"(?:KV size: {_G}|K size: {_G}, V size: {_G})"
)
_SPLIT: Final = re.compile(rf"SWAKVPool mem usage: {_G}, swa size: {_N}, full size: {_N}")
_STATES: Final = re.compile(
    rf"Mamba Cache is allocated\. max_mamba_cache_size: {_N}, conv_state size: {_G}, ssm_state size: {_G}"
)
_SERVED: Final = re.compile(rf"max_total_num_tokens={_N}, chunked_prefill_size=(?:-?\d+|None).{{0,80}}?max_running_requests={_N}")
_CONTEXT: Final = re.compile(rf"context_len={_N}")
_DTYPES: Final = {"float8_e4m3fn": "fp8_e4m3", "float8_e5m2": "fp8_e5m2"}


class Start(Struct):
    """One start of a server: where it begins, its flags, the counts it printed and the sizes."""

    line: int
    flags: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    shown: dict[str, int | float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)


def starts(lines: Iterable[str]) -> list[Start]:
    """Every start that printed something of its pools, in order."""
    found: list[Start] = []
    now = Start(line=1)
    for number, raw in enumerate(lines, start=1):
        line = raw[:_LONGEST]
        if now.shown and ("server_args=" in line or ("Load weight begin" in line and "speculative_algorithm" not in now.flags)):
            now = Start(line=number, flags=dict(now.flags))
        _read_line(line, now)
        if now.shown and (not found or found[-1] is not now):
            if len(found) == limits.AUDIT_STARTS:
                break
            found.append(now)
    return found


def _read_line(line: str, now: Start) -> None:
    if "server_args=" in line:
        now.flags = {
            name: text or number for name, text, number in _FLAG.findall(line) if name in _FLAGS and (text or number) != "None"
        }
    startup.read_line(line, now.memory, sized=bool(now.shown))
    if match := _ROWS.search(line):
        _read_rows(match, now)
    if match := _SPLIT.search(line):
        _keep(now.shown, "total_gib_printed", match[1])
        _keep(now.counts, "swa_tokens", match[2])
        _keep(now.counts, "full_tokens", match[3])
        now.shown.setdefault("swa_tokens", now.counts.get("swa_tokens", 0))
    if match := _STATES.search(line):
        _keep(now.counts, "slots", match[1])
        _keep(now.shown, "conv_gib_printed", match[2])
        _keep(now.shown, "ssm_gib_printed", match[3])
    if match := _SERVED.search(line):
        _keep(now.counts, "num_tokens", match[1])
        _keep(now.shown, "max_running_requests", match[2])
    if "max_total_num_tokens=" in line and (match := _CONTEXT.search(line)):
        now.flags.setdefault("context_length", match[1].replace(",", ""))


def _read_rows(match: re.Match[str], now: Start) -> None:
    """A pool's line; those of a split say which pool they are of, from 0.5.13 on."""
    word = {"Full ": "full_", "SWA ": "swa_", None: ""}[match[1]]
    if match[2] in _DTYPES:
        now.flags.setdefault("kv_cache_dtype", _DTYPES[match[2]])
    _keep(now.counts, f"{word}tokens" if word else "num_tokens", match[3])
    for name, value in (("kv", match[4]), ("k", match[5]), ("v", match[6])):
        if value is not None:
            _keep(now.shown, f"{word}{name}_gib_printed", value)
    if not word:
        now.shown.setdefault("num_tokens", now.counts.get("num_tokens", 0))


def _keep(found: dict[str, Any], name: str, text: str) -> None:
    """The first device's figure; the others print the same."""
    try:
        found.setdefault(name, float(text) if "." in text else int(text.replace(",", "")))
    except ValueError:
        return


def judge_log(
    name: str,
    lines: Iterable[str],
    model: Model | None,
    *,
    tensors: Described | None = None,
    gpu: str | None = None,
    learn: list[Learned] | None = None,
) -> list[Result]:
    """One result a start: every printed number, and what kvplan says would be printed there.

    Args:
        tensors: what the model loads, for the lines before the pools.
        gpu, learn: not used: SGLang prints no total, so that nothing is learned of the card.
    """
    return [_with_memory(_judged(f"{name}:{start.line}", start, model), start, model, tensors) for start in starts(lines)]


def _with_memory(result: Result, start: Start, model: Model | None, tensors: Described | None) -> Result:
    """The result with the memory lines beside their predictions; they decide no verdict."""
    result = replace(result, is_log=True)
    if model is None or result.status == "not_predicted":
        return result
    tokens = start.counts.get("full_tokens", start.counts.get("num_tokens"))
    told = "mem_fraction_static" in start.flags
    try:
        args = settle(model, build_options(SglangOptions, start.flags, engine=ABOUT.name))
        facts = tuple(startup.compared(start.memory, args, tensors, tokens, told=told))
    except KvplanError:
        return result
    return replace(result, facts=(*facts, *result.facts))


def _judged(where: str, start: Start, model: Model | None) -> Result:
    predicted = _predicted(start, model)
    if isinstance(predicted, NotPredicted):
        facts = tuple(ComparedFact(name=key, predicted=None, recorded=value) for key, value in start.shown.items())
        return Result(id=where, engine=ABOUT.name, status="not_predicted", facts=facts, reason=predicted.reason)
    facts = tuple(
        ComparedFact(name=key, predicted=_as_shown(key, predicted[key], value) if key in predicted else None, recorded=value)
        for key, value in start.shown.items()
    )
    agree = all(fact.agrees for fact in facts)
    remark = "" if start.flags else "the log does not show its arguments: SGLang's defaults were taken"
    return Result(id=where, engine=ABOUT.name, status="exact" if agree else "differs", facts=facts, reason=remark)


def _as_shown(name: str, predicted: Any, recorded: int | float) -> Any:
    if isinstance(predicted, Between):
        return predicted.like(recorded)
    return written_like(recorded, (predicted,), name, unit="GiB", convention="binary") if "gib" in name else predicted


def _predicted(start: Start, model: Model | None) -> Mapping[str, Any] | NotPredicted:
    if model is None:
        return NotPredicted(reason="a server's log does not describe its model: name it with --model")
    try:
        args = settle(model, build_options(SglangOptions, start.flags, engine=ABOUT.name))
    except KvplanError as problem:
        return NotPredicted(reason=str(problem))
    counts = dict(start.counts)
    if args.reading.sliding and "full_tokens" not in counts and "num_tokens" in counts:
        return NotPredicted(reason="the log names the tokens of one pool, and the model has two")
    found: dict[str, Any] = dict(sizes(args, counts))
    tokens = tokens_of(args, start.shown)
    if tokens is not None:
        found["num_tokens"] = tokens
    return found | _counted(args, counts)


def _counted(args: Arguments, counts: Mapping[str, int]) -> dict[str, int]:
    """What follows from the tokens: those of the windows, and running requests."""
    page, found = args.page_size, {}
    tokens = counts.get("full_tokens", counts.get("num_tokens"))
    if tokens is None:
        return {}
    if args.reading.sliding:
        found["swa_tokens"] = int(tokens * args.swa_full_tokens_ratio) // page * page
        if capped(args, layout(args)):
            most = -(-request_cap(args) // page) * page
            found["swa_tokens"] = min(most, args.options.max_total_tokens or most)
    requests = asked_requests(args, tokens)
    if args.reading.state is not None:
        requests = min(requests, counts.get("slots", 0) // args.slots_per_request)
    return found | {"max_running_requests": requests}
