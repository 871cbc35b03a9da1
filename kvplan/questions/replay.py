"""`replay`: a trace of requests through a server's own scheduler: what its cache holds over time, and how many servers it takes.

Each replica is a server of its own, with its own requests (`shares`), and is run alone; its answer is a value, and answers are
merged in the order of the replicas. So it is the same for any number of workers.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.ledger import Line
from kvplan.domain.pieces import Run, here
from kvplan.domain.pool import Pool
from kvplan.domain.tiers import HostRoom
from kvplan.domain.traffic import SECOND, Below, Clock, Meter, Outcome, Traffic, first_width, merged
from kvplan.engines import about
from kvplan.engines.kernel.engine import Prepared, Served
from kvplan.errors import OptionError, Refused
from kvplan.limits import REPLICAS, TRACE_BLOCKS
from kvplan.questions.fit.budget import prepared_of
from kvplan.questions.fit.question import Question
from kvplan.questions.receipt import Receipt, receipt
from kvplan.units import ceil_div

_FULL: Final = 0.9  # of the blocks
#: Of the peak rates of a card: what prefill reaches of its arithmetic, decoding of its bandwidth.
_OF_COMPUTE: Final = 0.5
_OF_BANDWIDTH: Final = 0.6
#: Servers beyond which it is not looked for how many are needed.
_MOST_SERVERS: Final = 1024


class Replay(Struct, frozen=True, kw_only=True, eq=False):
    """What a trace does to the cache of its servers.

    Tokens and bytes are of one server: percentiles and `peak` over the time of all of them. `timeline` is their sum.
    """

    question: Question
    engine_version: str
    pool: Pool
    capacity_span: tuple[int, int]  # tokens, over the band of what is left for the cache
    clock: Clock
    rates: str  # where the clock's two rates come from
    replicas: int
    requests: int
    seconds: float  # from the first arrival to the last token
    outcome: Outcome  # of all servers together
    resident: int
    wait_seconds: tuple[float, float]  # the middle one, and of one in a hundred
    servers_needed: int | None
    needed_note: str = ""
    host: HostRoom | None = None  # of each server
    trace: str = ""
    columns: dict[str, str]
    media_tokens: int = 0  # of the prompts' tokens, those of images, videos and clips
    media_requests: int = 0  # requests that have some
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        q = self.question
        return (
            f"<Replay {q.model.name} · {q.engine} on {self.gpus} x {q.gpu.id}: {self.requests:,} requests, "
            f"peak {self.tokens(self.peak):,} of {self.pool.num_tokens:,} tokens>"
        )

    @property
    def blocks(self) -> int:
        """Blocks that requests can hold."""
        return self.pool.num_blocks - self.pool.null_blocks

    def tokens(self, blocks: int) -> int:
        """Blocks as tokens: the part that they are of those that the engine says it holds."""
        return blocks * self.pool.num_tokens // max(1, self.pool.num_blocks)

    @property
    def peak(self) -> int:
        """The most blocks that one server had in use."""
        used = np.flatnonzero(self.outcome.held_us)
        return int(used[-1]) if len(used) else 0

    def percentile(self, share: float) -> int:
        """The blocks that were not exceeded in that share of the time."""
        total = np.cumsum(self.outcome.held_us)
        return int(np.searchsorted(total, share * int(total[-1]))) if len(total) and total[-1] else 0

    @property
    def nearly_full_us(self) -> int:
        """Microseconds, of all servers, in which more than 90 % of the blocks were in use."""
        return int(self.outcome.held_us[int(_FULL * self.blocks) + 1 :].sum())

    @property
    def hit_rate(self) -> float:
        """Tokens that were found, of those that were looked up at first admissions."""
        return self._of_asked(self.hit_tokens)

    @property
    def hit_tokens(self) -> int:
        """Tokens that were found at first admissions, on the device or below it."""
        below = self.outcome.below
        return self.outcome.hit_tokens + (below.hit_tokens if below is not None else 0)

    def _of_asked(self, tokens: int) -> float:
        return tokens / self.outcome.asked_tokens if self.outcome.asked_tokens else 0.0

    def _below(self) -> dict[str, Any]:
        """Keys of a replay with host memory, bytes of all servers but for the room and the peak of one."""
        host, below = self.host, self.outcome.below
        if host is None or below is None:
            return {}
        each, lasted = host.chunk_bytes, max(1, int(self.outcome.held_us.sum()))
        return {
            "device_hit_rate": self._of_asked(self.outcome.hit_tokens),
            "device_hit_tokens": self.outcome.hit_tokens,
            "host_hit_rate": self._of_asked(below.hit_tokens),
            "host_hit_tokens": below.hit_tokens,
            "host_budget_bytes": host.budget_bytes,
            "host_room_bytes": host.room_bytes,
            "host_chunk_bytes": each,
            "host_peak_bytes": below.most * each,
            "host_mean_bytes": below.held_us // lasted * each,
            "host_stored_bytes": below.stored * each,
            "host_loaded_bytes": below.loaded * each,
            "host_evicted_bytes": below.evicted * each,
        }

    @property
    def gpus_needed(self) -> int | None:
        """Devices with which no request waits for room in the cache, or is displaced; None where that was not found."""
        q = self.question
        return None if self.servers_needed is None else ceil_div(self.servers_needed, q.ranks) * q.devices

    @property
    def gpus(self) -> int:
        """Devices of all replicas."""
        return ceil_div(self.replicas, self.question.ranks) * self.question.devices

    @property
    def keeps_up(self) -> bool:
        """Whether these servers have room for the trace."""
        return not self.outcome.held_up and not self.outcome.preemptions

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/formats.md), every bytes value an exact int."""
        q, found, line = self.question, self.outcome, self.outcome.timeline
        held: dict[str, Any] = {"capacity_tokens": self.pool.num_tokens, "capacity_bytes": self.blocks * self.pool.block_bytes}
        for name, blocks in (("peak", self.peak), ("p50", self.percentile(0.5)), ("p99", self.percentile(0.99))):
            held |= {f"{name}_tokens": self.tokens(blocks), f"{name}_bytes": blocks * self.pool.block_bytes}
        return {
            "model": q.model.name,
            "engine": q.engine.partition("@")[0],
            "engine_version": self.engine_version,
            "gpu": q.gpu.id,
            "gpus": self.gpus,
            "tensor_parallel": q.tensor_parallel,
            "replicas": self.replicas,
            "trace": self.trace,
            "columns": dict(self.columns),
            "requests": self.requests,
            "media_requests": self.media_requests,
            "media_tokens": self.media_tokens,
            "seconds": self.seconds,
            "prefill_rate": self.clock.prefill_rate,
            "decode_rate": self.clock.decode_rate,
            "rates": self.rates,
            **held,
            "capacity_low_tokens": self.capacity_span[0],
            "capacity_high_tokens": self.capacity_span[1],
            "seconds_above_90_percent": self.nearly_full_us / SECOND,
            "waiting_requests": found.waited,
            "p50_wait_seconds": self.wait_seconds[0],
            "p99_wait_seconds": self.wait_seconds[1],
            "preempted_requests": found.preempted,
            "preemptions": found.preemptions,
            "refused_requests": found.refused,
            "hit_rate": self.hit_rate,
            "hit_tokens": self.hit_tokens,
            **self._below(),
            "resident_sessions": self.resident,
            "gpus_needed": self.gpus_needed,
            "gpus_needed_note": self.needed_note,
            "steps": found.steps,
            "block_bytes": self.pool.block_bytes,
            "num_blocks": self.pool.num_blocks,
            "max_model_len": self.pool.max_model_len,
            "timeline": {
                "interval_seconds": line.width_us / SECOND,
                "mean_tokens": [self._mean(amount) for amount in line.held],
                "peak_tokens": [self.tokens(peak) for peak in line.peaks],
            },
            "notes": list(self.notes),
        }

    def _mean(self, amount: int) -> int:
        """Block-microseconds of an interval as the tokens that all servers held on average."""
        return amount * self.pool.num_tokens // max(1, self.pool.num_blocks * self.outcome.timeline.width_us)


