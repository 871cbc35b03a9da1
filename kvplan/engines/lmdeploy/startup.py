"""What an LMDeploy server printed while it started, held against the prediction.

At INFO it prints its options (`input backend=…`) and the cache's config once the pool is decided; at DEBUG also the memory that
was free and what it set aside, each cut to whole MiB. TurboMind prints one line. The model is named with `--model`.

Source: lmdeploy 0.18.0 `serve/core/async_engine.py`, `pytorch/engine/executor/base.py`, `pytorch/config.py:CacheConfig`;
`src/turbomind/turbomind.cc`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from msgspec import Struct, field

from kvplan.domain.model import Model
from kvplan.engines.kernel.options import own_options
from kvplan.engines.kernel.verdicts import ComparedFact, Result
from kvplan.engines.lmdeploy.about import ABOUT
from kvplan.engines.lmdeploy.engine import Lmdeploy, LmdeployOn
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.engines.lmdeploy.pool import reserve, runtime_bytes
from kvplan.errors import KvplanError, Refused
from kvplan.limits import AUDIT_STARTS
from kvplan.units import MIB

#: A line with one of these makes a file a log of LMDeploy.
MARKS: Final = ("Building CacheEngine with config:", "Object cache budget:", "backend_config=PytorchEngineConfig(")
_LONGEST: Final = 2**14  # characters of a line that are looked at
_SETTING: Final = re.compile(
    r"(?<![\w.])(\w{2,40})=(?:<\w{1,40}\.\w{1,40}: (-?\d{1,18})>|(-?\d{1,18}(?:\.\d{1,18})?(?:e-?\d{1,3})?)"
    r"|'([\w.\-]{0,40})'|(True|False))"
)
_FREE: Final = re.compile(r"minimal free gpu memory: (-?\d{1,12}) mb")
_RUNTIME: Final = re.compile(r"estimated max runtime memory: (\d{1,12}) mb")
_N: Final = r"(\d{1,12}(?:\.\d{1,6})?)"
_REGION: Final = re.compile(rf"Object cache budget: {_N} MB from free {_N} MB and ratio {_N}")
_REFUSALS: Final = ("No enough gpu memory for",)
#: What the cache's config repeats of the options after it has adjusted them.
_FACTS: Final = ("block_size", "kernel_block_size", "num_gpu_blocks", "max_prefill_token_num", "num_state_caches")


class Start(Struct):
    """One start of a server: where it begins, its options, and what it printed."""

    line: int
    flags: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    free_mib: int | None = None
    runtime_mib: int | None = None
    refused: str = ""
    region: tuple[float, float, float] | None = None  # MB, free MB, ratio

    @property
    def has_started(self) -> bool:
        """Whether it came as far as its pool, or was refused."""
        return bool(self.cache or self.refused or self.region)


def starts(lines: Iterable[str]) -> Iterator[Start]:
    """Every start that printed something of its pool, in order."""
    now, drafter = Start(line=1), False
    for number, raw in enumerate(lines, start=1):
        line = raw[:_LONGEST]
        if "input backend=" in line and now.has_started:
            yield now
            now = Start(line=number)
        drafter = "Building Spec CacheEngine" in line or (drafter and "CacheConfig(" not in line)
        if "PytorchEngineConfig(" in line:
            now.flags |= _settings(line.partition("PytorchEngineConfig(")[2])
        elif "CacheConfig(" in line and not drafter and not now.cache:
            now.cache = _settings(line.partition("CacheConfig(")[2])
        if match := _FREE.search(line):
            now.free_mib = int(match[1])
        if match := _RUNTIME.search(line):
            now.runtime_mib = int(match[1])
        if match := _REGION.search(line):
            now.region = (float(match[1]), float(match[2]), float(match[3]))
        if any(words in line for words in _REFUSALS):
            now.refused = line[line.index("No enough") :][:120]
    if now.has_started:
        yield now


def _settings(text: str) -> dict[str, Any]:
    """`name=value` pairs of a dataclass; None and lists are left out."""
    return {
        name: enum or number or (word == "True" if word else quoted)
        for name, enum, number, quoted, word in _SETTING.findall(text)
    }


def judge_log(name: str, lines: Iterable[str], model: Model | None) -> list[Result]:
    """One result a start: every number of the pool, and what kvplan says would be printed there."""
    return [_judged(f"{name}:{start.line}", start, model) for start in islice(starts(lines), AUDIT_STARTS)]


def _judged(where: str, start: Start, model: Model | None) -> Result:
    if start.region is not None:
        return _verdict(where, [_region(start.region)])
    if model is None:
        return _unpredicted(where, start, "a server's log does not describe its model: name it with --model")
    if str(start.flags.get("dp", 1)) != "1":
        return _unpredicted(where, start, "data parallelism was not studied")
    try:
        prepared = Lmdeploy.made(_options(start)).on(model)
    except KvplanError as problem:
        return _unpredicted(where, start, str(problem))
    if not isinstance(prepared, LmdeployOn):
        return _unpredicted(where, start, "the log is of another backend than the PyTorch engine")
    return _verdict(where, list(_compared(start, prepared)))


def _options(start: Start) -> dict[str, Any]:
    """The options that the log tells: those that were typed, and the batch that the card's name decided."""
    known = LmdeployOptions.__struct_fields__
    told = {name: value for name, value in start.flags.items() if name in known}
    if "max_batches" in start.cache:
        told["max_batch_size"] = start.cache["max_batches"]
    options: LmdeployOptions = own_options(ABOUT, LmdeployOptions, told)
    return {name: value for name, value in told.items() if getattr(options, name) is not None}


