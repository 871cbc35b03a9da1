"""`check`: whether one server of an input starts, on the cards that it is given, beside those that start before it."""

from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.servers import Server
from kvplan.domain.tiers import Tiers
from kvplan.errors import KvplanError
from kvplan.questions.fit.answer import answer as fitted
from kvplan.questions.fit.question import Fit, Question
from kvplan.questions.placement.answer import Laid
from kvplan.questions.receipt import Receipt, receipt

Status = Literal["starts", "may start", "does not start", "not decided"]
#: What an exit code says of several: the worst counts.
WORST: Final[tuple[Status, ...]] = ("does not start", "not decided", "may start", "starts")


#: Hundredths of a card that are offered at most: what its context and others take lies outside.
_MOST_SHARE: Final = 97


class Outcome(Struct, frozen=True, kw_only=True):
    """Whether a server starts, and why not: `receipt` of one that reserves its cache, `fit` of one that does not, `laid` of
    one whose layers lie on several cards and the host.

    `taken_bytes` is what it takes of each of its cards, `longest` the longest request that it could be told instead, where its
    length is what stops it, `share` the least part of its cards with which it would start, where no length helps.
    """

    status: Status
    reason: str
    receipt: Receipt | None = None
    fit: Fit | None = None
    laid: Laid | None = None
    taken_bytes: int = 0
    tokens: int | None = None
    longest: int | None = None
    share: float | None = None
    notes: tuple[str, ...] = ()
    below: Tiers | None = None  # of `laid`

    @property
    def tiers(self) -> Tiers | None:
        """What lies below its cards: host memory and disks, where that is known."""
        answer = self.receipt or self.fit
        return self.below if answer is None else answer.tiers

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; of the receipt or the fit, the whole."""
        return {
            "status": self.status,
            "reason": self.reason,
            "taken_bytes": self.taken_bytes,
            "tokens": self.tokens,
            "longest": self.longest,
            "share": self.share,
            "receipt": self.receipt.to_dict() if self.receipt is not None else None,
            "fit": self.fit.to_dict() if self.fit is not None else None,
            "laid": self.laid.to_dict() if self.laid is not None else None,
            "tiers": self.tiers.to_dict() if self.tiers is not None else None,
            "notes": list(self.notes),
        }


class Checked(Struct, frozen=True, kw_only=True):
    """A server of an input with its outcome; `notes` are what of it was read and not counted, and what was taken for what."""

    server: Server
    outcome: Outcome
    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()  # servers that start before it on its cards

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: what was read, and the outcome."""
        return {
            "file": self.server.file,
            "line": self.server.line,
            "place": self.server.place,
            "read": self.server.to_dict(),
            **self.outcome.to_dict(),
            "notes": [*self.notes, *self.outcome.notes],
            "beside": list(self.beside),
        }


class Check(Struct, frozen=True, kw_only=True):
    """The servers of several inputs, in their order."""

    servers: tuple[Checked, ...]
    others: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """The worst of all; `starts` where there is no server."""
        found = {one.outcome.status for one in self.servers}
        return next((status for status in WORST if status in found), "starts")

    @property
    def starts(self) -> bool:
        """Whether every server starts."""
        return self.status == "starts"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"starts": self.starts, "status": self.status, "servers": [one.to_dict() for one in self.servers]}


#: A server that starts without a model.
EMPTY: Final = Outcome(status="starts", reason="")


def undecided(reason: str) -> Outcome:
    """A server of which kvplan cannot tell."""
    return Outcome(status="not decided", reason=reason)


def refused(reason: str) -> Outcome:
    """A server whose parser stops before anything is allocated."""
    return Outcome(status="does not start", reason=reason)


def beyond(found: Outcome, reason: str, derived: int) -> Outcome:
    """The outcome of a server that refuses its length, from that with the length that the model has."""
    longest = derived if found.status in {"starts", "may start"} else found.longest
    return replace(found, status="does not start", reason=reason, tokens=None, longest=longest, notes=())


def placed(found: Laid) -> Outcome:
    """The outcome of a server whose layers lie on several devices."""
    from kvplan.units import human_bytes

    taken = max((place.needed.bytes for place in found.spread.devices), default=0)
    tokens = found.context * found.requests
    if found.fits:
        return Outcome(status="starts", reason="", laid=found, taken_bytes=taken, tokens=tokens, notes=found.notes)
    if found.may_fit:
        reason = "it fits only where buffers are at the low ends of their bands"
        return Outcome(status="may start", reason=reason, laid=found, taken_bytes=taken, tokens=tokens, notes=found.notes)
    name, left = found.spread.tightest or ("", 0)
    reason = f"{name} is {human_bytes(-left)} short" if left < 0 else "it does not fit"
    longest = found.longest if 0 < found.longest < found.context else None
    return Outcome(status="does not start", reason=reason, laid=found, taken_bytes=taken, longest=longest, notes=found.notes)


