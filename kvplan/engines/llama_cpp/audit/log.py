"""What a llama.cpp, Ollama or LM Studio log says of its contexts, held against the prediction, to the printed digits.

Older spellings are read too: `llama_kv_cache_unified: size = …`, `llama_kv_cache_init: kv_size = …`, `KV self size = …`.
A log also lists the model's metadata; what it cuts short must come from the model itself. Of a bare excerpt, what stands in the
line counts (`4/1 seqs`, `2 rs_seq`, `K (q8_0)`). Buffers by device are held against the placement where the log says enough, and
the engine's own `memory breakdown` against the context. A fork that names itself is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import Struct, field

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.engines.kernel.verdicts import ComparedFact, Result
from kvplan.engines.llama_cpp.audit.gpu_logs import BACKENDS, bands_of
from kvplan.engines.llama_cpp.builds import FIRST, LATEST, build
from kvplan.engines.llama_cpp.context import Refusal, make_context
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.log import log_lines
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params
from kvplan.engines.llama_cpp.placement.devices import CUDA, Device
from kvplan.engines.llama_cpp.placement.place import Asked, place
from kvplan.errors import GgufError, Refused
from kvplan.gguf.header import SkippedArray
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.limits import AUDIT_STARTS
from kvplan.units import MIB

_MIB: Final = r"\s*([\d.]+) MiB"
_KV: Final = re.compile(
    rf"llama_kv_cache\w*: size ={_MIB} \(\s*(\d+) cells,\s*(\d+) layers(?:,\s*(\d+)(?:/\s*(\d+))? seqs)?\)"
    rf"(?:, K \((\w+)\):{_MIB}, V \((\w+)\):{_MIB})?"
)
_SELF: Final = re.compile(rf"KV self size\s*={_MIB}, K \((\w+)\):{_MIB}, V \((\w+)\):{_MIB}")
_INIT: Final = re.compile(r"llama_kv_cache_init: kv_size = (\d+),.*n_layer = (\d+)")
_RECURRENT: Final = re.compile(
    rf"llama_memory_recurrent: size ={_MIB} \(\s*(\d+) cells,\s*(\d+) layers(?:,\s*(\d+) seqs(?:\s+(\d+) rs_seq)?)?[^)]*\)"
    rf"(?:, R \(f32\):{_MIB}, S \(f32\):{_MIB})?"
)
_BUFFER: Final = re.compile(rf"(?:^|\s)([A-Z][\w.\[\]:]{{0,40}})\s+(KV|RS|model|compute) buffer size ={_MIB}")
_DEVICE: Final = re.compile(r"using device (\w{1,20}) \(.{0,120}?\)(?: \([^)]{0,60}\))? - (\d{1,8}) MiB free")
_OFFLOADED: Final = re.compile(r"offloaded (\d{1,4})/(\d{1,4}) layers to GPU")
_BREAKDOWN: Final = re.compile(
    r"\|\s+- (\w{1,20}) \(.{0,80}?\)\s*\|\s*(\d{1,8}) = (\d{1,8}) \+ \(\s*(\d{1,8}) =\s*(\d{1,8}) \+\s*(\d{1,8}) \+\s*(\d{1,8})\)"
)
_BUILD: Final = re.compile(r"(?:^|\W)build: (\d{3,6}) \(|system_info: .{0,40}build = (\d{3,6})|\bb(\d{4,6})-[0-9a-f]{7,}")
#: Words by which forks and programs around llama.cpp name themselves in their logs.
_FORKS: Final = (
    ("ik_llama.cpp", re.compile(r"ik_llama|\bmla_attn\b|fused_moe|c\^KV")),
    ("koboldcpp", re.compile(r"koboldcpp", re.IGNORECASE)),
    ("LM Studio", re.compile(r"lm ?studio", re.IGNORECASE)),
    ("a fork with turboquant caches", re.compile(r"[KV] \(turbo\w*\)")),
)
_SETTING: Final = re.compile(
    r"(?:llama_context|llama_new_context_with_model|llama_init_from_model):\s+"
    r"(n_seq_max|n_ctx|n_batch|n_ubatch|flash_attn|kv_unified|n_rs_seq)\s*=\s*(\S+)"
)
_METADATA: Final = re.compile(r"llama_model_loader: - kv\s+\d+:\s+(\S+) (arr\[\w+,(\d+)\]|\w+)\s+= (.*)")
_OFF: Final = frozenset({"0", "false", "disabled", "off"})
#: A line with one of these makes a file a log of this family.
MARKS: Final = ("llama_model_loader:", "llama_context:", "llama_kv_cache", "llama_new_context_with_model:", "KV self size")
_MOST_DEVICES: Final = 16
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
    buffers: dict[tuple[str, str], float] = field(default_factory=dict)  # (device, what) -> MiB, those of one device together
    devices: dict[str, int] = field(default_factory=dict)  # name -> MiB free
    offloaded: int = -1
    breakdown: dict[str, tuple[int, ...]] = field(default_factory=dict)  # device -> total, free, self, model, context, compute
    fork: str = ""
    build: int = 0


def contexts(lines: Iterable[str]) -> list[Logged]:
    """Every context that a log shows a cache of, in order."""
    found: list[Logged] = []
    keys: dict[str, Any] = {}
    now: Logged | None = None
    pending: dict[str, str] = {}
    machine = _Machine()
    for number, raw in enumerate(lines, start=1):
        line = raw[:_LONGEST]
        machine.read(line)
        if "- kv" in line and (match := _METADATA.search(line)):
            if match[1] == "general.architecture":
                keys = {}
            keys[match[1]] = _value(match[2], match[3], match[4].strip())
            continue
        if now is None or (now.caches and _SETTING.search(line)):
            now, pending = Logged(line=number, keys=keys), {}
        _read_line(line, now, pending)
        _read_places(line, now)
        if now.caches and (not found or found[-1] is not now):
            now.keys = keys
            found.append(now)
            machine.given_to(now)
    return found


class _Machine:
    """What a log says before a context is made: the devices, the layers on them, the build, and who prints it."""

    def __init__(self) -> None:
        self.devices: dict[str, int] = {}
        self.offloaded, self.build, self.fork = -1, 0, ""

    def read(self, line: str) -> None:
        """One line."""
        if "using device" in line and (match := _DEVICE.search(line)) and len(self.devices) < _MOST_DEVICES:
            self.devices[match[1]] = int(match[2])
        elif "offloaded" in line and (match := _OFFLOADED.search(line)):
            self.offloaded = int(match[1])
        if not self.build and "build" in line and (match := _BUILD.search(line)):
            self.build = int(next(group for group in match.groups() if group))
        if not self.fork:
            self.fork = next((name for name, words in _FORKS if words.search(line)), "")

    def given_to(self, now: Logged) -> None:
        """The context that was found gets it."""
        now.devices, now.offloaded, now.build, now.fork = dict(self.devices), self.offloaded, self.build, self.fork


def _read_places(line: str, now: Logged) -> None:
    """Buffers by device, and the breakdown at the end."""
    if "buffer size" in line and (match := _BUFFER.search(line)) and len(now.buffers) < 4 * _MOST_DEVICES:
        key = (match[1], match[2])
        now.buffers[key] = now.buffers.get(key, 0.0) + float(match[3])
    elif "+ (" in line and (match := _BREAKDOWN.search(line)) and len(now.breakdown) < _MOST_DEVICES:
        now.breakdown[match[1]] = tuple(int(group) for group in match.groups()[1:])


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
        if match[4]:
            now.settings.setdefault("n_seq_max", match[4])
        now.caches.append(cache)
    elif "kv_size" in line and (match := _INIT.search(line)):
        pending |= {"cells": match[1], "layers": match[2]}
    elif "KV self" in line and (match := _SELF.search(line)):
        now.caches.append({"size_mib": match[1], "k_mib": match[3], "v_mib": match[5], **pending})
        now.types = (match[2], match[4])
    elif "recurrent: size" in line and (match := _RECURRENT.search(line)):
        cache = {"size_mib": match[1], "cells": match[2], "layers": match[3]}
        if match[4]:
            now.settings.setdefault("n_seq_max", match[4])
        if match[5]:
            now.settings.setdefault("n_rs_seq", match[5])
        now.caches.append(cache | ({"r_mib": match[6], "s_mib": match[7]} if match[6] else {}))
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
    if logged.fork:
        reason = "; ".join(filter(None, (f"the log is of {logged.fork}: it is held against llama.cpp's own rules", reason)))
    more = tuple(_places(logged, model, where))
    facts += more
    exact = exact and all(fact.agrees for fact in more if fact.counts)
    return Result(id=where, engine="llama.cpp", status="exact" if exact else "differs", facts=facts, reason=reason, is_log=True)


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
    foreign = next((kind for kind in logged.types if kind not in CACHE_TYPES), "")
    if foreign:
        who = logged.fork or "a fork"
        return NotPredicted(
            reason=f"cache type {foreign[:20]} is none of llama.cpp's: the log is of {who}, whose sizes are not known"
        )
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
        release=build(logged.build) if logged.build >= FIRST else LATEST,
    )


def _places(logged: Logged, model: Model | None, where: str) -> Iterator[ComparedFact]:
    """Caches and buffers by device, and the breakdown's sums: shown; the split of several cards may have been typed."""
    try:
        h = read_hparams(logged.keys if model is None else gguf_keys(model), where)
    except (GgufError, Refused):
        return
    params = params_of(logged, h)
    context = make_context(h, params)
    if isinstance(context, Refusal):
        return
    for device, sums in logged.breakdown.items():
        if len(logged.breakdown) == 1:
            size = int(context.total_bytes) // MIB
            yield ComparedFact(name=f"breakdown[{device}].context", predicted=size, recorded=sums[4])
    printed = {name for name, what in logged.buffers if what in {"KV", "RS"} and name not in {"CPU", "CPU_Mapped"}}
    names = [name for name in logged.devices if name in printed] or sorted(printed)
    if not names or any(name.startswith("RPC") for name in names):
        return
    cards = _cards(names, logged.devices)
    placed = place(h, context, model.tensors if model is not None else (), Asked(n_gpu_layers=logged.offloaded), cards)
    if isinstance(placed, Refusal):
        return
    bands = bands_of(f"b{logged.build}" if logged.build else "", h, context, placed, None, params)
    for part, band in zip(placed.parts, bands, strict=True):
        sizes = {"KV": part.kv_bytes, "RS": part.state_bytes}
        for what, size in sizes.items():
            shown = logged.buffers.get((part.name, what))
            if shown is not None:
                mine = round(size / MIB, 2)
                counts = len(names) == 1  # of several, a typed split is not in the log
                yield ComparedFact(name=f"{part.name}.{what}_mib", predicted=mine, recorded=round(shown, 2), counts=counts)
        shown = logged.buffers.get((part.name, "compute"))
        if shown is not None:
            ends = {"low": round(band.low / MIB, 2), "high": round(band.high / MIB + 0.01, 2)}
            best = round(band.best / MIB, 2)
            yield ComparedFact(name=f"{part.name}.compute_mib", predicted=best, recorded=shown, counts=False, inside=True, **ends)
        shown = logged.buffers.get((part.name, "model"))
        if shown is not None and part.model_bytes:
            mine = round(part.model_bytes / MIB, 2)
            yield ComparedFact(name=f"{part.name}.model_mib", predicted=mine, recorded=round(shown, 2), counts=False)


def _cards(names: Sequence[str], free: Mapping[str, int]) -> tuple[Device, ...]:
    """The cards of a log; those whose free memory it does not print count alike."""
    size = {name: free.get(name, 24 * 1024) * MIB for name in names}
    kinds = {name: BACKENDS.get(name.rstrip("0123456789"), CUDA) for name in names}
    return tuple(Device(name=name, backend=kinds[name], total_bytes=size[name], free_bytes=size[name]) for name in names)


def _number(text: str | None) -> int:
    return min(int(text), 2**40) if text is not None and text.isdecimal() and len(text) < 16 else 0
