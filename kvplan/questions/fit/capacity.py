"""The capacity table: models x GPUs x contexts, each cell what `fit` alone answers to that question. Pure.

A cell that has no number (weights that nobody knows, an engine that refuses the model) is a row that says so, never the end.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.mix import Mix
from kvplan.domain.model import Model
from kvplan.domain.pieces import Run, here
from kvplan.engines import about, engine_name
from kvplan.errors import InputError
from kvplan.questions.fit.answer import answer
from kvplan.questions.fit.question import Fit, Question

Verdict = Literal["fits", "unsure", "does not fit", "does not start", "not predicted", "not known"]
#: The columns of the CSV, one row a cell.
COLUMNS: Final = (
    "model", "gpu", "gpus", "engine", "context", "requests", "pool_bytes", "verdict", "evidence", "requests_low", "requests_high",
    "mix", "engine_version", "tensor_parallel", "reason",
)  # fmt: skip


class Cell(Struct, frozen=True, kw_only=True):
    """One model on some GPUs at one context.

    Attributes:
        gpus: devices in all; `tensor_parallel` of them split one copy of the model.
        context: tokens of a request, of the longest where it is a `mix` of lengths.
        requests: held at once by all devices together; None where nothing is known, or where the cache does not grow.
        requests_low, requests_high: the fewest and the most over what the engine may leave for its cache.
        pool_bytes: one device's: what a server reserves for its cache, else what is left for it.
        verdict: `unsure` where the best value fits and the fewest do not; `not known` are weights.
        evidence: what stands behind the cache's bytes.
        reason: why there is no number.
    """

    model: str
    gpu: str
    gpus: int
    engine: str
    context: int
    verdict: Verdict
    requests: int | None = None
    requests_low: int | None = None
    requests_high: int | None = None
    pool_bytes: int | None = None
    evidence: str = ""
    mix: str = ""
    engine_version: str = ""
    tensor_parallel: int = 1
    reason: str = ""

    def __repr__(self) -> str:
        held = "" if self.requests is None else f"{self.requests:,} x "
        return f"<Cell {self.model} · {self.engine} on {self.gpus} x {self.gpu}: {held}{self.context:,} tokens, {self.verdict}>"

    @property
    def fits(self) -> bool:
        """Whether one request surely fits."""
        return self.verdict == "fits"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, and a row of the CSV."""
        return {name: getattr(self, name) for name in COLUMNS}


class CapacityTable(Struct, frozen=True, kw_only=True):
    """Every cell: the models in the order asked for, of each every GPU, of that every context, and last the mix."""

    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Capacity of {len(self.cells):,} cells, {sum(cell.fits for cell in self.cells):,} fit>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int."""
        return {"cells": [cell.to_dict() for cell in self.cells], "notes": list(self.notes)}


class Asked(Struct, frozen=True, kw_only=True):
    """One model of a table: a question for each of the GPUs, or why there is none."""

    model: Model
    questions: Sequence[Question]
    unknown: InputError | None = None  # why its weights are not known


def capacity(
    asked: Sequence[Asked],
    contexts: Sequence[int],
    mix: Mix | None = None,
    advance: Callable[[int], None] = lambda _: None,
    run: Run = here,
) -> CapacityTable:
    """Answer every cell.

    Args:
        contexts: tokens of a request, one a column.
        mix: a last column for requests of several lengths.
        advance: told how many cells are done.
        run: where the cells are computed.

    Raises:
        OptionError: no cell has an answer, for a reason of whoever asks.
    """
    columns: list[dict[str, Any]] = [{"context": context} for context in contexts]
    columns += [{"context": mix.longest, "mix": mix}] if mix is not None else []
    cells: list[Cell] = []
    problems: list[InputError] = []
    notes: list[str] = []
    each = ((replace(question, **column), one.unknown) for one in asked for question in one.questions for column in columns)
    for cell, problem in run(_cell, each):
        cells.append(cell)
        problems += [problem] if problem is not None else []
        advance(1)
    for one in asked:
        beyond = sorted({c for c in contexts if one.model.max_tokens and c > one.model.max_tokens})
        if beyond:
            said = ", ".join(f"{c:,}" for c in beyond)
            notes.append(f"{one.model.name}: {said} tokens are more than the model's own limit of {one.model.max_tokens:,}")
    if problems and len(problems) == len(cells):
        raise problems[0]
    return CapacityTable(cells=tuple(cells), notes=tuple(notes))


def _cell(asked: tuple[Question, InputError | None]) -> tuple[Cell, InputError | None]:
    """A cell, and the error that stands in it."""
    q, unknown = asked
    if unknown is not None:
        return replace(empty_cell(q), verdict="not known", reason=str(unknown)), unknown
    try:
        return cell_of(answer(q, brief=True)), None
    except InputError as problem:
        return replace(empty_cell(q), reason=str(problem)), problem


def cell_of(fit: Fit) -> Cell:
    """What the answer to one question says, in a row."""
    q, pool = fit.question, fit.pool
    empty = empty_cell(q)
    if fit.not_predicted:
        return replace(empty, reason=fit.not_predicted)
    reserved = max(0, fit.budget.cache_bytes) if pool is None else 0 if pool.refused else pool.allocated_bytes
    found = replace(empty, pool_bytes=reserved, evidence=fit.evidence)
    if fit.budget.refused:
        return replace(found, verdict="does not start", requests=0, requests_low=0, requests_high=0, reason=fit.budget.refused)
    if fit.limited_by == "nothing":
        return replace(found, verdict="fits" if fit.fits else "does not fit", reason="the cache does not grow with the requests")
    best, span = fit.batch_size, fit.span
    if q.mix is not None and fit.typical is not None:
        best, span = fit.typical, fit.typical_span
    low, high = span or (best, best)
    verdict: Verdict = "fits" if fit.fits else "unsure" if fit.unsure else "does not fit"
    refused = pool.refused if pool is not None and verdict == "does not fit" else ""
    return replace(found, verdict=verdict, requests=best, requests_low=low, requests_high=high, reason=refused)


def empty_cell(q: Question) -> Cell:
    """A cell of which nothing is known yet."""
    version = q.engine.partition("@")[2]
    return Cell(
        model=q.model.name,
        gpu=q.gpu.id,
        gpus=q.gpus,
        engine=engine_name(q.engine),
        context=q.context or 0,
        verdict="not predicted",
        mix=q.mix.words if q.mix is not None else "",
        engine_version=version or about(q.engine).latest,
        tensor_parallel=q.tensor_parallel,
    )
