"""The memory lines of a vLLM log: read as printed, predicted, and turned into what only that machine knows.

Source of the forms: `v1/worker/gpu_worker.py`, `v1/worker/gpu_model_runner.py`, `utils/mem_utils.py` of 0.6 to 0.33.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain import gpu_totals
from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger, Line
from kvplan.domain.machine import Learned
from kvplan.domain.model import Model
from kvplan.engines.kernel.verdicts import ComparedFact
from kvplan.engines.vllm.ledger import build, graphs, machine
from kvplan.engines.vllm.ledger.build import ledger
from kvplan.engines.vllm.ledger.process import settings_of
from kvplan.engines.vllm.ledger.settings import Card
from kvplan.engines.vllm.loops import served
from kvplan.engines.vllm.options import VllmOptions
from kvplan.engines.vllm.plan import make_plan
from kvplan.units import GIB, MIB

_G: Final = r"([\d.]{1,12}) ?G(?:i)?B"
#: Fact -> the ways in which it is printed.
PATTERNS: Final[dict[str, tuple[re.Pattern[str], ...]]] = {
    "weights_gib_printed": (
        re.compile(rf"Model loading took {_G}"),
        re.compile(rf"[Mm]odel weights take {_G}"),
        re.compile(rf"weights memory: {_G}"),
        re.compile(rf"Actual usage is {_G} for weight"),
    ),
    "peak_activation_gib_printed": (
        re.compile(rf"{_G} for peak activation"),
        re.compile(rf"activation peak memory takes {_G}"),
        re.compile(rf"torch peak memory increase: {_G}"),
    ),
    "non_torch_gib_printed": (
        re.compile(rf"{_G} for non-torch memory"),
        re.compile(rf"non_torch_memory takes {_G}"),
        re.compile(rf"non-torch forward increase memory: {_G}"),
    ),
    "cudagraph_gib_printed": (re.compile(rf"Graph capturing finished in .{{1,20}}, took {_G}"),),
    "cudagraph_estimate_gib_printed": (re.compile(rf"Estimated CUDA graph memory: {_G}"),),
    "total_gib_printed": (
        re.compile(rf"Free memory on device .{{0,20}}\([\d.]{{1,12}}/{_G}\)"),
        re.compile(rf"total_memory=\s?{_G}"),
        re.compile(rf"Total GPU memory: {_G}"),
    ),
    "free_gib_printed": (
        re.compile(r"Free memory on device .{0,20}\(([\d.]{1,12})/[\d.]{1,12} GiB\)"),
        re.compile(rf"free_memory=\s?{_G}"),
        re.compile(rf"Initial free memory:? {_G}"),
    ),
    "requested_gib_printed": (
        re.compile(rf"Desired GPU memory utilization is \([\d.]{{1,8}}, {_G}\)"),
        re.compile(rf"Requested memory: [\d.]{{1,8}} \(util\), {_G}"),
    ),
}
_UTILIZATION: Final = (
    re.compile(r"Desired GPU memory utilization is \(([\d.]{1,8}),"),
    re.compile(r"Requested memory: ([\d.]{1,8}) \(util\)"),
    re.compile(r"gpu_memory_utilization['\"]?\s*[=:]\s*([\d.]{1,8})"),
)
_SEQS: Final = re.compile(r"max_num_seqs['\"]?\s*[=:]\s*(\d{1,7})")
_EAGER: Final = re.compile(r"enforce_eager['\"]?\s*[=:]\s*(True|False)")
_QUANTIZATION: Final = re.compile(r"quantization['\"]?\s*[=:]\s*['\"]?([\w-]{1,40})")


def read_line(line: str, printed: dict[str, float], flags: dict[str, Any]) -> None:
    """Put what one line of a log says about memory into `printed` and `flags`."""
    for name, patterns in PATTERNS.items():
        for pattern in patterns:
            match = pattern.search(line)
            if match and _is_number(match[1]) and name not in printed:
                printed[name] = float(match[1].rstrip("."))
    for pattern in _UTILIZATION:
        match = pattern.search(line)
        if match and _is_number(match[1]) and 0 < float(match[1]) <= 1:
            flags["gpu_memory_utilization"] = match[1]
    for name, pattern in (("max_num_seqs", _SEQS), ("enforce_eager", _EAGER), ("quantization", _QUANTIZATION)):
        match = pattern.search(line)
        if match and match[1] != "None":
            flags[name] = match[1]


def _is_number(text: str) -> bool:
    return text.count(".") <= 1 and text.replace(".", "").isdecimal()


def compared(
    printed: Mapping[str, float],
    options: VllmOptions,
    release: tuple[int, ...],
    model: Model,
    tensors: Described,
    card: Card | None,
) -> list[ComparedFact]:
    """Every printed memory line beside what the ledger says; figures in GiB as the log prints them."""
    card = card or card_by_total(printed.get("total_gib_printed"))
    if card is None:
        return []
    total = printed.get("total_gib_printed")
    known = Learned(total=int(total * GIB)) if total else Learned()
    settings = settings_of(options, make_plan(served(model), options, release), release)
    found, _ = ledger(tensors, settings, card, known)
    lines: dict[str, Line | None] = {
        "weights_gib_printed": _weights(found),
        "peak_activation_gib_printed": found.line(build.ACTIVATION),
        "non_torch_gib_printed": found.line(machine.NON_TORCH),
        "cudagraph_gib_printed": found.line(graphs.CAPTURED),
        "cudagraph_estimate_gib_printed": found.line(graphs.ESTIMATE),
        "requested_gib_printed": found.requested,
        "available_kv_gib": found.available,
    }
    return [
        ComparedFact(
            name=name,
            predicted=_like(line.bytes, printed[name]),
            recorded=printed[name],
            low=round(line.low / GIB, 3),
            high=round(line.high / GIB, 3),
            counts=False,
        )
        for name, line in lines.items()
        if line is not None and name in printed
    ]


def _weights(found: Ledger) -> Line:
    loaded = [line for line in found.lines if line.name in {build.WEIGHTS, build.LORA, build.DRAFTER}]
    return Line(
        name=build.WEIGHTS,
        bytes=sum(line.bytes for line in loaded),
        low=sum(line.low for line in loaded),
        high=sum(line.high for line in loaded),
        basis="rule",
        source=loaded[0].source,
    )


def _like(amount: int, printed: float) -> float:
    """An amount as the log would print it, to the printed figure's digits (two at least)."""
    return round(amount / GIB, max(2, len(str(printed).partition(".")[2])))


