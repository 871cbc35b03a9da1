"""What a TensorRT-LLM server printed at start-up, held against the prediction, to the printed digits.

A start begins where the server names its release or prints its arguments. It allocates twice: a cache for the pass that it
measures, which it throws away, and then the real one; every rank prints its own. Sizes are predicted from the tokens beside
them, tokens from the sizes. The model is named with `--model`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec import Struct, field

from kvplan import limits
from kvplan.domain.described import Described
from kvplan.domain.machine import Learned
from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import InvalidCase
from kvplan.engines.kernel.options import build_options
from kvplan.engines.kernel.printed import Between, written_like
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.kernel.verdicts import ComparedFact, Result
from kvplan.engines.tensorrt_llm.about import ABOUT
from kvplan.engines.tensorrt_llm.audit.printed import Near, left, tokens_of
from kvplan.engines.tensorrt_llm.layers import Stage
from kvplan.engines.tensorrt_llm.options import TrtllmOptions
from kvplan.engines.tensorrt_llm.settle import Settled, settle
from kvplan.errors import KvplanError

#: A line with one of these makes a file a log of this family.
MARKS: Final = (
    "[TensorRT-LLM]", "[TRT-LLM]", "for max tokens in paged KV cache", "for k/v cache.", "KV cache manager v2 device quota",
    "tokens in paged KV cache.", "Max tokens in paged KV cache:", "memory usage profiling (torch + non-torch)",
)  # fmt: skip
_LONGEST: Final = 2**15  # characters of a line that are looked at
_N, _G = r"(\d{1,18})", r"(\d{1,9}(?:\.\d{1,6})?)"
_ALLOCATED: Final = re.compile(rf"Allocated {_G} ?GiB for max tokens in paged KV cache \({_N}\)")
_BYTES: Final = re.compile(rf"Allocate {_N} bytes for k/v cache")
_USING: Final = re.compile(rf"Using {_N} tokens in paged KV cache")
_BOTH: Final = re.compile(rf"Max tokens in paged KV cache: {_N}\. Allocating {_N} bytes")
_BLOCK: Final = re.compile(rf"(?:Number of tokens per block: |tokens per block=){_N}")
_PRIMARY: Final = re.compile(rf"(?:Number of blocks in KV cache primary pool: |primary blocks=|primary_blocks: ){_N}")
_FREE: Final = re.compile(rf"Memory usage when calculating max tokens in paged kv cache: total: {_G} ?GiB, available: {_G} ?GiB")
_PEAK: Final = re.compile(
    rf"Peak memory during memory usage profiling \(torch \+ non-torch\): {_G} ?GiB, "
    rf"available KV cache memory when calculating max tokens: {_G} ?GiB, fraction is set {_G}"
)
_TOKEN: Final = re.compile(rf"(?:kv size per token is|kv size is) {_N}")
_TOTAL: Final = re.compile(rf"device total memory {_G} ?GiB")
_TEMPORARY: Final = re.compile(rf"(?:temporary kv cache memory during profiling|tmp kv_mem) {_G} ?GiB")
_LIMITED: Final = re.compile(rf"max_tokens={_N} is provided")
_QUOTA: Final = re.compile(r"KV cache manager v2 device quota set to (\d{1,9}(?:\.\d{1,17})?) ?GiB")
_VERSION: Final = re.compile(r"TensorRT-LLM(?: version: |\] TensorRT-LLM version: )(\d{1,3}\.\d{1,3}(?:\.\d{1,3})?)")
_RANKS: Final = re.compile(rf"MPI size: {_N}")
_FLAG: Final = re.compile(r"(?<![\w.])([a-z_0-9]{2,40})[=:] ?(?:'([^']{0,40})'|\"([^\"]{0,40})\"|([A-Za-z]{2,12}|\d[\d.]{0,20}))")
_ARGUMENTS: Final = ("LlmArgs(", "KvCacheConfig(", "LLM Args", "kv_cache_config")
#: As arguments are printed -> the option here.
_NAMES: Final = {
    "tensor_parallel_size": "tp_size", "tp_size": "tp_size", "pipeline_parallel_size": "pp_size", "pp_size": "pp_size",
    "enable_attention_dp": "enable_attention_dp", "tokens_per_block": "tokens_per_block",
    "free_gpu_memory_fraction": "kv_cache_free_gpu_memory_fraction", "max_seq_len": "max_seq_len",
    "max_batch_size": "max_batch_size", "num_nextn_predict_layers": "num_nextn_predict_layers",
    "mamba_ssm_cache_dtype": "mamba_ssm_cache_dtype", "backend": "backend",
}  # fmt: skip
_DTYPES: Final = frozenset({"auto", "fp8", "nvfp4", "int8", "bfloat16", "float16"})


class Start(Struct):
    """One start of a server: where it begins, its arguments, and what it printed."""

    line: int
    release: str = ""
    flags: dict[str, Any] = field(default_factory=dict)
    told: bool = False
    allocated: list[tuple[int, float | None, int | None]] = field(default_factory=list)  # tokens, GiB or bytes
    blocks: list[int] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    block: int | None = None
    bytes: int | None = None


def starts(lines: Iterable[str]) -> list[Start]:
    """Every start that printed something of its cache, in order."""
    found: list[Start] = []
    now, deploys = Start(line=1), False
    for number, raw in enumerate(lines, start=1):
        line = raw[:_LONGEST]
        deploys = deploys or "autodeploy" in line.lower()
        version = _VERSION.search(line)
        if (version or any(mark in line for mark in _ARGUMENTS[:1])) and (now.allocated or now.shown):
            now = Start(line=number)
        if version:
            now.release = now.release or version[1]
        _read_arguments(line, now)
        _read_cache(line, now, deploys=deploys)
        _read_memory(line, now)
        if (now.allocated or now.shown) and (not found or found[-1] is not now):
            if len(found) == limits.AUDIT_STARTS:
                break
            found.append(now)
    return found


def _read_arguments(line: str, now: Start) -> None:
    if match := _RANKS.search(line):
        now.flags.setdefault("tp_size", match[1])
    if not any(mark in line for mark in _ARGUMENTS):
        return
    now.told = True
    for name, *values in _FLAG.findall(line):
        value = next((value for value in values if value), "")
        if name in _NAMES and value not in {"", "None"}:
            now.flags[_NAMES[name]] = value
        elif name == "dtype" and value in _DTYPES:
            where = line.rfind("KvCacheConfig(", 0, line.find(f"dtype='{value}'") + 1)
            if where >= 0:
                now.flags["kv_cache_dtype"] = value
    if now.flags.get("backend") not in {"pytorch", "tensorrt"}:
        now.flags.pop("backend", None)


def _read_cache(line: str, now: Start, *, deploys: bool) -> None:
    if match := _ALLOCATED.search(line):
        if not (deploys and float(match[1]) == 0):  # AutoDeploy's stand-in holds nothing
            _add(now, int(match[2]), float(match[1]), None)
    elif match := _BOTH.search(line):
        _add(now, int(match[1]), None, int(match[2]))
    elif match := _BYTES.search(line):
        now.bytes = int(match[1])
    elif (match := _USING.search(line)) and now.bytes is not None:
        _add(now, int(match[1]), None, now.bytes)
        now.bytes = None
    if match := _BLOCK.search(line):
        now.block = int(match[1])
    if (match := _PRIMARY.search(line)) and int(match[1]) not in now.blocks:
        now.blocks.append(int(match[1]))
    if match := _QUOTA.search(line):
        now.shown["quota_gib_printed"] = float(match[1])


def _add(now: Start, tokens: int, printed: float | None, exact: int | None) -> None:
    if (tokens, printed, exact) not in now.allocated and tokens:
        now.allocated.append((tokens, printed, exact))


def _read_memory(line: str, now: Start) -> None:
    if match := _FREE.search(line):
        now.memory |= {"available_gib": float(match[2])}
    if match := _PEAK.search(line):
        now.memory |= {"peak_gib": float(match[1]), "free_gpu_memory_fraction": float(match[3])}
        now.shown.setdefault("available_kv_gib_printed", float(match[2]))
        for pattern, name in ((_TOTAL, "device_total_gib"), (_TEMPORARY, "temporary_kv_gib")):
            if more := pattern.search(line):
                now.memory[name] = float(more[1])
        if more := _TOKEN.search(line):
            now.shown.setdefault("kv_bytes_per_token_printed", int(more[1]))
    if match := _LIMITED.search(line):
        now.memory["max_tokens"] = int(match[1])


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
        tensors, gpu, learn: not used: what it measured is printed, and the cache follows from that.
    """
    return [_judged(f"{name}:{start.line}", start, model) for start in starts(lines)]


