"""A step of the scheduler: the running requests first, then those that wait.

Source: `sched/scheduler.py`, `async_scheduler.py`.
"""

from collections import deque
from heapq import heappop, heappush
from typing import Any

from msgspec import Struct

from kvplan.engines.vllm.scheduler.cache import Cache
from kvplan.engines.vllm.scheduler.host import HostTier
from kvplan.engines.vllm.scheduler.request import Request
from kvplan.engines.vllm.scheduler.settings import (
    GOES_ON,
    LONE_REQUEST,
    TAIL_BEFORE_END,
    Settings,
    checkpoint_before,
    checkpoint_is_valid,
)


class Queue:
    """Requests that wait: in the order of their arrival, displaced ones in front; or by priority."""

    def __init__(self, *, by_priority: bool) -> None:
        self._by_priority = by_priority
        self._heap: list[tuple[tuple[int, int], Request]] = []
        self._line: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._heap) + len(self._line)

    def add(self, request: Request) -> None:
        """A new one."""
        if self._by_priority:
            heappush(self._heap, (request.order, request))
        else:
            self._line.append(request)

    def put_back(self, request: Request) -> None:
        """One that was displaced or passed over."""
        if self._by_priority:
            self.add(request)
        else:
            self._line.appendleft(request)

    def first(self) -> Request:
        """The next one; it stays."""
        return self._heap[0][1] if self._by_priority else self._line[0]

    def pop(self) -> Request:
        """The next one."""
        return heappop(self._heap)[1] if self._by_priority else self._line.popleft()

    def remove(self, request: Request) -> None:
        """One that ended while it waited."""
        if self._by_priority:
            self._heap = sorted(entry for entry in self._heap if entry[1] is not request)
        else:
            self._line.remove(request)


class Scheduled(Struct, frozen=True):
    """A step: tokens of each request, in order; who gives a token; who was displaced; who was admitted.

    `prefill` are the tokens of requests that have given none since their admission. `transfers` to and from memory below have
    ended when the step's output is read.
    """

    tokens: dict[Request, int]
    emits: frozenset[int]
    preempted: tuple[Request, ...]
    admitted: tuple[Request, ...] = ()
    prefill: int = 0
    transfers: tuple[Any, ...] = ()

    @property
    def total(self) -> int:
        """Tokens of all requests."""
        return sum(self.tokens.values())


