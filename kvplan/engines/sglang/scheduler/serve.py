"""Requests with times through the scheduler.

Arrivals up to now are queued, one step is scheduled, it lasts as the clock says. With overlap its output is read after the next
step is scheduled. Steps that give each running request a token, and change nothing else, are taken many at once.
"""

from array import array
from collections.abc import Callable

import numpy as np

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
from kvplan.engines.sglang.scheduler.request import Batch
from kvplan.engines.sglang.scheduler.scheduler import Scheduler
from kvplan.engines.sglang.scheduler.settings import Settings
from kvplan.errors import Refused
from kvplan.limits import TRACE_LEAP

_FLUSHED = 100_000  # steps
_TOLD = 500  # requests between two words on the progress
STUCK = "a request waits that the whole pool cannot hold: the server would wait for ever"


def serve(
    settings: Settings,
    traffic: Traffic,
    clock: Clock,
    meter: Meter,
    *,
    plain: bool = False,
    advance: Callable[[int], None] = lambda _: None,
    stop: bool = False,
) -> Outcome | None:
    """Run the requests to their end; None where it was stopped at the first one that waited for room.

    Args:
        plain: one step at a time.
        advance: told how many more requests have ended.
        stop: end at the first request that waits for room or a place.

    Raises:
        Refused: a request waits for ever, or the server ends.
    """
    return _Run(settings, traffic, clock, meter, plain=plain).run(advance, stop=stop)


class _Run:
    """One server and its trace."""

    def __init__(self, settings: Settings, traffic: Traffic, clock: Clock, meter: Meter, *, plain: bool) -> None:
        self.settings, self.traffic, self.clock, self.meter, self.plain = settings, traffic, clock, meter, plain
        self.scheduler = Scheduler(settings)
        count = len(traffic)
        self.arrivals = traffic.arrival_us.tolist()
        self.admitted, self.finished = array("q", [-1]) * count, array("q", [-1]) * count
        self.queued_in = array("q", [0]) * count
        self.out = Outcome(held_us=meter.held_us, timeline=meter.timeline, admitted_us=np.array([]), finished_us=np.array([]))
        self.rows = (array("q"), array("q"), array("q"))
        self.now, self.coming, self.done, self.told = meter.timeline.start_us, 0, 0, 0

    def run(self, advance: Callable[[int], None], *, stop: bool) -> Outcome | None:
        """See `serve`."""
        scheduler, out, count = self.scheduler, self.out, len(self.arrivals)
        pending: tuple[Batch, int] | None = None
        nothing = False  # there was nothing to compute in the step before
        while True:
            self._arrivals()
            if scheduler.idle and pending is None:
                if self.coming == count:
                    break
                self.meter.idle(self.arrivals[self.coming] - self.now)
                self.now = self.arrivals[self.coming]
                scheduler.rest()
                continue
            if not self.plain and (steps := self._calm()) > 1:
                self._leap(steps)
                if pending is not None:
                    pending = pending[0], self.now
                continue
            batch = scheduler.schedule()
            out.held_up = out.held_up or scheduler.held_up
            if stop and out.held_up:
                return None
            self._count(batch)
            if batch is None:  # the last of those that ran have left, or nobody can be admitted
                if pending is None and nothing:
                    raise Refused(STUCK)
                self._read(pending)
                pending, nothing = None, True
                continue
            nothing = False
            lasts = self.clock.step_us(batch.prefill)
            self._note(scheduler.used, lasts)
            step, self.now = (batch, self.now + lasts), self.now + lasts
            out.steps += 1
            if self.settings.overlap:
                self._read(pending)
                pending = step
            else:
                self._read(step)
            if self.done - self.told >= _TOLD:
                advance(self.done - self.told)
                self.told = self.done
        advance(self.done - self.told)
        self._flush()
        out.admitted_us, out.finished_us = (np.array(times, dtype=np.int64) for times in (self.admitted, self.finished))
        return out

    def _arrivals(self) -> None:
        scheduler, traffic = self.scheduler, self.traffic
        while self.coming < len(self.arrivals) and self.arrivals[self.coming] <= self.now:
            index = self.coming
            self.coming += 1
            self.queued_in[index] = self.out.steps
            request = scheduler.add(index, traffic.stretches(index), int(traffic.prompt[index]), int(traffic.output[index]))
            self.out.refused += request is None or request.refused
            self.done += request is None

    def _count(self, batch: Batch | None) -> None:
        out, scheduler = self.out, self.scheduler
        out.preemptions += len(scheduler.displaced)
        for request in scheduler.aborted:
            out.refused += not request.refused
            self.done += 1
            out.preempted += int(request.retractions > 0)
        for request in batch.admitted if batch is not None else ():
            if request.refused:
                continue
            if self.admitted[request.index] < 0:
                self.admitted[request.index] = self.now
                out.waited += int(self.queued_in[request.index] != out.steps)
                out.asked_tokens += request.prompt
                out.hit_tokens += request.hits[-1]
            else:
                out.found_again_tokens += request.hits[-1]

    def _read(self, step: tuple[Batch, int] | None) -> None:
        if step is None:
            return
        for request in self.scheduler.process(step[0]):
            self.done += 1
            if not request.refused:
                self.finished[request.index] = step[1]
                self.out.preempted += int(request.retractions > 0)

    def _calm(self) -> int:
        steps = min(self.scheduler.calm(), TRACE_LEAP)
        if steps > 1 and self.coming < len(self.arrivals):
            steps = min(steps, -((self.now - self.arrivals[self.coming]) // self.clock.decode_us))
        return steps

    def _leap(self, steps: int) -> None:
        used, least = self.scheduler.used, self.clock.decode_us
        taken = np.resize(np.array(self.scheduler.leap(steps), dtype=np.int64), steps)
        for row, values in zip(
            self.rows,
            (self.now + np.arange(steps) * least, (used + np.cumsum(taken)) // self.settings.page, np.full(steps, least)),
            strict=True,
        ):
            row.frombytes(values.astype(np.int64).tobytes())
        self.now += steps * least
        self.out.steps += steps
        self.out.held_up = self.out.held_up or self.scheduler.held_up
        self._flush_if_many()

    def _note(self, used: int, lasts: int) -> None:
        for row, value in zip(self.rows, (self.now, used // self.settings.page, lasts), strict=True):
            row.append(value)
        self._flush_if_many()

    def _flush_if_many(self) -> None:
        if len(self.rows[0]) >= _FLUSHED:
            self._flush()

    def _flush(self) -> None:
        self.meter.add(*(np.array(values, dtype=np.int64) for values in self.rows))
        for values in self.rows:
            del values[:]
