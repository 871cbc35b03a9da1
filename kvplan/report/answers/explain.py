"""What `kvplan explain` shows: why, where, how much, and from which sources."""

from collections.abc import Iterator
from typing import Any, ClassVar

from msgspec import Struct

from kvplan import limits
from kvplan.domain.allocation import Allocation
from kvplan.domain.model import Model
from kvplan.domain.tables import Column, Table
from kvplan.domain.workload import Workload
from kvplan.errors import OptionError
from kvplan.questions.explain import Explanation, explain
from kvplan.questions.explain.layer_map import Run
from kvplan.questions.receipt import Receipt
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.answers.estimate import further_tokens, title
from kvplan.report.answers.media import steps_table
from kvplan.report.answers.receipt import answer, beside_table, ledger_table, verdict
from kvplan.report.blocks import Block, Heading, Paragraph, Rows, Verdict, View


class ExplainAnswer(Struct, frozen=True):
    """What a model's cache holds, and why."""

    key: ClassVar[str] = "explanation"
    explanation: Explanation
    card: Receipt | None = None  # a server's start on a card

    def dicts(self) -> dict[str, Any]:
        """One object."""
        found = self.explanation.to_dict()
        return found if self.card is None else {**found, "receipt": self.card.to_dict()}

    def rows(self) -> Rows:
        """Prose has none.

        Raises:
            OptionError: always.
        """
        raise OptionError("«format»: an explanation has no CSV form", hint="use table, markdown, html or json")

    def blocks(self, view: View) -> Iterator[Block]:
        """Why, where, how much, and from which sources."""
        e = self.explanation
        yield Heading(_title(e))
        yield from (Paragraph(rule.title, rule.text) for rule in e.rules)
        if isinstance(e.answer, Allocation) and e.answer.media is not None:
            yield steps_table(e.answer.media)
        if not isinstance(e.answer, Allocation):
            yield e.answer
        if self.card is not None:
            if not self.card.not_predicted:
                yield Verdict(verdict(self.card), yes=answer(self.card))
            beside = beside_table(self.card)
            yield from (ledger_table(self.card), *([beside] if beside is not None else []))
        yield from (table for table in (layer_table(e), formula_table(e), facts_table(e), sources_table(e)) if table.rows)


def of_model(model: Model) -> ExplainAnswer:
    """What a model shows of itself: what it keeps of one sequence of 8,192 tokens in theory."""
    return ExplainAnswer(explain(model, Workload(seq_len=8192, batch_size=1)))


def layer_table(e: Explanation) -> Table:
    """One row a run of equal layers."""
    columns = [Column(title="layers", key="layers"), Column(title="each remembers", key="kind")]
    rows: list[tuple[str, ...]] = [(_range(run), run.words) for run in e.layers]
    if any(run.repeats > 1 for run in e.layers):
        columns.append(Column(title="repeated", key="repeats"))
        rows = [(*row, _repeated(run)) for row, run in zip(rows, e.layers, strict=True)]
    return Table(title=f"layer map of {len(e.model.layers):,} layers", columns=tuple(columns), rows=tuple(rows))


def _range(run: Run) -> str:
    return str(run.first) if run.layers == 1 else f"{run.first}-{run.first + run.layers - 1}"


def _repeated(run: Run) -> str:
    return f"x{run.repeats}, to layer {run.last}" if run.repeats > 1 else ""


def formula_table(e: Explanation) -> Table:
    """One row a term of the sum, and the total."""
    several = len({line.kind for line in e.lines}) > 1
    columns = (
        Column(title="term", key="name"),
        Column(title="product", key="product"),
        Column(title="bytes", key="bytes", kind="count"),
    )
    rows = tuple(
        (f"{line.name} ({line.kind})" if several and line.name != line.kind else line.name, line.product, line.bytes)
        for line in e.lines
    )
    return Table(title="the sum", columns=columns, rows=rows, total=("total", None, e.total_bytes), notes=_sum_notes(e))


def _sum_notes(e: Explanation) -> tuple[str, ...]:
    a = e.answer
    if not isinstance(a, Allocation):
        return ()
    return (f"{further_tokens(a)}; evidence: {a.evidence}", *a.notes)


def facts_table(e: Explanation) -> Table:
    """Which config keys gave the numbers."""
    columns = (
        Column(title="key", key="key", kind="name"),
        Column(title="value", key="value", room=14),
        Column(title="from", key="origin", quiet=True),
    )
    rows = tuple((fact.key, _value(fact.value), fact.origin.rpartition("/")[2]) for fact in e.model.provenance)
    return Table(title="where the numbers come from", columns=columns, rows=rows)


def _value(value: str) -> str:
    """A value of a config; a whole number is written as everywhere else."""
    return f"{int(value):,}" if value.isascii() and value.isdecimal() and len(value) <= limits.DIGITS else value


def sources_table(e: Explanation) -> Table:
    """The source of each rule."""
    columns = (Column(title="rule", key="rule"), Column(title="source", key="source", quiet=True))
    return Table(title="sources", columns=columns, rows=e.sources)


def _title(e: Explanation) -> str:
    return title(e.answer) if isinstance(e.answer, Allocation) else f"{e.model.name} · {engine_words(e.engine)}"