def outcome(q: Question, *, reserves: bool, brief: bool = False) -> Outcome:
    """Whether the server of a question starts.

    Args:
        q: the server; with `context` and `batch_size` where it reserves nothing.
        reserves: whether it takes its cache when it starts.
        brief: without what would make it start.
    """
    try:
        return _reserving(q, brief=brief) if reserves else _growing(q)
    except KvplanError as problem:
        return undecided(str(problem))


def _reserving(q: Question, *, brief: bool) -> Outcome:
    found = receipt(q)
    if found.not_predicted:
        return Outcome(status="not decided", reason=found.not_predicted, receipt=found)
    budget = found.budget
    taken = budget.memory.bytes - budget.unused.bytes if budget.ledger is not None else _plain_taken(found)
    left = budget.cache
    if found.pool is None or (not found.starts and not found.may_start):
        sought = found.pool is not None and not brief  # else no length and no share of the card helps
        longest = _longest(q) if left.bytes > 0 and sought else None
        share = _share(q) if longest is None and sought else None
        reason = _why(found)
        return Outcome(
            status="does not start",
            reason=reason,
            receipt=found,
            taken_bytes=taken,
            longest=longest,
            share=share,
            notes=found.notes,
        )
    status: Status = "may start" if found.may_start else "starts"
    return Outcome(
        status=status,
        reason="",
        receipt=found,
        taken_bytes=taken,
        tokens=found.pool.num_tokens,
        longest=_longest(q) if found.may_start and not brief else None,
        notes=found.notes,
    )


def _plain_taken(found: Receipt) -> int:
    budget = found.budget
    return max(0, budget.memory.bytes - budget.unused.bytes)


def _why(found: Receipt) -> str:
    if found.refused:
        return found.refused
    from kvplan.units import human_bytes

    return f"{human_bytes(found.budget.cache.bytes)} are left for the cache"


def _longest(q: Question) -> int | None:
    """The longest request with which it would start; None where no length helps."""
    from kvplan.engines import about
    from kvplan.engines.kernel.search import largest

    option = about(q.engine).roles.get("context")
    if option is None:
        return None
    asked = q.options.get(option)
    most = asked if isinstance(asked, int) and asked > 0 else q.model.max_tokens
    if most is None or most < 2:
        return None

    def starts(tokens: int) -> bool:
        return tokens > 0 and receipt(replace(q, options={**q.options, option: tokens})).starts

    return largest(starts, ceiling=most - 1) or None


def _share(q: Question) -> float | None:
    """The least part of each card, in hundredths, with which it would start; None where none does, or it is told otherwise."""
    from kvplan.engines import about
    from kvplan.engines.kernel.search import largest

    known = about(q.engine)
    option = known.roles.get("utilization")
    if option is None or known.share.meaning != "of total":
        return None

    def starts(part: int) -> bool:
        return receipt(replace(q, options={**q.options, option: part / 100})).starts

    told = str(q.options.get(option, ""))
    first = max(1, int(float(told) * 100) + 1 if told.replace(".", "", 1).isdecimal() else 1)
    most = _MOST_SHARE
    if q.free:  # more than others leave is refused
        most = min(most, int(100 * min(q.free) / receipt(q).budget.memory.bytes))
    most = next((part for part in (most, most - 1) if part >= first and starts(part)), 0)
    if not most:
        return None
    return (most - largest(lambda less: starts(most - less), ceiling=most - first)) / 100


def _growing(q: Question) -> Outcome:
    found = fitted(q)
    if found.not_predicted:
        return Outcome(status="not decided", reason=found.not_predicted, fit=found)
    budget = found.budget
    taken = budget.weights.bytes + budget.reserve.bytes + found.cache_bytes
    if found.fits and not found.unsure:
        return Outcome(status="starts", reason="", fit=found, taken_bytes=taken, tokens=found.context * found.batch_size)
    if found.unsure:
        return Outcome(status="may start", reason="the bands of its lines decide", fit=found, taken_bytes=taken)
    from kvplan.units import human_bytes

    short = taken - (budget.memory.bytes - budget.unused.bytes)
    reason = f"{human_bytes(max(0, short))} more are needed than there are" if short > 0 else "it does not fit"
    return Outcome(status="does not start", reason=reason, fit=found, taken_bytes=taken)
