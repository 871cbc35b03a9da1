"""Several models on one card: who takes what, whether it fits, how each engine is told, and what would change the answer."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from kvplan.allocation import Allocation, Pool
from kvplan.budget import Line
from kvplan.demands import Demand
from kvplan.errors import OptionError
from kvplan.fits import Fix
from kvplan.fitting import Room
from kvplan.flags import engine_flags, served_name
from kvplan.loaders.plans import Member, Plan, load_plan
from kvplan.records import dataclass
from kvplan.serving import machine_options
from kvplan.sharing import of_free, of_total, sharing_of
from kvplan.splitting import largest_scale, scaled_up, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One member's part of the card: `bytes` = weights + reserve + cache + slack.

    `slack` is what its flag gives beyond that (fractions have four digits, shares are as given). `users` requests of its
    context fit at once; `wanted` were asked for (None: as many as fit its share).
    """

    member: Member
    weights: Line
    reserve: Line
    cache_bytes: int
    bytes: int
    users: int
    wanted: int | None
    allocation: Allocation | None = None
    pool: Pool | None = None
    flag: str = ""
    meaning: str = ""

    @property
    def needed_bytes(self) -> int:
        """Weights, reserve and cache."""
        return self.weights.bytes + self.reserve.bytes + self.cache_bytes

    @property
    def slack_bytes(self) -> int:
        """What it gets beyond its needs; negative when its share is too small."""
        return self.bytes - self.needed_bytes

    @property
    def fits(self) -> bool:
        """Whether its part holds what it needs and the users that were asked for."""
        return self.slack_bytes >= 0 and (self.allocation is None or self.users >= max(1, self.wanted or 1))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/formats.md)."""
        a, m = self.allocation, self.member
        return {
            "name": m.name,
            "model": m.model.name if m.model else "",
            "engine": m.engine.partition("@")[0],
            "engine_version": a.engine_version if a else "",
            "kv_dtype": a.kv_dtype if a else "",
            "context": m.context if m.model and m.cache_bytes is None else 0,
            "users": self.users,
            "weights": self.weights.to_dict(),
            "reserve": self.reserve.to_dict(),
            "cache_bytes": self.cache_bytes,
            "slack_bytes": self.slack_bytes,
            "bytes": self.bytes,
            "fits": self.fits,
            "meaning": self.meaning,
            "flag": self.flag,
            "evidence": a.evidence if a else "",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Committee:
    """The answer for a plan. `parts` are in the plan's order, `order` names them as they should start.

    `scale` is the largest factor by which all users can grow together (below 1 when the plan does not fit, None when no
    member has users that count); `solved` says that the users were chosen rather than given.
    """

    plan: Plan
    parts: tuple[Part, ...]
    order: tuple[str, ...]
    scale: Fraction | None
    changes: tuple[Fix, ...] = ()
    solved: bool = False
    notes: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """What the members take together."""
        return sum(part.bytes for part in self.parts)

    @property
    def free_bytes(self) -> int:
        """What is left of the card, the plan's own reserve taken out; negative when it does not fit."""
        return self.plan.memory.bytes - self.plan.reserve.bytes - self.total_bytes

    @property
    def fits(self) -> bool:
        """Whether every part holds its member and all of them are on the card."""
        return self.free_bytes >= 0 and all(part.fits for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/formats.md), every bytes value an exact int."""
        return {
            "plan": self.plan.source,
            "gpu": self.plan.gpu.id,
            "fits": self.fits,
            "solved": self.solved,
            "memory": self.plan.memory.to_dict(),
            "reserve": self.plan.reserve.to_dict(),
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
            "scale": None if self.scale is None else str(self.scale),
            "members": [part.to_dict() for part in self.parts],
            "order": list(self.order),
            "changes": [change.to_dict() for change in self.changes],
            "notes": list(self.notes),
        }


def committee(
    plan: str | Path | Mapping[str, Any] | Plan,
    *,
    solve: bool = False,
    scale: Fraction | float | int | str = 1,
    overrides: Mapping[str, str] | None = None,
    advise: bool = True,
) -> Committee:
    """Several models on one card: the budget of each, the verdict, flags, a start order, and changes that would help.

    Args:
        plan: a YAML file, a mapping of the same form, or a `Plan`.
        solve: choose the users: as many as fit in the plan's proportions, what is left to members in the plan's order.
        scale: multiply every member's users (rounded up).
        overrides: `gpu`, `memory`, or `MEMBER.KEY`, and the value that replaces the plan's.
        advise: look for changes when it does not fit.

    Returns:
        A `Committee`: `.fits`, `.parts`, `.order`, `.scale`, `.changes`, `.to_dict()`.

    Raises:
        SpecError: a bad plan; the message names the line.
        KvplanError: see `kvplan.errors`.
    """
    loaded = plan if isinstance(plan, Plan) else load_plan(plan, overrides)
    factor = parse_scale(scale)
    demands = tuple(Demand(member, loaded) for member in loaded.members)
    wanted = tuple(None if d.member.users is None else scaled_up(d.member.users * factor) for d in demands)
    if solve:
        solved = split(demands, _room(loaded))
        wanted = tuple(w if n is None else n for w, n in zip(wanted, solved, strict=True))
    parts = _parts(loaded, demands, wanted)
    answer = Committee(
        plan=loaded,
        parts=parts,
        order=tuple(part.member.name for part in started(parts)),
        scale=largest_scale(demands, _room(loaded)),
        solved=solve,
        notes=tuple(_notes(parts)),
    )
    if not answer.fits:
        answer = replace(answer, parts=tuple(replace(part, flag="") for part in parts))
    if answer.fits or solve or not advise:
        return answer
    from kvplan.changes import changes

    return replace(answer, changes=tuple(changes(answer, plan, overrides or {}, factor)))


def parse_scale(value: Fraction | float | int | str) -> Fraction:
    """A positive factor: `2`, `0.75` or `3/4`.

    Raises:
        OptionError: it is not one.
    """
    try:
        factor = Fraction(str(value)[:40])
    except (ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if not 0 < factor <= 10**9:
        raise OptionError(f"--scale: expected a factor above 0, got `{str(value)[:40]}`", hint="write 2, 0.75 or 3/4")
    return factor


def _room(plan: Plan) -> int:
    return plan.memory.bytes - plan.reserve.bytes


def _parts(plan: Plan, demands: tuple[Demand, ...], wanted: tuple[int | None, ...]) -> tuple[Part, ...]:
    parts = tuple(_part(demand, users) for demand, users in zip(demands, wanted, strict=True))
    free, flagged = _room(plan), {}
    for part in started(parts):
        flagged[part.member.name] = _flagged(part, free, plan)
        free -= part.bytes
    return tuple(flagged[part.member.name] for part in parts)


def _part(demand: Demand, wanted: int | None) -> Part:
    """A member's part before its flag, which may depend on those that start earlier."""
    share = demand.member.share
    users = wanted or 0
    if share is not None and demand.engine is not None:
        most = demand.most_users(demand.part_bytes(0))
        users = most if wanted is None else min(wanted, most)
    shown = users if users or wanted is None else wanted
    found = demand.footprint(max(shown, 1)) if demand.engine is not None else None
    return Part(
        member=demand.member,
        weights=demand.weights,
        reserve=demand.reserve,
        cache_bytes=demand.cache_bytes(users),
        bytes=demand.part_bytes(users),
        users=users,
        wanted=wanted,
        allocation=found if isinstance(found, Allocation) else None,
    )


