"""The scheduler with chunks in host memory below its cache: vLLM's native connector, for layers that see everything.

Full chunks of prompts are stored as they are computed; a request that finds more of its prompt in host memory than on the
device takes blocks for it and waits until they are read. A transfer takes no time here: it has ended when the worker first
asks, which for a store is in the step after the one that ordered it.

Source: `distributed/kv_transfer/kv_connector/v1/offloading/scheduler.py`, `worker.py`; `v1/core/sched/scheduler.py` where it asks
its connector; `v1/engine/core.py:step_with_batch_queue`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.engines.kernel.releases import Quirk, quirk
from kvplan.engines.vllm.scheduler.cache import Hit
from kvplan.engines.vllm.scheduler.host import Access, HostTier, Key
from kvplan.engines.vllm.scheduler.request import Request
from kvplan.engines.vllm.scheduler.scheduler import Scheduled, Scheduler
from kvplan.engines.vllm.scheduler.settings import Host, Settings
from kvplan.units import ceil_div

_OFFLOADING: Final = "vllm/distributed/kv_transfer/kv_connector/v1/offloading/scheduler.py"

RESTARTS: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_OFFLOADING}:get_num_new_matched_tokens, 0.32.0"),
    ((0, 33), True, f"{_OFFLOADING}:get_num_new_matched_tokens, 0.33.0"),
    says="a request that is displaced offers all of its chunks to host memory again",
)


class Transfer(Struct, frozen=True, eq=False):
    """Chunks on their way, of one request."""

    request: Request
    keys: tuple[Key, ...]
    stores: bool


class _Known:
    """What the connector knows of a request; lists have one entry a group."""

    __slots__ = ("access", "blocks", "held", "keys", "left", "loading", "scheduled_in", "stored", "transfers")

    def __init__(self, groups: int) -> None:
        self.keys: list[list[Key]] = [[] for _ in range(groups)]
        self.held = [0] * groups  # blocks that it was told of
        self.blocks: list[list[int]] = [[] for _ in range(groups)]  # of a request that has ended
        self.stored = [0] * groups  # the next chunk to store
        self.transfers = 0  # on their way
        self.access = Access()
        self.loading = False
        self.left = False  # it has ended, and the tier was told so
        self.scheduled_in = 0  # the last step with tokens of it


class OffloadingScheduler(Scheduler):
    """Who runs, who waits, and who waits for a load."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings)
        self.host = self._host = HostTier(host.chunks, settings.release)
        self._per_chunk = host.blocks_per_chunk
        self._known: dict[Request, _Known] = {}
        self._loads_held: deque[Request] = deque()  # have blocks and wait, for their load or for more
        self._prefilling: dict[Request, None] = {}  # have blocks for a part of what they need
        self._being_loaded: set[Key] = set()
        self._ordered: list[Transfer] = []  # stores that the next step submits
        self._moving = 0  # transfers
        self._ended: list[Request] = []  # since the last step
        self._loads: list[Transfer] = []  # of this step
        self._steps = self._read = 0  # with tokens: scheduled, and read
        self._restarts = RESTARTS.at(settings.release)
        self._not_yet_free: deque[tuple[int, list[int]]] = deque()  # (the last step that may write them, blocks)

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self.waiting) + len(self._loads_held)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do, transfers and what a request left behind included."""
        return bool(super().busy or self._moving or self._ended)

    @property
    def moving(self) -> bool:
        """Whether something may come that no step in flight brings."""
        return bool(self._moving or self._ended)

    def in_flight(self, step: Scheduled) -> int:
        """With asynchronous scheduling one, as long as there is anything to do."""
        return int(self.settings.async_scheduling and (bool(step.tokens) or self.busy))

    def add(self, request: Request) -> None:
        """A request arrives."""
        self._known[request] = _Known(len(self.cache.groups))
        super().add(request)

    # One step.

    def schedule(self) -> Scheduled:
        """The next step's tokens, and the transfers that its output says have ended."""
        self._loads = []
        step = super().schedule()
        self._steps += bool(step.tokens)
        for request in step.tokens:
            self._known[request].scheduled_in = self._steps
            if not request.prefilling:
                self._prefilling.pop(request, None)
        begun = tuple(transfer.request for transfer in self._loads)
        stores, flushed = self._store(step, self._newly_held(step, begun))
        for request in self._ended:
            known = self._known[request]
            self._host.ended(known.access)
            known.left = True
            if not known.transfers:
                del self._known[request]
        self._ended = []
        ending = (*self._ordered, *self._loads, *flushed)
        self._ordered = stores
        first = tuple(request for request in step.admitted if not self._known[request].loading)
        for request in step.admitted:
            self._known[request].loading = False
        return replace(step, admitted=(*begun, *first), transfers=ending)

    def _admit(self, tokens: dict[Request, int], threshold: int, budget: int) -> None:
        """Tokens for those that wait, those with blocks first; or blocks to load into."""
        settings = self.settings
        most = settings.max_num_seqs if settings.max_num_active_seqs is None else settings.max_num_active_seqs
        passed_over: list[Request] = []
        with_blocks: list[Request] = []
        while budget > 0 and self.queued and len(self.running) < most:
            request = self._loads_held[0] if self._loads_held else self.waiting.first()
            known = self._known[request]
            if known.loading and known.transfers:
                with_blocks.append(self._loads_held.popleft())
                continue
            if request.stale:
                passed_over.append(self.waiting.pop())
                continue
            hit: Hit = ([[] for _ in self.cache.groups], 0)
            if known.loading:
                self._take_in(request)
            else:
                hit = self.cache.lookup(request)
                self.work += len(request.tokens.units)
                found = self._found(request, hit[1])
                if found is None:
                    passed_over.append(self.waiting.pop())
                    continue
                if found:
                    if not self._begin_load(request, hit, found):
                        self.held_up = True
                        break
                    with_blocks.append(self.waiting.pop())
                    continue
            new = request.known - request.computed - hit[1]
            if 0 < threshold < new:
                new = threshold
            if not settings.enable_chunked_prefill and new > budget:
                break
            new = min(new, budget)
            if not self.cache.allocate(request, new, hit, whole=settings.scheduler_reserve_full_isl, others=bool(self.running)):
                self.held_up = True
                break
            if known.loading:
                self._loads_held.popleft()
            else:
                self.waiting.pop()
                request.hits.append(hit[1])
                request.loaded.append(0)
            self.running.append(request)
            request.status, request.prefilling = "running", True
            request.computed += hit[1]
            if request.computed + new < request.known:
                self._prefilling[request] = None
            tokens[request] = new
            budget -= new
        self._loads_held.extendleft(reversed(with_blocks))
        for request in reversed(passed_over):
            self.waiting.put_back(request)
        self.held_up = self.held_up or (self.queued > 0 and len(self.running) >= most)

    def _frees_now(self, victim: Request) -> bool:
        """Not where a step in flight may still write its blocks: then nobody is displaced, and the round ends."""
        freed = not self.settings.async_scheduling or self._known[victim].scheduled_in <= self._read
        self.held_up = self.held_up or not freed
        return freed

    def _give_back(self, request: Request) -> None:
        """Give back its blocks, as soon as no step in flight writes them."""
        known = self._known[request]
        self._prefilling.pop(request, None)
        rows = [list(group.row(request)) for group in self.cache.groups]
        if any(rows):
            known.blocks = rows
        if request.finished:
            self._update_keys(request, known)
            self._ended.append(request)
        if not self.settings.async_scheduling or known.scheduled_in <= self._read:
            self.cache.free(request)
            return
        self._not_yet_free.append((self._steps, self.cache.pop(request)))

    def update(self, step: Scheduled) -> list[Request]:
        """Read a step's output, and which transfers have ended."""
        if step.tokens:
            self._read += 1
            while self._not_yet_free and self._not_yet_free[0][0] <= self._read:
                self.cache.blocks.release(reversed(self._not_yet_free.popleft()[1]))
        got = super().update(step)
        for transfer in step.transfers:
            self._moving -= 1
            known = self._known[transfer.request]
            known.transfers -= 1
            if known.left and not known.transfers:
                del self._known[transfer.request]
            if transfer.stores:
                self._host.was_stored(transfer.keys)
            else:
                self._host.was_loaded(transfer.keys)
                self._being_loaded.difference_update(transfer.keys)
        return got

    # What is in host memory.

    def _update_keys(self, request: Request, known: _Known) -> None:
        """Keys of the chunks that its tokens fill by now."""
        units, unit = request.tokens.units, self.settings.hash_block_size
        for group, keys in zip(self.cache.groups, known.keys, strict=True):
            size = group.size * self._per_chunk
            while (end := (len(keys) + 1) * size) <= len(units) * unit:
                keys.append((end, group.number, units[end // unit - 1]))

    def _found(self, request: Request, local: int) -> int | None:
        """Tokens behind `local` that host memory has; None: not known yet, so that the request waits a step."""
        known = self._known[request]
        known.held = [0] * len(known.held)
        known.blocks = [[] for _ in known.held]
        if self._restarts:
            known.stored = [0] * len(known.stored)
        if known.transfers:
            return None
        self._update_keys(request, known)
        longest, found, later, again = request.known, 0, False, True
        while again:
            again = False
            for keys, size in self._chunks(known):
                longest = min(longest, len(keys) * size)
                if longest - local < size:
                    return 0
                first = local // size
                number, pending = self._present(keys[first : ceil_div(longest, size)])
                if number == 0:
                    return 0
                if pending:
                    later = True
                else:
                    longest = min(longest, size * (first + number))
                if longest - local < size:
                    return 0
                if longest - local < found and later:  # groups before this one are asked again, for less
                    later, again = False, True
                found = longest - local
        if later or any(
            key in self._being_loaded
            for keys, size in self._chunks(known)
            for key in keys[local // size : ceil_div(longest, size)]
        ):
            return None
        return longest - local

    def _present(self, keys: Sequence[Key]) -> tuple[int, bool]:
        """Chunks from the first on that are there, and whether one of them is still being written."""
        number, pending = 0, False
        for key in keys:
            ready = self._host.ready(key)
            if ready is None:
                break
            pending = pending or not ready
            number += 1
        self.work += number
        return number, pending

    def _chunks(self, known: _Known) -> Iterator[tuple[list[Key], int]]:
        """Keys of each group, and the tokens of its chunks."""
        for group, keys in zip(self.cache.groups, known.keys, strict=True):
            yield keys, group.size * self._per_chunk

    def _begin_load(self, request: Request, hit: Hit, tokens: int) -> bool:
        """Take blocks for what is read; False where the room is not there, or is for others that are not yet whole."""
        others = sum(self.cache.missing(other) for other in self._prefilling)
        whole = self.settings.scheduler_reserve_full_isl
        if not self.cache.allocate_to_load(request, hit, tokens, whole=whole, others=bool(self.running), kept_back=others):
            return False
        known, local = self._known[request], hit[1]
        read: list[Key] = []
        for number, (keys, size) in enumerate(self._chunks(known)):
            read += keys[local // size : ceil_div(local + tokens, size)]
            known.stored[number] = ceil_div(local + tokens, size)
        request.computed = local + tokens
        request.hits.append(local)
        request.loaded.append(tokens)
        known.loading, known.transfers = True, 1
        self._host.load(read, known.access)
        self._being_loaded.update(read)
        self._prefilling[request] = None
        self._loads.append(Transfer(request, tuple(read), stores=False))
        self._moving += 1
        return True

    def _take_in(self, request: Request) -> None:
        """What was read is known now; the last token of all is computed again."""
        self.cache.publish(request, request.computed)
        request.computed = min(request.computed, request.known - 1)

    def _newly_held(self, step: Scheduled, begun: Sequence[Request]) -> set[int]:
        """Blocks that requests were given in this step."""
        new = {block for request in begun for group in self.cache.groups for block in group.row(request)}
        for request in step.tokens:
            held = self._known[request].held
            for group in self.cache.groups:
                row = group.row(request)
                if len(row) > held[group.number]:
                    new.update(row[held[group.number] :])
                    held[group.number] = len(row)
        return new

    def _store(self, step: Scheduled, new: set[int]) -> tuple[list[Transfer], list[Transfer]]:
        """Stores that this step orders, and those that must end in it, as their blocks are already another's."""
        later: list[Transfer] = []
        now: list[Transfer] = []
        self._ended.sort(key=lambda request: request.index)  # a set in the engine
        for request in chain(step.tokens, self._ended):
            known = self._known[request]
            computed = max(request.prompt, request.known - 1) if request.finished else request.computed
            ends = [
                min(min(computed, request.prompt) // size, held // self._per_chunk)
                for (_, size), held in zip(self._chunks(known), known.held, strict=True)
            ]
            if all(first >= end for first, end in zip(known.stored, ends, strict=True)):
                continue
            if not request.finished:
                self._update_keys(request, known)
            offered = [key for keys, first, end in zip(known.keys, known.stored, ends, strict=True) for key in keys[first:end]]
            stored = self._host.store(offered, known.access)
            if stored is None:
                continue
            transfer = Transfer(request, tuple(stored), stores=True)
            taken = request.finished and not new.isdisjoint(self._sources(known, set(stored)))
            known.stored = [max(first, end) for first, end in zip(known.stored, ends, strict=True)]
            if stored:
                known.transfers += 1
                self._moving += 1
                (now if taken else later).append(transfer)
        return later, now

    def _sources(self, known: _Known, stored: set[Key]) -> Iterator[int]:
        """Blocks whose content goes to host memory."""
        for keys, blocks in zip(known.keys, known.blocks, strict=True):
            for place, key in enumerate(keys):
                if key in stored:
                    yield from blocks[place * self._per_chunk : (place + 1) * self._per_chunk]