def card_by_total(total_gib: float | None) -> Card | None:
    """The card whose printed totals hold this one, if only one kind does; of several the first Hopper card, then the first."""
    if not total_gib:
        return None
    total = int(total_gib * GIB)
    slack = GIB // 100
    found = [
        (name, known) for name, known in gpu_totals.every().items()
        if known.low is not None and known.high is not None and known.low - slack <= total <= known.high + slack
    ]  # fmt: skip
    if not found:
        return None
    name, known = next(((name, known) for name, known in found if known.capability == 90), found[0])
    return Card(
        name=name, total=total, total_low=total, total_high=total, total_source="the log", total_basis="your log",
        compute_capability=known.capability, multiprocessors=known.sms or 108, l2_bytes=known.l2 or 40 * MIB,
    )  # fmt: skip


def learned(printed: Mapping[str, float], flags: Mapping[str, Any], source: str) -> Learned | None:
    """What only that machine knows, or None where the log printed none of it."""
    total, free = printed.get("total_gib_printed"), printed.get("free_gib_printed")

    def amount(name: str) -> int | None:
        value = printed.get(name)
        return None if value is None else int(value * GIB)

    found = Learned(
        total=amount("total_gib_printed"),
        non_torch=amount("non_torch_gib_printed"),
        graphs=amount("cudagraph_gib_printed"),
        estimate=amount("cudagraph_estimate_gib_printed"),
        context=int((total - free) * GIB) if total and free and total >= free else None,
        source=source,
        tensor_parallel=int(flags.get("tensor_parallel_size", 1)),
    )
    values = (found.total, found.non_torch, found.graphs, found.estimate, found.context)
    return found if any(value is not None for value in values) else None
