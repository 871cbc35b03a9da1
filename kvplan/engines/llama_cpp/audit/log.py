"""What a llama.cpp, Ollama or LM Studio log says of its contexts, held against the prediction, to the printed digits.

Older spellings are read too: `llama_kv_cache_unified: size = …`, `llama_kv_cache_init: kv_size = …`, `KV self size = …`.
A log also lists the model's metadata; what it cuts short must come from the model itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from msgspec import Struct, field

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.engines.kernel.verdicts import ComparedFact, Result
from kvplan.engines.llama_cpp.context import Refusal, make_context
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.log import log_lines
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params
from kvplan.errors import GgufError, Refused
from kvplan.gguf.header import SkippedArray
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.limits import AUDIT_STARTS

_MIB: Final = r"\s*([\d.]+) MiB"
_KV: Final = re.compile(
    rf"llama_kv_cache\w*: size ={_MIB} \(\s*(\d+) cells,\s*(\d+) layers(?:,\s*(\d+)(?:/\s*(\d+))? seqs)?\)"
    rf"(?:, K \((\w+)\):{_MIB}, V \((\w+)\):{_MIB})?"
)
_SELF: Final = re.compile(rf"KV self size\s*={_MIB}, K \((\w+)\):{_MIB}, V \((\w+)\):{_MIB}")
_INIT: Final = re.compile(r"llama_kv_cache_init: kv_size = (\d+),.*n_layer = (\d+)")
_RECURRENT: Final = re.compile(
    rf"llama_memory_recurrent: size ={_MIB} \(\s*(\d+) cells,\s*(\d+) layers[^)]*\)(?:, R \(f32\):{_MIB}, S \(f32\):{_MIB})?"
)
_SETTING: Final = re.compile(
    r"(?:llama_context|llama_new_context_with_model|llama_init_from_model):\s+"
    r"(n_seq_max|n_ctx|n_batch|n_ubatch|flash_attn|kv_unified|n_rs_seq)\s*=\s*(\S+)"
)
_METADATA: Final = re.compile(r"llama_model_loader: - kv\s+\d+:\s+(\S+) (arr\[\w+,(\d+)\]|\w+)\s+= (.*)")
_OFF: Final = frozenset({"0", "false", "disabled", "off"})
#: A line with one of these makes a file a log of this family.
MARKS: Final = ("llama_model_loader:", "llama_context:", "llama_kv_cache", "llama_new_context_with_model:", "KV self size")
_LONGEST: Final = 4096  # characters of a line that are looked at


class Logged(Struct):
    """One context of a log: where it begins, its settings, its model's metadata, and each cache line as numbers."""

    line: int
    keys: Mapping[str, Any]
    settings: dict[str, str] = field(default_factory=dict)
    caches: list[dict[str, str]] = field(default_factory=list)
    types: tuple[str, str] = ("f16", "f16")
    streams: int = 0
    swa_full: bool = False


def contexts(lines: Iterable[str]) -> list[Logged]:
    """Every context that a log shows a cache of, in order."""
    found: list[Logged] = []
    keys: dict[str, Any] = {}
    now: Logged | None = None
    pending: dict[str, str] = {}
    for number, raw in enumerate(lines, start=1):
        line = raw[:_LONGEST]
        if "- kv" in line and (match := _METADATA.search(line)):
            if match[1] == "general.architecture":
                keys = {}
            keys[match[1]] = _value(match[2], match[3], match[4].strip())
            continue
        if now is None or (now.caches and _SETTING.search(line)):
            now, pending = Logged(line=number, keys=keys), {}
        _read_line(line, now, pending)
        if now.caches and (not found or found[-1] is not now):
            now.keys = keys
            found.append(now)
    return found


def _value(kind: str, length: str | None, text: str) -> Any:
    """A metadata value as the loader prints it; long ones are cut short there."""
    if length is not None:
        entries = text.removeprefix("[").removesuffix("]").split(",")
        if text.endswith("...") or len(entries) != int(length):
            return SkippedArray(int(length))
        return [_value(kind.partition("[")[2].partition(",")[0], None, entry.strip()) for entry in entries]
    if kind == "bool":
        return text == "true"
    if kind == "str":
        return text
    try:
        return float(text) if kind.startswith("f") else int(text)
    except ValueError:
        return text


