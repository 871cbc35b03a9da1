"""What `kvplan conformance score` shows: right and wrong, by engine and kind of memory."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.tables import Cell, Column, Table
from kvplan.questions.audit.conformance import NEAR, VERDICTS, Line, Score
from kvplan.report.blocks import Block, Notes, Rows, View

#: The columns of the CSV, one row an engine and kind (docs/reference/audit.md).
CSV_COLUMNS: Final = ("engine", "kind", "cases", "right", "near", "too_little", "too_much", "none")


class ScoreAnswer(Struct, frozen=True):
    """A calculator's score."""

    key: ClassVar[str] = "conformance"
    score: Score

    def dicts(self) -> list[Mapping[str, Any]]:
        """One object."""
        return [self.score.to_dict()]

    def rows(self) -> Rows:
        """One row an engine and kind."""
        return CSV_COLUMNS, (line.to_dict() for line in self.score.lines)

    def blocks(self, view: View) -> Iterator[Block]:
        """One table, its sum, and what the words mean."""
        yield score_table(self.score)
        notes = [f"near: off by less than {100 * NEAR:.0f}%; no answer: null, or the id was not answered"]
        if self.score.strangers:
            notes.append(f"{self.score.strangers:,} answers are to no case that was asked")
        yield Notes(tuple(notes))


def score_table(score: Score) -> Table:
    """One row an engine and kind of memory."""
    columns = (
        Column(title="engine", key="engine", kind="name", once=True),
        Column(title="kind", key="kind", kind="name"),
        Column(title="cases", key="cases", kind="count"),
        Column(title="right", key="right", kind="count", tone="good"),
        Column(title="near", key="near", kind="count"),
        Column(title="too little", key="too_little", kind="count", tone="bad"),
        Column(title="too much", key="too_much", kind="count", tone="bad"),
        Column(title="no answer", key="none", kind="count"),
    )
    total = tuple(score.total(verdict) for verdict in VERDICTS)
    return Table(
        title="answers against what engines did",
        columns=columns,
        rows=tuple(_cells(line) for line in score.lines),
        total=("total", "", sum(total), *total),
    )


def _cells(line: Line) -> tuple[Cell, ...]:
    return (line.engine, line.kind, line.cases, *(line.verdicts.get(verdict, 0) for verdict in VERDICTS))
