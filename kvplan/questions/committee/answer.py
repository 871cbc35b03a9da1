"""Several models on one card or node: who takes what, whether it fits, how each engine is told, and what would change it."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.allocation import Allocation
from kvplan.domain.ledger import exact
from kvplan.domain.model import use_of
from kvplan.domain.plan import Plan
from kvplan.domain.pool import Pool
from kvplan.engines import share_of
from kvplan.engines.kernel.engine import Served, Serving
from kvplan.engines.kernel.tensors import At
from kvplan.errors import OptionError, shown, written
from kvplan.questions.commands import served_name
from kvplan.questions.committee.dealt import cached, weighed
from kvplan.questions.committee.demand import Demand
from kvplan.questions.committee.placing import Node, place, spread_out
from kvplan.questions.committee.result import Committee, Part
from kvplan.questions.committee.shares import of_free, of_total, visible_cards
from kvplan.questions.committee.splitting import largest_scale, scaled_up, split


def answered(plan: Plan, *, solve: bool = False, factor: Fraction = Fraction(1)) -> Committee:
    """The budget of each member, the verdict, flags and a start order; no changes are looked for."""
    demands, node = _demands(plan), Node(plan.gpus, plan.room_bytes)
    wanted = tuple(None if d.member.users is None else scaled_up(d.member.users * factor) for d in demands)
    if solve:
        solved = split(demands, node)
        wanted = tuple(w if n is None else n for w, n in zip(wanted, solved, strict=True))
    parts = _parts(plan, demands, wanted)
    answer = Committee(
        plan=plan,
        parts=parts,
        order=tuple(part.member.name for part in started(parts)),
        scale=largest_scale(demands, node),
        solved=solve,
        exact=not node.gave_up,
        notes=tuple(_notes(parts, exact=not node.gave_up)),
    )
    return answer if answer.fits else replace(answer, parts=tuple(replace(part, flag="", needs=()) for part in parts))


def _demands(plan: Plan) -> tuple[Demand, ...]:
    known: dict[Any, Demand] = {}
    found = []
    for member in plan.members:
        key = Demand.seen(member)
        demand = Demand(member, plan, like=known.get(key))
        known.setdefault(key, demand)
        found.append(demand)
    return tuple(found)


#: A factor of at most 20 characters, without an exponent: `1e9999999999` would build the power of ten.
_SCALE: Final = re.compile(r"[0-9./]{1,20}")


def parse_scale(value: Fraction | float | int | str) -> Fraction:
    """A positive factor: `2`, `0.75` or `3/4`.

    Raises:
        OptionError: it is not one.
    """
    try:
        factor = Fraction(written(value)) if _SCALE.fullmatch(written(value)) else Fraction(0)
    except (ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if not 0 < factor <= 10**9:
        raise OptionError(f"«scale»: expected a factor above 0, got {shown(value)}", hint="write 2, 0.75 or 3/4")
    return factor


def _parts(plan: Plan, demands: tuple[Demand, ...], wanted: tuple[int | None, ...]) -> tuple[Part, ...]:
    parts = tuple(_part(demand, users) for demand, users in zip(demands, wanted, strict=True))
    items = [demand.item(part.users) for demand, part in zip(demands, parts, strict=True)]
    where = place(items, plan.gpus, plan.room_bytes) or spread_out(items, plan.gpus)
    parts = tuple(replace(part, cards=cards) for part, cards in zip(parts, where, strict=True))
    by_name = {demand.member.name: demand for demand in demands}
    free, flagged = [plan.room_bytes] * plan.gpus, {}
    for part in started(parts):
        demand = by_name[part.member.name]
        flagged[part.member.name] = _flagged(part, demand, min(free[card] for card in part.cards), plan)
        for card in part.cards:
            free[card] -= part.on(card)
    return tuple(flagged[part.member.name] for part in parts)


def _part(demand: Demand, wanted: int | None) -> Part:
    """A member's part before it has its cards and its flag, which may depend on those that start earlier."""
    share = demand.member.share
    users = wanted or 0
    if share is not None and demand.engine is not None:
        most = demand.most_of_share()
        users = most if wanted is None else min(wanted, most)
    shown = users if users or wanted is None else wanted
    found = demand.footprint(max(shown, 1)) if demand.engine is not None else None
    spread = demand.dealt.at(max(shown, 1)) if demand.dealt is not None else None
    fullest = max(spread.devices, key=lambda place: place.needed.high, default=None) if spread is not None else None
    part = Part(
        member=demand.member,
        weights=demand.weights,
        reserve=demand.reserve_for(users),
        cache_bytes=demand.cache_bytes(users),
        bytes=demand.part_bytes(users),
        users=users,
        wanted=wanted,
        outside_bytes=demand.outside_bytes,
        ledger=demand.ledger,
        allocation=found if isinstance(found, Allocation) else None,
    )
    if spread is None or fullest is None or demand.dealt is None:
        return part
    by_card = demand.dealt.by_card(max(shown, 1))
    loaded, cache = weighed(fullest), cached(fullest)
    rest = max(by_card) - loaded.bytes - cache.bytes
    return replace(
        part,
        spread=spread,
        by_card=by_card,
        weights=exact("weights", loaded.bytes, demand.weights.source, demand.weights.basis),
        reserve=demand.member.reserve or exact("activations and runtime", rest, "compute buffers, driver", "assumed"),
        cache_bytes=cache.bytes,
    )


