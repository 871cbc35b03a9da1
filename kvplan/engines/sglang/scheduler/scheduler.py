"""A step: prompts of those that wait, as long as there is room, else one token for each request that runs.

Source (0.5.23): `managers/scheduler.py:get_next_batch_to_run`, `update_running_batch`, `schedule_policy.py:PrefillAdder`,
`schedule_batch.py:retract_decode`, `scheduler_components/batch_result_processor.py`. Policy `fcfs`, no
mixed chunks: the defaults.
"""

from collections import deque
from typing import Final

from kvplan.engines.sglang.scheduler.adder import Adder
from kvplan.engines.sglang.scheduler.request import Batch, Request
from kvplan.engines.sglang.scheduler.settings import RETRACT_STEPS, TOUCHED, TOUCHED_EACH, Settings
from kvplan.engines.sglang.scheduler.tree import Key, Tree
from kvplan.errors import Refused

#: The prompt in place of one that is too long.
_STAND_IN: Final[Key] = ((("refused",), 0, 1),)


class Scheduler:
    """Who runs and who waits, on one pool."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tree = Tree(settings.page)
        self.own = 0  # tokens of the pool, whole pages, that requests hold beside the tree
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.chunked: Request | None = None
        self.rows = 0  # requests that have a row in the table of places: those that run, and those whose last output is not read
        self.giving = False  # of those that run, somebody may be given more than what a prefill gives (`is_prefill_only`)
        self.full = False  # nobody is admitted until somebody leaves
        self.ratio = settings.first_ratio
        self.held_up = False  # in the last step: somebody waits for room or a place
        self.displaced: list[Request] = []  # in the last step
        self.aborted: list[Request] = []  # in the last step: alone, and without room
        self._last: Batch | None = None
        self._passes = 0  # that looked at those who wait

    def add(self, index: int, key: Key, prompt: int, output: int) -> Request | None:
        """Queue a request; None where it is refused at the door. One that is too long for the pool is refused, too, and takes a
        place in the queue: a stand-in of one token goes through to its end (`Req.set_finish_with_abort`).
        """
        settings = self.settings
        if not 0 < prompt < settings.context:
            return None
        request = Request(index, key, prompt, settings.most_output(prompt, output), self.tree.root)
        if prompt >= settings.longest_prompt:
            request.refused, request.key, request.prompt = True, _STAND_IN, 1
        self.waiting.append(request)
        return request

    def rest(self) -> None:
        """Nothing is to be done: what admission keeps free is reckoned as at first."""
        self.ratio = self.settings.first_ratio

    @property
    def free(self) -> int:
        """Tokens that nobody holds and nothing is known of."""
        return self.settings.tokens - self.tree.size - self.own

    @property
    def used(self) -> int:
        """Tokens that requests hold: what the tree keeps for nobody is not among them."""
        return self.tree.size - self.tree.evictable + self.own

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.running and not self.waiting and self.chunked is None and self._last is None

    def schedule(self) -> Batch | None:
        """The next step; None where there is none."""
        last, chunked, self.held_up = self._last, self.chunked, False
        self.displaced, self.aborted = [], []
        if chunked is not None:
            self._keep(chunked, chunked.held)
        if last is not None and last.extends:
            ready = [r for r in last.requests if not r.ended and r is not chunked and r is not last.chunked]
            if len(ready) < len(last.requests) or not self.running:
                self.full = False
            if ready:
                self.giving = last.giving or (self.giving and bool(self.running))
            self.running += ready
        self._leave([r for r in self.running if not r.ended])
        batch = self._prefill()
        if batch is None and self.running and self.giving:
            batch = self._decode()
        self._last = batch
        return batch

    # Prompts.

    def _prefill(self) -> Batch | None:
        if not self.running:
            self.full = False
        if (self.full or not self.waiting) and self.chunked is None:
            self.held_up = bool(self.waiting)
            return None
        if self._places() <= 0 and self.chunked is None:
            self.full = self.held_up = True
            return None
        self._touch()
        adder = Adder(self.settings, self.tree, self.free, self.running, self.ratio)
        if self.chunked is not None:
            self.chunked = adder.go_on(self.chunked)
        admitted = []
        while self.waiting and not adder.spent:
            self.full = self.full or len(adder.requests) >= self._places(adder.rows)
            if self.full:
                self.held_up = True
                break
            before, goes_on = len(adder.requests), adder.add(self.waiting[0])
            if len(adder.requests) > before:
                admitted.append(self.waiting.popleft())
            if not goes_on:
                self.held_up = self.held_up or adder.turned_away
                self.full = bool(adder.requests or self.running) if adder.turned_away else not adder.room
                break
        if not adder.requests:
            return None
        self._take(adder)
        if adder.chunked is not None:
            self.chunked = adder.chunked
        if self.chunked is not None:
            self.chunked.chunks += 1
        prefill = sum(new for _, new in adder.requests)
        return Batch(
            [r for r, _ in adder.requests], extends=True, prefill=prefill, chunked=self.chunked, admitted=tuple(admitted)
        )

    def _leave(self, staying: list[Request]) -> None:
        if len(staying) < len(self.running):
            self.running, self.full = staying, False

    def _places(self, held: int = 0) -> int:
        """Requests that may still be put beside those that run; `held` are counted, and have a row."""
        return self.settings.requests - max(len(self.running), self.rows - held)

    def _touch(self) -> None:
        """Now and then, what those who wait will find is used, the first in the queue last."""
        if not self.waiting or not self.settings.radix:
            return
        if self._passes % TOUCHED_EACH == 0:
            for i in reversed(range(min(len(self.waiting), TOUCHED))):
                request = self.waiting[i]
                self.tree.match(request.first(request.prompt + request.given))
        self._passes += 1

    def _take(self, adder: Adder) -> None:
        """Places for the tokens of a prefill.

        Raises:
            Refused: there are none: the server ends.
        """
        page, needed = self.settings.page, 0
        for request, new in adder.requests:
            needed += (-(-(request.held + new) // page) + -request.held // page) * page
        spare = len(adder.requests) * page if page > 1 else 0
        self._make_room(sum(new for _, new in adder.requests) + spare)
        if needed > self.free:
            raise Refused("a part of a prompt finds no room: SGLang ends with `Prefill out of memory`", "give it more memory")
        self.own += needed
        for request, new in adder.requests:
            self.rows += not request.row
            request.row = True
            request.held += new
            request.known, request.retracted = request.held, False

    def _make_room(self, tokens: int) -> None:
        if self.free < tokens:
            self.tree.evict(tokens - self.free)

    # Output.

    def _decode(self) -> Batch | None:
        before, page, last = len(self.running), self.settings.page, self._last
        ending: set[int] = set()  # whose last output is on its way
        if self.settings.overlap and last is not None:
            ending = {id(r) for r in last.requests if r.given + 1 >= r.limit}
        self.running = [r for r in self.running if id(r) not in ending]
        ended = before - len(self.running)
        if not self.running:
            self.full = False
            return None
        if self._room(self.running):
            self.ratio = max(self.ratio - self.settings.decay, self.settings.least_ratio)
        elif ended:  # they leave in this step: the others wait for it
            self.full = False
            return None
        else:
            self._retract()
        if len(self.running) < before:
            self.full = False
        if not self.running:
            return None
        self._make_room(len(self.running) * page)
        for request in self.running:
            if request.held % page == 0:
                self.own += page
            request.held += 1
        return Batch(self.running[:], extends=False)

    def _room(self, requests: list[Request]) -> bool:
        page = self.settings.page
        needed = page * (len(requests) if page == 1 else sum(r.held % page == 0 for r in requests))
        self._make_room(needed)
        return self.free >= needed

    def _retract(self) -> None:
        """Take places from those that gave fewest tokens, of these from the longest prompts; one at least stays."""
        order, first = sorted(self.running, key=lambda r: (r.given, -r.prompt), reverse=True), True
        while (first or not self._room(order)) and len(order) > 1:
            first = False
            victim = order.pop()
            self._free(victim)
            self._make_room(len(order) * RETRACT_STEPS)
            victim.retracted, victim.held, victim.cached, victim.node = True, 0, 0, self.tree.root
            victim.retractions += 1
            self.displaced.append(victim)
        if not self._room(order):
            self._free(order[0])
            order[0].ended = True
            self.aborted.append(order.pop())
        self.held_up = True
        self.running = order
        given = sum(r.given for r in order) + RETRACT_STEPS * len(order)
        self.ratio = min(1.0, given / (sum(r.limit for r in order) + 1))
        self.waiting.extend(self.displaced)

    # After the model.

    def process(self, batch: Batch) -> list[Request]:
        """Read a step's output; the requests that ended."""
        ended = []
        for request in batch.requests:
            if batch.extends and request.chunks:
                request.chunks -= 1
                continue
            if request.ended or request.retracted:
                continue
            request.given += 1
            if request.refused or request.given >= request.limit:
                self._finish(request)
                ended.append(request)
            elif batch.extends:
                self._keep(request, request.known)
        return ended

    def _finish(self, request: Request) -> None:
        request.ended = True
        self._keep(request, request.held)
        self._free(request)

    def _free(self, request: Request) -> None:
        page = self.settings.page
        self.own -= -(-request.held // page) * page - request.cached
        self.tree.unlock(request.node)
        self.rows -= 1
        request.row = False

    def _keep(self, request: Request, tokens: int) -> None:
        """Put a request's first tokens into the tree; what is known there already is held once."""
        if not self.settings.radix:
            return
        page = self.settings.page
        whole, prompt = tokens // page * page, request.prompt // page * page
        node = self.tree.insert(request.first(whole))
        if 0 < prompt < whole:  # a node ends where the prompt does: its output goes first
            self.tree.insert(request.first(prompt))
        self.tree.unlock(request.node)
        self.tree.lock(node)
        self.own -= whole - request.cached
        request.cached, request.node = whole, node

    # Many steps at once.

    def calm(self) -> int:
        """Steps from now on that only give each running request a token, before one of them ends or room has to be made."""
        last = self._last
        if last is None or last.extends or self.chunked is not None or (self.waiting and not self.full):
            return 0
        running, page = self.running, self.settings.page
        if not running or len(running) != len(last.requests):
            return 0
        ahead = 2 if self.settings.overlap else 1
        steps = min(r.limit - r.given for r in running) - ahead
        most = self.free // (len(running) * page)  # pages of each, were all to need one at once
        return max(0, min(steps, most if page == 1 else (most - 1) * page))

    def leap(self, steps: int) -> list[int]:
        """So many calm steps; the tokens of the pool that each phase of a page takes, from the next step on."""
        page, taken = self.settings.page, [0] * self.settings.page
        for request in self.running:
            taken[-request.held % page] += page
            request.held += steps
            request.given += steps
        self.own += sum(taken[phase] * ((steps - phase + page - 1) // page) for phase in range(min(page, steps)))
        left = steps
        while left and self.ratio > self.settings.least_ratio:
            self.ratio = max(self.ratio - self.settings.decay, self.settings.least_ratio)
            left -= 1
        self.held_up = bool(self.waiting)
        return taken