class Scheduler:
    """Who runs and who waits."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cache = Cache(settings)
        self.running: list[Request] = []
        self.waiting = Queue(by_priority=settings.policy == "priority")
        self.work = 0  # requests looked at, and units of prefixes looked up
        self.held_up = False  # in the last step: somebody waits for blocks or a place
        self.host: HostTier | None = None  # memory below the device
        release = settings.release
        self._lone_request, self._goes_on = LONE_REQUEST.at(release), GOES_ON.at(release)
        self._tail_before_end = TAIL_BEFORE_END.at(release)
        states = [spec for spec in settings.groups if spec.kind == "mamba"]
        self._state = states[0] if states else None
        self._state_checkpoints = bool(states) and all(spec.checkpoint_blocks > 0 for spec in states)
        others = [spec.block_size for spec in settings.groups if spec.kind != "mamba"]
        self._block_size = min(others) if others else states[0].block_size if states else 0

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self.waiting)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.running) or self.queued > 0

    @property
    def moving(self) -> bool:
        """Whether something may come that no step in flight brings."""
        return False

    def in_flight(self, step: Scheduled) -> int:
        """Steps whose output is read later, once `step` is scheduled."""
        return int(self.settings.async_scheduling and bool(step.tokens))

    def add(self, request: Request) -> None:
        """A request arrives."""
        self.waiting.add(request)

    # One step.

    def schedule(self) -> Scheduled:
        """The next step's tokens."""
        settings = self.settings
        tokens: dict[Request, int] = {}
        preempted: list[Request] = []
        self.cache.new_step()
        self.work += 1 + len(self.running)
        threshold = self._threshold()
        self.held_up = False
        budget = self._run(tokens, preempted, threshold)
        self.held_up = self.held_up or bool(preempted)
        running = len(self.running)
        if not preempted:
            self._admit(tokens, threshold, budget)
        self.cache.end_step()
        emits, prefill = [], 0
        for request, new in tokens.items():
            prefill += new if request.prefilling else 0
            request.computed += new
            request.in_flight += new
            request.prefilling = request.computed < request.known + request.pending
            if not request.prefilling:
                emits.append(request.index)
                request.pending += int(settings.async_scheduling)
        return Scheduled(tokens, frozenset(emits), tuple(preempted), tuple(self.running[running:]), prefill)

    def _threshold(self) -> int:
        settings, requests = self.settings, len(self.running) + len(self.waiting)
        threshold = settings.long_prefill_token_threshold
        if self._lone_request and requests <= 1:
            return 0
        if threshold and settings.long_prefill_token_threshold_adaptive and requests:
            return max(threshold, settings.max_num_batched_tokens // requests)
        return threshold

    def _run(self, tokens: dict[Request, int], preempted: list[Request], threshold: int) -> int:
        """Tokens for those that run; what is left of the budget."""
        budget, place = self.settings.max_num_batched_tokens, 0
        by_priority = self.settings.policy == "priority"
        while place < len(self.running) and budget > 0:
            request = self.running[place]
            ends = request.computed + 2 - request.pending >= request.prompt + request.max_tokens
            if request.pending > 0 and ends:  # the step in flight gives its last token
                place += 1
                continue
            new = self._capped(request.known + request.pending - request.computed, threshold, budget)
            new = min(new, self.settings.max_model_len - request.computed - 1)
            if self.settings.aligned_states:
                new = self._to_block_end(request, new, request.computed)
            if new == 0:
                place += 1
                continue
            while not (taken := self.cache.allocate(request, new)):
                victim = max(self.running, key=lambda r: r.order) if by_priority else self.running[-1]
                if not self._frees_now(victim):
                    break
                where = self.running.index(victim)
                del self.running[where]
                if where < place:
                    place -= 1
                budget += tokens.pop(victim, 0)
                self._preempt(victim)
                preempted.append(victim)
                if victim is request:
                    break
            if not taken:
                if by_priority and self._goes_on:
                    continue
                break
            tokens[request] = new
            budget -= new
            place += 1
        return budget

    def _admit(self, tokens: dict[Request, int], threshold: int, budget: int) -> None:
        """Tokens for those that wait, until one cannot be had."""
        settings = self.settings
        most = settings.max_num_seqs if settings.max_num_active_seqs is None else settings.max_num_active_seqs
        passed_over: list[Request] = []
        while budget > 0 and len(self.waiting) and len(self.running) < most:
            request = self.waiting.first()
            if request.stale:  # its old output is still on the way
                passed_over.append(self.waiting.pop())
                continue
            hit = self.cache.lookup(request)
            self.work += len(request.tokens.units)
            new = request.known - hit[1]
            if 0 < threshold < new:
                new = threshold
            if not settings.enable_chunked_prefill and new > budget:
                break
            new = min(new, budget)
            if settings.aligned_states:
                new = self._to_block_end(request, new, hit[1])
                if new == 0:
                    break
            whole = settings.scheduler_reserve_full_isl
            if not self.cache.allocate(request, new, hit, whole=whole, others=bool(self.running)):
                self.held_up = True
                break
            self.running.append(self.waiting.pop())
            request.status, request.computed, request.prefilling = "running", hit[1], True
            request.hits.append(hit[1])
            tokens[request] = new
            budget -= new
        for request in reversed(passed_over):
            self.waiting.put_back(request)
        self.held_up = self.held_up or (len(self.waiting) > 0 and len(self.running) >= most)

    @staticmethod
    def _capped(new: int, threshold: int, budget: int) -> int:
        return min(new, threshold or new, budget)

    def _frees_now(self, victim: Request) -> bool:
        """Whether displacing it gives blocks at once."""
        return True

    def _give_back(self, request: Request) -> None:
        """Give back all blocks of one that is displaced or has ended."""
        self.cache.free(request)

    def _preempt(self, request: Request) -> None:
        """Displace a request: all of its blocks are given back, its output stays."""
        self._give_back(request)
        request.status, request.computed = "preempted", 0
        request.stale, request.pending = request.in_flight, 0
        request.preemptions += 1
        self.waiting.put_back(request)

    # States: where a chunk of a prompt ends. Source: `sched/scheduler.py:_mamba_block_aligned_split`.

    def _to_block_end(self, request: Request, new: int, start: int) -> int:
        """`new` tokens from `start` on, cut so that the chunk ends where a state can be kept."""
        settings, size, unit, stop = self.settings, self._block_size, self.settings.hash_block_size, request.prefill_end
        if start >= stop:
            return new
        last = checkpoint_before(request.known, size) if self._tail_before_end else request.known // size * size
        end = start + new
        inside = self._state_checkpoints and self._state is not None and end >= stop
        if inside and self._state is not None:
            at = checkpoint_before(stop, settings.alignment if self._tail_before_end else unit)
            spec = self._state
            inside = checkpoint_is_valid(spec, unit, start, end, at)
        if inside:
            last = 0
        if end < stop:
            longest = settings.max_num_batched_tokens
            if settings.long_prefill_token_threshold > 0:
                longest = min(longest, settings.long_prefill_token_threshold)
            whole = end // size * size
            if whole > start or size <= longest:
                end = whole
        tail = 0
        if settings.fine_hits and not inside:
            tail = checkpoint_before(request.prompt, unit) if self._tail_before_end else request.prompt // unit * unit
        junction = request.junction
        stops = (
            (start // size + 1) * size if start % size and not inside else 0,
            last,
            tail if last < tail < request.prompt else 0,
            start + (junction - start) // size * size if start < junction < end else 0,
        )
        return max(min((s for s in stops if start < s < end), default=end) - start, 0)

    # After the model.

    def update(self, step: Scheduled) -> list[Request]:
        """Read a step's output; the requests that got a token."""
        got, ended = [], []
        for request, new in step.tokens.items():
            request.in_flight -= new
            stale = request.stale > 0
            if stale:
                request.stale -= new
            if request.finished or request.index not in step.emits:
                continue
            ran = request.status == "running"
            request.tokens.extend()
            got.append(request)
            done = request.known >= self.settings.max_model_len or request.known - request.prompt >= request.max_tokens
            if self.settings.async_scheduling:
                if not stale:
                    request.pending -= 1
                if ran and request.computed - request.pending > request.quiet_until:
                    self.cache.publish(request, request.computed - request.pending)
            if done:
                request.finished = True
                self._give_back(request)
                if ran:
                    ended.append(request)
                else:
                    self.waiting.remove(request)
        if ended:
            gone = set(ended)
            self.running = [request for request in self.running if request not in gone]
        return got
