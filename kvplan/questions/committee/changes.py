"""When a committee does not fit: single changes to its plan that make it fit, each tried before it is offered."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from shlex import quote
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.budget import counted_weights, gpu_memory
from kvplan.domain.gpus import gpu as by_name
from kvplan.domain.gpus import gpus
from kvplan.domain.plan import Plan
from kvplan.engines import option_names
from kvplan.errors import KvplanError, OptionError
from kvplan.questions.committee.result import Committee, Part
from kvplan.questions.fit.fixes import count, dtypes_of
from kvplan.questions.fit.question import Fix
from kvplan.units import human_bytes

_WEIGHTS: Final = ("fp8", "int4")
_SHORTEST: Final = 1024
_SPLITS: Final = (2, 4, 8)
Ask = Callable[[Mapping[str, str]], Committee]
Source = str | Path | Mapping[str, Any] | Plan


def changes(answer: Committee, source: Source, given: Mapping[str, str], scale: Fraction, ask: Ask) -> Iterator[Fix]:
    """The cheapest change of each kind that makes the plan fit, the least painful kind first.

    Fewer users for all, one narrower cache, one shorter context, one member's weights quantised, one member split over
    cards that are there, a larger card, more cards.
    """
    if answer.scale:
        typed = _typed(source, given, {}, answer.scale)
        yield Fix(change=f"{answer.scale} of the plan's users", result="fits", command=typed)
    for kind in (_caches(answer), _contexts(answer), _weights(answer), _splits(answer), _cards(answer), _more_cards(answer)):
        for words, override in kind:
            found = _fitting(ask, {**given, **override})
            if found is not None:
                spare = f"fits, with {human_bytes(found.free_bytes)} to spare"
                yield Fix(change=words, result=spare, command=_typed(source, given, override, scale))
                break


def _fitting(ask: Ask, overrides: Mapping[str, str]) -> Committee | None:
    """The changed plan's answer, if it fits."""
    try:
        answer = ask(overrides)
    except KvplanError:
        return None
    return answer if answer.fits else None


def _typed(source: Source, given: Mapping[str, str], override: Mapping[str, str], scale: Fraction) -> str:
    """The command line that asks about the changed plan."""
    name = "PLAN.yaml" if isinstance(source, Mapping | Plan) else quote(str(source))
    words = ["kvplan committee", name]
    for key, value in {**given, **override}.items():
        words.append(f"--{key} {quote(value)}" if key in {"gpu", "memory"} else f"--set {quote(f'{key}={value}')}")
    words += [f"--scale {scale}"] if scale != 1 else []
    return " ".join(words)


def _by_size(answer: Committee) -> Iterator[Part]:
    """The members with a predicted cache, the largest cache first."""
    yield from sorted((p for p in answer.parts if p.allocation is not None), key=lambda p: -p.cache_bytes)


def _caches(answer: Committee) -> Iterator[tuple[str, dict[str, str]]]:
    """One member's cache in a narrower type, the widest of them first."""
    for row_number in range(12):
        for part in _by_size(answer):
            narrower = [row for row in dtypes_of(part.member.engine) if row.block_bytes < 2 * row.block]
            if row_number < len(narrower):
                name = narrower[row_number].name
                yield f"{part.member.name}: its cache in {name}", {f"{part.member.name}.kv_dtype": name}


def _contexts(answer: Committee) -> Iterator[tuple[str, dict[str, str]]]:
    """One member's context halved until it fits."""
    for step in range(1, 12):
        for part in _by_size(answer):
            context = part.member.context >> step
            if context >= _SHORTEST:
                shorter = count(context)
                yield f"{part.member.name}: a context of {context:,} tokens", {f"{part.member.name}.context": shorter}


def _weights(answer: Committee) -> Iterator[tuple[str, dict[str, str]]]:
    """One member's weights quantised, where its parameters are known."""
    for dtype in _WEIGHTS:
        for part in sorted(answer.parts, key=lambda p: -p.weights.bytes):
            model = part.member.model
            if model is None or model.parameters is None or part.weights.basis != "derived":
                continue
            if counted_weights(model.parameters, dtype).bytes < part.member.weights.bytes:  # both of the whole model
                yield f"{part.member.name}: weights in {dtype}", {f"{part.member.name}.weights_dtype": dtype}


def _splits(answer: Committee) -> Iterator[tuple[str, dict[str, str]]]:
    """One member over more of the cards that are there."""
    for number in _SPLITS:
        for part in _by_size(answer):
            member = part.member
            stages = member.devices // member.tensor_parallel
            if member.tensor_parallel < number <= answer.plan.gpus // stages and not member.cards and _divides(part):
                yield f"{member.name}: split over {number} cards", {f"{member.name}.tensor_parallel": str(number)}


def _divides(part: Part) -> bool:
    return "tensor_parallel" in option_names(part.member.engine)


def _cards(answer: Committee) -> Iterator[tuple[str, dict[str, str]]]:
    """The vendor's cards with more memory, the smallest first; a plan that says its memory keeps it."""
    if answer.plan.memory.basis == "given":
        return
    sizes = []
    for gpu in gpus():
        try:
            size = gpu_memory(gpu).bytes
        except OptionError:  # sold in several sizes
            continue
        if gpu.vendor == answer.plan.gpu.vendor and size > answer.plan.memory.bytes:
            sizes.append((size, gpu.id))
    for _, name in sorted(sizes):
        found = replace(answer.plan, gpu=by_name(name))
        yield f"a larger card ({found.hardware})", {"gpu": found.typed}


def _more_cards(answer: Committee) -> Iterator[tuple[str, dict[str, str]]]:
    """More cards of the same kind, the largest member split over them where that is needed."""
    if answer.plan.gpu.memory_kind != "discrete":
        return
    for number in (n for n in _SPLITS if n > answer.plan.gpus):
        found = replace(answer.plan, gpus=number)
        yield f"more cards ({found.hardware})", {"gpu": found.typed}
        for part in _by_size(answer):
            member = part.member
            if _divides(part) and member.devices == member.tensor_parallel < number and not member.cards:
                split = {f"{member.name}.tensor_parallel": str(number)}
                yield f"more cards ({found.hardware}), {member.name} split over them", {"gpu": found.typed, **split}
