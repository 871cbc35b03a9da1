"""Models side by side: models x engines x cache dtypes, each against a baseline."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.dtypes import DTYPES, lookup
from kvplan.domain.media.asked import NO_MEDIA, Media
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import about, option_names
from kvplan.errors import OptionError, nearest
from kvplan.questions.designs import budget_from, sees, within
from kvplan.questions.estimate import plan, plan_media

#: A comparison is read by a person; larger grids are `kvplan sweep`'s.
MAX_ROWS: Final = 10_000


class Row(Struct, frozen=True, kw_only=True):
    """One model in one engine at one cache dtype; `relative` is its total over the baseline's (None: unknown)."""

    model: Model
    engine: str
    kv_dtype: str
    answer: Allocation | NotPredicted
    relative: float | None = None
    sees: str = ""  # what its tokens can still see, where designs are searched for

    @property
    def total_bytes(self) -> int | None:
        """The cache; None where it is not predicted."""
        return self.answer.total_bytes if isinstance(self.answer, Allocation) else None

    def __repr__(self) -> str:
        said = "not predicted" if self.relative is None else f"{self.relative:.2f}x"
        return f"<Row {self.model.name} · {self.engine} · {self.kv_dtype}: {said}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int (docs/reference/formats.md)."""
        if isinstance(self.answer, NotPredicted):
            a = self.answer
            asked = {"model": self.model.name, "engine": a.engine, "engine_version": a.engine_version, "kv_dtype": self.kv_dtype}
            return {**asked, "not_predicted": a.reason, "see": a.see}
        return {**self.answer.to_dict(), "relative": self.relative, **({"sees": self.sees} if self.sees else {})}


class Comparison(Struct, frozen=True, kw_only=True):
    """Rows in the order asked for; `baseline` is the index of the row that the others are measured against."""

    rows: tuple[Row, ...]
    workload: Workload  # of text, where there are media beside it
    baseline: int | None
    media: Media = NO_MEDIA  # of each sequence; what they are in an engine is in each row's answer
    savings: bool = False  # every cache dtype, each row against its own model's dtype
    budget: str = ""  # what the designs were to keep at most, as it was given
    tried: int = 0  # designs

    def __repr__(self) -> str:
        w = self.workload
        return f"<Comparison of {len(self.rows):,} rows · {w.batch_size:,} x {w.seq_len:,} tokens>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: the rows in order, and which of them is the baseline (None: each against its own dtype)."""
        return {"baseline": self.baseline, "rows": [row.to_dict() for row in self.rows]}