def _compared(start: Start, on: LmdeployOn) -> Iterator[ComparedFact]:
    """The printed numbers beside the predicted ones; a memory that is cut to MiB leaves a band."""
    plan, options = on.plan, on.options
    low = high = None
    if start.free_mib is not None:
        low, high = (_reserved(on, amount) for amount in (start.free_mib * MIB, (start.free_mib + 1) * MIB - 1))
    if start.refused:
        predicted = low if isinstance(low, str) else high if isinstance(high, str) else "" if low is not None else None
        yield ComparedFact(name="refused", predicted=predicted or None, recorded=start.refused)
        return
    if not isinstance(low, str) and not isinstance(high, str) and low is not None and high is not None:
        tokens = low["max_prefill_token_num"]
    else:
        low = high = None
        tokens = _whole(start.cache, "max_prefill_token_num") or options.max_prefill_token_num
    if start.runtime_mib is not None:
        runtime = runtime_bytes(plan, options, options.max_batch_size or 0, tokens)
        yield ComparedFact(name="runtime_mib_printed", predicted=runtime // MIB, recorded=start.runtime_mib)
    known = {"block_size": plan.block_size, "kernel_block_size": plan.kernel_block_size}
    for name in _FACTS:
        recorded = _whole(start.cache, name)
        if recorded is None:
            continue
        if name in known:
            yield ComparedFact(name=name, predicted=known[name], recorded=recorded)
        elif low is not None and high is not None:
            ends = (low[name], high[name])
            inside = ends[0] <= recorded <= ends[1]
            yield ComparedFact(name=name, predicted=recorded if inside else ends[0], recorded=recorded, low=ends[0], high=ends[1])
        elif name == "num_state_caches" and plan.states:
            slots = (options.max_batch_size or 0) + 2 + options.prefix_cache_state_budget
            yield ComparedFact(name=name, predicted=slots, recorded=recorded)


def _whole(cache: dict[str, Any], name: str) -> int | None:
    value = cache.get(name)
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def _reserved(on: LmdeployOn, free_bytes: int) -> dict[str, int] | str:
    """The numbers of a pool of `free_bytes`, or the engine's refusal."""
    try:
        found = reserve(on.plan, on.options, free_bytes)
    except Refused as problem:
        return problem.reason
    return {name: getattr(found, name) for name in ("max_prefill_token_num", "num_state_caches")} | {
        "num_gpu_blocks": found.num_blocks
    }


def _region(printed: tuple[float, float, float]) -> ComparedFact:
    """TurboMind's region is its share of what was free, both cut to hundredths of a MiB."""
    size, free, ratio = printed
    low, high = round((free - 0.005) * ratio - 0.01, 2), round((free + 0.005) * ratio + 0.01, 2)
    predicted = size if low <= size <= high else round(free * ratio, 2)
    return ComparedFact(name="object_cache_mib_printed", predicted=predicted, recorded=size, low=low, high=high)


def _verdict(where: str, facts: list[ComparedFact]) -> Result:
    if not facts:
        reason = "the log shows a pool, and not the memory that it was made of: start with --log-level DEBUG"
        return Result(id=where, engine=ABOUT.name, status="not_predicted", reason=reason, is_log=True)
    agree = all(fact.agrees for fact in facts)
    return Result(id=where, engine=ABOUT.name, status="exact" if agree else "differs", facts=tuple(facts), is_log=True)


def _unpredicted(where: str, start: Start, reason: str) -> Result:
    printed = {name: _whole(start.cache, name) for name in _FACTS}
    known = {name: value for name, value in printed.items() if value is not None}
    facts = tuple(ComparedFact(name=name, predicted=None, recorded=value) for name, value in known.items())
    return Result(id=where, engine=ABOUT.name, status="not_predicted", facts=facts, reason=reason, is_log=True)
