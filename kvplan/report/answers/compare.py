"""What `kvplan compare` shows: one row a combination, and for `--kv-dtype all` the savings of every cache dtype."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.tables import Cell, Column, Table
from kvplan.engines import ABOUTS, about
from kvplan.questions.compare import Comparison, Row
from kvplan.report.answers.differences import engines_table, is_of_engines
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.answers.estimate import EstimateAnswer
from kvplan.report.blocks import Block, Rows, View

if TYPE_CHECKING:
    from kvplan.report.figures import Picture

#: The columns of the CSV, in order; docs/reference/formats.md says what each means.
CSV_COLUMNS: Final = (
    "model", "engine", "engine_version", "kv_dtype", "tensor_parallel", "batch_size", "seq_len", "encoder_len",
    "total_bytes", "payload_bytes", "allocated_bytes", "bookkeeping_bytes", "bytes_per_token", "state_bytes",
    "relative", "evidence", "not_predicted",
)  # fmt: skip


class CompareAnswer(Struct, frozen=True):
    """A comparison, and the same of `more` workloads."""

    key: ClassVar[str] = "comparison"
    comparison: Comparison
    more: Sequence[Comparison] = ()

    @property
    def every(self) -> list[Comparison]:
        """One a workload."""
        return [self.comparison, *self.more]

    def dicts(self) -> list[Mapping[str, Any]]:
        """One object a row."""
        return [_row_dict(c, row) for c in self.every for row in c.rows]

    def rows(self) -> Rows:
        """One row a combination."""
        columns = (*CSV_COLUMNS, "sees") if self.comparison.budget else CSV_COLUMNS
        return columns, (row.to_dict() for c in self.every for row in c.rows)

    def blocks(self, view: View) -> list[Block]:
        """One table a workload."""
        return [_table(c) for c in self.every]

    def figures(self, view: View) -> "list[Picture]":
        """Bars of each workload, and of what the next token adds."""
        from kvplan.report.answers.compare_figures import comparison_figures

        found: list[Picture] = []
        for c in self.every:
            w, words = c.workload, _prevailing(c, "evidence")
            name = f"cache-{w.batch_size}x{w.seq_len}" if self.more else "cache"
            found += comparison_figures(c, name, [*_baseline_note(c), *([f"evidence: {words}"] if words else []), *_refusals(c)])
        return found


def of_row(row: Row) -> CompareAnswer | EstimateAnswer:
    """What one row shows of itself."""
    if not isinstance(row.answer, Allocation):
        return EstimateAnswer([row.answer])
    return CompareAnswer(Comparison(rows=(row,), workload=row.answer.workload, baseline=None))


def compare_table(c: Comparison) -> Table:
    """One row a combination; columns that would say the same in every row go into the title or the notes."""
    several_engines = len({row.engine for row in c.rows}) > 1
    several_dtypes = len({row.kv_dtype for row in c.rows}) > 1
    evidence = {row.answer.evidence for row in c.rows if isinstance(row.answer, Allocation)}
    dtype_words, evidence_words = (_prevailing(c, name) for name in ("kv_dtype", "evidence"))
    largest = max((row.answer.total_bytes for row in c.rows if isinstance(row.answer, Allocation)), default=0)
    one_model = _one_model(c)
    chosen: list[tuple[Column, Any]] = []
    if not one_model:
        chosen.append((Column(title="model", key="model", kind="name", once=True), lambda row: row.model.name))
    if several_engines:
        chosen.append((Column(title="engine", key="engine", kind="name"), lambda row: row.engine))
    if several_dtypes:
        dtype = Column(title="kv dtype", key="kv_dtype", kind="name", drop=4, instead=f"kv dtype: {dtype_words}")
        chosen.append((dtype, lambda row: row.kv_dtype))
    chosen += [
        (Column(title="cache", key="cache_bytes", kind="bytes"), lambda row: _of(row, "total_bytes", "not predicted")),
        (Column(title="bytes", key="total_bytes", kind="count", drop=1, instead=""), lambda row: _of(row, "total_bytes")),
        (Column(title="B/token", key="bytes_per_token", kind="count"), lambda row: _of(row, "bytes_per_token")),
        (Column(title="relative", key="relative", kind="ratio"), lambda row: row.relative),
    ]
    if len(evidence) > 1:
        column = Column(title="evidence", key="evidence", quiet=True, drop=3, instead=f"evidence: {evidence_words}")
        chosen.append((column, lambda row: _of(row, "evidence")))
    if largest and len(c.rows) > 1:
        bar = Column(title="", key="bar", kind="bar", drop=2, instead="")
        chosen.append((bar, lambda row: _share(row, largest)))
    first = c.rows[0]
    parts = (
        ([first.model.name] if one_model else [])
        + ([] if several_engines else [engine_words(first.engine)])
        + ([] if several_dtypes else [first.kv_dtype])
    )
    notes = (*_baseline_note(c), *([f"evidence: {next(iter(evidence))}"] if len(evidence) == 1 else []), *_row_notes(c))
    return Table(
        title=" · ".join([*parts, _workload_words(c)]),
        columns=tuple(column for column, _ in chosen),
        rows=tuple(tuple(cell(row) for _, cell in chosen) for row in c.rows),
        notes=notes,
        marked=() if c.baseline is None or len(c.rows) < 2 else (c.baseline,),
    )


def _table(c: Comparison) -> Table:
    if c.savings:
        return savings_table(c)
    if c.budget:
        return designs_table(c)
    return engines_answer(c) if is_of_engines(c) else compare_table(c)


def designs_table(c: Comparison) -> Table:
    """A model, then the designs that keep at most a share of its cache, with what a token of each can still see."""
    base = c.rows[0]
    columns = (
        Column(title="design", key="variant", kind="name"),
        Column(title="cache", key="cache_bytes", kind="bytes"),
        Column(title="relative", key="relative", kind="ratio"),
        Column(title="what a token can still see", key="sees", room=36),
    )
    rows = tuple((_design(row, base), _of(row, "total_bytes"), row.relative, row.sees) for row in c.rows)
    notes = (
        f"1.00x is {base.model.name}; of {c.tried:,} designs of one or two rewrites, the mildest that keep at most {c.budget}",
        "hypothetical: no released model has these layers, and what they cost in quality is not known; "
        "`--variant` compares any of them",
    )
    parts = (base.model.name, engine_words(base.engine), base.kv_dtype, _workload_words(c))
    return Table(title=" · ".join(parts), columns=columns, rows=rows, notes=notes, marked=(0,))


def _design(row: Row, base: Row) -> str:
    """The rewrite alone; the model itself by its name."""
    return row.model.name.removeprefix(f"{base.model.name} [").removesuffix("]") if row is not base else row.model.name


def engines_answer(c: Comparison) -> Table:
    """Engines of one model, with what each wastes and why it differs."""
    first = c.rows[0]
    several_dtypes = len({row.kv_dtype for row in c.rows}) > 1
    parts = [first.model.name, *([] if several_dtypes else [first.kv_dtype]), _workload_words(c)]
    words = _prevailing(c, "evidence")
    notes = (*_baseline_note(c), *([f"evidence: {words}"] if words else []), *_row_notes(c))
    return engines_table(c, " · ".join(parts), notes)


def _prevailing(c: Comparison, name: str) -> str:
    """A column in a sentence: the value of most rows, and whose another is."""
    found: dict[str, list[str]] = {}
    for row in c.rows:
        if isinstance(row.answer, Allocation):
            found.setdefault(str(getattr(row.answer, name)), []).append(_label(c, row))
    most, *others = sorted(found, key=lambda value: -len(found[value])) or [""]
    return "; ".join([most, *(f"{value} for {_some(found[value])}" for value in others)])


def _label(c: Comparison, row: Row) -> str:
    """What tells a row from the others."""
    several_models, several_engines = (len({getter(r) for r in c.rows}) > 1 for getter in (_model_name, _engine_name))
    parts = [*([row.model.name] if several_models else []), *([row.engine] if several_engines else [])]
    return " · ".join(parts) or row.kv_dtype


def _model_name(row: Row) -> str:
    return row.model.name


def _engine_name(row: Row) -> str:
    return row.engine


def _some(labels: Iterable[str]) -> str:
    """The first three of several, each once."""
    distinct = list(dict.fromkeys(labels))
    return ", ".join(distinct[:3]) + (f" and {len(distinct) - 3} more" if len(distinct) > 3 else "")


def _one_model(c: Comparison) -> bool:
    """Whether the rows are engines or dtypes of one model, which is then in the title."""
    models, others = ({row.model.name for row in c.rows}, {(row.engine, row.kv_dtype) for row in c.rows})
    return len(models) == 1 and len(others) > 1


def savings_table(c: Comparison) -> Table:
    """Every cache dtype: bytes with scales, the saving against the model's own dtype, and what to type for it."""
    several_models = len({row.model.name for row in c.rows}) > 1
    several_engines = len({row.engine for row in c.rows}) > 1
    theory = any(not _is_engines(row) for row in c.rows)  # no engine's: who takes the dtype is said, not what to type in each
    columns = [
        *([Column(title="model", key="model", kind="name", once=True)] if several_models else []),
        *([Column(title="engine", key="engine", kind="name", once=True)] if several_engines else []),
        Column(title="kv dtype", key="kv_dtype", kind="name"),
        Column(title="cache", key="cache_bytes", kind="bytes"),
        Column(title="bytes", key="total_bytes", kind="count", drop=2, instead=""),
        Column(title="saving", key="saving", kind="count"),
        Column(title="taken by" if theory else "what to type", key="flags", room=36),
        Column(title="scales", key="scales", drop=1, quiet=True),
    ]
    rows = []
    for row in c.rows:
        cells: list[Cell] = [row.model.name] if several_models else []
        cells += [row.engine] if several_engines else []
        cells += [row.kv_dtype, _of(row, "total_bytes", "not predicted"), _of(row, "total_bytes"), _saving(row)]
        flags = _flags(row)
        cells += [", ".join(flags if theory else flags.values()), lookup(row.kv_dtype).scales]
        rows.append(tuple(cells))
    first = c.rows[0]
    name = [] if several_models else [first.model.name]
    own = sorted({lookup(row.model.dtype).name for row in c.rows})
    notes = (
        f"saving is against the model's own dtype ({', '.join(own)}); bytes include scales that lie in the cache",
        *(["`-e ENGINE` says what to type in it; `kvplan dtypes` has all flags"] if theory else []),
        *_row_notes(c),
    )
    title = " · ".join([*name, *([] if several_engines else [engine_words(first.engine)]), _workload_words(c)])
    return Table(title=title, columns=tuple(columns), rows=tuple(rows), notes=notes)


