"""What a vLLM server printed at start-up, 0.6 to 0.33, held against the prediction, to the printed digits.

A start begins where the engine says its configuration. From there the log tells the release, the dtypes, the parallelism
and the flags that were given; what it does not tell is vLLM's default. The model is named with `--model`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.described import Described
from kvplan.domain.machine import Learned
from kvplan.domain.model import Model
from kvplan.engines.kernel.options import own_options
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.kernel.verdicts import ComparedFact, Result
from kvplan.engines.vllm.audit import printed as vllm_printed
from kvplan.engines.vllm.audit import startup
from kvplan.engines.vllm.audit.fieldlog import versions
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.ledger import cards
from kvplan.engines.vllm.ledger.settings import Card
from kvplan.engines.vllm.options import VllmOptions
from kvplan.errors import KvplanError
from kvplan.limits import AUDIT_STARTS

#: A line with one of these makes a file a log of this family.
MARKS: Final = (
    "KV cache size:", "# GPU blocks:", "# cuda blocks:", "Available KV cache memory", "vLLM API server version", "LLM engine (v",
    "To serve at least one request with the model",
)  # fmt: skip
_LONGEST: Final = 2**14  # characters of a line that are looked at
_START: Final = re.compile(r"Initializing an? (?:V1 )?LLM engine \(v?(\d{1,3}\.\d{1,4}(?:\.\d{1,4})?)")
_SERVER: Final = re.compile(r"vLLM API server version v?(\d{1,3}\.\d{1,4}(?:\.\d{1,4})?)")
#: The engine's words for a setting -> the flag; numbers, texts in quotes, True and False.
_CONFIG: Final = {
    "max_seq_len": "max_model_len",
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "decode_context_parallel_size": "decode_context_parallel_size",
    "kv_cache_dtype": "kv_cache_dtype",
    "enable_prefix_caching": "enable_prefix_caching",
    "dtype": "dtype",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "block_size": "block_size",
    "max_model_len": "max_model_len",
    "num_gpu_blocks_override": "num_gpu_blocks_override",
    "disable_hybrid_kv_cache_manager": "disable_hybrid_kv_cache_manager",
    "mamba_cache_dtype": "mamba_cache_dtype",
    "mamba_ssm_cache_dtype": "mamba_ssm_cache_dtype",
    "mamba_cache_mode": "mamba_cache_mode",
    "async_scheduling": "async_scheduling",
    "swap_space": "swap_space",
}
_SETTING: Final = re.compile(rf"(?<![\w.])['\"]?({'|'.join(_CONFIG)})['\"]?\s*[=:]\s*(?:torch\.)?['\"]?([\w.\-]{{1,40}})")
_DRAFTER: Final = re.compile(r"method=['\"]([\w-]{1,30})['\"].{0,200}?num_spec(?:ulative)?_tokens=(\d{1,3})")
_ASYNC: Final = re.compile(r"Asynchronous scheduling is (enabled|disabled)")
_BATCH: Final = re.compile(r"max_num_batched_tokens=(\d{1,9})")
_N: Final = r"([\d,]{1,20})"
#: Fact -> how it is printed, by the releases.
_PRINTED: Final = {
    "available_kv_gib_printed": re.compile(
        r"(?:Available KV cache memory: |kv_cache_size=|reserved for KV Cache is )([\d.]{1,12})\s?GiB"
    ),
    "num_gpu_blocks": re.compile(rf"(?:# (?:GPU|cuda) blocks: |num_gpu_blocks is: ){_N}"),
    "num_cpu_blocks": re.compile(rf"# CPU blocks: {_N}"),
    "num_tokens": re.compile(rf"(?:GPU|CPU) KV cache size: {_N} tokens"),
    "max_concurrency_printed": re.compile(r"Maximum concurrency for [\d,]{1,20} tokens per request: ([\d.]{1,20})x"),
    "attention_block_size_printed": re.compile(rf"Setting attention block size to {_N} tokens"),
    "mamba_padding_percent_printed": re.compile(r"Padding mamba page size by ([\d.]{1,12})%"),
    "needed_gib_printed": re.compile(r"\(([\d.]{1,12}) GiB KV cache is needed"),
    "estimated_max_model_len_printed": re.compile(rf"estimated maximum model length is {_N}"),
    "max_tokens_stored_printed": re.compile(rf"tokens that can be stored in KV cache \({_N}\)"),
}
_USABLE: Final = re.compile(r"available KV cache memory \(([\d.]{1,12}) GiB\)")
_LENGTHS: Final = (
    re.compile(rf"Maximum concurrency for {_N} tokens per request"),
    re.compile(rf"max seq len \({_N}\)"),
)


class Start(Struct):
    """One start of a server: where it begins, its release, its flags and what it printed."""

    line: int
    version: str = ""
    flags: dict[str, Any] = field(default_factory=dict)
    printed: dict[str, int | float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)  # the lines of the start-up, GiB as printed
    memory_flags: dict[str, Any] = field(default_factory=dict)  # flags that decide memory beside the cache

    @property
    def has_started(self) -> bool:
        """Whether it came as far as its pool, or was refused."""
        return bool(self.printed.keys() - {"attention_block_size_printed", "mamba_padding_percent_printed"})


def starts(lines: Iterable[str]) -> list[Start]:
    """Every start that printed something of its pool, in order."""
    found: list[Start] = []
    server = ""
    now = Start(line=1)
    for number, raw in enumerate(lines, start=1):
        line = raw[:_LONGEST]
        if match := _SERVER.search(line):
            server = match[1]
        if match := _START.search(line):
            if now.has_started:
                now = Start(line=number)
            now.version, now.line = match[1], number
        _read_line(line, now)
        startup.read_line(line, now.memory, now.memory_flags)
        if now.has_started and (not found or found[-1] is not now):
            found.append(now)
        now.version = now.version or server
    return found


def _read_line(line: str, now: Start) -> None:
    if "config:" in line or "non-default args" in line or "Namespace(" in line:
        for name, value in _SETTING.findall(line):
            if value not in {"None", "auto"}:
                now.flags[_CONFIG[name]] = value
        if "num_spec" in line and (match := _DRAFTER.search(line)):
            now.flags["speculative_config"] = f'{{"method": "{match[1]}", "num_speculative_tokens": {match[2]}}}'
    elif "hunked prefill is enabled" in line and (match := _BATCH.search(line)):
        now.flags["max_num_batched_tokens"] = match[1]
    if match := _ASYNC.search(line):
        now.flags["async_scheduling"] = str(match[1] == "enabled")
    if "CPU KV cache size" in line:
        now.flags["device"] = "cpu"
    for pattern in _LENGTHS:
        if match := pattern.search(line):
            now.flags["max_model_len"] = match[1].replace(",", "")
    _read_figures(line, now)


def _read_figures(line: str, now: Start) -> None:
    """Printed numbers; of several workers' memory the smallest decides."""
    for name, pattern in _PRINTED.items():
        match = pattern.search(line)
        number = (
            _number(match[1], whole=not name.endswith(("gib_printed", "percent_printed", "concurrency_printed")))
            if match
            else None
        )
        if number is None:
            continue
        if name == "available_kv_gib_printed":
            number = min(number, now.printed.get(name, number))
        now.printed[name] = number
    match = _USABLE.search(line)
    number = _number(match[1], whole=False) if match else None
    if number is not None:
        now.printed["available_gib_printed"] = number


