"""What cards hold: each cell what `fit` alone answers to that question, with every line of a device's memory. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from kvplan.domain.budget import Budget
from kvplan.engines import about
from kvplan.errors import InputError
from kvplan.questions.fit.answer import answer
from kvplan.questions.fit.capacity import cell_of, empty_cell
from kvplan.questions.fit.question import Fit, Question
from kvplan.questions.page.values import Start


def starts(question: Question, seq_lens: Sequence[int], refused: str, unknown: InputError | None) -> tuple[Start, ...]:
    """One question on one card, at every length.

    Args:
        question: without a context.
        seq_lens: tokens of a request.
        refused: why the engine does not serve the model so, where it does not.
        unknown: why the weights are not known.
    """
    return tuple(_start(replace(question, context=seq_len), refused, unknown) for seq_len in seq_lens)


def _start(q: Question, refused: str, unknown: InputError | None) -> Start:
    if refused:
        return Start(cell=replace(empty_cell(q), reason=refused))
    if unknown is not None:
        return Start(cell=replace(empty_cell(q), verdict="not known", reason=str(unknown)))
    try:
        fit = answer(q, brief=True)
    except InputError as problem:
        return Start(cell=replace(empty_cell(q), reason=str(problem)))
    return _of(fit, fit.budget)


def _of(fit: Fit, budget: Budget) -> Start:
    q = fit.question
    dealt = bool(about(q.engine).spread) and q.gpus > 1  # the lines of one device say nothing of how it deals a model out
    if fit.not_predicted or dealt:
        return Start(cell=cell_of(fit))
    return Start(
        cell=cell_of(fit),
        lines=tuple(line for line in budget.lines if line.bytes or line.high),
        left=budget.cache,
        beside=tuple(line for line in budget.ledger.beside if line.high) if budget.ledger is not None else (),
    )