def _is_engines(row: Row) -> bool:
    """Whether the row is an engine's own, whose flag needs no name before it."""
    return set(_flags(row)) <= {about(row.engine).name}


def _workload_words(c: Comparison) -> str:
    w = c.workload
    encoder = f" + {w.encoder_len:,} encoder tokens" if w.encoder_len else ""
    devices = {row.answer.tensor_parallel for row in c.rows if isinstance(row.answer, Allocation)} - {1}
    shared = f" · per device, of {max(devices)}" if devices else ""
    beside = f" of text and {c.media}" if c.media else ""
    return f"{w.batch_size:,} x {w.seq_len:,} tokens{beside}{encoder}{shared}"


def _of(row: Row, name: str, otherwise: Cell = None) -> Cell:
    value: Cell = getattr(row.answer, name) if isinstance(row.answer, Allocation) else otherwise
    return value


def _share(row: Row, largest: int) -> float | None:
    return row.answer.total_bytes / largest if isinstance(row.answer, Allocation) else None


def _saving(row: Row) -> str | None:
    if row.relative is None:
        return None
    percent = round((1 - row.relative) * 100, 1) + 0.0  # no minus zero
    return f"{percent:.1f}%" if percent >= 0 else f"{-percent:.1f}% more"


def _flags(row: Row) -> dict[str, str]:
    """What to type for this dtype: in every engine for `ideal`, else in the engine asked about."""
    asked = about(row.engine)
    flags = {known.name: known.cache_dtypes[row.kv_dtype] for known in ABOUTS.values() if row.kv_dtype in known.cache_dtypes}
    return {name: flag for name, flag in flags.items() if name == asked.name} if asked.cache_dtypes else flags


