"""`fit`: what one GPU (or several) can serve, and the verdict on a target. Pure: weights and memory come in as budget lines."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.budget import (
    Budget,
    Line,
    given_memory,
    given_reserve,
    gpu_memory,
    not_lent,
    share_of_weights,
    unused,
)
from kvplan.domain.gpus import Gpu
from kvplan.domain.unified import working_set
from kvplan.engines import ABOUTS, about, engine_class, option_names
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Serving
from kvplan.errors import OptionError
from kvplan.questions.commands import served_name
from kvplan.questions.fit.question import Fit, Limit, Question, Row
from kvplan.questions.fit.room import Room
from kvplan.units import MAX_COUNT

#: Contexts of a trade-off table start here.
_SHORTEST: Final = 1024


def budget_of(q: Question) -> Budget:
    """One device's budget, each line with its origin."""
    name = q.engine.partition("@")[0]
    memory = gpu_memory(q.gpu) if q.memory_bytes is None else given_memory(q.gpu.id, q.memory_bytes)
    share, left = _left_alone(q, name, memory)
    reserve = assumed_reserve(name) if q.reserve_bytes is None else given_reserve(q.reserve_bytes)
    return Budget(memory=memory, utilization=share, unused=left, weights=share_of_weights(q.weights, q.devices), reserve=reserve)


def assumed_reserve(engine: str) -> Line:
    """What an engine needs beside weights and cache, unless told otherwise."""
    found = ABOUTS[engine].reserve if engine in ABOUTS else About(name="").reserve
    return Line(name="activations and runtime", bytes=found.bytes, basis="assumed", source=found.reason)


def _left_alone(q: Question, engine: str, memory: Line) -> tuple[float, Line]:
    """The utilization: what was asked, the engine's own default, or all of it."""
    if q.utilization is not None:
        return q.utilization, unused(memory, q.utilization, "given", "--utilization")
    option = about(engine).roles.get("utilization", "")
    if option in q.options:
        given = utilization_from(q.options[option])
        return given, unused(memory, given, "given", f"--set {option}")
    if q.gpu.vendor == "apple":
        kept = not_lent(memory.bytes)
        return 1 - kept.bytes / memory.bytes, kept
    own = getattr(engine_class(engine).Options(), option) if option else None
    if isinstance(own, float):
        return own, unused(memory, own, "assumed", f"{engine}'s default utilization {own:g}")
    return 1.0, unused(memory, 1.0, "assumed", f"{engine} takes what it needs")


def utilization_from(value: Any) -> float:
    """A share between 0 and 1 from text or a number.

    Raises:
        OptionError: it is not one.
    """
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = 0.0
    if not 0 < share <= 1:
        raise OptionError(
            f"«utilization»: expected a share above 0 and at most 1, got `{str(value)[:40]}`", hint="0.9 is nine tenths"
        )
    return share


def room_of(q: Question, budget: Budget) -> Room:
    """The cache budget as the engine sees it."""
    return Room(q.model, q.engine, told_options(q, budget), budget.cache_bytes, encoder_len=q.encoder_len)


def told_options(q: Question, budget: Budget) -> dict[str, Any]:
    """The engine's options; an engine whose options describe the machine is told which it is.

    Raises:
        OptionError: the engine does not split a model.
    """
    names = option_names(q.engine)
    told = machine_options(q.engine, q.gpu, budget.memory.bytes, q.options)
    if q.tensor_parallel > 1:
        if "tensor_parallel" not in names:
            raise OptionError(
                f"engine {q.engine} does not split a model over devices here",
                hint="use one GPU, or an engine with tensor parallelism (`kvplan engines`)",
            )
        told["tensor_parallel"] = q.tensor_parallel
    return {**q.options, **told}


