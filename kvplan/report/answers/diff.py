"""What `kvplan diff` shows: the models whose answer is another, and the rules that make it so."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.tables import Cell, Column, Table
from kvplan.questions.diff import Cause, Change, Diff, Figure
from kvplan.report.blocks import Block, Notes, Rows, Verdict, View
from kvplan.units import human_bytes

#: The columns of the CSV, one row a model and rule (docs/reference/formats.md).
CSV_COLUMNS: Final = (
    "model", "engine", "before_bytes", "after_bytes", "before_requests", "after_requests", "before_tokens", "after_tokens",
    "before_refused", "after_refused", "rule", "was", "now", "source", "without_bytes", "without_requests", "without_tokens",
)  # fmt: skip
_WORDS: Final = {"engine": "models", "kv-dtype": "models", "model": "engines"}


class DiffAnswer(Struct, frozen=True):
    """What changes between two releases, dtypes or files."""

    key: ClassVar[str] = "diff"
    diff: Diff

    def dicts(self) -> list[Mapping[str, Any]]:
        """One object: what was asked, and the changes."""
        return [self.diff.to_dict()]

    def rows(self) -> Rows:
        """One row a model and rule."""
        return CSV_COLUMNS, (row for change in self.diff.changes for row in _rows(change))

    def blocks(self, view: View) -> Iterator[Block]:
        """The verdict, the models, and the rules by their numbers in that table."""
        d = self.diff
        every = len(d.changes) + d.same
        words = _WORDS[d.of] if every != 1 else _WORDS[d.of].removesuffix("s")
        title = f"{d.before} -> {d.after} · {d.workload.batch_size:,} x {d.workload.seq_len:,} tokens"
        said = f"{len(d.changes):,} of {every:,} {words}" if d.changed else f"nothing, of {every:,} {words}"
        yield Verdict(f"{'CHANGED' if d.changed else 'UNCHANGED'} {title}: {said}", yes=not d.changed)
        if d.changed:
            numbers = {cause.known: i for i, cause in enumerate(d.rules, start=1)}
            yield _models(d, numbers)
            yield _table_of_rules(d)
        notes = [f"requests share {human_bytes(d.budget_bytes)}"] if d.changed else []
        if any((c.before.requests is None) != (c.after.requests is None) for c in d.changes):
            notes.append("requests, -: it does not start in that memory, or is not served")
        if d.refused:
            notes.append(f"{d.refused:,} of the {_WORDS[d.of]} asked about {'is' if d.refused == 1 else 'are'} served by neither")
        refusals = dict.fromkeys(f.refused for c in d.changes for f in (c.before, c.after) if f.refused and f.total_bytes is None)
        notes += [f"not served: {reason}" for reason in list(refusals)[:3]]
        yield Notes((*notes, *d.notes))


def _models(d: Diff, numbers: Mapping[tuple[str, str, str, str], int]) -> Table:
    several = d.of == "model"
    columns = [
        Column(title="engine" if several else "model", key="engine" if several else "model", kind="name"),
        Column(title="before", key="before_bytes", kind="bytes"),
        Column(title="after", key="after_bytes", kind="bytes"),
        Column(title="change", key="change", kind="count"),
        Column(title="requests", key="requests", kind="count"),
        Column(title="tokens", key="tokens", kind="count", drop=1, instead=""),
        Column(title="rule", key="rule", kind="count"),
    ]
    shown = [
        (
            change.engine if several else change.model.name,
            change.before.total_bytes,
            change.after.total_bytes,
            _change(change.before, change.after),
            _pair(change.before, change.after, "requests"),
            _pair(change.before, change.after, "tokens"),
            ", ".join(str(numbers[cause.known]) for cause in change.causes),
        )
        for change in d.changes
    ]
    kept = [i for i, column in enumerate(columns) if column.key != "tokens" or any(row[i] for row in shown)]
    rows: tuple[tuple[Cell, ...], ...] = tuple(tuple(row[i] for i in kept) for row in shown)
    return Table(title="whose cache", columns=tuple(columns[i] for i in kept), rows=rows, one_unit=True)


def _table_of_rules(d: Diff) -> Table:
    counts: dict[tuple[str, str, str, str], int] = {}
    for change in d.changes:
        for cause in change.causes:
            counts[cause.known] = counts.get(cause.known, 0) + 1
    columns = (
        Column(title="", key="number", kind="count"),
        Column(title="by which rule", key="rule", room=24),
        Column(title="was", key="was", room=8),
        Column(title="is", key="now", room=8),
        Column(title=_WORDS[d.of], key="models", kind="count"),
        Column(title="source", key="source", quiet=True, room=24),
    )
    rows = tuple((i, c.rule, c.was, c.now, counts[c.known], c.source) for i, c in enumerate(d.rules, start=1))
    return Table(title="", columns=columns, rows=rows)


def _change(before: Figure, after: Figure) -> str:
    """By how much, in words where one side does not serve it."""
    if before.total_bytes is None or after.total_bytes is None:
        return "served" if before.total_bytes is None else "refused"
    if before.total_bytes == after.total_bytes or not before.total_bytes:
        return "starts" if before.refused and not after.refused else "no room" if after.refused and not before.refused else "same"
    percent = 100 * (after.total_bytes - before.total_bytes) / before.total_bytes
    return f"{percent:+.1f}%" if abs(percent) < 1000 else f"{after.total_bytes / before.total_bytes:,.0f}x"


def _pair(before: Figure, after: Figure, name: str) -> str:
    """Both counts, or the one where they are the same."""
    first, last = ("-" if value is None else f"{value:,}" for value in (getattr(before, name), getattr(after, name)))
    return ("" if first == "-" else first) if first == last else f"{first} -> {last}"


def _rows(change: Change) -> Iterator[dict[str, Any]]:
    sides = {"before": change.before, "after": change.after}
    shared: dict[str, Any] = {"model": change.model.name, "engine": change.engine}
    for side, figure in sides.items():
        shared |= {f"{side}_{name}": value for name, value in _figure(figure).items()}
        shared[f"{side}_refused"] = figure.refused
    for cause in change.causes or (Cause(rule="", was="", now="", source=""),):
        without = {} if cause.without is None else _figure(cause.without)
        yield {
            **shared,
            "rule": cause.rule,
            "was": cause.was,
            "now": cause.now,
            "source": cause.source,
            **{f"without_{name}": value for name, value in without.items()},
        }


def _figure(figure: Figure) -> dict[str, int | None]:
    return {"bytes": figure.total_bytes, "requests": figure.requests, "tokens": figure.tokens}
