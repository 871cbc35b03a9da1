"""`fit`: the largest workload that a device's budget holds, and the verdict on a target. Pure."""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from kvplan.architectures.weights import stored_weights
from kvplan.domain.allocation import Allocation
from kvplan.domain.budget import Budget, shares
from kvplan.domain.tiers import TierAsk, Tiers
from kvplan.engines import about, option_names
from kvplan.engines.kernel.engine import Served, Serving
from kvplan.engines.kernel.remarks import beyond
from kvplan.errors import OptionError, Refused
from kvplan.questions.commands import served_name
from kvplan.questions.fit.budget import SIDES, Budgets, room_of, told_options
from kvplan.questions.fit.question import Fit, Limit, Question, Row, Seqs
from kvplan.questions.fit.room import MOST_TOLD, Room
from kvplan.questions.media import one_image, sees_or_hears, used
from kvplan.units import MAX_COUNT

#: Contexts of a trade-off table start here.
_SHORTEST: Final = 1024


def answer(q: Question, *, brief: bool = False) -> Fit:
    """Answer one question on one kind of GPU; `brief` leaves out the trade-off around the answer.

    Raises:
        OptionError: an unknown engine or option, or numbers that contradict each other.
    """
    if q.gpus % q.devices:
        stages = f" x {q.pipeline} stages" if q.pipeline > 1 else ""
        stages += f" x {q.ranks} data ranks" if q.ranks > q.inside else ""
        raise OptionError(
            f"«gpus {q.gpus}» is not a multiple of «tensor_parallel {q.tensor_parallel}»{stages}",
            hint="each replica of the model takes as many",
        )
    if q.max_seqs:
        _told_requests(q)
    budgets = Budgets(q)
    room = room_of(budgets)
    reason = room.refusal(q.each or 1, q.context or min(q.ceiling, _SHORTEST))
    if reason:
        return _unpredicted(q, budgets.first, reason)
    context, each, limited = _solve(q, room)
    fits = each > 0 and context > 0 and room.fits(each, context)
    rows = () if brief else _rows(q, room, context, each, fits=fits)
    found = _answered(q, budgets, room, context, each, fits=fits, limited=limited, rows=rows, brief=brief)
    if q.max_seqs and not brief:
        found = replace(found, seqs=_seqs(q, budgets, room, max(context, 1)))
    if found.budget.refused:
        return replace(found, fits=False)
    return _over_band(found, budgets, room, context, each) if found.budget.cache.low != found.budget.cache.high else found


def with_text_alone(fit: Fit) -> Fit:
    """The same answer, with what it would be without the images, video and audio of its requests.

    What the encoder takes is that of the server as it would be started on this card.
    """
    q = fit.question
    if q.media is not None:
        length = about(q.engine).roles.get("context", "")
        told = {
            **told_options(q, fit.budget),
            **({length: fit.context} if length in option_names(q.engine) and fit.context else {}),
        }
        fit = replace(fit, question=replace(q, media=used(q.model, q.media.media, q.engine, told, q.processor_files)))
    average = None if q.average is None or q.media is None else q.average - q.media.tokens
    return replace(
        fit, text_alone=answer(replace(q, media=None, context=q.text, average=average, encoder_len=0, max_seqs=False), brief=True)
    )


def _told_requests(q: Question) -> str:
    """The engine's option that says how many requests run at once, which the question leaves open.

    Raises:
        OptionError: it has no such option, or is told already.
    """
    option = about(q.engine).roles.get("sequences", "")
    if not option or option not in option_names(q.engine):
        raise OptionError(
            f"«max_seqs»: {q.engine} is not told how many requests run at once, so no number is the largest", hint="`-e vllm` is"
        )
    if option in q.options:
        raise OptionError(f"«max_seqs» finds {option}, and it is given", hint=f"leave out «set {option}»")
    return option