def _number(text: str, *, whole: bool) -> int | float | None:
    digits = text.replace(",", "").rstrip(".")
    try:
        return int(digits) if whole else float(digits)
    except ValueError:
        return None


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
        tensors: what the model loads, for the lines beside the cache.
        gpu: the card, where the log's total does not tell it.
        learn: gets what only the machine knows, one entry a start.
    """
    found = list(islice(starts(lines), AUDIT_STARTS))
    if learn is not None:
        known = (startup.learned(start.memory, start.flags, f"{name}:{start.line}") for start in found)
        learn.extend(one for one in known if one is not None)
    known_card = cards.card(gpu) if gpu else None
    return [_with_memory(_judged(f"{name}:{start.line}", start, model), start, model, tensors, known_card) for start in found]


def _with_memory(result: Result, start: Start, model: Model | None, tensors: Described | None, card: Card | None) -> Result:
    """The result with the memory lines beside their predictions; they decide no verdict."""
    result = replace(result, is_log=True)
    if model is None or tensors is None or result.status == "not_predicted":
        return result
    printed = dict(start.memory)
    if "available_kv_gib_printed" in start.printed:
        printed["available_kv_gib"] = float(start.printed["available_kv_gib_printed"])
    release = parse_version(start.version) if start.version else parse_version(Vllm.about.latest)
    try:
        options = own_options(Vllm.about, VllmOptions, {**start.flags, **start.memory_flags})
        facts = startup.compared(printed, options, release, model, tensors, card)
    except KvplanError:
        return result
    return replace(result, facts=(*facts, *result.facts))


def _judged(where: str, start: Start, model: Model | None) -> Result:
    predicted = _predicted(start, model)
    if isinstance(predicted, NotPredicted):
        facts = tuple(ComparedFact(name=key, predicted=None, recorded=value) for key, value in start.printed.items())
        return Result(id=where, engine="vllm", status="not_predicted", facts=facts, reason=predicted.reason)
    facts = tuple(
        ComparedFact(name=key, predicted=predicted[key].like(value) if key in predicted else None, recorded=value)
        for key, value in _compared(start.printed)
    )
    agree = all(fact.agrees for fact in facts)
    return Result(id=where, engine="vllm", status="exact" if agree else "differs", facts=facts, reason=_remark(start))


def _compared(printed: dict[str, int | float]) -> Iterator[tuple[str, int | float]]:
    """What is compared: the memory is an input alone where nothing printed can predict it."""
    known = printed.keys() & {"num_gpu_blocks", "num_tokens", "estimated_max_model_len_printed"}
    for name, value in printed.items():
        if known or name not in vllm_printed.AVAILABLE:
            yield name, value


def _remark(start: Start) -> str:
    unsaid = [] if start.version else ["the log does not say its release: every set of rules was tried"]
    if "max_num_batched_tokens" not in start.flags and not start.flags.get("device"):
        unsaid.append("nor its batch: 8,192 and 2,048 tokens were tried" if unsaid else "the log does not say its batch")
    return "; ".join(unsaid)


def _predicted(start: Start, model: Model | None) -> dict[str, Any] | NotPredicted:
    if model is None:
        return NotPredicted(reason="a server's log does not describe its model: name it with --model")
    refused = "needed_gib_printed" in start.printed
    inputs = {
        "available": start.printed.get("available_gib_printed" if refused else "available_kv_gib_printed"),
        "blocks": start.printed.get("num_gpu_blocks"),
        "tokens": start.printed.get("num_tokens"),
    }
    asked = {key: value for key, value in inputs.items() if value is not None}
    if refused:
        asked["estimated"] = start.printed.get("estimated_max_model_len_printed", 0)
    batches: list[dict[str, Any]] = [{}] if "max_num_batched_tokens" in start.flags else [{}, {"max_num_batched_tokens": 2048}]
    options = tuple({**start.flags, **batch} for batch in batches)
    try:
        return vllm_printed.predict(model, versions(f"vllm {start.version}"), options, asked)
    except KvplanError as problem:
        return NotPredicted(reason=str(problem))
