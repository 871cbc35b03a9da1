"""One case: predict without the recorded values, then compare fact by fact."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan import architectures
from kvplan.architectures.describe import described
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.described import Described
from kvplan.domain.media.processor import Processor
from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import Case, InvalidCase, Record
from kvplan.engines.kernel.verdicts import Banded, ComparedFact, Result, Status
from kvplan.errors import ConfigError, KvplanError, Refused
from kvplan.questions.audit import auditor

_NOTHING: Final = object()


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
        return _compared(case, module, _predicted(case, module, asked), recorded)
    except (InvalidCase, ConfigError) as problem:
        return _without(case, "invalid", str(problem))
    except KvplanError as problem:
        return _without(case, "not_predicted", str(problem))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as problem:
        # a record of an unforeseen form; a bug in a predictor shows here too, and its test fails
        return _without(case, "invalid", f"the record cannot be read as a case: {type(problem).__name__}: {str(problem)[:120]}")


class Reader:
    """Reads the configs of one case."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def __call__(self, config: Mapping[str, Any], name: str = "", /) -> Model:
        """The model; `name` is what errors call it."""
        source = f"{self._case.id}: {name}" if name else self._case.id
        return architectures.read(config, source=source, name=name or self._case.model)

    def described(self, config: Mapping[str, Any]) -> Described:
        """Its tensors."""
        return described(config, self._case.id)

    def processor(self, family: str, config: Mapping[str, Any], files: Mapping[str, Any]) -> Processor | None:
        """The rules of a family's own preprocessing."""
        from kvplan.architectures.media import family_of, processor  # few cases are about images

        row = family_of(family)
        return None if row is None else processor(row, config, files, self._case.id)


def _predicted(case: Case, module: Any, asked: Mapping[str, Any]) -> Mapping[str, Any] | NotPredicted:
    try:
        found: Mapping[str, Any] | NotPredicted = module.predict(case, asked, Reader(case))
    except Refused as problem:
        return NotPredicted(reason=problem.reason, see=problem.see)
    return found


def _without(case: Case, status: Status, reason: str) -> Result:
    return Result(id=case.id, engine=case.engine, status=status, reason=reason)


def _compared(case: Case, module: Any, predicted: Mapping[str, Any] | NotPredicted, recorded: Mapping[str, Any]) -> Result:
    if isinstance(predicted, NotPredicted):
        facts = tuple(ComparedFact(name=name, predicted=None, recorded=value) for name, value in recorded.items())
        return Result(id=case.id, engine=case.engine, status="not_predicted", facts=facts, reason=predicted.reason)
    as_recorded = getattr(module, "as_recorded", lambda name, predicted, recorded: predicted)
    facts = tuple(_fact(name, predicted.get(name, _NOTHING), value, as_recorded) for name, value in recorded.items())
    status: Status = "exact" if all(fact.agrees for fact in facts if fact.counts) else "differs"
    remark = module.remark(case) if hasattr(module, "remark") else ""
    return Result(id=case.id, engine=case.engine, status=status, facts=facts, reason=remark)


def _fact(name: str, predicted: Any, recorded: Any, as_recorded: Any) -> ComparedFact:
    if isinstance(predicted, Banded):
        band = {"low": predicted.low, "high": predicted.high, "counts": predicted.counts, "inside": True}
        return ComparedFact(name=name, predicted=predicted.best, recorded=recorded, **band)
    mine = None if predicted is _NOTHING else as_recorded(name, predicted, recorded)
    return ComparedFact(name=name, predicted=mine, recorded=recorded)
