"""Many steps at once for layers with windows, beside those that see everything or alone, where no prompt shares anything.

Blocks are numbers here: which they are decides nothing while nobody looks for what is in them. Beside the blocks that decoding
takes (`Fast.phases`), a window gives blocks back: one each time that another block's tokens are behind it. Requests that have
come so far are counted by phase (`gone`). Before that a request is gone through by itself, in the steps that `opening` names: the
first after its prompt (with asynchronous scheduling a window lags by what is in flight), and the one in which a window first
leaves a block.

With prefix caching, a displaced request looks for what is left of its own blocks, and it matters which they are: `Displaced`, and
the trace is followed step by step from its start.

Held against `served` on random workloads: `tests/engines/vllm/test_replay.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
from kvplan.engines.vllm.scheduler.fast.steps import Fast
from kvplan.engines.vllm.scheduler.served import STUCK, Unfollowed
from kvplan.engines.vllm.scheduler.settings import GroupSpec, Settings
from kvplan.errors import Refused

#: What a request is counted for: no window, or each of them when its time has come; else the window's number.
_NOTHING: Final = -2
_ALL: Final = -1


class Displaced(Unfollowed):
    """A request lost its blocks, and may find them again."""


def applies(settings: Settings, traffic: Traffic) -> bool:
    """Whether the layout, the options and the trace are those that are followed here."""
    size = settings.groups[0].block_size
    return (
        traffic.hashes is None
        and all(group.kind == "sliding" or group.sees_everything for group in settings.groups)
        and all(group.block_size == size for group in settings.groups)
        and settings.scheduler_block_size == size
        and settings.hash_block_size == size
        and settings.policy == "fcfs"
        and settings.long_prefill_token_threshold == 0
        and settings.max_num_active_seqs is None
        and settings.max_num_seqs <= settings.max_num_batched_tokens
    )


class FastWindows(Fast):
    """One server; times in microseconds, requests by their number."""

    def __init__(self, settings: Settings, traffic: Traffic, clock: Clock, meter: Meter) -> None:
        super().__init__(settings, traffic, clock, meter)
        self.groups = len(settings.groups)
        alike = Counter(group for group in settings.groups if group.kind == "sliding")
        self.windows: list[tuple[GroupSpec, int]] = list(alike.items())  # and how many groups have it
        self.lag = int(self.ahead)  # tokens by which the window of one that decodes lags
        self.gone = [0] * self.size  # blocks that a step gives back, by phase
        self.counted: dict[int, list[tuple[int, int]]] = {}  # request -> (phase, blocks) of it in `gone`
        #: A heap: (step, request, its `since`, blocks that it gives back then, what it is counted for from then on).
        self.opening: list[tuple[int, int, int, int, int]] = []
        self.behind: dict[int, list[int]] = {}  # request -> blocks that each window gave back while its prompt was computed
        self.final: dict[int, int] = {}  # request -> tokens of the last part of its prompt
        self.flight = 0  # tokens that the step before computed of the prompt in the middle
        self.upto = 0  # the last step in which one that leaves was scheduled, unless it ended before
        self.fell = False  # in this step somebody was displaced

    # Steps in which all that runs gives a token.

    def _calm(self, step: int, most: int) -> int:
        opening, ends = self.opening, self.steps_of_ends
        while opening and opening[0][0] < step:
            heappop(opening)
        while ends[0] < step:
            heappop(ends)
        steps = min(ends[0] - step + 1, most)
        if opening:
            steps = min(steps, opening[0][0] - step)
        size, free = self.size, self.pool.free
        if -(-steps // size) * self.decoding * self.groups <= free:
            return steps
        for safe in range(steps):
            phase = -(step + safe) % size
            taken = self.groups * self.phases[phase]
            if taken > free:
                return safe
            free += self.gone[phase] - taken
        return steps

    def _net(self) -> list[int]:
        return [self.groups * opened - gone for opened, gone in zip(self.phases, self.gone, strict=True)]

    def _opened(self, step: int) -> int | None:
        phase = -step % self.size
        opened = self.groups * self.phases[phase]
        return None if opened > self.pool.free else opened - self.gone[phase] - self._open(step)

    # One step.

    def _step(self, now: int, step: int) -> int:
        pool, size, groups, request = self.pool, self.size, self.groups, self.prefilling
        phase = -step % size
        opened, decodes, budget = groups * self.phases[phase], self.decoding, self.settings.max_num_batched_tokens - self.decoding
        new, wanted = 0, 0
        if request >= 0 and budget > 0:
            new = min(self.known[request] - self.computed, budget)
            wanted = groups * (-(-(self.computed + new) // size) - -(-self.computed // size))
        self.fell, prefill = False, new
        if opened + wanted > pool.free:
            decodes, prefill = self._tight(step, new, wanted)
            self._open(step)
            self.out.held_up = self.out.held_up or self.fell
        else:
            pool.put_unknown(self.gone[phase] + self._open(step) + (self._left(request) if new else 0))
            pool.take(opened + wanted)
            self._continued(new, step)
        self.flight = prefill
        if self.waiting and not self.fell:
            prefill += self._admit(now, step, budget - new)
        if decodes or prefill:
            lasts = self.clock.step_us(prefill) if prefill > self.short else self.least
        else:
            lasts = 0
            if self.waiting and not self.running and not self.fell:
                raise Refused(STUCK)
        self.tally.step(now, self.settings.num_gpu_blocks - 1 - pool.free, lasts)
        return lasts

    def _chunk(self, request: int, known: int, tokens: int, step: int) -> None:
        part = tokens - self.computed if request == self.prefilling else tokens
        super()._chunk(request, known, tokens, step)
        if request != self.prefilling:
            self.final[request] = part
            settled, before = step + 1 + self.lag, self.behind[request]
            for at in range(step + 1, min(settled, self.ends[request]) + 1):
                now = self._behind(request, at)
                given, before = self._difference(before, now), now
                if given or at == settled:
                    heappush(self.opening, (at, request, step, given, _ALL if at == settled else _NOTHING))

    def _admit(self, now: int, step: int, budget: int) -> int:
        settings, pool, out = self.settings, self.pool, self.out
        waiting, running, seats, given = self.waiting, self.running, settings.max_num_seqs, 0
        while budget > 0 and waiting and len(running) < seats:
            request = waiting[0]
            known = new = self.known[request]
            if new > budget:
                if not settings.enable_chunked_prefill:
                    break
                new = budget
            wanted, kept = self.groups * -(-new // self.size), self.watermark if running else 0
            whole = self._whole(known) if settings.scheduler_reserve_full_isl else 0
            if max(whole, wanted) + kept > pool.free:
                out.held_up = True
                break
            waiting.popleft()
            if self.admitted_us[request] < 0:
                self.admitted_us[request] = now
                out.waited += self.arrivals[request] <= self.before
                out.asked_tokens += known
            pool.take(wanted)
            running[request] = None
            self.behind[request] = [0] * len(self.windows)
            self._chunk(request, 0, new, step)
            if self.prefilling == request:
                self.flight = new
            budget -= new
            given += new
        if waiting and len(running) >= seats:
            out.held_up = True
        return given

    def _whole(self, tokens: int) -> int:
        """Blocks that admission counts for all of a request's tokens."""
        settings, blocks = self.settings, -(-tokens // self.size)
        caps = (group.admission_blocks(settings.max_in_flight_tokens, settings.max_model_len) for group in settings.groups)
        return sum(blocks if cap is None else min(blocks, cap) for cap in caps)

    # What is behind a window.

    def _columns(self, processed: int) -> list[int]:
        """Blocks behind each window, when the output of so many tokens was read."""
        return [spec.skipped(max(0, processed)) // self.size for spec, _ in self.windows]

    def _left(self, request: int) -> int:
        """Blocks that the request whose prompt is in the middle gives back when its next part is scheduled."""
        before = self.behind[request]
        self.behind[request] = now = self._columns(self.computed - (self.flight if self.ahead else 0))
        return self._difference(before, now)

    def _behind(self, request: int, step: int) -> list[int]:
        """Blocks that each window of a request has given back, once `step` is scheduled; none of its prompt is left by then."""
        since = self.since[request]
        if step <= since:
            return self.behind[request]
        processed = self.known[request] + step - since - 1
        if self.ahead:
            processed -= self.final[request] if step == since + 1 else 1
        return self._columns(processed)

    def _gives(self, request: int, step: int) -> int:
        """Blocks that one that decodes gives back in a step."""
        return self._difference(self._behind(request, step - 1), self._behind(request, step))

    def _difference(self, before: list[int], now: list[int]) -> int:
        return sum(number * (b - a) for a, b, (_, number) in zip(before, now, self.windows, strict=True))

    def _open(self, step: int) -> int:
        """Go through the requests that `opening` names; the blocks that they give back."""
        opening, size, given = self.opening, self.size, 0
        while opening and opening[0][0] <= step:
            at, request, since, blocks, counted = heappop(opening)
            if at < step or self.since[request] != since or self.ends[request] < step or request not in self.running:
                continue  # it has ended, or was displaced
            given += blocks
            if counted >= 0:
                self._counts(request, step, self.windows[counted][1])
            elif counted == _ALL:
                for i, columns in enumerate(self._behind(request, step)):
                    spec, number = self.windows[i]
                    processed = (columns + 1) * size + spec.window - 1  # when one more block is behind
                    first = processed + self.lag - self.known[request] + since + 1
                    if first - step <= size:  # no step before it has its phase
                        self._counts(request, first, number)
                    else:
                        heappush(opening, (first, request, since, number, i))
        return given

    def _counts(self, request: int, step: int, number: int) -> None:
        """From a step on a request gives back so many blocks each time that a block's tokens were computed."""
        phase = -step % self.size
        self.gone[phase] += number
        self.counted.setdefault(request, []).append((phase, number))

    def _stops(self, request: int) -> None:
        super()._stops(request)
        for phase, number in self.counted.pop(request, ()):
            self.gone[phase] -= number

    # Blocks that run out.

    def _tight(self, step: int, new: int, wanted: int) -> tuple[int, int]:
        pool, size, order = self.pool, self.size, list(self.running)
        last, place, decodes, prefill = len(order), 0, 0, 0
        while place < last:
            request, need = order[place], 0
            in_prompt, decoding = request == self.prefilling, self.ends[request] >= step
            if in_prompt and new:
                need = wanted
                pool.put_unknown(self._left(request))
            elif decoding and not in_prompt:
                need = self.groups * int((self.known[request] + step - self.since[request] - 1) % size == 0)
                pool.put_unknown(self._gives(request, step))
            fell = False
            while need > pool.free and not fell:
                if self.caching:
                    raise Displaced
                last -= 1
                fell = order[last] == request
                self.fell, self.upto = True, step if fell else step - 1
                self._displace(order[last], step)
            if fell:
                break
            pool.take(need)
            if in_prompt:
                prefill = new
            elif decoding:
                decodes += 1
            place += 1
        self._continued(prefill, step)
        return decodes, prefill

    def _end(self, step: int, now: int) -> None:
        self.upto = step
        super()._end(step, now)

    def _leave(self, request: int, computed: int, settled: int | None = None, *, displaced: bool = False) -> None:
        """Give back what is left of a request's blocks."""
        behind = self.behind[request] if request == self.prefilling else self._behind(request, min(self.upto, self.ends[request]))
        del self.behind[request]
        held = self.groups * -(-computed // self.size)
        self.pool.put_unknown(held - self._difference([0] * len(behind), behind))


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
        Displaced: not followed from there on.
    """
    return FastWindows(settings, traffic, clock, meter).run(advance, stop=stop)
