"""Requests with times through the scheduler, step by step: the plain form, for every layout of groups.

Arrivals up to now are queued, one step is scheduled, it lasts as the clock says, its output is read (with asynchronous scheduling
after the next step is scheduled). Where nothing is left to do, time goes on to the next arrival.
"""

from array import array
from collections import deque
from collections.abc import Callable

import numpy as np

from kvplan.domain.traffic import Below, Clock, Meter, Outcome, Traffic
from kvplan.engines.vllm.scheduler.hashes import Names, Tokens
from kvplan.engines.vllm.scheduler.request import Request
from kvplan.engines.vllm.scheduler.scheduler import Scheduled, Scheduler
from kvplan.engines.vllm.scheduler.settings import Settings
from kvplan.errors import Refused

_FLUSHED = 100_000  # steps
STUCK = "a request waits that the whole pool cannot hold: the server would wait for ever"


class Stopped(Exception):
    """A request had to wait for room, and whoever asked wanted to know no more."""


class Unfollowed(Exception):
    """A quicker form met what it does not follow: another one has to begin anew."""


def serve(
    settings: Settings,
    traffic: Traffic,
    clock: Clock,
    meter: Meter,
    *,
    advance: Callable[[int], None] = lambda _: None,
    stop: bool = False,
    scheduler: Scheduler | None = None,
) -> Outcome:
    """Run the requests to their end.

    Args:
        advance: told how many more requests have ended.
        stop: end at the first request that waits for blocks or a place.
        scheduler: of these settings; else a plain one.

    Raises:
        Refused: a request waits for ever.
        Stopped: as asked for.
    """
    names, scheduler = Names(), scheduler or Scheduler(settings)
    count = len(traffic)
    arrivals = traffic.arrival_us.tolist()
    admitted, finished = [-1] * count, [-1] * count
    queued_in = [0] * count
    out = Outcome(held_us=meter.held_us, timeline=meter.timeline, admitted_us=np.array([]), finished_us=np.array([]))
    times, used, lasted = array("q"), array("q"), array("q")
    flight: deque[tuple[Scheduled, int]] = deque()
    now, coming = meter.timeline.start_us, 0
    host, below = scheduler.host, Below()

    def resident() -> int:
        return host.resident if host is not None else 0

    while True:
        while coming < count and arrivals[coming] <= now:
            prompt = [(name, last - first) for name, first, last in traffic.stretches(coming)]
            tokens = Tokens(names, settings.hash_block_size, prompt, ("out", coming))
            request = Request(coming, tokens, int(traffic.output[coming]), 0)
            if 0 < request.prompt < settings.max_model_len:
                scheduler.add(request)
                queued_in[coming] = out.steps
            else:
                out.refused += 1
                advance(1)
            coming += 1
        if not scheduler.busy and not flight:
            if coming == count:
                break
            meter.idle(arrivals[coming] - now)
            below.held_us += resident() * (arrivals[coming] - now)
            now = arrivals[coming]
            continue
        step = scheduler.schedule()
        _admitted(step, out, below, admitted, queued_in, now)
        if scheduler.held_up:
            out.held_up = True
            if stop:
                raise Stopped
        lasts = clock.step_us(step.prefill) if step.tokens else 0
        times.append(now)
        used.append(scheduler.cache.blocks.used)
        lasted.append(lasts)
        below.held_us += resident() * lasts
        idle = not step.tokens and not step.preempted and not any(before.tokens for before, _ in flight)
        if idle and scheduler.queued and not scheduler.moving:
            raise Refused(STUCK)
        flight.append((step, now + lasts))
        keeps = scheduler.in_flight(step)
        while len(flight) > keeps or (flight and not scheduler.busy):
            done, at = flight.popleft()
            for request in scheduler.update(done):
                if request.finished:
                    finished[request.index] = at
                    out.preempted += int(request.preemptions > 0)
                    advance(1)
        now += lasts
        out.steps += 1
        out.preemptions += len(step.preempted)
        if len(times) >= _FLUSHED:
            _flush(meter, times, used, lasted)
    _flush(meter, times, used, lasted)
    if host is not None:
        below.stored, below.loaded, below.evicted, below.most = host.stored, host.loaded, host.evicted, host.most
        out.below = below
    out.admitted_us, out.finished_us = np.array(admitted, dtype=np.int64), np.array(finished, dtype=np.int64)
    return out


def _admitted(step: Scheduled, out: Outcome, below: Below, admitted: list[int], queued_in: list[int], now: int) -> None:
    for request in step.admitted:
        index, loaded = request.index, request.loaded[-1] if request.loaded else 0
        if admitted[index] < 0:
            admitted[index] = now
            out.waited += int(queued_in[index] != out.steps)
            out.asked_tokens += request.known
            out.hit_tokens += request.hits[-1]
            below.hit_tokens += loaded
        else:
            out.found_again_tokens += request.hits[-1] + loaded


def _flush(meter: Meter, times: "array[int]", used: "array[int]", lasted: "array[int]") -> None:
    meter.add(*(np.array(values, dtype=np.int64) for values in (times, used, lasted)))
    for values in (times, used, lasted):
        del values[:]
