"""`kvplan.capacity` of contexts: how many requests several models hold on several GPUs at several contexts."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kvplan.api.fit import questions_of
from kvplan.api.given import Count, Counts, Source, counts, sources
from kvplan.api.memory import flag_of_weights, known_weights
from kvplan.api.workers import runner
from kvplan.domain.ledger import Line
from kvplan.domain.mix import parse_mix
from kvplan.domain.model import Model
from kvplan.domain.workload import with_longest
from kvplan.errors import InputError, OptionError, written
from kvplan.limits import CELLS
from kvplan.loading import load
from kvplan.questions.fit.capacity import Asked, CapacityTable
from kvplan.questions.fit.capacity import capacity as answered
from kvplan.report.notebook import displayed
from kvplan.units import parse_counts

displayed(CapacityTable, "kvplan.report.answers.capacity:CapacityAnswer", several=False)


def capacity_table(
    models: Source | Iterable[Source],
    gpu: str,
    *,
    context: Counts | None = None,
    mix: str | None = None,
    engine: str | None = None,
    gpus: Count | None = None,
    tensor_parallel: Count | None = None,
    data_parallel: Count | None = None,
    expert_parallel: bool = False,
    kv_dtype: str = "auto",
    weights: Count | None = None,
    weights_dtype: str | None = None,
    reserve: Count | None = None,
    memory: Count | None = None,
    utilization: float | str | None = None,
    encoder_len: Count = 0,
    free: Count | Sequence[Count] | None = None,
    machine: str | Path | None = None,
    infer: bool = False,
    workers: Count = 1,
    scheduler: str | None = None,
    advance: Callable[[int, int], None] = lambda done, of: None,
    **options: Any,
) -> CapacityTable:
    """How many requests several models hold on several GPUs at several contexts: one cell each, what `fit` says there.

    Args:
        models: one or several of what `kvplan.load` takes.
        gpu: as in `fit`; every one of them is a row.
        context: tokens of a request: one, several, or a text such as `8k,32k` or `4k:128k:x2`.
        mix: requests of several lengths: `70% 4k, 25% 32k, 5% 128k`; a column of its own.
        workers: processes of this machine that compute the cells. The answer is the same.
        scheduler: the address of a Dask scheduler whose workers do (the extra `replay`).
        advance: told of each cell that is done, and how many there are.
        options: any option of the engine by its own name. The rest is as in `fit`.

    Returns:
        A `CapacityTable`: `.cells`, `.to_dict()`. A model whose weights are not known, or that the engine refuses, has cells
        that say so.

    Raises:
        OptionError: a bad value, an unknown GPU or engine, too many cells, or none that has an answer.
        KvplanError: a model that cannot be read; see `kvplan.errors`.

    >>> [cell.requests for cell in capacity_table("llama-3.1-8b", "h100-80gb", engine="ideal", context="8k,32k").cells]
    [63, 15]
    """
    run = runner(workers, scheduler)
    listed = sources(models)
    read = [load(source, infer=infer) for source in listed]
    lengths = _lengths(context, read)
    mixed = None if mix is None else parse_mix(mix)
    if not lengths and mixed is None:
        raise OptionError("a table of capacities needs lengths", hint="«context 8k,32k,128k», or «mix TEXT»")
    asked = []
    for source, loaded in zip(listed, read, strict=True):
        unknown = None
        try:
            line = known_weights(source, loaded, weights, weights_dtype)
        except InputError as problem:
            line, unknown = Line(name="weights", bytes=0, basis="assumed", source="not known"), problem
        questions = questions_of(
            source,
            loaded,
            line,
            gpu,
            weights_flag=flag_of_weights(weights, weights_dtype),
            engine=engine,
            gpus=gpus,
            tensor_parallel=tensor_parallel,
            data_parallel=data_parallel,
            expert_parallel=expert_parallel,
            kv_dtype=kv_dtype,
            reserve=reserve,
            memory=memory,
            utilization=utilization,
            encoder_len=encoder_len,
            free=free,
            machine=machine,
            options=options,
        )
        asked.append(Asked(model=loaded, questions=questions, unknown=unknown))
    number = sum(len(one.questions) for one in asked) * (len(lengths) + (mixed is not None))
    if number > CELLS:
        raise OptionError(f"{number:,} cells are too many for one table", hint=f"at most {CELLS:,}: fewer GPUs or contexts")
    return answered(asked, lengths, mixed, lambda done: advance(done, number), run)


def _lengths(context: Counts | None, models: Sequence[Model]) -> tuple[int, ...]:
    """The contexts of a table, each once, in the order given."""
    if context is None:
        return ()
    if not isinstance(context, str):
        return tuple(dict.fromkeys(counts(context, "«context»")))
    text = with_longest(written(context, 400), models, "«context»")
    return tuple(dict.fromkeys(parse_counts(text, what="«context»", most=CELLS)))
