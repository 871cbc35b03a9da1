"""`kvplan.reserve`: the pool that a server makes of a memory figure, or of a GPU less what weights and runtime take."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from kvplan.api.given import Count, Source, answered, checked, size
from kvplan.api.given import options as given_options
from kvplan.api.memory import free_bytes, known_weights
from kvplan.api.tiers import tiers_asked
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.gpus import gpu as device
from kvplan.domain.machine import NOTHING
from kvplan.domain.media.asked import parse_media
from kvplan.domain.pool import Pool
from kvplan.engines import USUAL_SERVER
from kvplan.errors import OptionError
from kvplan.loading import load
from kvplan.loading.machine import read_machine
from kvplan.loading.processor_files import processor_files
from kvplan.questions.fit.budget import budget_of, told_options, utilization_from
from kvplan.questions.fit.question import Question
from kvplan.questions.media import used_or_refused
from kvplan.questions.reserve import reserved
from kvplan.report.notebook import displayed

displayed(Pool, "kvplan.report.answers.reserve:ReserveAnswer")


def try_reserve(
    model: Source,
    *,
    memory: Count | None = None,
    gpu: str | None = None,
    engine: str = USUAL_SERVER,
    kv_dtype: str = "auto",
    tensor_parallel: Count | None = None,
    weights: Count | None = None,
    weights_dtype: str | None = None,
    reserve: Count | None = None,
    utilization: float | str | None = None,
    free: Count | Sequence[Count] | None = None,
    machine: str | Path | None = None,
    host: Count | None = None,
    disk: Count | None = None,
    sessions: str | None = None,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    infer: bool = False,
    **options: Any,
) -> Pool | NotPredicted:
    """Blocks, tokens and concurrency as the server computes and prints them, or its refusal.

    Where nothing is predicted, `reserve` raises `Refused` and `try_reserve` returns `NotPredicted` with the reason.

    Args:
        model: anything that `kvplan.load` takes.
        memory: bytes for the cache on each device (`Available KV cache memory` of vLLM's log), an int or `16GiB`.
        gpu: or a GPU of the catalogue, whose budget is worked out as `kvplan.fit` does.
        engine: `NAME` or `NAME@VERSION` of a server.
        kv_dtype, tensor_parallel: as `kvplan.estimate` takes them.
        weights, weights_dtype, reserve, utilization, free, machine: parts of the GPU's budget, as `kvplan.fit` takes them.
        host, disk, sessions: budgets below the device, and who comes back, as `kvplan.fit` takes them (`.tiers`).
        images, video, audio: of a request, as `kvplan.fit` takes them; what they are is `.media`.
        infer: read an unknown architecture by shape.
        options: any option of the engine by its own name.

    Returns:
        A `Pool`: `.num_blocks`, `.num_tokens`, `.concurrency`, `.refused`, `.log`, `.to_dict()`; or `NotPredicted`.

    Raises:
        OptionError: neither or both of `memory` and `gpu`, or a bad value.

    >>> try_reserve("llama-3.1-8b", memory="20GiB").num_tokens
    163840
    """
    if (memory is None) == (gpu is None):
        raise OptionError(
            "say what memory there is: «memory SIZE» for the cache, or «gpu NAME»",
            hint="`«memory 20GiB»` is what the server's log calls available; `«gpu h100-sxm-80gb»` works it out",
        )
    below = tiers_asked(host, disk, sessions)
    loaded = load(model, infer=infer)
    options = given_options(options, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    media = parse_media(images, video, audio)
    use = used_or_refused(loaded, media, engine, options, processor_files(model)) if media else None
    if memory is not None:
        given = (weights, weights_dtype, reserve, utilization, free, machine)
        if any(value is not None for value in given):
            raise OptionError(
                "«memory» is what is left for the cache: weights, reserve, utilization, free and machine go with «gpu»"
            )
        pool = reserved(loaded, engine, options, size(memory, "«memory»", minimum=0), below)
        return replace(pool, media=use) if isinstance(pool, Pool) else pool
    shared = {"tensor_parallel": options.pop("tensor_parallel", 1)}
    question = Question(
        model=loaded,
        weights=known_weights(model, loaded, weights, weights_dtype),
        weights_given=weights is not None or weights_dtype is not None,
        free=free_bytes(free),
        learned=NOTHING if machine is None else read_machine(machine),
        gpu=device(gpu or ""),
        engine=engine,
        gpus=shared["tensor_parallel"],
        reserve_bytes=None if reserve is None else size(reserve, "«reserve»", minimum=0),
        utilization=None if utilization is None else utilization_from(utilization),
        options=options,
        **shared,
    )
    budget = budget_of(question)
    pool = reserved(loaded, engine, told_options(question, budget), max(0, budget.cache_bytes), below)
    if isinstance(pool, NotPredicted):
        return pool
    return replace(pool, budget=budget.lines, refused=budget.refused or pool.refused, media=use)


def _told(found: Pool | NotPredicted) -> Pool:
    return answered(found)


reserve = checked(try_reserve, _told, "reserve")