def _flagged(part: Part, free_bytes: int, plan: Plan) -> Part:
    """The part with the flag that gives the engine its share, and what a server then reserves."""
    row, kept = sharing_of(part.member.engine), part.weights.bytes + part.reserve.bytes
    if row.meaning == "of total" or row.rank == 2:
        share = f"{part.member.share:g}" if part.member.share is not None else of_total(part.needed_bytes, plan.memory.bytes)[0]
    else:
        share = of_free(part.cache_bytes, kept, free_bytes, row.meaning) if row.flag else ""
    command = row.flag.format(share) if share else ""
    if part.allocation is not None and part.users:
        utilization = float(share) if row.meaning == "of total" else 1.0
        a = part.allocation
        name = served_name(a.model, part.member.source)
        typed = engine_flags(a, part.member.options, model=name, utilization=utilization, replicas=1)
        command = typed if command in typed else f"{typed}; {command}" if typed else command
    pool = None
    if part.allocation is not None:
        room = Room(
            part.allocation.model,
            part.member.engine,
            {**part.member.options, **machine_options(part.member.engine, plan.gpu, plan.memory.bytes, part.member.options)},
            part.bytes - kept,
        )
        pool = room.pool(part.member.context)
    return replace(part, flag=command, meaning=row.meaning, pool=pool)


def started(parts: tuple[Part, ...]) -> Iterator[Part]:
    """The parts in an order that works: fixed shares first, the largest before the smaller; then engines that measure what
    is free; last those that grow as they go, whose growth nobody else may count on."""
    yield from sorted(parts, key=lambda part: (sharing_of(part.member.engine).rank, -part.bytes))


def _notes(parts: tuple[Part, ...]) -> Iterator[str]:
    for part in parts:
        limit = part.member.model.max_tokens if part.member.model else None
        if limit and part.member.context > limit:
            yield f"{part.member.name}: {part.member.context:,} tokens are more than the model's own limit of {limit:,}"
    if any(part.reserve.basis == "assumed" for part in parts):
        yield "assumed reserves are kvplan's guesses: `reserve: SIZE` in a member overrides them"
