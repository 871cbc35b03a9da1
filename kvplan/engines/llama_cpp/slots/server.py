"""Slots, the queue of requests, and a step: `server_context::update_slots`.

Not here: context shift (off by default), images, drafts, several answers to a prompt, LoRA, embeddings, requests that name a
slot.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np
from msgspec import Struct

from kvplan.engines.llama_cpp.slots.prompts import EMPTY, Prompt, PromptCache, share
from kvplan.engines.llama_cpp.slots.settings import SIMILARITY, Settings


class Request(Struct, eq=False):
    """A request and what became of it."""

    index: int
    prompt: Prompt
    output: int  # tokens
    hit: int = 0  # tokens of its prompt that its slot held
    given: int = 0  # tokens of its output
    admitted: bool = False
    failed: bool = False


class Slot:
    """One slot; `cells` are what its tokens take of the cache, those of a batch that runs not yet among them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: Literal["idle", "started", "prompt", "last", "generates"] = "idle"
        self.request: Request | None = None
        self.prompt: Prompt = EMPTY
        self.cells = 0
        self.last_used = -1

    def clear(self) -> None:
        """Forget the prompt."""
        self.prompt, self.cells = EMPTY, 0


class Step(Struct, kw_only=True):
    """What a step did."""

    prefill: int = 0
    used: int = 0  # cells of slots that work, at most
    admitted: list[Request] = []
    ended: list[Request] = []


