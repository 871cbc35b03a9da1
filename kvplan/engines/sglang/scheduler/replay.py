"""A workload through the scheduler, tick by tick: arrivals, one step, the output of a step.

With overlap the output of a tick is read after the next step is scheduled (`managers/scheduler.py:event_loop_overlap`).
"""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Final

from msgspec import Struct, field

from kvplan.engines.sglang.scheduler.request import Batch
from kvplan.engines.sglang.scheduler.scheduler import Scheduler
from kvplan.engines.sglang.scheduler.settings import Settings
from kvplan.engines.sglang.scheduler.tree import Key
from kvplan.errors import Refused

#: Ticks in a row in which nothing happens and nothing comes: it will not.
_IDLE: Final = 3


class Asked(Struct, frozen=True, kw_only=True):
    """A request of a workload: when it arrives (a tick), its prompt as stretches, and how much it is given at most."""

    arrival: int
    prompt: Key
    tokens: int  # of the prompt
    output: int


class Fate(Struct, kw_only=True):
    """What became of a request: ticks, None for what did not happen."""

    admitted_at: int | None = None
    first_token_at: int | None = None
    finished_at: int | None = None
    retractions: int = 0
    hits: list[int] = field(default_factory=list)


class Replayed(Struct, kw_only=True):
    """What happened; lists have one entry a tick. `stuck`: a request waits for ever."""

    steps: int = 0
    retractions: int = 0
    used_tokens: list[int] = field(default_factory=list)
    kept_tokens: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    requests: list[Fate] = field(default_factory=list)
    stuck: bool = False

    @property
    def hit_tokens(self) -> int:
        """Tokens that were found computed, over all admissions."""
        return sum(sum(fate.hits) for fate in self.requests)


def stretches(prompt: Sequence[tuple[Hashable, int]]) -> Key:
    """Segments `(name, tokens)`, each the first tokens of what the name stands for."""
    return tuple((name, 0, tokens) for name, tokens in prompt if tokens)


def replay(settings: Settings, asked: Sequence[Asked], *, most_steps: int, most_work: int) -> Replayed:
    """Run a workload to its end.

    Args:
        asked: the requests; those of one tick arrive in their order here.
        most_steps: ticks after which it is left as it is.
        most_work: requests looked at in steps, and stretches of prompts looked up, after which it is given up.

    Raises:
        Refused: the server ends, or more work.
    """
    run = _Run(settings, asked)
    while run.trace.steps < most_steps and not run.over:
        run.tick()
        if run.work + run.scheduler.tree.work > most_work:
            raise Refused(f"after {run.trace.steps:,} steps the scheduler has looked at more than kvplan follows")
    return run.trace


class _Run:
    def __init__(self, settings: Settings, asked: Sequence[Asked]) -> None:
        self.asked, self.settings, self.scheduler = asked, settings, Scheduler(settings)
        self.trace = Replayed(requests=[Fate() for _ in asked])
        self.coming = deque(sorted(range(len(asked)), key=lambda i: (asked[i].arrival, i)))
        self.pending: Batch | None = None
        self.idle = self.work = 0  # ticks in a row; requests looked at
        self.over = not asked

    def tick(self) -> None:
        """Arrivals, a step, the output of one."""
        scheduler, trace, now = self.scheduler, self.trace, self.trace.steps
        while self.coming and self.asked[self.coming[0]].arrival <= now:
            self._arrive(self.coming.popleft())
        batch = scheduler.schedule()
        self._note(batch, now)
        done, self.pending = (self.pending, batch) if self.settings.overlap else (batch, None)
        if done is not None:
            scheduler.process(done)
            for request in done.requests:
                fate = trace.requests[request.index]
                if request.given and fate.first_token_at is None:
                    fate.first_token_at = now
                if request.ended and fate.finished_at is None and request.index not in trace.aborted:
                    fate.finished_at = now
        nothing = batch is None and done is None
        if nothing and scheduler.idle:
            scheduler.rest()
        self.idle = self.idle + 1 if nothing else 0
        self.work += 1 + len(scheduler.running)
        trace.steps += 1
        if not self.coming:
            ended = batch is None and self.pending is None and scheduler.idle
            trace.stuck = not ended and self.idle > _IDLE
            self.over = ended or trace.stuck

    def _arrive(self, index: int) -> None:
        asked = self.asked[index]
        request = self.scheduler.add(index, asked.prompt, asked.tokens, asked.output)
        if request is None or request.refused:
            self.trace.refused.append(index)

    def _note(self, batch: Batch | None, now: int) -> None:
        scheduler, trace = self.scheduler, self.trace
        trace.used_tokens.append(scheduler.used)
        trace.kept_tokens.append(scheduler.tree.evictable)
        trace.retractions += len(scheduler.displaced)
        trace.aborted += [request.index for request in scheduler.aborted]
        for request in scheduler.displaced:
            trace.requests[request.index].retractions += 1
        for request in batch.admitted if batch is not None else ():
            fate = trace.requests[request.index]
            if fate.admitted_at is None:
                fate.admitted_at = now
            fate.hits.append(request.hits[-1])
