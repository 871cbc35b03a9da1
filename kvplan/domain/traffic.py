"""Requests over time, the clock of a server's steps, and what its cache held meanwhile: plain values.

Times are whole microseconds, so that many equal steps last exactly as long as their sum and an answer is the same wherever it is
computed.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct

from kvplan.units import ceil_div

SECOND: Final = 1_000_000  # microseconds
#: Intervals that a trace's own span is cut into; twice as many at most, then two become one.
INTERVALS: Final = 240


class Traffic(Struct, frozen=True, kw_only=True, eq=False):
    """Requests in the order of their arrival; arrays of int64, one entry a request.

    `hashes` of request r are entries `offsets[r]` to `offsets[r + 1]`: each names `hash_tokens` tokens of its prompt after
    those before it, the last one what is left. Without hashes no prompt shares anything.
    """

    arrival_us: np.ndarray[Any, Any]
    prompt: np.ndarray[Any, Any]  # tokens
    output: np.ndarray[Any, Any]  # tokens, at least 1
    offsets: np.ndarray[Any, Any] | None = None
    hashes: np.ndarray[Any, Any] | None = None
    hash_tokens: int = 0

    def __len__(self) -> int:
        return len(self.arrival_us)

    def part(self, rows: np.ndarray[Any, Any]) -> "Traffic":
        """Some of the requests, `rows` in order."""
        if self.offsets is None or self.hashes is None:
            return Traffic(arrival_us=self.arrival_us[rows], prompt=self.prompt[rows], output=self.output[rows])
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(counts)))
        at = np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Traffic(
            arrival_us=self.arrival_us[rows],
            prompt=self.prompt[rows],
            output=self.output[rows],
            offsets=offsets,
            hashes=self.hashes[at],
            hash_tokens=self.hash_tokens,
        )

    def longer(self, tokens: np.ndarray[Any, Any]) -> "Traffic":
        """Prompts with so many more tokens behind those that they have, which no two requests share.

        The last hash of a longer prompt would stand for some of them, too, and is left out where it is not a whole one.
        """
        if self.offsets is None or self.hashes is None:
            return Traffic(arrival_us=self.arrival_us, prompt=self.prompt + tokens, output=self.output)
        counts = np.diff(self.offsets)
        whole = np.where(tokens > 0, np.minimum(counts, self.prompt // self.hash_tokens), counts)
        offsets = np.concatenate(([0], np.cumsum(whole)))
        at = np.repeat(self.offsets[:-1] - offsets[:-1], whole) + np.arange(offsets[-1])
        return Traffic(
            arrival_us=self.arrival_us,
            prompt=self.prompt + tokens,
            output=self.output,
            offsets=offsets,
            hashes=self.hashes[at],
            hash_tokens=self.hash_tokens,
        )

    def names(self, request: int) -> list[int]:
        """The hashes of one request."""
        if self.offsets is None or self.hashes is None:
            return []
        found: list[int] = self.hashes[self.offsets[request] : self.offsets[request + 1]].tolist()
        return found

    def stretches(self, request: int) -> tuple[tuple[Hashable, int, int], ...]:
        """A prompt as stretches `(name, first, one past the last)` of what a name stands for; what has no hash is its own."""
        left, found = int(self.prompt[request]), []
        for name in self.names(request):
            if left <= 0:
                break
            found.append((("hash", name), 0, min(left, self.hash_tokens)))
            left -= self.hash_tokens
        return (*found, *([(("own", request), 0, left)] if left > 0 else []))


class Clock(Struct, frozen=True, kw_only=True):
    """How long a step lasts: max(its prefill tokens / `prefill_rate`, 1 / `decode_rate`), in whole microseconds, rounded up.

    `prefill_rate` is in tokens a second of the whole server, `decode_rate` in tokens a second of each running request.
    """

    prefill_rate: float
    decode_rate: float

    @property
    def decode_us(self) -> int:
        """The shortest step."""
        return max(1, int(-(-SECOND // self.decode_rate)))

    def step_us(self, prefill: int) -> int:
        """A step with so many prefill tokens."""
        return max(self.decode_us, int(-(-prefill * SECOND // self.prefill_rate)))


class Timeline(Struct, kw_only=True):
    """What was held, interval by interval from `start_us` on: `held` are block-microseconds, `peaks` blocks."""

    start_us: int
    width_us: int
    held: list[int]
    peaks: list[int]

    def coarsened(self) -> None:
        """Two intervals become one."""
        for values, joined in ((self.held, sum), (self.peaks, max)):
            values[:] = [joined(values[i : i + 2]) for i in range(0, len(values), 2)]
        self.width_us *= 2


def first_width(first_us: int, last_us: int) -> int:
    """The width of an interval for arrivals from `first_us` to `last_us`."""
    return max(1, ceil_div(last_us - first_us + 1, INTERVALS))


class Below(Struct, kw_only=True):
    """What a tier below the device did, in its own chunks.

    `most` is of one server; `held_us` are chunk-microseconds, from the trace's first arrival to the last token.
    """

    hit_tokens: int = 0  # of those looked up at first admissions, found here and not on the device
    stored: int = 0
    loaded: int = 0
    evicted: int = 0
    most: int = 0
    held_us: int = 0


class Outcome(Struct, kw_only=True, eq=False):
    """What became of the requests of one server.

    `held_us[b]` are the microseconds in which b blocks were in use, from the trace's first arrival to the last token.
    `admitted_us` and `finished_us` have an entry a request, -1 for one that is refused. A request `waited` that was not
    admitted in the first step after its arrival.
    """

    held_us: np.ndarray[Any, Any]
    timeline: Timeline
    admitted_us: np.ndarray[Any, Any]
    finished_us: np.ndarray[Any, Any]
    waited: int = 0
    preempted: int = 0  # requests
    preemptions: int = 0
    refused: int = 0  # requests longer than the server takes
    asked_tokens: int = 0  # looked up at first admissions
    hit_tokens: int = 0  # of these, found on the device
    found_again_tokens: int = 0  # found by displaced requests that came back
    steps: int = 0
    held_up: bool = False  # a request waited for blocks or a place among those that run
    below: Below | None = None  # where there is a tier below the device


def merged(timelines: Sequence[Timeline]) -> Timeline:
    """The sum over servers, interval by interval; peaks are of one server."""
    widest = max(line.width_us for line in timelines)
    copies = [Timeline(start_us=t.start_us, width_us=t.width_us, held=list(t.held), peaks=list(t.peaks)) for t in timelines]
    for line in copies:
        while line.width_us < widest:
            line.coarsened()
    number = max(len(line.held) for line in copies)
    held, peaks = [0] * number, [0] * number
    for line in copies:
        for i, (amount, peak) in enumerate(zip(line.held, line.peaks, strict=True)):
            held[i] += amount
            peaks[i] = max(peaks[i], peak)
    return Timeline(start_us=copies[0].start_us, width_us=widest, held=held, peaks=peaks)


class Meter:
    """Adds up what steps held: their steps are given one by one or as runs of equal ones, and counted many at a time."""

    _MANY: Final = 400_000  # steps that are counted at once

    def __init__(self, blocks: int, start_us: int, width_us: int) -> None:
        self.held_us = np.zeros(blocks, dtype=np.int64)
        self.timeline = Timeline(start_us=start_us, width_us=width_us, held=[], peaks=[])

    def again(self) -> "Meter":
        """Another one from the same start, that has counted nothing."""
        return Meter(len(self.held_us), self.timeline.start_us, self.timeline.width_us)

    def idle(self, duration_us: int) -> None:
        """Nothing is held."""
        self.held_us[0] += duration_us

    def add(self, time: np.ndarray[Any, Any], used: np.ndarray[Any, Any], duration: np.ndarray[Any, Any]) -> None:
        """Steps in the order of their time: when each begins, the blocks in use, how long it lasts."""
        if not len(time):
            return
        sums = np.bincount(used, weights=duration, minlength=len(self.held_us))
        self.held_us += sums.astype(np.int64)  # exact: sums of whole numbers far below 2**53
        line = self.timeline
        last = int(time[-1] + duration[-1]) - line.start_us
        while last // line.width_us >= 2 * INTERVALS:
            line.coarsened()
        width = line.width_us
        more = last // width + 1 - len(line.held)
        if more > 0:
            line.held += [0] * more
            line.peaks += [0] * more
        begins = time - line.start_us
        first, final = begins // width, (begins + duration) // width
        inside = np.minimum(duration, (first + 1) * width - begins)
        cuts = np.flatnonzero(np.diff(first, prepend=-1))
        for at, amount, peak in zip(
            first[cuts].tolist(),
            np.add.reduceat(used * inside, cuts).tolist(),
            np.maximum.reduceat(used, cuts).tolist(),
            strict=True,
        ):
            line.held[at] += amount
            line.peaks[at] = max(line.peaks[at], peak)
        for i in np.flatnonzero(final > first).tolist():
            self._over(int(begins[i] + duration[i]), int(first[i]) + 1, int(used[i]))

    def _over(self, end: int, at: int, used: int) -> None:
        """The rest of a step that began in an earlier interval."""
        line = self.timeline
        while at * line.width_us < end:
            line.held[at] += used * (min(end, (at + 1) * line.width_us) - at * line.width_us)
            line.peaks[at] = max(line.peaks[at], used)
            at += 1