class Server(Struct, frozen=True, kw_only=True):
    """One server as it was started, and the time that all replicas share: what a worker needs beside the requests."""

    question: Question
    receipt: Receipt
    pool: Pool
    clock: Clock
    start_us: int
    width_us: int
    host: HostRoom | None = None

    def run(self, traffic: Traffic, *, advance: Callable[[int], None] = lambda _: None, stop: bool = False) -> Outcome | None:
        """Its requests to their end.

        Raises:
            Refused: the engine's steps are not written down.
        """
        meter = Meter(self.pool.num_blocks + 1, self.start_us, self.width_us)  # all of them may be in use
        prepared, host = self.prepared, self.host
        if host is not None:
            return prepared.serve_above(host, self.pool, traffic, self.clock, meter, advance=advance, stop=stop)
        return prepared.serve(self.pool, traffic, self.clock, meter, advance=advance, stop=stop)

    @property
    def prepared(self) -> Prepared:
        """The engine on the model.

        Raises:
            Refused: the engine's steps are not written down.
        """
        found = prepared_of(self.question, self.receipt.budget)
        if found is None:
            raise Refused(_unwritten(self.question.engine))
        return found


def started(q: Question, clock: Clock, traffic: Traffic, host_bytes: int | None = None) -> Server:
    """The server that `q` describes.

    Args:
        host_bytes: of host memory below its cache; None for none.

    Raises:
        Refused: it does not start, its steps are not written down, or its cache has too many blocks to be counted.
        OptionError: host memory, and a trace that finds nothing there.
    """
    if host_bytes is not None and traffic.hashes is None:
        raise OptionError(
            "«host»: without prefix hashes no request of the trace has a prompt that another had, and a tier below the device "
            "changes nothing",
            hint="a column `hash_ids` says what prompts share (docs/guides/replay.md); or leave «host» out",
        )
    found = receipt(q)
    pool, refused = found.pool, found.refused
    if found.not_predicted:
        prepared = prepared_of(q, found.budget)
        pool = prepared.told_pool(found.budget.cache.bytes) if prepared is not None else None
        if pool is None:
            raise Refused(found.not_predicted)
        refused = pool.refused
    if pool is None or refused:
        limit, longest = about(q.engine).roles.get("context", ""), pool.estimated_max_model_len if pool else None
        shorter = f"; «set {limit}={longest}» is the longest that it starts with" if limit and longest else ""
        raise Refused(
            f"{q.engine} does not start {q.model.name} on {q.gpu.id}: {refused or 'no room for its cache'}",
            f"`kvplan receipt` shows every line of its memory{shorter}",
        )
    if pool.num_blocks > TRACE_BLOCKS:
        raise Refused(
            f"a cache of {pool.num_blocks:,} blocks is not replayed: at most {TRACE_BLOCKS:,} are",
            "a larger block, or a smaller part of the card",
        )
    first, last = int(traffic.arrival_us[0]), int(traffic.arrival_us[-1])
    server = Server(question=q, receipt=found, pool=pool, clock=clock, start_us=first, width_us=first_width(first, last))
    return server if host_bytes is None else replace(server, host=server.prepared.host_room(host_bytes))


