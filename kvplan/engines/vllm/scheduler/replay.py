"""A workload through the scheduler, tick by tick: arrivals, one step, the output of a step.

With asynchronous scheduling the output of a tick is read after the next step is scheduled.
"""

from collections import deque
from collections.abc import Hashable, Sequence

from msgspec import Struct, field

from kvplan.engines.vllm.scheduler.hashes import Names, Tokens
from kvplan.engines.vllm.scheduler.request import Request
from kvplan.engines.vllm.scheduler.scheduler import Scheduled, Scheduler
from kvplan.engines.vllm.scheduler.settings import Settings, check_release
from kvplan.errors import Refused


class Asked(Struct, frozen=True, kw_only=True):
    """A request of a workload: when it arrives (a tick), its prompt as segments `(name, tokens)`, and how much it is given."""

    arrival: int
    prompt: tuple[tuple[Hashable, int], ...]
    max_tokens: int
    priority: int = 0


class Replayed(Struct, kw_only=True):
    """What happened; lists have one entry a tick. `stuck`: ticks were over before all requests ended."""

    steps: int = 0
    preemptions: int = 0
    used_blocks: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    scheduled_tokens: list[int] = field(default_factory=list)
    preempted_at: list[tuple[int, int]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    stuck: bool = False

    @property
    def hit_tokens(self) -> int:
        """Tokens that were found computed, over all admissions."""
        return sum(sum(request.hits) for request in self.requests)

    @property
    def peak_used_blocks(self) -> int:
        """The most blocks in use at the end of a step's scheduling."""
        return max(self.used_blocks, default=0)


def replay(
    settings: Settings, asked: Sequence[Asked], *, most_steps: int, most_work: int, scheduler: Scheduler | None = None
) -> Replayed:
    """Run a workload to its end.

    Args:
        asked: the requests; those of one tick arrive in their order here.
        scheduler: of these settings; else a plain one.
        most_steps: ticks after which it is left as it is.
        most_work: requests looked at in steps, and units of prefixes looked up, after which it is given up.

    Raises:
        Refused: a release whose steps are not written down, or more work.
    """
    check_release(settings)
    names, trace = Names(), Replayed()
    scheduler = scheduler or Scheduler(settings)
    trace.requests = [
        Request(i, Tokens(names, settings.hash_block_size, r.prompt, f"out:{i}"), r.max_tokens, r.priority)
        for i, r in enumerate(asked)
    ]
    coming = deque(sorted(range(len(asked)), key=lambda i: (asked[i].arrival, i)))
    left = len(asked)
    flight: deque[Scheduled] = deque()
    while (left or flight or scheduler.busy) and trace.steps < most_steps:
        tick = trace.steps
        while coming and asked[coming[0]].arrival <= tick:
            request = trace.requests[coming.popleft()]
            if 0 < request.prompt < settings.max_model_len:
                scheduler.add(request)
            else:
                trace.refused.append(request.index)
                left -= 1
        step = scheduler.schedule()
        if scheduler.work > most_work:
            raise Refused(f"after {trace.steps:,} steps the scheduler has looked at more than kvplan follows")
        trace.used_blocks.append(scheduler.cache.blocks.used)
        trace.running.append(len(scheduler.running))
        trace.waiting.append(scheduler.queued)
        trace.scheduled_tokens.append(step.total)
        trace.preempted_at += [(tick, request.index) for request in step.preempted]
        for request in step.admitted:
            if request.admitted_at is None:
                request.admitted_at = tick
        flight.append(step)
        keeps = scheduler.in_flight(step)
        while len(flight) > keeps or (flight and not scheduler.busy):
            for request in scheduler.update(flight.popleft()):
                if request.first_token_at is None:
                    request.first_token_at = tick
                if request.finished:
                    request.finished_at = tick
                    left -= 1
        trace.steps += 1
    trace.preemptions = len(trace.preempted_at)
    trace.stuck = left > 0
    return trace
