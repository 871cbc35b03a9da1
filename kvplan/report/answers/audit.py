"""What `kvplan audit` shows: a table by engine, then what differs."""

from collections import Counter
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.tables import Cell, Column, Table
from kvplan.engines.kernel.verdicts import Audit, ComparedFact, Result
from kvplan.report.blocks import Block, Rows, View

#: The columns of the CSV, one row a fact (docs/reference/audit.md).
CSV_COLUMNS: Final = ("id", "engine", "status", "name", "predicted", "recorded", "reason")
#: Rows of detail that a person gets; machines get all of them.
MAX_ROWS: Final = 60


class AuditAnswer(Struct, frozen=True):
    """The verdicts on all cases."""

    key: ClassVar[str] = "results"
    audit: Audit

    def dicts(self) -> list[dict[str, Any]]:
        """One object a case."""
        found: list[dict[str, Any]] = self.audit.to_dict()["results"]
        return found

    def rows(self) -> Rows:
        """One row a fact."""
        return CSV_COLUMNS, (row for result in self.audit.results for row in _csv_rows(result))

    def blocks(self, view: View) -> list[Block]:
        """The count, what differs, and why cases were not compared."""
        others = (printed_table(self.audit), difference_table(self.audit), reason_table(self.audit))
        return [engine_table(self.audit), *(table for table in others if table.rows)]


def engine_table(audit: Audit) -> Table:
    """One row an engine: its cases by status."""
    counts: dict[str, Counter[str]] = {}
    for result in audit.results:
        counts.setdefault(result.engine or "(none)", Counter())[result.status] += 1
    statuses = ("exact", "differs", "not_predicted", "invalid")
    columns = (
        Column(title="engine", key="engine"),
        Column(title="cases", key="cases", kind="count"),
        Column(title="exact", key="exact", kind="count", tone="good"),
        Column(title="differing", key="differs", kind="count", tone="bad"),
        Column(title="not predicted", key="not_predicted", kind="count"),
        Column(title="invalid", key="invalid", kind="count", tone="bad"),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (engine, found.total(), *(found[s] for s in statuses)) for engine, found in counts.items()
    )
    everything = sum(counts.values(), Counter[str]())
    total: tuple[Cell, ...] = ("total", everything.total(), *(everything[s] for s in statuses))
    return Table(title="recorded cases against predictions", columns=columns, rows=rows, total=total if len(rows) > 1 else None)


def difference_table(audit: Audit) -> Table:
    """One row a differing fact."""
    rows = [
        (result.id, fact.name, _shown(fact.predicted), _shown(fact.recorded), _difference(fact))
        for result in audit.results
        if result.status == "differs" and not result.is_log
        for fact in result.facts
        if not fact.agrees
    ]
    columns = (
        Column(title="case", key="id", kind="name"),
        Column(title="fact", key="name"),
        Column(title="predicted", key="predicted"),
        Column(title="recorded", key="recorded"),
        Column(title="difference", key="difference"),
    )
    notes = (f"{len(rows) - MAX_ROWS:,} more differing facts: `-f json` has them all",) if len(rows) > MAX_ROWS else ()
    return Table(title="differing", columns=columns, rows=tuple(rows[:MAX_ROWS]), notes=notes)


def printed_table(audit: Audit) -> Table:
    """What logs print beside what kvplan says, figures that agree too."""
    rows = [
        (
            result.id,
            fact.name.removesuffix("_printed"),
            _shown(fact.recorded),
            _shown(fact.predicted),
            _range(fact),
            _difference(fact),
        )
        for result in audit.results
        if result.is_log
        for fact in result.facts
        if fact.name != "available_kv_gib_printed" or all(other.name != "available_kv_gib" for other in result.facts)
    ]
    columns = (
        Column(title="start", key="id", drop=1),
        Column(title="line", key="name"),
        Column(title="printed", key="recorded"),
        Column(title="predicted", key="predicted"),
        Column(title="band", key="band"),
        Column(title="difference", key="difference"),
    )
    notes = (f"{len(rows) - MAX_ROWS:,} more: `-f json` has them all",) if len(rows) > MAX_ROWS else ()
    return Table(title="printed and predicted", columns=columns, rows=tuple(rows[:MAX_ROWS]), notes=notes)


def _range(fact: ComparedFact) -> str:
    if fact.low is None or fact.low == fact.high:
        return ""
    return f"{fact.low:.2f} to {fact.high:.2f}"


def reason_table(audit: Audit) -> Table:
    """One row for each reason why cases were not compared, and for each remark on one that was."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in audit.results:
        if result.reason:
            found.setdefault((result.status.replace("_", " "), result.reason), []).append(result)
    rows = [(status, len(results), results[0].id, reason) for (status, reason), results in found.items()]
    columns = (
        Column(title="status", key="status"),
        Column(title="cases", key="cases", kind="count"),
        Column(title="first", key="first", room=26),
        Column(title="reason", key="reason", room=30),
    )
    notes = (f"{len(rows) - MAX_ROWS:,} more reasons: `-f json` has them all",) if len(rows) > MAX_ROWS else ()
    return Table(title="remarks", columns=columns, rows=tuple(rows[:MAX_ROWS]), notes=notes)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _difference(fact: ComparedFact) -> str:
    """Predicted less recorded, where both are numbers; the first unequal entry of two lists."""
    predicted, recorded = fact.predicted, fact.recorded
    if isinstance(predicted, list | tuple) and isinstance(recorded, list | tuple):
        if len(predicted) != len(recorded):
            return f"{len(predicted)} entries, not {len(recorded)}"
        for index, (a, b) in enumerate(zip(predicted, recorded, strict=True)):
            if a != b:
                return f"[{index}]: {_shown(a)} / {_shown(b)}"
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (predicted, recorded))
    if not numbers:
        return ""
    return f"{predicted - recorded:+,}" if isinstance(predicted - recorded, int) else f"{predicted - recorded:+.6g}"


def _csv_rows(result: Result) -> list[dict[str, Any]]:
    shared = {"id": result.id, "engine": result.engine, "status": result.status, "reason": result.reason}
    facts = [{"name": f.name, "predicted": _flat(f.predicted), "recorded": _flat(f.recorded)} for f in result.facts]
    return [{**shared, **fact} for fact in facts or [{}]]


def _flat(value: Any) -> Any:
    """A cell: a number or text as it is, a list or an object as JSON."""
    if not isinstance(value, list | tuple | dict):
        return value
    import json

    return json.dumps(value)