def machine_options(engine: str, gpu: Gpu, memory_bytes: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine looks up on the machine, for those whose options say it, where nobody has said otherwise."""
    roles = about(engine).roles
    machine: dict[str, Any] = {
        roles.get("memory", ""): memory_bytes,
        roles.get("device_name", ""): gpu.id,
        roles.get("compute_capability", ""): _capability(gpu),
    }
    return {key: value for key, value in machine.items() if key and value and key not in given}


def _capability(gpu: Gpu) -> int:
    """`9.0` as 90, the way CUDA names architectures; 0 when it is not known."""
    major, _, minor = gpu.compute_capability.partition(".")
    return int(major) * 10 + int(minor or 0) if major.isdecimal() and (minor or "0").isdecimal() else 0


def answer(q: Question, *, brief: bool = False) -> Fit:
    """Answer one question on one kind of GPU; `brief` leaves out the trade-off around the answer.

    Raises:
        OptionError: an unknown engine or option, or numbers that contradict each other.
    """
    if q.gpus % q.devices:
        stages = f" x {q.pipeline} stages" if q.pipeline > 1 else ""
        raise OptionError(
            f"«gpus {q.gpus}» is not a multiple of «tensor_parallel {q.tensor_parallel}»{stages}",
            hint="each replica of the model takes as many",
        )
    budget = budget_of(q)
    room = room_of(q, budget)
    first = room.footprint(q.each or 1, q.context or min(q.ceiling, _SHORTEST))
    if isinstance(first, NotPredicted):
        return _unpredicted(q, budget, first)
    context, each, limited = _solve(q, room)
    fits = each > 0 and context > 0 and room.fits(each, context)
    rows = () if brief else _rows(q, room, context, each, fits=fits)
    return _answered(q, budget, room, context, each, fits=fits, limited=limited, rows=rows)


def _unpredicted(q: Question, budget: Budget, why: NotPredicted) -> Fit:
    return Fit(
        question=q,
        budget=budget,
        fits=False,
        context=q.context or 0,
        batch_size=q.batch_size or 0,
        limited_by="engine",
        not_predicted=why.reason,
    )


def _solve(q: Question, room: Room) -> tuple[int, int, Limit]:
    """(context, requests of one replica, what stops the next larger one)."""
    if q.asked == "target":
        return q.context or 0, q.each or 0, "memory"
    if q.asked == "context":
        each = q.each or 1
        found = room.longest_context(each, q.ceiling)
        if found == MAX_COUNT:
            return found, each, "nothing"
        return found, each, "model" if found == q.ceiling else _limit(room, each, found + 1)
    context = q.context
    if context is None:  # the table's decisive row: the longest context of a single request
        context = room.longest_context(1, q.ceiling)
        if context == MAX_COUNT:
            context = _SHORTEST
        if context == 0:
            return min(q.ceiling, _SHORTEST), 0, "memory"
    most = room.most_requests(context)
    return context, most, "nothing" if most == MAX_COUNT else _limit(room, most + 1, context)


def _limit(room: Room, batch_size: int, context: int) -> Limit:
    """What stops a workload that does not fit: its bytes, or the engine, which takes no such workload at all."""
    return "engine" if room.bytes(batch_size, context) is None else "memory"


def _answered(
    q: Question, budget: Budget, room: Room, context: int, each: int, *, fits: bool, limited: Limit, rows: tuple[Row, ...]
) -> Fit:
    shown = (each or 1, context or 1)
    allocation = room.footprint(*shown)
    kept = allocation if isinstance(allocation, Allocation) else None
    batch_size = q.batch_size if q.batch_size is not None else each * q.replicas
    flags = ""
    if fits and kept is not None and limited != "nothing":
        flags = room.prepared(shown[1]).command(
            Serving(
                model=served_name(q.model, q.source),
                context=shown[1],
                batch_size=shown[0],
                utilization=budget.utilization,
                replicas=q.replicas,
                options=q.options,
            )
        )
    return Fit(
        question=q,
        budget=budget,
        fits=fits,
        context=context,
        batch_size=batch_size,
        limited_by=limited,
        rows=rows,
        allocation=kept,
        pool=room.pool(shown[1]),
        typical=_typical(q, room, shown[1]) if fits else None,
        flags=flags,
        notes=_notes(q, budget, kept),
    )


def _typical(q: Question, room: Room, context: int) -> int | None:
    """Requests of the average length that the pool holds at once; None for engines that share no pool."""
    pool = room.pool(context)
    if q.average is None or pool is None or pool.refused:
        return None
    most = room.most_on_average(context, min(q.average, context))
    return None if most == MAX_COUNT else most * q.replicas


def _notes(q: Question, budget: Budget, allocation: Allocation | None) -> tuple[str, ...]:
    notes = list(allocation.notes if allocation else ())
    if q.context is not None and q.model.max_tokens and q.context > q.model.max_tokens:
        notes.insert(0, f"{q.context:,} tokens are more than the model's own limit of {q.model.max_tokens:,}")
    if q.replicas > 1:
        notes.insert(0, f"{q.replicas} replicas of the model share the requests; figures are of one device")
    if q.gpu.vendor == "apple" and q.utilization is None:
        notes.append(working_set(budget.memory.bytes).sentence)
    return tuple(notes)


def _rows(q: Question, room: Room, context: int, each: int, *, fits: bool) -> tuple[Row, ...]:
    """The trade-off around the answer, the answer itself marked."""
    if q.asked == "target":
        points = [(context, room.most_requests(context)), (room.longest_context(each, q.ceiling), each)]
        extra = [_row(q, room, c, n, fits=True) for c, n in points if c and 0 < n < MAX_COUNT and (c, n) != (context, each)]
        return (_row(q, room, context, each, fits=fits, decisive=True), *extra)
    if q.asked == "context":
        around = sorted({n for n in (each // 4, each // 2, each, each * 2, each * 4) if n})
        points = [(context if n == each else room.longest_context(n, q.ceiling), n) for n in around]
        return tuple(_row(q, room, c, n, fits=c > 0, decisive=n == each) for c, n in points)
    lengths = _lengths(q, context) if q.asked == "table" else _around(q, context)
    points = [(c, each if c == context else room.most_requests(c)) for c in lengths]
    return tuple(_row(q, room, c, n, fits=n > 0, decisive=c == context) for c, n in points)


def _row(q: Question, room: Room, context: int, each: int, *, fits: bool, decisive: bool = False) -> Row:
    size = room.bytes(each or 1, context or 1)
    return Row(
        context=context,
        batch_size=each * q.replicas,
        cache_bytes=size if size is not None and each < MAX_COUNT else 0,
        fits=fits,
        decisive=decisive,
    )


def _around(q: Question, context: int) -> list[int]:
    """Shorter and longer contexts, by doubling, up to the model's limit."""
    near = {context // 4, context // 2, context, context * 2, context * 4}
    return sorted(c for c in near if c == context or 0 < c <= q.ceiling)


def _lengths(q: Question, context: int) -> list[int]:
    """Doubling contexts up to the model's limit, that limit, and the decisive one."""
    if q.ceiling == MAX_COUNT and context == _SHORTEST:  # the cache does not grow with the tokens
        return [context]
    top = min(q.ceiling, max(context, 2**20))
    found = {context, top}
    length = _SHORTEST
    while length <= top:
        found.add(length)
        length *= 2
    return sorted(found)


def smallest(questions: Iterable[Question]) -> Fit:
    """The answer that serves with the least memory in all, the fewest devices among equals; `tried` are all of them.

    When none serves, the one that comes nearest (the largest cache budget in all). Combinations that the engine refuses
    to split are left out.

    Raises:
        OptionError: no combination is possible at all.
    """
    fits: list[Fit] = []
    refused: OptionError | None = None
    for question in questions:
        try:
            fits.append(answer(question, brief=True))
        except OptionError as problem:
            refused = refused or problem
    if not fits:
        raise refused or OptionError("no GPU was named", hint="«gpu NAME[,NAME…]», or «gpu all»")
    ordered = tuple(sorted(fits, key=lambda f: (f.budget.memory.bytes * f.question.gpus, f.question.gpus)))
    best = next((f for f in ordered if f.fits), None)
    if best is None:
        best = max(ordered, key=lambda f: f.budget.cache_bytes * f.question.gpus)
    return replace(answer(best.question), tried=ordered if len(ordered) > 1 else ())
