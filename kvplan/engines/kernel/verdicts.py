"""What an audit says: facts beside predictions, one verdict a case."""

from typing import Any, Literal

from msgspec import Struct

Status = Literal["exact", "differs", "not_predicted", "invalid"]


class Banded(Struct, frozen=True, kw_only=True):
    """A predicted value that is a band: a recorded one inside it agrees. One that does not `counts` decides no verdict."""

    best: Any
    low: Any
    high: Any
    counts: bool = True


class ComparedFact(Struct, frozen=True, kw_only=True):
    """One named fact: what kvplan says (None: nothing), and what was recorded.

    A banded one has `low` and `high`. One that does not `counts` is shown and decides no verdict (what only a machine knows).
    """

    name: str
    predicted: Any
    recorded: Any
    low: Any = None
    high: Any = None
    counts: bool = True
    inside: bool = False  # it agrees where it lies in the band

    @property
    def agrees(self) -> bool:
        """Whether they are the same value; true and 1 are not."""
        if self.inside:
            number = isinstance(self.recorded, int | float) and not isinstance(self.recorded, bool)
            return number and bool(self.low <= self.recorded <= self.high)
        return self.predicted == self.recorded and isinstance(self.predicted, bool) == isinstance(self.recorded, bool)


class Result(Struct, frozen=True, kw_only=True):
    """The verdict on one case; `reason` says why it was not predicted or not read, or what a reader must know."""

    id: str
    engine: str
    status: Status
    facts: tuple[ComparedFact, ...] = ()
    reason: str = ""
    is_log: bool = False  # every figure is shown, agreeing ones too

    def __hash__(self) -> int:
        return hash((self.id, self.engine, self.status, self.reason))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/audit.md)."""
        answer: dict[str, Any] = {"id": self.id, "engine": self.engine, "status": self.status}
        answer["facts"] = [_fact(f) for f in self.facts]
        if self.reason:
            answer["reason"] = self.reason
        return answer


def _fact(f: ComparedFact) -> dict[str, Any]:
    found = {"name": f.name, "predicted": f.predicted, "recorded": f.recorded}
    return found if f.low is None and f.high is None else {**found, "low": f.low, "high": f.high}


class Audit(Struct, frozen=True, kw_only=True):
    """The verdicts on all cases, in the order of the files."""

    results: tuple[Result, ...]

    def __hash__(self) -> int:
        return hash(tuple((result.id, result.status) for result in self.results))

    def __repr__(self) -> str:
        exact = sum(result.status == "exact" for result in self.results)
        return f"<Audit of {len(self.results):,} cases: {exact:,} exact>"

    @property
    def exact(self) -> bool:
        """Whether every case is exact."""
        return all(result.status == "exact" for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/audit.md)."""
        return {"schema": 1, "results": [result.to_dict() for result in self.results]}