def clock_of(q: Question, weights: Line, prefill_rate: float | None, decode_rate: float | None) -> tuple[Clock, str]:
    """The clock, and where its rates come from: as given, else from what the card computes and moves.

    A prefill token takes two operations a weight of two bytes, a decode step reads every weight once; a card reaches a part of
    its peak. A mixture computes with fewer of its weights: what is worked out is then too slow.

    Raises:
        OptionError: a rate that is none, or a card whose figures are not known.
    """
    for rate, name in ((prefill_rate, "prefill_rate"), (decode_rate, "decode_rate")):
        if rate is not None and not 1e-3 <= rate <= 1e9:
            raise OptionError(f"«{name}»: expected tokens a second above 0 and at most 1,000,000,000, got {rate:g}")
    words = []
    card, devices = q.gpu, q.devices
    if prefill_rate is None:
        if card.bf16_dense_tflops is None:
            raise OptionError(
                f"the arithmetic of {card.id} is not known", hint="«prefill_rate TOK/S»: tokens of prompts that a server computes"
            )
        prefill_rate = round(_OF_COMPUTE * card.bf16_dense_tflops * 1e12 * devices / max(1, weights.bytes), 3)
        words.append(
            f"prefill: half of {card.bf16_dense_tflops:g} TFLOPS of {devices} x {card.id}, two operations a weight of two bytes"
        )
    if decode_rate is None:
        if card.bandwidth_gb_s is None:
            raise OptionError(
                f"the bandwidth of {card.id} is not known", hint="«decode_rate TOK/S»: tokens of each request that runs"
            )
        decode_rate = round(_OF_BANDWIDTH * card.bandwidth_gb_s * 1e9 * devices / max(1, weights.bytes), 3)
        words.append(f"decode: 60 % of {card.bandwidth_gb_s:g} GB/s of {devices} x {card.id}, every weight read once a step")
    return Clock(prefill_rate=prefill_rate, decode_rate=decode_rate), "assumed: " + "; ".join(words) if words else "given"


