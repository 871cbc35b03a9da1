"""Memory below the device, of the host or of a disk: what is asked of it, and what one tier holds."""

from typing import Any, Literal

from msgspec import Struct

from kvplan.domain.allocation import Evidence

Place = Literal["device", "host", "disk"]
#: How the ranks of one server hold a token: each its own part, all of them one copy, or every one a copy of its own.
Kept = Literal["split", "once", "copied"]


class TierAsk(Struct, frozen=True, kw_only=True):
    """What is asked: budgets of one server in bytes (None: no such tier), and the sessions that come back.

    A session is the conversation of one user: `tokens` of them are kept between two requests. `device_bytes` are what each
    device has for its cache, `slots` the requests that run at once.
    """

    host_bytes: int | None = None
    disk_bytes: int | None = None
    tokens: int
    sessions: int = 0  # wanted; 0: nobody said
    device_bytes: int = 0
    slots: int = 1


class HostRoom(Struct, frozen=True, kw_only=True):
    """Host memory of one server whose use is followed request by request: equal chunks, and what to type for it."""

    budget_bytes: int  # what the engine is told, all ranks together
    chunk_bytes: int  # all ranks together
    chunks: int
    flags: str
    notes: tuple[str, ...] = ()

    @property
    def room_bytes(self) -> int:
        """What the chunks take."""
        return self.chunks * self.chunk_bytes


class Tier(Struct, frozen=True, kw_only=True):
    """One tier, as an engine fills it.

    `tokens` are distinct ones, of sessions as long as the question's; `session_bytes` is what one of them takes on all ranks,
    `returned_tokens` how many of its tokens come back: whole chunks. `beside_bytes` lie in the same memory and are not counted
    in what the engine is told. `flags` are what to type, beside the server's own command line. Where a number is not exact,
    `sessions_high` is the most that it may be.
    """

    tier: str
    title: str
    place: Place
    budget_bytes: int  # what the engine is told, all ranks together
    used_bytes: int = 0  # of it, all ranks together
    tokens: int = 0
    sessions: int = 0
    sessions_high: int | None = None
    session_bytes: int = 0
    returned_tokens: int = 0
    ranks: int = 1
    kept: Kept = "split"
    beside_bytes: int = 0
    evidence: Evidence = "from source"
    refused: str = ""  # in the engine's own words
    flags: str = ""
    notes: tuple[str, ...] = ()

    @property
    def per_rank_bytes(self) -> int:
        """Of `used_bytes`, one rank's; what all share is everybody's."""
        return self.used_bytes if self.kept == "once" else self.used_bytes // self.ranks

    def resident(self, wanted: int) -> int:
        """Sessions that stay, of so many."""
        return min(self.sessions, wanted) if wanted else self.sessions

    def returned(self, tokens: int, wanted: int) -> float:
        """The share of all sessions' tokens that comes back without being computed again."""
        if not wanted or not tokens:
            return 0.0
        return self.resident(wanted) / wanted * min(self.returned_tokens, tokens) / tokens

    def to_dict(self, ask: TierAsk) -> dict[str, Any]:
        """The JSON form: one row (docs/reference/formats.md)."""
        return {
            "tier": self.tier,
            "title": self.title,
            "place": self.place,
            "budget_bytes": self.budget_bytes,
            "used_bytes": self.used_bytes,
            "tokens": self.tokens,
            "sessions": self.sessions,
            "sessions_high": self.sessions_high,
            "session_tokens": ask.tokens,
            "session_bytes": self.session_bytes,
            "resident_sessions": self.resident(ask.sessions) if ask.sessions else None,
            "returned": self.returned(ask.tokens, ask.sessions) if ask.sessions else None,
            "per_rank": self.per_rank_bytes,
            "ranks": self.ranks,
            "shared": self.kept,
            "beside_bytes": self.beside_bytes,
            "evidence": self.evidence,
            "refused": self.refused,
            "flags": self.flags,
            "notes": list(self.notes),
        }


class Tiers(Struct, frozen=True, kw_only=True):
    """Every tier that an engine has, the device's own cache first."""

    ask: TierAsk
    rows: tuple[Tier, ...]
    notes: tuple[str, ...] = ()

    def best(self, place: Place) -> Tier | None:
        """The tier of a place that keeps the most sessions, then the most tokens; None where none does."""
        found = [tier for tier in self.rows if tier.place == place and not tier.refused and tier.tokens]
        return max(found, key=lambda tier: (tier.resident(self.ask.sessions), tier.tokens), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "host_bytes": self.ask.host_bytes,
            "disk_bytes": self.ask.disk_bytes,
            "session_tokens": self.ask.tokens,
            "sessions": self.ask.sessions or None,
            "rows": [tier.to_dict(self.ask) for tier in self.rows],
            "notes": list(self.notes),
        }
