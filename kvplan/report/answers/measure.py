"""What `kvplan measure` shows: each tensor with its law, what was compared, and the description."""

from collections.abc import Iterator
from typing import Any, ClassVar

from msgspec import Struct

from kvplan.domain.tables import Column, Table
from kvplan.domain.words import layer_list, layer_range
from kvplan.loading.yaml_spec.write import dump_spec
from kvplan.questions.measure.measured import Line, Measured, stacks_in_words
from kvplan.report.blocks import Block, Rows, Text, Verdict, View

#: The columns of the CSV: one row a tensor with its law.
CSV_COLUMNS = ("model", "class", "kind", "name", "layers", "law", "entry", "dtype", "bytes")

_COLUMNS = (
    Column(title="tensor", key="name", kind="name"),
    Column(title="layers", key="layers"),
    Column(title="grows", key="law", room=24),
    Column(title="one entry", key="entry"),
    Column(title="dtype", key="dtype", drop=1),
    Column(title="bytes", key="bytes", kind="bytes"),
)


class MeasureAnswer(Struct, frozen=True):
    """What a class keeps."""

    key: ClassVar[str] = "measurement"
    measured: Measured
    spec_shown: bool = True

    def dicts(self) -> dict[str, Any]:
        """One object, with the description as YAML where it is to be believed."""
        return self.measured.to_dict() | {"spec": dump_spec(self.measured.model) if self.measured.passed else None}

    def rows(self) -> Rows:
        """One row a tensor of equal layers; then what no sequence owns, and what follows no law."""
        return CSV_COLUMNS, list(_csv_rows(self.measured))

    def blocks(self, view: View) -> Iterator[Block]:
        """The verdict, the laws, what does not fit one, and the description."""
        m = self.measured
        yield Verdict(_verdict(m), yes=m.passed)
        if m.lines or m.beside:
            yield laws_table(m)
        if m.unexplained:
            yield Table(
                title="follows no law",
                columns=(Column(title="tensor", key="name", kind="name"), Column(title="why", key="why", room=30),
                         Column(title="seen", key="numbers", room=40)),
                rows=tuple((one.name, one.why, one.numbers) for one in m.unexplained),
            )  # fmt: skip
        wrong = [run for run in m.runs if not run.equal]
        if wrong and not m.unexplained:
            yield _wrong_table(m)
        if m.passed and self.spec_shown:
            yield Text(dump_spec(m.model).splitlines())


def laws_table(m: Measured) -> Table:
    """One row a tensor of equal layers."""
    longest = max(run.seq_len for run in m.runs)
    stacks = [stacks_in_words(m.depths, len(m.model.layers))] if m.depths else []
    notes = [*stacks, *m.remarks, *_beside(m)]
    return Table(
        title=f"{m.model.name} · {m.facts.library or f'torch {m.facts.torch}'} · one sequence of {longest:,} tokens",
        columns=_COLUMNS,
        rows=tuple(_row(line) for line in m.lines),
        total=("total", None, None, None, None, sum(line.bytes for line in m.lines)) if len(m.lines) > 1 else None,
        notes=tuple(notes),
    )


def _verdict(m: Measured) -> str:
    """The answer in a line."""
    runs = len(m.runs)
    lengths = f"{min(run.seq_len for run in m.runs):,} to {max(run.seq_len for run in m.runs):,} tokens"
    batches = sorted({run.batch_size for run in m.runs})
    said = f"{runs} runs on {m.facts.device} of {lengths}, {batches[0]} to {batches[-1]} sequences"
    if not m.passed:
        return f"REFUSED: {m.failure()}"
    checks = ", ".join(f"{run.batch_size} x {run.seq_len:,}" for run in m.runs if not run.fitted)
    return f"MEASURED: every byte of {said}; {checks} tokens were predicted first"


def _beside(m: Measured) -> Iterator[str]:
    """What no sequence owns."""
    for line in m.beside:
        where = f" of layers {layer_list(line.layers)}" if line.layers else ""
        yield f"not counted, since no sequence owns it: {line.name}{where} ({line.law}, {line.dtype}), {line.bytes:,} bytes"


def _row(line: Line) -> tuple[Any, ...]:
    return (line.name, layer_list(line.layers) or None, line.law, _entry(line), line.dtype, line.bytes)


def _entry(line: Line) -> str:
    return "x".join(map(str, line.entry))


def _wrong_table(m: Measured) -> Table:
    """Runs that the laws do not give."""
    columns = (
        Column(title="sequences", key="batch_size", kind="count"),
        Column(title="tokens", key="seq_len", kind="count"),
        Column(title="predicted", key="predicted", kind="count"),
        Column(title="kept", key="real", kind="count"),
        Column(title="verdict", key="verdict", kind="verdict"),
    )
    rows = tuple((r.batch_size, r.seq_len, r.predicted, r.real, "equal" if r.equal else "differs") for r in m.runs)
    return Table(title="the laws against every run, in bytes", columns=columns, rows=rows)


def _csv_rows(m: Measured) -> Iterator[dict[str, Any]]:
    shared = {"model": m.model.name, "class": m.facts.name}
    for kind, lines in (("kept", m.lines), ("beside", m.beside)):
        for line in lines:
            more = {"name": line.name, "layers": layer_range(line.layers) if line.layers else "", "law": line.law}
            yield {**shared, "kind": kind, **more, "entry": _entry(line), "dtype": line.dtype, "bytes": line.bytes}
    for one in m.unexplained:
        yield {**shared, "kind": "unexplained", "name": one.name, "law": f"none: {one.numbers}"}
