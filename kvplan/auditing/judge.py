"""One case: predict without the recorded values, then compare fact by fact."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kvplan.allocation import NotPredicted
from kvplan.auditing import auditor
from kvplan.auditing.cases import Case, InvalidCase, Record
from kvplan.errors import ConfigError, KvplanError

Status = Literal["exact", "differs", "not_predicted", "invalid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFact:
    """One named fact: what kvplan says (None: nothing), and what was recorded."""

    name: str
    predicted: Any
    recorded: Any

    @property
    def agrees(self) -> bool:
        """Whether they are the same value; true and 1 are not."""
        return self.predicted == self.recorded and isinstance(self.predicted, bool) == isinstance(self.recorded, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The verdict on one case; `reason` says why it was not predicted or not read, or what a reader must know."""

    id: str
    engine: str
    status: Status
    facts: tuple[ComparedFact, ...] = ()
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/audit.md)."""
        answer: dict[str, Any] = {"id": self.id, "engine": self.engine, "status": self.status}
        answer["facts"] = [{"name": f.name, "predicted": f.predicted, "recorded": f.recorded} for f in self.facts]
        if self.reason:
            answer["reason"] = self.reason
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The verdicts on all cases, in the order of the files."""

    results: tuple[Result, ...]

    @property
    def exact(self) -> bool:
        """Whether every case is exact."""
        return all(result.status == "exact" for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/audit.md)."""
        return {"schema": 1, "results": [result.to_dict() for result in self.results]}


def judge(record: Record) -> Result:
    """The verdict on one record. Nothing that a record holds raises."""
    case = record.case
    if record.invalid:
        return Result(id=case.id, engine=case.engine, status="invalid", reason=record.invalid)
    module = auditor(case.engine)
    if module is None:
        return _without(case, "not_predicted", f"kvplan predicts no facts of engine `{case.engine[:60]}`")
    try:
        recorded = module.recorded(case, record.expected)
        if not recorded:
            return _without(case, "not_predicted", "the record holds none of the facts that kvplan predicts for this engine")
        asked = module.asked(case, record.expected) if hasattr(module, "asked") else {}
        predicted = module.predict(case, asked)
        return _compared(case, module, predicted, recorded)
    except (InvalidCase, ConfigError) as problem:
        return _without(case, "invalid", str(problem))
    except KvplanError as problem:
        return _without(case, "not_predicted", str(problem))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as problem:
        # a record of an unforeseen form; a bug in a predictor shows here too, and its test fails
        return _without(case, "invalid", f"the record cannot be read as a case: {type(problem).__name__}: {str(problem)[:120]}")


def _without(case: Case, status: Status, reason: str) -> Result:
    return Result(id=case.id, engine=case.engine, status=status, reason=reason)


def _compared(case: Case, module: Any, predicted: Mapping[str, Any] | NotPredicted, recorded: Mapping[str, Any]) -> Result:
    if isinstance(predicted, NotPredicted):
        facts = tuple(ComparedFact(name=name, predicted=None, recorded=value) for name, value in recorded.items())
        return Result(id=case.id, engine=case.engine, status="not_predicted", facts=facts, reason=predicted.reason)
    as_recorded = getattr(module, "as_recorded", lambda name, predicted, recorded: predicted)
    facts = tuple(
        ComparedFact(
            name=name,
            predicted=as_recorded(name, predicted[name], value) if name in predicted else None,
            recorded=value,
        )
        for name, value in recorded.items()
    )
    status: Status = "exact" if all(fact.agrees for fact in facts) else "differs"
    remark = module.remark(case) if hasattr(module, "remark") else ""
    return Result(id=case.id, engine=case.engine, status=status, facts=facts, reason=remark)