def compare(
    models: Sequence[Model],
    workload: Workload,
    *,
    engines: Sequence[str] = ("ideal",),
    kv_dtypes: Sequence[str] = ("auto",),
    options: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    media: Media = NO_MEDIA,
    files: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Estimate every combination.

    Args:
        media: of each sequence, beside the text that `workload` says.
        files: sections of a processor's values by the name of its model, over what its family's row assumes.
        engines: each `NAME` or `NAME@VERSION`.
        kv_dtypes: cache dtypes; `auto` is the model's own, and `("all",)` is every one that the engine has, each
            measured against the model's own.
        options: engine options; one that only some of the engines have is given to those.
        baseline: a row's number (from 1) or a model's name; the first row that is predicted when None.

    Raises:
        OptionError: an unknown engine, dtype, option or baseline; or no combination is possible.
    """
    savings = tuple(kv_dtypes) == ("all",)
    dtypes = _dtypes(kv_dtypes)
    if savings and baseline is not None:
        raise OptionError("«baseline»: `«kv_dtypes all»` measures each dtype against the model's own", hint="leave one out")
    for engine in engines:
        about(engine)  # a name of no engine is a slip; one that is not predicted is a row that says so
    given = options_by_engine(engines, options or {})
    if len(models) * len(engines) * (len(dtypes) + savings) > MAX_ROWS:
        raise OptionError(f"more than {MAX_ROWS:,} rows to compare", hint="use `kvplan sweep` for a grid")
    rows: list[Row] = []
    refusals: list[OptionError] = []
    for model in models:
        for engine in engines:
            wanted = _own_first(model, _of(engine, dtypes)) if savings else dtypes
            asked = _Asked(workload, media, (files or {}).get(model.name.partition(" [")[0]))
            rows.extend(_row(model, asked, engine, dtype, given[engine], refusals) for dtype in wanted)
    if len(refusals) == len(rows):
        raise refusals[0]
    if savings:
        return Comparison(rows=_against_own(rows), workload=workload, media=media, baseline=None, savings=True)
    index = _baseline(rows, baseline)
    return Comparison(rows=_against(rows, index), workload=workload, media=media, baseline=index)


def designs(
    model: Model,
    workload: Workload,
    budget: str,
    *,
    engine: str = "ideal",
    kv_dtype: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Comparison:
    """A model, and the mildest of the taught designs that keep at most `budget` of its cache.

    Args:
        budget: `25%`, `1/4`, or a size.
        engine, kv_dtype, options: whose bytes, as `compare` takes them.

    Raises:
        OptionError: no such budget, or the model itself is not predicted.
    """
    allowed = budget_from(budget)
    first, given = compare([model], workload, engines=(engine,), kv_dtypes=(kv_dtype,), options=options), dict(options or {})
    base = first.rows[0]
    if not isinstance(base.answer, Allocation):
        raise OptionError(f"{model.name} is not predicted: {base.answer.reason}", hint=base.answer.see)

    def total(design: Model) -> int | None:
        return _row(design, _Asked(workload), engine, kv_dtype, given, []).total_bytes

    found, tried = within(model, allowed.of(base.answer.total_bytes), workload.seq_len, total)
    rows = [base, *(_row(design, _Asked(workload), engine, kv_dtype, given, []) for _, design in found)]
    seen = tuple(replace(row, sees=sees(row.model)) for row in _against(rows, 0))
    return Comparison(rows=seen, workload=workload, baseline=0, budget=allowed.text, tried=tried)


def _dtypes(names: Sequence[str]) -> tuple[str, ...]:
    if tuple(names) == ("all",):
        return tuple(DTYPES)
    if "all" in names:
        raise OptionError("«kv_dtypes»: `all` stands alone", hint="give `all`, or a list of dtypes")
    return tuple(dict.fromkeys(name if name == "auto" else lookup(name).name for name in names))


def _of(engine: str, dtypes: Sequence[str]) -> Sequence[str]:
    """The dtypes that an engine can be told; all of them where none is (theory)."""
    known = about(engine).cache_dtypes
    return [name for name in dtypes if name in known] if known else dtypes


def _own_first(model: Model, dtypes: Sequence[str]) -> tuple[str, ...]:
    own = lookup(model.dtype).name
    return (own, *(name for name in dtypes if name != own))


def options_by_engine(engines: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each engine is given: all of it when alone, else the options that it has."""
    if len(set(engines)) == 1:
        return {engines[0]: dict(options)}
    known = {engine: option_names(engine) if about(engine).predicted else frozenset[str]() for engine in engines}
    for name in options:
        if not any(name in names for names in known.values()):
            near = nearest(name, set().union(*known.values()))
            raise OptionError(
                f"none of the engines has an option `{name[:60]}`",
                hint=f"did you mean `{near}`?" if near else "see `kvplan engines`",
            )
    return {engine: {name: value for name, value in options.items() if name in known[engine]} for engine in engines}


class _Asked(Struct, frozen=True):
    """What every row is asked about."""

    workload: Workload
    media: Media = NO_MEDIA
    files: Mapping[str, Any] | None = None


def _row(model: Model, asked: _Asked, engine: str, dtype: str, options: dict[str, Any], refusals: list[OptionError]) -> Row:
    """One estimate; what an engine refuses for this model or dtype is a row that says so."""
    answer: Allocation | NotPredicted
    try:
        told = {**options, **({} if dtype == "auto" else {"kv_dtype": dtype})}
        if asked.media:
            answer = plan_media(model, asked.workload, asked.media, engine, files=asked.files, **told)
        else:
            answer = plan(model, asked.workload, engine, **told)
    except OptionError as problem:
        refusals.append(problem)
        known, version = about(engine), engine.partition("@")[2]
        answer = NotPredicted(
            reason=str(problem),
            see=problem.hint,
            model=model.name,
            engine=known.name,
            engine_version=version or known.latest,
        )
    if isinstance(answer, Allocation):
        dtype = answer.kv_dtype
    return Row(model=model, engine=engine, kv_dtype=dtype, answer=answer)


def _baseline(rows: Sequence[Row], wanted: str | None) -> int | None:
    if wanted is None:
        return next((i for i, row in enumerate(rows) if isinstance(row.answer, Allocation)), None)
    index = _find(rows, wanted.strip())
    answer = rows[index].answer
    if isinstance(answer, NotPredicted):
        raise OptionError(f"«baseline»: row {index + 1} is not predicted: {answer.reason}", hint="choose another row")
    return index


def _find(rows: Sequence[Row], wanted: str) -> int:
    if wanted.isdecimal() and len(wanted) < 8:
        if not 1 <= int(wanted) <= len(rows):
            raise OptionError(f"«baseline»: there is no row {wanted}", hint=f"rows are numbered 1 to {len(rows)}")
        return int(wanted) - 1
    names = [label for row in rows for label in _labels(row)]
    for index, row in enumerate(rows):
        if wanted.lower() in _labels(row):
            return index
    near = nearest(wanted.lower(), names)
    raise OptionError(
        f"«baseline»: no row is called `{wanted[:60]}`",
        hint=f"did you mean `{near}`?" if near else "give a model's name or a row's number",
    )


def _labels(row: Row) -> tuple[str, ...]:
    """What a row may be called: its model (with or without the rewrite in brackets), the rewrite, engine or dtype."""
    name = row.model.name.lower()
    rewrite = name.rpartition(" [")[2].removesuffix("]") if name.endswith("]") else name
    return (name, rewrite, row.engine.lower(), row.kv_dtype)


def _against(rows: Sequence[Row], index: int | None) -> tuple[Row, ...]:
    base = rows[index].answer if index is not None else None
    return tuple(_relative(row, base) for row in rows)


def _against_own(rows: Sequence[Row]) -> tuple[Row, ...]:
    own = {(row.model.name, row.engine): row.answer for row in reversed(rows) if row.kv_dtype == lookup(row.model.dtype).name}
    return tuple(_relative(row, own.get((row.model.name, row.engine))) for row in rows)


def _relative(row: Row, base: Allocation | NotPredicted | None) -> Row:
    if not isinstance(base, Allocation) or not isinstance(row.answer, Allocation) or not base.total_bytes:
        return row
    ratio = row.answer.total_bytes / base.total_bytes
    return Row(model=row.model, engine=row.engine, kv_dtype=row.kv_dtype, answer=row.answer, relative=ratio)