def shares(traffic: Traffic, replicas: int, route: np.ndarray[Any, Any] | None = None) -> list[np.ndarray[Any, Any]]:
    """The rows of each replica: as routed, else one after the other in the order of arrival.

    Raises:
        OptionError: too many replicas.
    """
    if not 1 <= replicas <= REPLICAS:
        raise OptionError(f"from 1 to {REPLICAS:,} replicas can be replayed, got {replicas:,}")
    if route is None:
        return [np.arange(first, len(traffic), replicas) for first in range(replicas)]
    order = np.argsort(route, kind="stable")
    return list(np.split(order, np.searchsorted(route[order], np.arange(1, replicas))))


def _unwritten(engine: str) -> str:
    return f"how {engine} lets requests in is not written down here: another engine is needed"


def together(outcomes: Sequence[Outcome], rows: Sequence[np.ndarray[Any, Any]], count: int) -> Outcome:
    """The answers of all servers as one, in the order of the replicas."""
    admitted, finished = np.full(count, -1, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    for outcome, own in zip(outcomes, rows, strict=True):
        admitted[own], finished[own] = outcome.admitted_us, outcome.finished_us
    sums = {
        name: sum(getattr(outcome, name) for outcome in outcomes)
        for name in (
            "waited", "preempted", "preemptions", "refused", "asked_tokens", "hit_tokens", "found_again_tokens", "steps",
        )
    }  # fmt: skip
    held = np.zeros_like(outcomes[0].held_us)
    for outcome in outcomes:
        held += outcome.held_us
    return Outcome(
        held_us=held,
        timeline=merged([outcome.timeline for outcome in outcomes]),
        admitted_us=admitted,
        finished_us=finished,
        held_up=any(outcome.held_up for outcome in outcomes),
        below=_together_below([outcome.below for outcome in outcomes if outcome.below is not None]),
        **sums,
    )


def _together_below(parts: Sequence[Below]) -> Below | None:
    if not parts:
        return None
    sums = {name: sum(getattr(part, name) for part in parts) for name in ("hit_tokens", "stored", "loaded", "evicted", "held_us")}
    return Below(most=max(part.most for part in parts), **sums)


def replay(
    server: Server,
    traffic: Traffic,
    *,
    replicas: int,
    rates: str,
    route: np.ndarray[Any, Any] | None = None,
    search: bool = True,
    run: Run,
    searched: Run = here,
    trace: str = "",
    columns: dict[str, str],
    media: tuple[int, int] = (0, 0),
    notes: Iterable[str] = (),
) -> Replay:
    """The answer for a trace and its servers.

    Args:
        replicas: servers; `route` says whose each request is.
        search: whether to look for how many servers are needed.
        run: runs what is given for each replica.
        searched: the same while it is looked for how many servers are needed.
        media: tokens of the prompts that are those of media, and the requests that have some.

    Raises:
        Refused: the engine's steps are not written down.
    """
    q, pool, prepared = server.question, server.pool, server.prepared
    one = _mean_blocks(prepared, pool, traffic)
    rows = [own for own in shares(traffic, replicas, route) if len(own)]
    parts = [traffic] if len(rows) == 1 else [traffic.part(own) for own in rows]
    outcome = together(list(run(_whole(server), parts)), rows, len(traffic))
    needed, note = None, "not looked for"
    if search:
        needed, note = _needed(server, traffic, outcome, replicas, route, searched)
    served = outcome.admitted_us >= 0
    waits = np.sort(outcome.admitted_us[served] - traffic.arrival_us[served])
    middle, late = ((int(waits[len(waits) * p // 100]) / SECOND) if len(waits) else 0.0 for p in (50, 99))
    ends = int(outcome.finished_us.max(initial=server.start_us))
    return Replay(
        question=q,
        engine_version=pool.engine_version,
        pool=pool,
        capacity_span=_span(server),
        clock=server.clock,
        rates=rates,
        replicas=replicas,
        requests=len(traffic),
        seconds=(ends - server.start_us) / SECOND,
        outcome=outcome,
        resident=int(max(0, pool.num_blocks - pool.null_blocks) * one[1] // max(1, one[0])),
        wait_seconds=(middle, late),
        servers_needed=needed,
        needed_note=note,
        host=server.host,
        trace=trace,
        columns=columns,
        media_tokens=media[0],
        media_requests=media[1],
        notes=(*notes, *prepared.step_notes, *(server.host.notes if server.host is not None else ())),
    )


def _whole(server: Server) -> Callable[[Traffic], Outcome]:
    return _Task(server, stop=False)


class _Task(Struct, frozen=True):
    """What a worker does with one replica's requests; it can be sent to another process."""

    server: Server
    stop: bool

    def __call__(self, traffic: Traffic) -> Any:
        return self.server.run(traffic, stop=self.stop)


def _mean_blocks(prepared: Prepared, pool: Pool, traffic: Traffic) -> tuple[int, int]:
    """(blocks that all requests would hold at their ends, requests): of those that the server takes."""
    lengths = traffic.prompt + traffic.output - 1
    taken = (traffic.prompt > 0) & (traffic.prompt < pool.max_model_len)
    blocks = prepared.kept_blocks(pool, np.minimum(lengths[taken], pool.max_model_len - 1))
    return int(blocks.sum()), int(taken.sum())


def _span(server: Server) -> tuple[int, int]:
    """Tokens that the pool holds at both ends of what is left for it."""
    found, pool = server.receipt, server.pool
    if not pool.budget_bytes:
        return 0, 0
    prepared = prepared_of(server.question, found.budget)
    band = found.budget.cache
    if not isinstance(prepared, Served):
        return pool.num_tokens, pool.num_tokens
    low, high = (prepared.pool(max(0, size)).num_tokens for size in (band.low, band.high))
    return low, high


def _needed(
    server: Server, traffic: Traffic, outcome: Outcome, replicas: int, route: np.ndarray[Any, Any] | None, run: Run
) -> tuple[int | None, str]:
    """The fewest servers among which the requests go round with room for all, and what that means."""
    meaning = "the fewest with which no request waits for blocks or a place, and none is displaced"
    if route is not None:
        return None, "not looked for: requests are routed by a column"
    room = not outcome.held_up and not outcome.preemptions
    if room and replicas == 1:
        return 1, meaning

    def enough(servers: int) -> bool:
        if servers == replicas:
            return room
        parts = (traffic.part(own) for own in shares(traffic, servers))
        return all(one is not None for one in run(_Task(server, stop=True), parts))

    if room:
        low, high = 0, replicas
    else:
        low, high = replicas, min(2 * replicas, _MOST_SERVERS)
        while high <= _MOST_SERVERS and not enough(high):
            low, high = high, 2 * high
        if high > _MOST_SERVERS:
            return None, f"more than {_MOST_SERVERS:,} servers: requests wait for places that more memory does not give"
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high, meaning