def _baseline_note(c: Comparison) -> list[str]:
    if c.baseline is None or len(c.rows) < 2:
        return []
    row = c.rows[c.baseline]
    several = [
        *([] if _one_model(c) else [row.model.name]),
        *([row.engine] if len({r.engine for r in c.rows}) > 1 else []),
        *([row.kv_dtype] if len({r.kv_dtype for r in c.rows}) > 1 else []),
    ]
    return [f"1.00x is {' · '.join(several)}"]


def _row_notes(c: Comparison) -> list[str]:
    """Reasons of rows that are not predicted, and what engines remark: each once, with the rows it is about."""
    found: dict[str, list[str]] = {}
    one_model, several_engines = _one_model(c), len({row.engine for row in c.rows}) > 1
    for row in c.rows:
        if isinstance(row.answer, NotPredicted):
            label = (row.engine if one_model else f"{row.model.name}, {row.engine}") + (
                f", {row.kv_dtype}" if row.kv_dtype != "auto" else ""
            )
            found.setdefault(f"not predicted: {row.answer.reason}", []).append(label)
            continue
        for note in (*([] if row.answer.media is None else [row.answer.media.words]), *row.answer.notes):
            found.setdefault(note, []).append(row.engine if one_model and several_engines else row.model.name)
    notes = []
    for note, labels in found.items():
        notes.append(f"{_some(labels)}: {note}")
    return notes


def _refusals(c: Comparison) -> list[str]:
    return [note for note in _row_notes(c) if "not predicted: " in note]


def _row_dict(c: Comparison, row: Row) -> Mapping[str, Any]:
    answer = row.to_dict()
    if c.savings:
        answer |= {"scales": lookup(row.kv_dtype).scales, "flags": _flags(row)}
    return answer
