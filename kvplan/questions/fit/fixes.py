"""When it does not fit: the changes that make it fit, each tried before it is offered, with the command to type."""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from kvplan.architectures.describe import describe
from kvplan.domain.machine import NOTHING
from kvplan.engines import about, option_names, with_dtype
from kvplan.engines.kernel.typed import Serving, checkpoint_needed
from kvplan.errors import KvplanError
from kvplan.questions.changes import SPLITS, dtypes_of, larger_gpus, lighter_weights, narrower_dtypes
from kvplan.questions.commands import fit_command
from kvplan.questions.fit.answer import answer, wanted_weights
from kvplan.questions.fit.budget import Budgets, budget_of, room_of
from kvplan.questions.fit.question import Alternative, Fit, Fix, Question
from kvplan.questions.fit.room import Room
from kvplan.questions.media import used
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
                    evidence=fit.evidence,
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
            change = words.format(q=fit.question, needs=_needed(fit.question))
            yield Fix(change=change, result=served(fit), command=fit_command(fit.question))


def _needed(q: Question) -> str:
    """What no flag does for lighter weights, in words."""
    serving = Serving(model="", context=1, batch_size=1, weights_dtype=wanted_weights(q))
    return "".join(f"; {words}" for words in checkpoint_needed(about(q.engine), serving))


def _smaller_share(q: Question) -> Iterator[Question]:
    """Where other tenants leave less than the server asks for: shares of the card that they do leave."""
    budget = budget_of(q)
    if not budget.refused or not q.free:
        return
    most = int(100 * min(q.free) / budget.memory.bytes)
    yield from (replace(q, utilization=share / 100) for share in range(most, max(0, most - 5), -1))


#: What may be offered, the surest first.
_STRENGTHS: Final = ("theory", "recorded", "same rule", "hypothetical", "inferred", "from source")


def narrower(q: Question) -> Iterator[Question]:
    """Narrower cache dtypes, recorded ones before others; none that is less sure than what was asked, for an engine's kernels
    may not take it.
    """
    sure = max(_strength(q), _STRENGTHS.index("same rule"))
    asked = [replace(q, options=with_dtype(q.engine, q.options, row.name)) for row in narrower_dtypes(q.engine)]
    ranked = [(_strength(question), question) for question in asked]
    yield from (question for rank, question in sorted(ranked, key=lambda entry: entry[0]) if rank <= sure)


def _strength(q: Question) -> int:
    """How sure an answer would be: 0 is surest; what the engine refuses is beyond all."""
    try:
        word = room_of(Budgets(q)).evidence(q.each or 1, q.context or 1)
    except KvplanError:
        word = ""
    return _STRENGTHS.index(word) if word in _STRENGTHS else len(_STRENGTHS)


def _changes(q: Question) -> Iterator[tuple[str, Iterator[Question]]]:
    """(the change in words, the questions that make it, the mildest first)."""
    yield "a smaller share of the card (--utilization {q.utilization:g})", _smaller_share(q)
    yield "a cache in {q.options[kv_dtype]}", narrower(q)
    yield "media of {q.media.tokens:,} tokens a request", _cheaper_media(q)
    yield "fewer requests at once", _fewer(q)
    yield "a shorter context", _shorter(q)
    if "tensor_parallel" in option_names(q.engine):
        more = (n for n in SPLITS if n > q.tensor_parallel)
        yield "{q.tensor_parallel} GPUs that split the model", (replace(q, gpus=n * q.pipeline, tensor_parallel=n) for n in more)
    yield "{q.ranks} data ranks that share the experts, each with a cache of its own", _data_ranks(q)
    larger = larger_gpus(q.gpu, budget_of(q).memory.bytes)
    yield (
        "a larger GPU ({q.gpu.id})",
        (replace(q, gpu=card, memory_bytes=None, free=(), learned=NOTHING, machine="") for card in larger),
    )
    lighter = lighter_weights(q.model, q.weights, q.engine, q.gpu)
    yield (
        "weights quantised ({q.weights_flag}{needs})",
        (replace(q, weights=line, weights_given=True, weights_flag=f"--weights-dtype {dtype}") for dtype, line in lighter),
    )


def _cheaper_media(q: Question) -> Iterator[Question]:
    """The same images with what the engine can be told to make fewer tokens of them."""
    if q.media is None:
        return
    for saving in q.media.savings:
        if not saving.options or saving.tokens is None:
            continue
        options = {**q.options, **saving.options}
        use = used(q.model, q.media.media, q.engine, options, q.processor_files)
        context = None if q.text is None else q.text + use.tokens
        average = None if q.average is None else q.average - q.media.tokens + use.tokens
        yield replace(q, options=options, media=use, context=context, average=average)


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
    if longest > (q.media.tokens if q.media is not None else 0):
        yield replace(q, context=longest)


def served(fit: Fit) -> str:
    """What fits, in a few words."""
    return f"{fit.batch_size:,} x {fit.context:,} tokens"