def _seqs(q: Question, budgets: Budgets, room: Room, context: int) -> Seqs:
    """The largest number with which the server starts for requests of `context` tokens.

    Raises:
        OptionError: the engine reserves nothing when it starts, so that any number starts.
    """
    option = _told_requests(q)
    try:
        served = isinstance(room.prepared(1, context), Served)
    except Refused:
        served = True  # it says why below
    if not served:
        raise OptionError(f"«max_seqs»: {q.engine} reserves no pool here when it starts", hint="`-e vllm` does")
    cut = budgets.first.refused
    found = [0 if cut else room_of(budgets, side).most_told(context) for side in SIDES]
    most = found[0]
    stops = cut or (room.not_started(most + 1, context) if most < MOST_TOLD // q.inside else "")
    most, low, high = (n * q.inside for n in found)
    return Seqs(option=option, most=most, low=low, high=high, stops=stops)


def _over_band(found: Fit, budgets: Budgets, room: Room, context: int, each: int) -> Fit:
    """The answer at both ends of what may be left for the cache: the exit code follows the low one."""
    q = found.question
    if budgets.by_requests:
        low, high = (room_of(budgets, side) for side in ("low", "high"))
    else:  # of the command that is typed: what else it tells the server holds at both ends
        told = room.told(max(each, 1))
        low, high = (told.of_size(amount) for amount in (found.budget.cache.low, found.budget.cache.high))
    if q.asked == "target":
        sure, possible = low.fits(each, context), high.fits(each, context)
        return replace(found, fits=sure, unsure=sure != possible)
    if found.limited_by == "nothing":
        return found
    if q.context is None:
        one = q if q.asked == "context" else replace(q, batch_size=q.caches)
        span = (_solve(one, low, context)[0], _solve(one, high, context)[0])
    else:
        span = (low.most_requests(context) * q.caches, high.most_requests(context) * q.caches)
    sure = span[0] > 0
    typical = _typical(q, low, 1, context), _typical(q, high, 1, context)
    return replace(
        found,
        fits=found.fits and sure,
        unsure=span[1] > 0 and not sure,
        span=span if span[0] != span[1] else None,
        typical_span=(typical[0] or 0, typical[1] or 0) if found.typical is not None and typical[0] != typical[1] else None,
    )


def _unpredicted(q: Question, budget: Budget, reason: str) -> Fit:
    return Fit(
        question=q,
        budget=budget,
        fits=False,
        context=q.context or 0,
        batch_size=q.batch_size or 0,
        limited_by="engine",
        not_predicted=reason,
    )


def _solve(q: Question, room: Room, near: int = 0) -> tuple[int, int, Limit]:
    """(context, requests of one replica, what stops the next larger one); `near`: about how long the context will be."""
    if q.asked == "target":
        return q.context or 0, q.each or 0, "memory"
    if q.asked == "context":
        each = q.each or 1
        found = room.longest_context(each, q.ceiling, near)
        if found == MAX_COUNT:
            return found, each, "nothing"
        return found, each, "model" if found == q.ceiling else _limit(room, each, found + 1)
    context = q.context
    if context is None:  # the table's decisive row: the longest context of a single request
        context = room.longest_context(1, q.ceiling, near)
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
    q: Question,
    budgets: Budgets,
    room: Room,
    context: int,
    each: int,
    *,
    fits: bool,
    limited: Limit,
    rows: tuple[Row, ...],
    brief: bool,
) -> Fit:
    shown = (each or 1, context or 1)
    allocation = None if brief else room.footprint(*shown)
    kept = allocation if isinstance(allocation, Allocation) else None
    batch_size = q.batch_size if q.batch_size is not None else each * q.caches
    typical = _typical(q, room, *shown) if fits else None
    told = (shown[0] if typical is None else max(1, typical // q.caches), shown[1])  # the requests at once that the command types
    budget = budgets.at(*told)
    flags, one_of_several = "", False
    needs: tuple[str, ...] = ()
    if fits and kept is not None and limited != "nothing" and not budget.refused and not q.model.design:
        serving = Serving(
            model=served_name(q.model, q.source),
            context=told[1],
            batch_size=told[0] * q.inside,
            utilization=budget.utilization,
            replicas=q.replicas,
            options=q.options,
            weights_dtype=wanted_weights(q),
        )
        started = room.prepared(*told)
        flags, needs = started.command(serving), started.needs(serving)
        one_of_several = q.replicas > 1 and flags != "" and flags == started.command(replace(serving, replicas=1))
    return Fit(
        question=q,
        budget=budget,
        fits=fits,
        context=context,
        batch_size=batch_size,
        limited_by=limited,
        rows=rows,
        allocation=kept,
        pool=room.pool(*told),
        typical=typical,
        evidence=room.evidence(*shown),
        flags=flags,
        needs=needs,
        tiers=None if brief else _tiers(q, room, *told),
        notes=(
            *_own_way(room, shown, budget),
            *_notes(q, room, budget, kept, one_of_several=one_of_several),
        ),
    )


def _tiers(q: Question, room: Room, batch_size: int, context: int) -> Tiers | None:
    """What lies below the device, of sessions as long as the question's, or the answer's."""
    told = q.below or TierAsk(tokens=0)
    ask = replace(told, tokens=told.tokens or min(context, q.ceiling), slots=batch_size)
    if ask.tokens == MAX_COUNT or batch_size >= MAX_COUNT:
        return None
    asked = q.below is not None or bool(q.options.keys() & set(about(q.engine).tier_options))
    return room.tiers(batch_size, context, ask, q.caches) if asked else None


def _own_way(room: Room, shown: tuple[int, int], budget: Budget) -> tuple[str, ...]:
    """What the engine does by itself on this card."""
    try:
        return room.prepared(*shown).own_way(budget.cache_bytes)
    except Refused:
        return ()


def wanted_weights(q: Question) -> str:
    """The format that the weights are asked for in, where the checkpoint is in another."""
    name, _, dtype = q.weights_flag.partition(" ")
    if name != "--weights-dtype":
        return ""
    own = stored_weights(q.model)
    return "" if own is not None and own.bytes == q.weights.bytes else dtype


def _typical(q: Question, room: Room, batch_size: int, context: int) -> int | None:
    """Requests of the average length, or of the mix, that the pool holds at once; None for engines that share no pool."""
    if q.average is None and q.mix is None:
        return None
    pool = room.pool(batch_size, context)
    if pool is None or pool.refused:
        return None
    most = room.most_of(context, q.mix) if q.mix is not None else room.most_on_average(context, min(q.average or 1, context))
    return None if most == MAX_COUNT else most * q.caches


def _notes(q: Question, room: Room, budget: Budget, allocation: Allocation | None, *, one_of_several: bool) -> tuple[str, ...]:
    notes = list(allocation.notes if allocation else ())
    if q.context is not None:
        notes = list(dict.fromkeys((*beyond(q.model, q.context), *notes)))
    if q.model.design:
        notes.insert(0, "nothing to type: no checkpoint has these layers (`hub: owner/name` in a description names one)")
    if q.replicas > 1:
        notes.insert(0, f"{q.replicas} replicas of the model share the requests; figures are of one device")
    if one_of_several:
        notes.insert(0, f"the command starts one of the {q.replicas} replicas: each is a server of its own")
    if q.media is None and sees_or_hears(q.model):
        notes += one_image(q.model, room.prepared(1, q.context or 1).engine)
    if shares(q.gpu) and q.utilization is None and (q.gpu.vendor == "apple" or budget.ledger is None):
        from kvplan.domain.unified import shared_memory, working_set

        size = budget.memory.bytes
        notes.append(working_set(size).sentence if q.gpu.vendor == "apple" else shared_memory(q.gpu, size).words)
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
        batch_size=each * q.caches,
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
