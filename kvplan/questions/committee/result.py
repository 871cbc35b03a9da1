"""What a committee answers: each member's part of its cards, and the whole. Plain values."""

from fractions import Fraction
from typing import Any

from msgspec import Struct

from kvplan.domain.allocation import Allocation
from kvplan.domain.ledger import Ledger, Line
from kvplan.domain.plan import Member, Plan
from kvplan.domain.pool import Pool
from kvplan.domain.spread import Spread
from kvplan.questions.fit.question import Fix
from kvplan.units import human_bytes


class Part(Struct, frozen=True, kw_only=True):
    """One member's part of each of its `cards`: `bytes` = weights + reserve + cache + slack.

    `slack` is what its flag gives beyond that (fractions have four digits, shares are as given). `users` requests of its
    context fit at once; `wanted` were asked for (None: as many as fit its share). `environment` is the variable that shows
    its process these cards only, on a node.
    """

    member: Member
    weights: Line
    reserve: Line
    cache_bytes: int
    bytes: int
    users: int
    wanted: int | None
    cards: tuple[int, ...] = (0,)
    outside_bytes: int = 0  # of its reserve: what its process takes beside the fraction that it is given
    ledger: Ledger | None = None
    allocation: Allocation | None = None
    spread: Spread | None = None  # of a member whose layers are dealt out; the figures above are then of its fullest card
    by_card: tuple[int, ...] = ()  # bytes on each of its cards then
    pool: Pool | None = None
    flag: str = ""
    needs: tuple[str, ...] = ()  # what must be there beside that
    meaning: str = ""
    environment: str = ""

    def __hash__(self) -> int:
        return hash((self.member.name, self.member.engine, self.bytes, self.users, self.cards))

    def __repr__(self) -> str:
        return f"<Part {self.member.name} · {self.member.engine}: {human_bytes(self.bytes)}>"

    def on(self, card: int) -> int:
        """What it takes of one of its cards."""
        if not self.by_card or self.member.share is not None or len(self.cards) < 2:
            return self.bytes
        return self.by_card[self.cards.index(card)]

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
            "ledger": None if self.ledger is None else self.ledger.to_dict(),
            **({} if self.spread is None else {"places": [place.to_dict() for place in self.spread.places]}),
            "cards": list(self.cards),
            "environment": self.environment,
            "meaning": self.meaning,
            "flag": self.flag,
            "needs": list(self.needs),
            "evidence": a.evidence if a else "",
        }


class Card(Struct, frozen=True, kw_only=True):
    """One card of the plan: who is on it, what they take together, and what is left (negative: missing)."""

    index: int
    members: tuple[str, ...]
    taken_bytes: int
    free_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "card": self.index,
            "members": list(self.members),
            "taken_bytes": self.taken_bytes,
            "free_bytes": self.free_bytes,
        }


class Committee(Struct, frozen=True, kw_only=True):
    """The answer for a plan. `parts` are in the plan's order, `order` names them as they should start.

    `scale` is the largest factor by which all users can grow together (below 1 when the plan does not fit, None when no
    member has users that count); `solved` says that the users were chosen rather than given. Both are `exact` unless a
    search for a placement was given up on the way: then they are what was found, and more may fit.
    """

    plan: Plan
    parts: tuple[Part, ...]
    order: tuple[str, ...]
    scale: Fraction | None
    changes: tuple[Fix, ...] = ()
    solved: bool = False
    exact: bool = True
    notes: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash((self.plan.source, self.plan.gpu.id, self.plan.gpus, self.order, self.scale, self.total_bytes))

    def __repr__(self) -> str:
        said = "fits" if self.fits else f"lacks {human_bytes(self.missing_bytes)}" if self.missing_bytes else "does not fit"
        return f"<Committee of {len(self.parts)} on {self.plan.hardware}: {said}>"

    @property
    def cards(self) -> tuple[Card, ...]:
        """Every card of the plan, the plan's own reserve taken out of what is left."""
        found = []
        for index in range(self.plan.gpus):
            here = [part for part in self.parts if index in part.cards]
            taken = sum(part.on(index) for part in here)
            names = tuple(part.member.name for part in here)
            found.append(Card(index=index, members=names, taken_bytes=taken, free_bytes=self.plan.room_bytes - taken))
        return tuple(found)

    @property
    def memory_bytes(self) -> int:
        """What all cards have."""
        return self.plan.gpus * self.plan.memory.bytes

    @property
    def total_bytes(self) -> int:
        """What the members take together, on all cards."""
        return sum(part.on(card) for part in self.parts for card in part.cards)

    @property
    def free_bytes(self) -> int:
        """What is left of all cards, the plan's own reserve taken out; negative when it does not fit on one card."""
        return self.plan.gpus * self.plan.room_bytes - self.total_bytes

    @property
    def missing_bytes(self) -> int:
        """What the fullest card lacks; 0 when every card holds its members."""
        return max(0, *(-card.free_bytes for card in self.cards))

    @property
    def fits(self) -> bool:
        """Whether every part holds its member and every card its parts."""
        return not self.missing_bytes and all(part.fits for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/formats.md), every bytes value an exact int."""
        return {
            "plan": self.plan.source,
            "gpu": self.plan.gpu.id,
            "gpus": self.plan.gpus,
            "fits": self.fits,
            "solved": self.solved,
            "exact": self.exact,
            "memory": self.plan.memory.to_dict(),
            "reserve": self.plan.reserve.to_dict(),
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
            "scale": None if self.scale is None else str(self.scale),
            "cards": [card.to_dict() for card in self.cards],
            "members": [part.to_dict() for part in self.parts],
            "order": list(self.order),
            "changes": [change.to_dict() for change in self.changes],
            "notes": list(self.notes),
        }
