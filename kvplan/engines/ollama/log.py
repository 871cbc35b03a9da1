"""What a log of Ollama's server says: of its own engine's caches, of the default context, and llama.cpp's lines between.

Own engine (`runner --ollama-engine`, up to 0.24): `msg=load request="{Operation:commit … KvSize:8192 …}"`, then one
`msg="kv cache" device=CUDA0 size="450.0 MiB"` a device. Before a llama.cpp runner the same words print an estimate. From 0.30 on
all is llama-server's, whose lines llama.cpp's reader takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec import Struct, field

from kvplan.domain.model import Model
from kvplan.engines.kernel.releases import Release, parse_version
from kvplan.engines.kernel.verdicts import ComparedFact, Result, Status
from kvplan.engines.llama_cpp.audit import log as llama_log
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.ollama.about import ABOUT
from kvplan.engines.ollama.guess import cache_by_layer
from kvplan.engines.ollama.launch import TIERS
from kvplan.engines.ollama.metadata import Metadata
from kvplan.engines.ollama.own_engine import layer_bytes
from kvplan.engines.ollama.printed import human_bytes2
from kvplan.errors import GgufError, Refused
from kvplan.gguf.hparams import read_hparams
from kvplan.limits import AUDIT_STARTS
from kvplan.units import GIB, MIB

#: A line with one of these makes a file a log of Ollama's server.
MARKS: Final = ('msg="kv cache"', "msg=load request=", 'msg="starting runner"', 'msg="starting llama-server"', "default_num_ctx=")
_LONGEST: Final = 8192
_DEVICES: Final = 64
_CACHE: Final = re.compile(r'msg="kv cache" device=("[^"]{1,60}"|\S{1,60}) size="([\d.]{1,12} [KMG]?i?B)"')
_LOAD: Final = re.compile(
    r"Operation:(\w+) .{0,400}?Parallel:(\d{1,6}) BatchSize:(\d{1,7}) FlashAttention:(\w+) KvSize:(\d{1,10}) KvCacheType:(\w*) "
)
_LAYERS: Final = re.compile(r"ID:(\S{1,80}) Layers:\d+\((\d{1,5})\.\.(\d{1,5})\)")
_SERVER: Final = re.compile(r"version (\d+\.\d+[\w.-]{0,20})\)")
_RUNNER: Final = re.compile(r'msg="starting (?:runner|llama server)" cmd=')
_TIER: Final = re.compile(r'total_vram="([\d.]{1,10}) ([GM]iB|B)" default_num_ctx=(\d{1,9})')
_ON: Final = frozenset({"true", "Enabled"})
_NOT_NAMED: Final = "the log does not list its model's metadata: name it with --model"
_OWN: Final = "by reading Ollama's own engine (kvcache/causal.go), not by running it"


class Request(Struct):
    """What the runner was told to load, and what was printed of it."""

    line: int
    own: bool
    parallel: int = 1
    batch: int = 512
    flash: bool = False
    kv_size: int = 0
    cache_type: str = ""
    layers: tuple[tuple[int, int], ...] = ()  # of each GPU, first and last
    printed: list[tuple[str, str]] = field(default_factory=list)  # device, size


class _Watch:
    """Goes through a log once, and hands its lines on."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.tiers: list[tuple[int, str, str, int]] = []
        self.release: Release = parse_version(ABOUT.latest)
        self._own = True
        self._now: Request | None = None

    def lines(self, lines: Iterable[str]) -> Iterator[str]:
        """Every line, looked at."""
        for number, line in enumerate(lines, start=1):
            if "msg=" in line:
                self._look(number, line[:_LONGEST])
            yield line

    def _look(self, number: int, line: str) -> None:
        if found := _SERVER.search(line):
            self.release = parse_version(found[1])
        if _RUNNER.search(line):
            self._own, self._now = "--ollama-engine" in line, None
        elif "request=" in line and (found := _LOAD.search(line)):
            self._asked(
                Request(
                    line=number,
                    own=self._own,
                    parallel=max(1, int(found[2])),
                    batch=int(found[3]),
                    flash=found[4] in _ON,
                    kv_size=int(found[5]),
                    cache_type=found[6],
                    layers=tuple((int(first), int(last)) for _, first, last in _LAYERS.findall(line)),
                )
            )
        elif found := _CACHE.search(line):
            if self._now is None:  # an estimate, printed before the runner is told
                self._now = Request(line=number, own=self._own)
            if not self._now.printed and len(self.requests) < AUDIT_STARTS:
                self.requests.append(self._now)
            if len(self._now.printed) < _DEVICES:
                self._now.printed.append((found[1].strip('"'), found[2]))
        elif (found := _TIER.search(line)) and len(self.tiers) < AUDIT_STARTS:
            self.tiers.append((number, found[1], found[2], int(found[3])))

    def _asked(self, request: Request) -> None:
        """A load; of llama.cpp's runner it tells what the estimate before it was of."""
        now = self._now
        if now is not None and now.printed and not now.own and not now.kv_size:
            request.line, request.printed = now.line, now.printed
            self.requests[self.requests.index(now)] = request
        self._now = request