def _judged(where: str, start: Start, model: Model | None) -> Result:
    settled = _settled(start, model)
    if isinstance(settled, str):
        facts = tuple(ComparedFact(name=key, predicted=None, recorded=value) for key, value in _printed(start))
        return Result(id=where, engine=ABOUT.name, status="not_predicted", facts=facts, reason=settled, is_log=True)
    try:
        facts = tuple(_compared(start, settled))
    except InvalidCase as problem:
        return Result(id=where, engine=ABOUT.name, status="not_predicted", reason=str(problem), is_log=True)
    known = [fact for fact in facts if fact.predicted is not None]
    if not known:
        reason = "the log shows a cache, and not what it was made of"
        return Result(id=where, engine=ABOUT.name, status="not_predicted", facts=facts, reason=reason, is_log=True)
    agree = all(fact.agrees for fact in known)
    remark = "" if start.told else "the log does not show its arguments: TensorRT-LLM's defaults were taken"
    return Result(
        id=where, engine=ABOUT.name, status="exact" if agree else "differs", facts=facts, reason=remark, is_log=True
    )  # fmt: skip


def _settled(start: Start, model: Model | None) -> Settled | str:
    if model is None:
        return "a server's log does not describe its model: name it with --model"
    flags = dict(start.flags)
    if start.block is not None:
        flags |= {"tokens_per_block": start.block, "compute_capability": 1}
    try:
        options = build_options(TrtllmOptions, flags, engine=ABOUT.name)
        return settle(model, options, parse_version(start.release or ABOUT.latest), any_model=True)
    except KvplanError as problem:
        return str(problem)