class Server:
    """A server's slots, its queue and its prompt cache."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.slots = [Slot(number) for number in range(settings.slots)]
        self.queue: deque[Request] = deque()  # tasks that were not looked at
        self.deferred: deque[Request] = deque()  # those that found no slot
        self.cache = PromptCache(settings.cache_bytes, settings.cells, settings.state_bytes) if settings.cache_bytes else None
        self.releases = 0
        self.held_up = False  # in the last step: somebody waited for a slot, or for cells that no idle slot kept
        self.step = Step()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done."""
        return not self.queue and not self.deferred and all(slot.state == "idle" for slot in self.slots)

    def _alone(self, slot: Slot) -> int:
        """Cells that a slot may take beside its own."""
        if self.settings.unified:
            return self.settings.cells - sum(one.cells for one in self.slots)
        return self.settings.cells // self.settings.slots - slot.cells

    # Tasks: `process_single_task`.

    def look(self) -> None:
        """Give slots to the requests of the queue; those that find none are deferred."""
        while self.queue:
            request = self.queue.popleft()
            slot = self._slot_for(request)
            if slot is None:
                self.deferred.append(request)
                self.held_up = True
                continue
            slot.request, slot.state = request, "started"
            request.admitted = True
            self.step.admitted.append(request)
            if self.cache is not None:
                for other in self.slots:
                    if other.state == "idle":
                        if self.cache.save(other.prompt):
                            self.cache.update()
                        if self.settings.unified:
                            other.clear()

    def _slot_for(self, request: Request) -> Slot | None:
        """The idle slot that holds most of the prompt, more than a share of it; else the one that has been idle longest."""
        best, similar, changes = None, np.float32(0), False
        for slot in self.slots:
            if slot.state == "idle" and slot.prompt.tokens:
                now = share(slot.prompt.common(request.prompt), request.prompt.tokens)
                if now > similar and now > np.float32(SIMILARITY):
                    best, similar = slot, now
        if best is not None:
            changes = bool(similar * np.float32(request.prompt.tokens) / np.float32(best.prompt.tokens) < np.float32(0.5))
        else:
            for slot in self.slots:
                if slot.state == "idle" and (best is None or slot.last_used <= best.last_used):
                    best = slot
            changes = best is not None
        if best is not None and changes and self.cache is not None:
            self._exchange(best, request.prompt)
        return best

    def _exchange(self, slot: Slot, wanted: Prompt) -> None:
        """Save what a slot holds, and take back what holds more of the prompt."""
        cache = self.cache
        if cache is None:
            return
        cache.save(slot.prompt)
        place = cache.best(slot.prompt, wanted)
        if place is not None:
            entry = cache.entries[place][0]
            if entry.tokens > self._alone(slot) + slot.cells:
                slot.clear()  # the state has no room, and stays in the cache
            else:
                del cache.entries[place]
                slot.prompt, slot.cells = entry, entry.tokens
        cache.update()

    def _release(self, slot: Slot) -> None:
        """A slot becomes idle; the first of those that wait is the next task."""
        self.releases += 1
        slot.last_used, slot.state, slot.request = self.releases, "idle", None
        if self.deferred:
            self.queue.appendleft(self.deferred.popleft())

    def _end(self, slot: Slot, *, failed: bool = False) -> None:
        request = slot.request
        if request is None:
            raise AssertionError("an idle slot ends nothing")
        request.failed = failed
        self.step.ended.append(request)
        self._release(slot)

    # A step.

    def update(self) -> Step:
        """One round: tasks, then a batch of every slot that generates and of prompts; what it did."""
        self.step, self.held_up = Step(admitted=[], ended=[]), False
        self.look()
        if any(slot.state != "idle" for slot in self.slots):
            self._decode(self._batch())
        return self.step

    def _batch(self) -> list[tuple[Slot, int]]:
        """Tokens of each slot, in the order in which they are computed."""
        batch, limit = [(slot, 1) for slot in self.slots if slot.state == "generates"], self.settings.batch
        for slot, _ in batch:
            slot.prompt = _longer(slot.prompt, 1)
        size = len(batch)
        for slot in self.slots:
            if size >= limit:
                break
            request = slot.request
            if request is None or slot.state not in {"started", "prompt"}:
                continue
            if slot.state == "started":
                if request.prompt.tokens >= self.settings.context:
                    self._end(slot, failed=True)
                    continue
                self._begin(slot, request)
            new = min(request.prompt.tokens - slot.prompt.tokens, limit - size)
            for cut in self.settings.cuts:
                before = request.prompt.tokens - min(limit, cut) - slot.prompt.tokens
                if 0 < before < new:
                    new = before
            slot.prompt = request.prompt.first(slot.prompt.tokens + new)
            slot.state = "last" if slot.prompt.tokens == request.prompt.tokens else "prompt"
            batch.append((slot, new))
            size += new
            self.step.prefill += new
        return batch

    def _begin(self, slot: Slot, request: Request) -> None:
        """What the slot holds of the prompt stays; the last token is computed again."""
        held = slot.prompt.common(request.prompt) if self.settings.reuses else 0
        held = min(held, request.prompt.tokens - 1)
        request.hit = held
        slot.prompt, slot.cells, slot.state = request.prompt.first(held), held, "prompt"

    def _decode(self, batch: list[tuple[Slot, int]]) -> None:
        """Compute a batch, in parts where the cells do not suffice: idle slots are cleared, then parts halved."""
        size, most, off = sum(new for _, new in batch), self.settings.batch, 0
        while off < size:
            view = _between(batch, off, min(off + most, size))
            if all(new <= self._alone(slot) for slot, new in view) and (
                not self.settings.unified or sum(new for _, new in view) <= self._alone(self.slots[0])
            ):
                for slot, new in view:
                    slot.cells += new
                off = min(off + most, size)
                most = self.settings.batch
                self.step.used = max(self.step.used, sum(slot.cells for slot in self.slots if slot.state != "idle"))
                self._gives(view, batch, off)
                continue
            if self._clears_idle():
                continue
            self.held_up = True
            if most == 1:
                for slot in self.slots:
                    if slot.state != "idle":
                        self._end(slot, failed=True)
                        slot.clear()
                return
            most //= 2

    def _clears_idle(self) -> bool:
        """Forget the prompt of the first slot that is idle and has one."""
        if not self.settings.unified:
            return False
        for slot in self.slots:
            if slot.state == "idle" and slot.prompt.tokens:
                slot.clear()
                return True
        return False

    def _gives(self, view: list[tuple[Slot, int]], batch: list[tuple[Slot, int]], off: int) -> None:
        """Slots whose last token of the batch was in the part that was computed give a token, and end."""
        ends = {}
        end = 0
        for slot, new in batch:
            end += new
            ends[slot.number] = end
        for slot in sorted((slot for slot, _ in view), key=lambda one: one.number):
            request = slot.request
            if request is None or slot.state not in {"last", "generates"} or ends[slot.number] > off:
                continue
            slot.state = "generates"
            request.given += 1
            if slot.prompt.tokens + 1 >= self.settings.context or request.given >= request.output:
                self._end(slot)


def _longer(prompt: Prompt, more: int) -> Prompt:
    return Prompt(prompt.names, prompt.each, prompt.shared, prompt.tokens + more)


def _between(batch: list[tuple[Slot, int]], first: int, last: int) -> list[tuple[Slot, int]]:
    """The tokens of a batch from `first` to `last`."""
    found, at = [], 0
    for slot, new in batch:
        inside = min(at + new, last) - max(at, first)
        if inside > 0:
            found.append((slot, inside))
        at += new
    return found