def judge_log(name: str, lines: Iterable[str], model: Model | None, **more: Any) -> list[Result]:
    """One result a load, one a default context, and llama.cpp's, in the order of the log."""
    watch = _Watch()
    found = list(llama_log.judge_log(name, watch.lines(lines), model, **more))
    found += [_loaded(name, request, model, watch.release) for request in watch.requests]
    found += [_tiered(name, *tier) for tier in watch.tiers]
    return sorted(found, key=lambda result: _line(result.id))


def _line(identity: str) -> int:
    number = identity.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


def _loaded(name: str, request: Request, model: Model | None, release: Release) -> Result:
    what = "kv_cache" if request.own else "estimated_kv_cache"
    recorded = {f"{what}[{device}]": size for device, size in request.printed}
    try:
        mine = _predicted(request, model, release)
    except (Refused, GgufError) as problem:
        facts = tuple(ComparedFact(name=key, predicted=None, recorded=text) for key, text in recorded.items())
        reason = problem.reason if isinstance(problem, Refused) else str(problem)
        return Result(id=f"{name}:{request.line}", engine=ABOUT.name, status="not_predicted", facts=facts, reason=reason)
    facts = tuple(
        ComparedFact(name=key, predicted=human_bytes2(mine[i]) if i < len(mine) else None, recorded=text)
        for i, (key, text) in enumerate(recorded.items())
    )
    exact = all(fact.agrees for fact in facts)
    reason = _OWN if request.own else "Ollama's estimate before llama.cpp allocates, not what is allocated"
    return Result(
        id=f"{name}:{request.line}",
        engine=ABOUT.name,
        status="exact" if exact else "differs",
        facts=facts,
        reason=reason,
        is_log=True,
    )


def _predicted(request: Request, model: Model | None, release: Release) -> list[int]:
    """Bytes of each device that a line was printed of: GPUs in their order, then the CPU.

    Raises:
        Refused: nothing says what was loaded, or the engine is not known for it.
    """
    if not request.kv_size:
        raise Refused("the log does not say for how many tokens: the line that asks the runner to load is missing")
    if model is None:
        raise Refused(_NOT_NAMED)
    keys = gguf_keys(model)
    num_ctx = request.kv_size // request.parallel
    if request.own:
        h = read_hparams(keys, model.name)
        asked: dict[str, Any] = {"slots": request.parallel, "batch": request.batch, "num_ctx": num_ctx}
        more: dict[str, Any] = {"flash": request.flash, "cache_type": request.cache_type, "release": release}
        sizes = list(layer_bytes(h, **asked, **more))
    else:
        sizes = cache_by_layer(Metadata(keys), num_ctx, request.parallel, request.batch, request.cache_type)
    cards = [sum(sizes[first : last + 1]) for first, last in request.layers]
    rest = sum(sizes) - sum(cards)
    return [size for size in (*cards, rest) if size > 0]


def _tiered(name: str, line: int, amount: str, unit: str, printed: int) -> Result:
    """The default context by the memory of all GPUs, which the log rounds to a tenth."""
    scale = {"GiB": GIB, "MiB": MIB, "B": 1}[unit]
    half = scale // 20 if unit != "B" else 0
    value = int(float(amount) * scale) if amount.count(".") <= 1 and amount != "." else 0
    ends = {next(tokens for least, tokens in TIERS if total >= least) for total in (max(0, value - half), value + half)}
    mine = printed if printed in ends else min(ends)
    fact = ComparedFact(name="default_num_ctx", predicted=mine, recorded=printed)
    status: Status = "exact" if fact.agrees else "differs"
    return Result(id=f"{name}:{line}", engine=ABOUT.name, status=status, facts=(fact,), is_log=True)
