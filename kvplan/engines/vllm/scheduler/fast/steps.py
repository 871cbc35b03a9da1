"""Requests with times through the scheduler, many steps at once: one group that looks at everything, first come, first served.

The same answer as `served`, told from what such a server's state comes down to.

* Of requests that decode only the phase counts: one whose next token opens a block does so again a block's tokens later. So
  `phases` says how many blocks any later step takes, until somebody ends, arrives, or the pool is empty; those steps are one
  leap. A step in which blocks run out is gone through request by request.
* Of blocks only what they hold counts (`pool`), and what of it others find (`prefixes`).

Held against `served` on random workloads, step for step: `tests/engines/vllm/test_replay.py`.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

import numpy as np

from kvplan.domain.traffic import SECOND, Clock, Meter, Outcome, Traffic
from kvplan.engines.vllm.scheduler.fast.pool import Found, Node, Pool
from kvplan.engines.vllm.scheduler.fast.prefixes import Prefixes
from kvplan.engines.vllm.scheduler.fast.tally import Tally
from kvplan.engines.vllm.scheduler.served import STUCK, Stopped
from kvplan.engines.vllm.scheduler.settings import Settings
from kvplan.errors import Refused
from kvplan.limits import TRACE_LEAP

_TOLD: Final = 2_000  # requests between two words on the progress


def applies(settings: Settings, traffic: Traffic) -> bool:
    """Whether the layout and the options are those that are followed here."""
    group = settings.groups[0]
    size = group.block_size
    return (
        len(settings.groups) == 1
        and group.sees_everything
        and settings.scheduler_block_size == size
        and settings.hash_block_size == size
        and settings.policy == "fcfs"
        and settings.long_prefill_token_threshold == 0
        and settings.max_num_active_seqs is None
        and settings.max_num_seqs <= settings.max_num_batched_tokens
        and traffic.hash_tokens % size == 0
    )


def _packed(values: np.ndarray[Any, Any]) -> array[int]:
    """Numbers that are read one by one: half as large as a list of them, and read as fast."""
    return array("q", values.astype(np.int64).tobytes())


class Fast:
    """One server; times in microseconds, requests by their number."""

    def __init__(self, settings: Settings, traffic: Traffic, clock: Clock, meter: Meter) -> None:
        self.settings, self.traffic, self.clock, self.meter = settings, traffic, clock, meter
        self.size = settings.groups[0].block_size
        self.caching, self.ahead = settings.enable_prefix_caching, settings.async_scheduling
        self.watermark = int(settings.watermark * settings.num_gpu_blocks)
        self.pool = Pool(settings.num_gpu_blocks - 1, caching=self.caching)
        self.arrivals, self.prompt = _packed(traffic.arrival_us), _packed(traffic.prompt)
        offsets = None if traffic.offsets is None else _packed(traffic.offsets)
        self.known = array("q", self.prompt)  # tokens, as far as they were brought up to date: at an admission
        self.until = _packed(np.minimum(traffic.prompt + traffic.output, settings.max_model_len))  # tokens at the end
        count = len(self.prompt)
        self.since = array("q", bytes(8 * count))  # the step in which the last prompt token was computed
        self.ends = array("q", bytes(8 * count))  # the step that gives the last token; -1 for one that was displaced
        self.admitted_us, self.finished_us = array("q", [-1]) * count, array("q", [-1]) * count
        self.running: dict[int, None] = {}
        self.waiting: deque[int] = deque()
        self.phases = [0] * self.size
        self.decoding = 0
        self.prefilling, self.computed = -1, 0  # the request whose prompt is in the middle, and its tokens so far
        self.ending: dict[int, list[int]] = {}  # step -> requests, in the order in which they run
        self.steps_of_ends: list[int] = []  # a heap
        self.ghosts: list[int] = []  # gave their last token in the step before, which is not yet read
        self.blocked = False  # nobody can be admitted until a block or a place becomes free
        self.displaced: set[int] = set()
        self.out = Outcome(held_us=meter.held_us, timeline=meter.timeline, admitted_us=np.array([]), finished_us=np.array([]))
        self.least = clock.decode_us
        self.short = int(self.least * clock.prefill_rate / SECOND) - 1  # prefill tokens of which no step gets longer
        self.before = meter.timeline.start_us - 1  # the time of the step before
        self.done = 0
        self.prefixes = Prefixes(traffic, self.prompt, offsets, self.pool, self.size)
        self.tally = Tally(meter, self.size)

    def run(self, advance: Callable[[int], None], *, stop: bool) -> Outcome:
        """Run the requests to their end; see `served.serve`."""
        arrivals, prompts = self.arrivals, self.prompt
        limit, count, least = self.settings.max_model_len, len(arrivals), self.least
        waiting, running, out, coming, told = self.waiting, self.running, self.out, 0, 0
        now, step = self.meter.timeline.start_us, 0
        pool, ending, usable, tally = self.pool, self.ending, self.settings.num_gpu_blocks - 1, self.tally
        while True:
            while coming < count and arrivals[coming] <= now:
                if 0 < prompts[coming] < limit:
                    waiting.append(coming)
                else:
                    out.refused += 1
                    self.done += 1
                coming += 1
            if not running and not waiting:
                if coming == count:
                    break
                self.meter.idle(arrivals[coming] - now)
                now = arrivals[coming]
                continue
            steps = 1
            decoding = self.decoding
            quiet = decoding and self.prefilling < 0 and (self.blocked or not waiting)
            if quiet and not self.ghosts:
                until = -((now - arrivals[coming]) // least) if coming < count and not waiting else TRACE_LEAP
                steps = self._calm(step, min(until, TRACE_LEAP))
            if steps > 1:
                self._leap(now, step, steps, least)
                step += steps
                self.before = now + (steps - 1) * least
                now += steps * least
            elif quiet and (opened := self._opened(step)) is not None:
                pool.take(opened)
                tally.step(now, usable - pool.free, least)
                step += 1
                self.before = now
                now += least
            else:
                lasts = self._step(now, step)
                step += 1
                self.before = now
                now += lasts
            if self.ghosts or step - 1 in ending:
                self._end(step - 1, now)
            if stop and out.held_up:
                raise Stopped
            if self.done - told >= _TOLD:
                tally.flush_if_many()
                advance(self.done - told)
                told = self.done
        advance(self.done - told)
        tally.flush()
        out.steps, out.preempted = step, len(self.displaced)
        out.admitted_us = np.array(self.admitted_us, dtype=np.int64)
        out.finished_us = np.array(self.finished_us, dtype=np.int64)
        return out

    # Steps in which all that runs gives a token.

    def _calm(self, step: int, most: int) -> int:
        """Steps from `step` on, at most `most`, before somebody ends or blocks run out."""
        ends = self.steps_of_ends
        while ends[0] < step:
            heappop(ends)
        steps = min(ends[0] - step + 1, most)
        size, free, decoding = self.size, self.pool.free, self.decoding
        if -(-steps // size) * decoding <= free:
            return steps
        if decoding <= free:
            return min(steps, free // decoding * size)
        phases, safe = self.phases, 0
        while safe < steps:
            free -= phases[-(step + safe) % size]
            if free < 0:
                break
            safe += 1
        return safe

    def _opened(self, step: int) -> int | None:
        """Blocks that such a step takes; None where they are not there."""
        opened = self.phases[-step % self.size]
        return opened if opened <= self.pool.free else None

    def _net(self) -> list[int]:
        """Blocks that such a step takes, by phase."""
        return self.phases

    def _leap(self, now: int, step: int, steps: int, least: int) -> None:
        used = self.settings.num_gpu_blocks - 1 - self.pool.free
        self.pool.take(self.tally.leap(now, used, step, steps, least, self._net()))

    # One step.

    def _step(self, now: int, step: int) -> int:
        """Schedule one step; how long it lasts."""
        pool, size = self.pool, self.size
        crossing = self.phases[-step % size]
        decodes = self.decoding
        budget = self.settings.max_num_batched_tokens - decodes
        new, wanted = 0, 0
        if self.prefilling >= 0 and budget > 0:
            new = min(self.known[self.prefilling] - self.computed, budget)
            wanted = -(-(self.computed + new) // size) - -(-self.computed // size)
        prefill = new
        tight = crossing + wanted > pool.free
        if tight:
            decodes, prefill = self._tight(step, new, wanted)
            self.out.held_up = True
        else:
            pool.take(crossing + wanted)
            self._continued(new, step)
            if self.waiting and not self.blocked:
                prefill += self._admit(now, step, budget - new)
        if decodes or prefill:
            lasts = self.least
            if prefill > self.short:
                lasts = self.clock.step_us(prefill)
        else:
            lasts = 0
            if self.waiting and not self.running and not tight:
                raise Refused(STUCK)
        self.tally.step(now, self.settings.num_gpu_blocks - 1 - pool.free, lasts)
        return lasts

    def _chunk(self, request: int, known: int, tokens: int, step: int) -> None:
        """A part of a prompt that ends at `tokens` is scheduled; before it `known` blocks were made known. It may be the last."""
        self.prefixes.publish(request, known, tokens // self.size)
        if tokens < self.known[request]:
            self.prefilling, self.computed = request, tokens
            return
        self.prefilling = -1
        left = self.until[request] - tokens
        self.since[request] = step
        self.ends[request] = last = step + left - 1
        if left > 1:
            self.phases[(tokens - step - 1) % self.size] += 1
            self.decoding += 1
        together = self.ending.get(last)
        if together is None:
            self.ending[last] = [request]
            heappush(self.steps_of_ends, last)
        else:
            together.append(request)

    def _continued(self, new: int, step: int) -> None:
        """The prompt in the middle goes on: what it makes known may be what somebody waits for."""
        if new:
            self.blocked = False
            self._chunk(self.prefilling, self.computed // self.size, self.computed + new, step)

    def _admit(self, now: int, step: int, budget: int) -> int:
        """Admit those that wait, until one cannot be; their tokens in this step."""
        settings, pool, size, out, prefixes = self.settings, self.pool, self.size, self.out, self.prefixes
        waiting, running, seats, given = self.waiting, self.running, settings.max_num_seqs, 0
        while budget > 0 and waiting and len(running) < seats:
            request = waiting[0]
            known = self.known[request]
            hit, free_hit = 0, 0
            found: Found = []
            path: list[Node] = []
            if prefixes.columns or request in prefixes.own:
                hit, free_hit, found, path = prefixes.lookup(request, (known - 1) // size)
            new = known - hit * size
            if new > budget:
                if not settings.enable_chunked_prefill:
                    break
                new = budget
            kept = self.watermark if running else 0
            if settings.scheduler_reserve_full_isl and -(-known // size) - hit + free_hit + kept > pool.free:
                self.blocked = out.held_up = True
                break
            end = hit * size + new
            wanted = -(-end // size) - hit
            if wanted + free_hit + kept > pool.free:
                self.blocked = out.held_up = True
                break
            waiting.popleft()
            if self.admitted_us[request] < 0:
                self.admitted_us[request] = now
                out.waited += self.arrivals[request] <= self.before
                out.asked_tokens += known
                out.hit_tokens += hit * size
            else:
                out.found_again_tokens += hit * size
            if prefixes.columns or found:
                prefixes.adopt(request, found, path)
            pool.take(wanted)
            running[request] = None
            self._chunk(request, hit, end, step)
            budget -= new
            given += new
        if waiting and len(running) >= seats:
            self.blocked = out.held_up = True
        return given

    def _end(self, step: int, now: int) -> None:
        """After step `step`, which ends at `now`: those that gave their last token leave, a step later where it is read later."""
        leaving = self.ending.pop(step, None)
        if leaving is not None:
            ends, since = self.ends, self.since
            if len(leaving) > 1 or ends[leaving[0]] != step:
                leaving = [request for request in leaving if ends[request] == step]
            for request in leaving:
                self.finished_us[request] = now
                if step > since[request]:
                    self._stops(request)
        if self.ahead:
            self.ghosts, leaving = leaving or [], self.ghosts
        for request in leaving or ():
            del self.running[request]
            self.blocked = False
            self._leave(request, self.until[request] - 1)
            self.done += 1
            self.prefixes.ended(request)

    def _stops(self, request: int) -> None:
        """It decodes no more."""
        self.phases[(self.known[request] - self.since[request] - 1) % self.size] -= 1
        self.decoding -= 1

    # Blocks that run out.

    def _tight(self, step: int, new: int, wanted: int) -> tuple[int, int]:
        """A step in which blocks run out, request by request; how many decode, and tokens of the prompt in the middle."""
        pool, size, order = self.pool, self.size, list(self.running)
        last, place, decodes, prefill = len(order), 0, 0, 0
        while place < last:
            request = order[place]
            if request == self.prefilling:
                need = wanted
            elif self.ends[request] < step:
                need = 0
            else:
                need = int((self.known[request] + step - self.since[request] - 1) % size == 0)
            fell = False
            while need > pool.free and not fell:
                last -= 1
                self._displace(order[last], step)
                fell = order[last] == request
            if fell:
                break
            pool.take(need)
            if request == self.prefilling:
                prefill = new
            elif self.ends[request] >= step:
                decodes += 1
            place += 1
        self._continued(prefill, step)
        return decodes, prefill

    def _displace(self, request: int, step: int) -> None:
        """Take all blocks from a running request; it is the next to be admitted."""
        del self.running[request]
        self.out.preemptions += 1
        self.displaced.add(request)
        self.blocked = False
        known = self.known[request]
        if request == self.prefilling:
            self.prefilling = -1
            self._leave(request, self.computed, self.computed, displaced=True)
            self.waiting.appendleft(request)
            return
        computed = known + step - self.since[request] - 1
        self._leave(request, computed, max(known, computed - 1) if self.ahead else computed, displaced=True)
        if self.ends[request] < step:  # its last token is on the way
            self.ghosts.remove(request)
            self.prefixes.ended(request)
            self.done += 1
            return
        self._stops(request)
        self.ends[request], self.known[request] = -1, computed + 1
        self.waiting.appendleft(request)

    def _leave(self, request: int, computed: int, settled: int | None = None, *, displaced: bool = False) -> None:
        """Give back the blocks of `computed` tokens, of which those of `settled` are known."""
        size, pool = self.size, self.pool
        held, known = -(-computed // size), (computed if settled is None else settled) // size
        if not self.caching:
            pool.put_unknown(held)
            return
        pool.put_unknown(held - known)
        self.prefixes.leave(request, known, displaced=displaced)


def serve(
    settings: Settings,
    traffic: Traffic,
    clock: Clock,
    meter: Meter,
    *,
    advance: Callable[[int], None] = lambda _: None,
    stop: bool = False,
) -> Outcome:
    """As `served.serve`, for what `applies` says.

    Raises:
        Refused: a request waits for ever.
        Stopped: as asked for.
    """
    return Fast(settings, traffic, clock, meter).run(advance, stop=stop)
