"""When it does not fit: the changes that make it fit, each tried before it is offered, with the command to type."""

from collections.abc import Iterator

from msgspec.structs import replace

from kvplan.architectures.describe import describe
from kvplan.engines import about, option_names, with_dtype
from kvplan.errors import KvplanError
from kvplan.questions.changes import SPLITS, dtypes_of, larger_gpus, lighter_weights, narrower_dtypes
from kvplan.questions.commands import fit_command
from kvplan.questions.fit.answer import answer
from kvplan.questions.fit.budget import Budgets, budget_of, room_of
from kvplan.questions.fit.question import Alternative, Fit, Fix, Question
from kvplan.questions.fit.room import Room
from kvplan.units import MAX_COUNT


def with_fixes(fit: Fit) -> Fit:
    """The same answer, with cache dtypes to choose from and, when it does not fit, what would change that."""
    if fit.not_predicted:
        return fit
    fixes = () if fit.fits else tuple(_tried(fit.question))
    return replace(fit, alternatives=alternatives(fit.question), fixes=fixes)


def alternatives(q: Question) -> tuple[Alternative, ...]:
    """The same question at every cache dtype that the engine has a flag for; those that it refuses are left out."""
    flags, found = about(q.engine).cache_dtypes, []
    for row in dtypes_of(q.engine):
        fit = _answer(replace(q, options=with_dtype(q.engine, q.options, row.name)))
        if fit is not None:
            found.append(
                Alternative(
                    kv_dtype=row.name,
                    context=fit.context,
                    batch_size=fit.batch_size,
                    fits=fit.fits,
                    flag=flags[row.name],
                )
            )
    return tuple(found)


def _answer(q: Question) -> Fit | None:
    """The answer, or None when the engine refuses the question."""
    try:
        fit = answer(q, brief=True)
    except KvplanError:
        return None
    return None if fit.not_predicted else fit


def _tried(q: Question) -> Iterator[Fix]:
    """One fix of each kind, where one works."""
    for words, changed in _changes(q):
        fit = next((fit for question in changed if (fit := _answer(question)) is not None and fit.fits), None)
        if fit is not None:
            yield Fix(change=words.format(q=fit.question), result=served(fit), command=fit_command(fit.question))


def _changes(q: Question) -> Iterator[tuple[str, Iterator[Question]]]:
    """(the change in words, the questions that make it, the mildest first)."""
    narrower = narrower_dtypes(q.engine)
    yield "a cache in {q.options[kv_dtype]}", (replace(q, options=with_dtype(q.engine, q.options, row.name)) for row in narrower)
    yield "fewer requests at once", _fewer(q)
    yield "a shorter context", _shorter(q)
    if "tensor_parallel" in option_names(q.engine):
        more = (n for n in SPLITS if n > q.tensor_parallel)
        yield "{q.tensor_parallel} GPUs that split the model", (replace(q, gpus=n * q.pipeline, tensor_parallel=n) for n in more)
    yield "{q.ranks} data ranks that share the experts, each with a cache of its own", _data_ranks(q)
    larger = larger_gpus(q.gpu, budget_of(q).memory.bytes)
    yield "a larger GPU ({q.gpu.id})", (replace(q, gpu=card, memory_bytes=None) for card in larger)
    lighter = lighter_weights(q.model, q.weights, q.engine)
    yield (
        "weights quantised ({q.weights_flag})",
        (replace(q, weights=line, weights_flag=f"--weights-dtype {dtype}") for dtype, line in lighter),
    )


def _data_ranks(q: Question) -> Iterator[Question]:
    """The same devices as data ranks with experts dealt out, for a mixture that tensor parallelism splits alone."""
    how = about(q.engine).data_ranks
    if how is None or q.ranks > 1 or q.tensor_parallel == 1 or not _has_experts(q):
        return
    for ranks in range(2, q.tensor_parallel + 1):
        if q.tensor_parallel % ranks == 0:
            told = how.told(ranks, q.tensor_parallel, True)
            share = q.tensor_parallel if how.inside else q.tensor_parallel // ranks
            yield replace(q, options={**q.options, **told}, tensor_parallel=share)


def _has_experts(q: Question) -> bool:
    tensors = describe(q.model, None)
    return tensors is not None and any(parameter.experts for parameter in tensors.parameters)


def _fewer(q: Question) -> Iterator[Question]:
    if q.batch_size is None:
        return
    room = _surely(replace(q, batch_size=None))
    most = room.most_requests(q.context) if q.context is not None else 1
    if 0 < most < MAX_COUNT:
        yield replace(q, batch_size=most * q.caches)


def _surely(q: Question) -> Room:
    """The room that there is at least, whatever the bands of the lines turn out to be."""
    return room_of(Budgets(q), "low")


def _shorter(q: Question) -> Iterator[Question]:
    if q.context is None:
        return
    longest = _surely(q).longest_context(q.each or 1, min(q.context, q.ceiling))
    if longest:
        yield replace(q, context=longest)


def served(fit: Fit) -> str:
    """What fits, in a few words."""
    return f"{fit.batch_size:,} x {fit.context:,} tokens"