def _read_line(line: str, now: Logged, pending: dict[str, str]) -> None:
    if match := _SETTING.search(line):
        now.settings.setdefault(match[1], match[2])
    elif "size =" in line and (match := _KV.search(line)):
        cache = {"size_mib": match[1], "cells": match[2], "layers": match[3]}
        if match[6]:
            cache |= {"k_mib": match[7], "v_mib": match[9]}
            now.types = (match[6], match[8])
        if match[5]:
            now.streams = int(match[5])
        now.caches.append(cache)
    elif "kv_size" in line and (match := _INIT.search(line)):
        pending |= {"cells": match[1], "layers": match[2]}
    elif "KV self" in line and (match := _SELF.search(line)):
        now.caches.append({"size_mib": match[1], "k_mib": match[3], "v_mib": match[5], **pending})
        now.types = (match[2], match[4])
    elif "recurrent: size" in line and (match := _RECURRENT.search(line)):
        cache = {"size_mib": match[1], "cells": match[2], "layers": match[3]}
        now.caches.append(cache | ({"r_mib": match[4], "s_mib": match[5]} if match[4] else {}))
    elif "using full-size SWA cache" in line:
        now.swa_full = True


def judge_log(name: str, lines: Iterable[str], model: Model | None) -> list[Result]:
    """One result a context: every printed number, and what kvplan would print there."""
    return [_judged(name, logged, model) for logged in islice(contexts(lines), AUDIT_STARTS)]


def _judged(name: str, logged: Logged, model: Model | None) -> Result:
    where = f"{name}:{logged.line}"
    recorded = {f"cache[{i}].{key}": text for i, cache in enumerate(logged.caches) for key, text in cache.items()}
    predicted = _predicted(logged, model, where)
    if isinstance(predicted, NotPredicted):
        facts = tuple(ComparedFact(name=key, predicted=None, recorded=text) for key, text in recorded.items())
        return Result(id=where, engine="llama.cpp", status="not_predicted", facts=facts, reason=predicted.reason)
    mine = {f"cache[{i}].{key}": text for i, cache in enumerate(predicted) for key, text in cache.items()}
    facts = tuple(
        ComparedFact(name=key, predicted=as_printed(mine.get(key), text), recorded=text) for key, text in recorded.items()
    )
    exact = all(fact.agrees for fact in facts) and len(predicted) == len(logged.caches)
    reason = "" if len(predicted) == len(logged.caches) else f"{len(predicted)} cache objects are predicted"
    return Result(id=where, engine="llama.cpp", status="exact" if exact else "differs", facts=facts, reason=reason)


def as_printed(mine: str | None, text: str) -> str | None:
    """A predicted number with as many decimals as are printed: people shorten `4224.00` to `4224.0`."""
    if mine is None or "." not in mine:
        return mine
    return f"{float(mine):.{len(text.partition('.')[2])}f}"


def _predicted(logged: Logged, model: Model | None, where: str) -> list[dict[str, str]] | NotPredicted:
    try:
        keys = logged.keys if model is None else gguf_keys(model)
    except Refused as problem:
        return NotPredicted(reason=problem.reason, see=problem.see)
    if "general.architecture" not in keys:
        return NotPredicted(reason="the log does not list its model's metadata: name it with --model")
    try:
        h = read_hparams(keys, where)
    except GgufError as problem:
        more = "; the log cuts long values short: name the model with --model" if model is None else ""
        return NotPredicted(reason=f"{problem}{more}")
    params = params_of(logged, h)
    context = make_context(h, params)
    if isinstance(context, Refusal):
        return NotPredicted(reason=f"llama.cpp refuses: {context.message}")
    lines = log_lines(h, context, type_k=params.type_k, type_v=params.type_v)
    ours = Logged(line=0, keys={})
    for line in lines:
        _read_line(line, ours, {})
    return ours.caches


def params_of(logged: Logged, h: Hparams) -> Params[int]:
    """The parameters that lead to this context; what an older log leaves out follows from its cache lines."""
    sequences = max(_number(logged.settings.get("n_seq_max")), 1)
    unified = logged.settings.get("kv_unified")
    # before streams came, all sequences shared one pool
    shared = logged.streams == 1 or (sequences > 1 and not logged.streams)
    is_unified = shared if unified is None else unified not in _OFF
    largest = max((_number(cache.get("cells")) for cache in logged.caches), default=0)
    n_ctx = _number(logged.settings.get("n_ctx")) or largest * (1 if is_unified else sequences)
    k, v = (kind if kind in CACHE_TYPES else "f16" for kind in logged.types)
    drafts = h.n_layer_all - h.n_layer
    only_drafts = drafts and logged.caches and logged.caches[0].get("layers") == str(drafts)
    return Params(
        n_ctx=n_ctx or h.context_length,
        n_seq_max=sequences,
        n_batch=_number(logged.settings.get("n_batch")) or 2048,
        n_ubatch=_number(logged.settings.get("n_ubatch")) or 512,
        n_rs_seq=_number(logged.settings.get("n_rs_seq")),
        kv_unified=is_unified,
        swa_full=logged.swa_full,
        flash_attn="off" if logged.settings.get("flash_attn") in _OFF else "on",
        type_k=k,
        type_v=v,
        ctx_type="mtp" if only_drafts else "default",
    )


def _number(text: str | None) -> int:
    return min(int(text), 2**40) if text is not None and text.isdecimal() and len(text) < 16 else 0
