"""`kvplan.replay`: a trace of requests through a server's own scheduler."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kvplan.api.given import Count, Source, count, size
from kvplan.api.given import options as given_options
from kvplan.api.memory import flag_of_weights, free_bytes, known_weights
from kvplan.api.receipt import split_of
from kvplan.api.workers import runner
from kvplan.domain.gpus import counted
from kvplan.domain.gpus import gpu as device
from kvplan.domain.machine import NOTHING
from kvplan.domain.media.asked import parse_media
from kvplan.domain.pieces import Run, here
from kvplan.domain.traffic import Outcome, Traffic
from kvplan.engines import USUAL_SERVER
from kvplan.errors import OptionError, Refused
from kvplan.loading import load
from kvplan.loading.machine import read_machine
from kvplan.loading.processor_files import processor_files
from kvplan.loading.trace import Read, called, read_trace
from kvplan.loading.trace import Source as Trace
from kvplan.questions.fit.budget import utilization_from
from kvplan.questions.fit.question import Question
from kvplan.questions.media_traffic import Seen, seen
from kvplan.questions.replay import Replay, Server, clock_of, started
from kvplan.questions.replay import replay as replayed
from kvplan.report.notebook import displayed

displayed(Replay, "kvplan.report.answers.replay:ReplayAnswer", several=False)


def replay(
    trace: Trace,
    model: Source,
    gpu: str,
    *,
    engine: str = USUAL_SERVER,
    prefill_rate: float | None = None,
    decode_rate: float | None = None,
    columns: str | None = None,
    rate: float | None = None,
    route: str | None = None,
    hash_tokens: Count | None = None,
    images: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    gpus: Count | None = None,
    kv_dtype: str = "auto",
    tensor_parallel: Count | None = None,
    weights: Count | None = None,
    weights_dtype: str | None = None,
    reserve: Count | None = None,
    memory: Count | None = None,
    utilization: float | str | None = None,
    free: Count | Sequence[Count] | None = None,
    machine: str | Path | None = None,
    host: Count | None = None,
    disk: Count | None = None,
    search: bool = True,
    workers: Count = 1,
    scheduler: str | None = None,
    infer: bool = False,
    advance: Callable[[int, int], None] = lambda done, of: None,
    **options: Any,
) -> Replay:
    """What a day's traffic does to a server's cache, by the engine's own scheduler, step by step.

    Args:
        trace: a CSV, JSON lines or Parquet file, a folder of Parquet files, or columns (a mapping, a table of pyarrow's, a
            frame of pandas'): a row a request.
        model: anything that `kvplan.load` takes.
        gpu: a card, `h100:4` for four; `tensor_parallel` of them hold one copy of the model, the rest are replicas.
        engine: `NAME` or `NAME@VERSION` of a server whose steps are written down.
        prefill_rate: tokens of prompts that a server computes in a second. A step lasts max(its prefill tokens / this,
            1 / `decode_rate`).
        decode_rate: tokens a second of each request that runs. Without them both come from the card's figures.
        columns: what columns hold where their names do not say it: `arrival=ts:ms,prompt=in,output=out,hashes=ids`.
        rate: requests a second, evenly apart, in place of arrival times.
        route: a column whose values say the replica; else requests go round.
        hash_tokens: tokens of a prompt that one hash stands for; else worked out.
        images, video, audio: of every request, beside the tokens of its prompt, as `kvplan.fit` takes them. Where a column
            says how many images or how many seconds of video a request has, they say what one is like.
        gpus: cards, as `gpu` may say it.
        kv_dtype, weights, weights_dtype, reserve, memory, utilization, free, machine: as `kvplan.fit` takes them.
        host: memory below the cache of each server, all its ranks together: evicted prompts come back from there.
        disk: below that; no engine's is followed, so that it is refused.
        search: whether `gpus_needed` is looked for, which runs the trace again where there is no room.
        workers: processes of this machine that run the replicas. The answer is the same.
        scheduler: the address of a Dask scheduler whose workers do (the extra `replay`).
        infer: read an unknown architecture by shape.
        advance: told how many more requests are done, and how many there are.
        options: any option of the engine by its own name.

    Returns:
        A `Replay`: `.to_dict()`, `.peak`, `.percentile(0.99)` (blocks), `.gpus_needed`, `.outcome` (arrays, one entry a request).

    Raises:
        TraceError: a trace that cannot be read; the message names the line.
        Refused: the server does not start, or its steps are not written down.
        OptionError: a bad value.
    """
    spread = runner(workers, scheduler)
    loaded = load(model, infer=infer)
    options = given_options(options, kv_dtype=kv_dtype, tensor_parallel=tensor_parallel)
    split = split_of(engine, options)
    name, number = counted(gpu)
    if number is not None and gpus is not None and count(gpus, "«gpus»") != number:
        raise OptionError(f"«gpu {gpu}» and «gpus {count(gpus, 'gpus')}» differ", hint="give one of them")
    line = known_weights(model, loaded, weights, weights_dtype)
    base: dict[str, Any] = {"model": loaded, "gpu": device(name), "engine": engine, "tensor_parallel": split, "options": options}
    each = Question(**base, weights=line).devices
    cards = number or (each if gpus is None else count(gpus, "«gpus»"))
    if cards % each:
        raise OptionError(f"«gpus {cards}» is not a multiple of the {each} that one copy of the model takes")
    question = Question(
        **base,
        weights=line,
        weights_given=bool(flag_of_weights(weights, weights_dtype)),
        gpus=cards,
        reserve_bytes=None if reserve is None else size(reserve, "«reserve»", minimum=0),
        memory_bytes=None if memory is None else size(memory, "«memory»"),
        utilization=None if utilization is None else utilization_from(utilization),
        free=free_bytes(free),
        learned=NOTHING if machine is None else read_machine(machine),
    )
    clock, rates = clock_of(question, line, prefill_rate, decode_rate)
    read = read_trace(
        trace,
        columns=columns,
        rate=rate,
        route=route,
        hash_tokens=None if hash_tokens is None else count(hash_tokens, "«hash_tokens»"),
        media=parse_media(images, video, audio),
    )
    media = _with_media(read, question, model)
    replicas = question.caches
    if read.route is not None:
        if replicas > 1 and len(read.routes) > replicas:
            raise OptionError(f"«route {route}» names {len(read.routes):,} replicas, and there are {replicas:,}")
        replicas = max(replicas, len(read.routes))
    if disk is not None:
        size(disk, "«disk»")
        raise Refused("what comes back from a disk, request by request, is not followed", "`kvplan tiers` says how much it holds")
    server = started(question, clock, media.traffic, None if host is None else size(host, "«host»"))
    return replayed(
        server,
        media.traffic,
        replicas=replicas,
        rates=rates,
        route=read.route,
        search=search,
        run=_runner(server, len(read.traffic), spread, advance),
        searched=spread,
        trace=called(trace),
        columns=read.columns,
        media=(media.tokens, media.requests),
        notes=(*read.notes, *media.notes),
    )


def _with_media(read: Read, q: Question, source: Source) -> Seen:
    """The trace, with the tokens of its media in the prompts."""
    media = read.media
    if media is None:
        return Seen(traffic=read.traffic)
    return seen(
        read.traffic,
        q.engine,
        q.model,
        q.options,
        each=media.each,
        of=media.of,
        told=media.tokens,
        files=processor_files(source),
        bad=media.bad,
    )


def _runner(server: Server, requests: int, spread: Run, advance: Callable[[int, int], None]) -> Run:
    """Runs the replicas, and tells how many requests are done: in this process while one runs, elsewhere when it has ended."""

    def run(task: Callable[[Traffic], Outcome], parts: Iterable[Traffic]) -> Iterator[Outcome]:
        parts = list(parts)
        if spread is here:
            for part in parts:
                found = server.run(part, advance=lambda done: advance(done, requests))
                if found is not None:
                    yield found
            return
        for part, found in zip(parts, spread(task, parts), strict=True):
            advance(len(part), requests)
            yield found

    return run