def _printed(start: Start) -> Iterator[tuple[str, Any]]:
    for tokens, printed, exact in start.allocated:
        yield f"num_tokens[{tokens}]", tokens
        if printed is not None:
            yield f"total_gib_printed[{tokens}]", printed
        if exact is not None:
            yield f"kv_bytes[{tokens}]", exact
    yield from start.shown.items()


def _compared(start: Start, settled: Settled) -> Iterator[ComparedFact]:
    last = start.allocated[-1] if start.allocated else None
    for one in start.allocated:
        tokens, printed, exact = one
        stage = _stage(settled, one)
        shown = {"total_gib_printed": printed, "kv_bytes": exact}
        memory = start.memory if one is last else {}
        possible = None if settled.windowed else tokens_of(settled, stage, shown, memory)
        yield ComparedFact(name=f"num_tokens[{tokens}]", predicted=_like(possible, tokens), recorded=tokens)
        total = None if settled.windowed else tokens * stage.token_bytes
        if printed is not None:
            yield ComparedFact(name=f"total_gib_printed[{tokens}]", predicted=_gib(total, printed), recorded=printed)
        if exact is not None:
            yield ComparedFact(name=f"kv_bytes[{tokens}]", predicted=total, recorded=exact)
    if start.allocated and not settled.windowed and start.block is not None:
        counts = [tokens // settled.tokens_per_block for tokens, _, _ in start.allocated]
        for seen in start.blocks:
            predicted = seen if seen in counts else counts[-1]
            yield ComparedFact(name=f"num_blocks_printed[{seen}]", predicted=predicted, recorded=seen)
    available, stage = left(start.memory), settled.worst
    for name, value in start.shown.items():
        if name == "kv_bytes_per_token_printed":
            yield ComparedFact(name=name, predicted=stage.token_bytes, recorded=value)
        elif name == "available_kv_gib_printed":
            yield ComparedFact(name=name, predicted=_like(available, value), recorded=value)
        else:
            yield ComparedFact(name=name, predicted=_like(available, round(value, 2)), recorded=round(value, 2))


def _like(possible: Between | Near | None, recorded: Any) -> Any:
    return possible.like(recorded) if possible is not None else None


def _gib(total: int | None, printed: float) -> Any:
    from fractions import Fraction

    if total is None:
        return None
    return written_like(printed, (Fraction(total),), "total_gib_printed", unit="GiB", convention="binary")


def _stage(settled: Settled, one: tuple[int, float | None, int | None]) -> Stage:
    """The rank that printed the line."""
    tokens, printed, exact = one
    for stage in settled.stages:
        total = tokens * stage.token_bytes
        if total == exact or (printed is not None and _gib(total, printed) == printed):
            return stage
    return settled.worst
