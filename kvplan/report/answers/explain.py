"""What `kvplan explain` shows: why, where, how much, and from which sources."""

import textwrap

from kvplan.domain.allocation import Allocation
from kvplan.domain.tables import Column, Table
from kvplan.errors import printable
from kvplan.questions.explain import Explanation
from kvplan.questions.explain.layer_map import Run
from kvplan.report.answers.estimate import title
from kvplan.report.formats.json import to_json
from kvplan.report.formats.markdown import to_markdown


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
    rows = tuple((f"{line.name} ({line.kind})" if several else line.name, line.product, line.bytes) for line in e.lines)
    return Table(title="the sum", columns=columns, rows=rows, total=("total", None, e.total_bytes), notes=_sum_notes(e))


def _sum_notes(e: Explanation) -> tuple[str, ...]:
    a = e.answer
    if not isinstance(a, Allocation):
        return ()
    per_token = f"the next token of one sequence costs {a.bytes_per_token:,} B"
    return (f"{per_token}; evidence: {a.evidence}", *a.notes)


def facts_table(e: Explanation) -> Table:
    """Which config keys gave the numbers."""
    columns = (Column(title="key", key="key"), Column(title="value", key="value"), Column(title="from", key="origin"))
    rows = tuple((fact.key, _short(fact.value), fact.origin.rpartition("/")[2]) for fact in e.model.provenance)
    return Table(title="where the numbers come from", columns=columns, rows=rows)


def _short(value: str) -> str:
    return value if len(value) <= 32 else f"{value[:31]}…"


def sources_table(e: Explanation) -> Table:
    """The source of each rule."""
    columns = (Column(title="rule", key="rule"), Column(title="source", key="source"))
    return Table(title="sources", columns=columns, rows=e.sources)


def _title(e: Explanation) -> str:
    return title(e.answer) if isinstance(e.answer, Allocation) else f"{e.model.name} · {e.engine}"


def _tables(e: Explanation) -> list[Table]:
    return [table for table in (layer_table(e), formula_table(e), facts_table(e), sources_table(e)) if table.rows]


def render(e: Explanation, fmt: str, *, width: int = 80, color: bool = False) -> str:
    """The explanation in one of the formats: `table`, `json`, `markdown`."""
    if fmt == "json":
        return to_json("explanation", e.to_dict())
    missing = "" if isinstance(e.answer, Allocation) else f"not predicted: {printable(e.answer.reason)}\n"
    if fmt == "markdown":
        heading = to_markdown(Table(title=_title(e), columns=(), rows=())).split("\n", 1)[0]
        paragraphs = [f"**{rule.title}.** {rule.text}" for rule in e.rules]
        return (
            "\n\n".join([heading, *paragraphs, *([missing] if missing else []), *(to_markdown(t).rstrip() for t in _tables(e))])
            + "\n"
        )
    from kvplan.report.formats.table import to_text

    lines = [*textwrap.wrap(printable(_title(e)), width), ""]
    for rule in e.rules:
        lines += [*textwrap.wrap(f"{rule.title.capitalize()}: {rule.text}", width=min(width, 100)), ""]
    return "\n".join(lines) + missing + "\n" + "\n".join(to_text(t, width=width, color=color) for t in _tables(e))