def _flagged(part: Part, demand: Demand, free_bytes: int, plan: Plan) -> Part:
    """The part with the flag that gives the engine its share, and what a server then reserves.

    `free_bytes` are free on the fullest of its cards when it starts: engines that measure go by the least of their ranks.
    """
    environment = visible_cards(plan.gpu.vendor, part.cards) if plan.gpus > 1 else ""
    shared = _shared(part, demand, free_bytes)
    return replace(
        part,
        flag=_command(part, demand, shared[0] if shared else _fraction(part, demand, free_bytes)),
        needs=_needs(part, demand),
        meaning=share_of(part.member.engine).meaning,
        environment=environment,
        pool=shared[1] if shared else _pool(part, demand),
    )


def _shared(part: Part, demand: Demand, free_bytes: int) -> tuple[str, Pool] | None:
    """The fraction that gives a server room for its users, and its pool then, where the engine itself can say."""
    if part.allocation is None or not part.users or not isinstance(demand.engine, Served):
        return None
    kept = part.weights.bytes + part.reserve.bytes - demand.aside_bytes
    at = At(part.member.context, part.users, part.member.encoder_len)
    return demand.engine.shared(at, max(0, free_bytes - kept), part.weights.bytes)


def _fraction(part: Part, demand: Demand, free_bytes: int) -> str:
    """What the engine is told of its share; empty for one that is told nothing."""
    row = share_of(part.member.engine)
    if row.meaning == "of total" or row.limits:
        if part.member.share is not None:
            return f"{part.member.share:g}"
        return of_total(part.needed_bytes - part.outside_bytes, demand.total_bytes)[0]
    return of_free(part.cache_bytes, part.weights.bytes + part.reserve.bytes, free_bytes, row.meaning) if row.flag else ""


def _command(part: Part, demand: Demand, share: str) -> str:
    """What to type: the engine's command where kvplan writes it, and the flag of its share where that is not in it."""
    row, a, member = share_of(part.member.engine), part.allocation, part.member
    told = row.flag.format(share) if share else ""
    if a is None or demand.engine is None or not part.users or a.model.design:
        splits = member.tensor_parallel > 1 and row.split_flag
        return f"{told} {row.split_flag.format(member.tensor_parallel)}".strip() if splits else told
    utilization = float(share) if share and row.flag else 1.0
    serving = Serving(
        model=served_name(a.model, member.source),
        context=a.workload.seq_len,
        batch_size=a.workload.batch_size,
        utilization=utilization,
        options=member.options,
        use=use_of(f"{member.name} {a.model.use}"),
        weights_dtype=member.weights_dtype,
    )
    typed = demand.engine.command(serving)
    return typed if told in typed else f"{typed}; {told}" if typed else told


def _needs(part: Part, demand: Demand) -> tuple[str, ...]:
    """What must be there beside its command."""
    if demand.engine is None or part.allocation is None or not part.users or part.allocation.model.design:
        return ()
    member = part.member
    name = served_name(part.allocation.model, member.source)
    return demand.engine.needs(
        Serving(model=name, context=member.context, batch_size=part.users, weights_dtype=member.weights_dtype)
    )


def _pool(part: Part, demand: Demand) -> Pool | None:
    """What a server makes of its cache's bytes, on each of its cards."""
    if part.allocation is None or not isinstance(demand.engine, Served):
        return None
    return demand.engine.pool(max(0, part.bytes - part.weights.bytes - part.reserve.bytes))


def started(parts: tuple[Part, ...]) -> Iterator[Part]:
    """The parts in an order that works: fixed shares first, the largest before the smaller; then engines that measure what
    is free; last those that grow as they go, whose growth nobody else may count on."""
    yield from sorted(parts, key=lambda part: (share_of(part.member.engine).rank, -part.bytes))


def _notes(parts: tuple[Part, ...], *, exact: bool) -> Iterator[str]:
    for part in parts:
        limit = part.member.model.max_tokens if part.member.model else None
        if limit and part.member.context > limit:
            yield f"{part.member.name}: {part.member.context:,} tokens are more than the model's own limit of {limit:,}"
    if not exact:
        yield "not every placement was tried: more users may fit; `cards` in some members shortens the search"
    if any(part.reserve.basis == "assumed" for part in parts):
        yield "assumed reserves are kvplan's guesses: `reserve: SIZE` in a member overrides them"
