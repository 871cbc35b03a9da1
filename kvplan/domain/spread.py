"""One process over several devices and the host: what lies on each, line by line. Plain values.

Engines that deal layers out to unequal devices answer with a `Spread`; `fit` and `estimate` show it as a table by device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from kvplan.domain.ledger import Line, total
from kvplan.domain.unified import Shared


class Card(Struct, frozen=True, kw_only=True):
    """A device as a question names it.

    Attributes:
        id: of the catalogue, or a size.
        vendor: who makes it, in lower case.
        memory: what it has in all; of memory that it shares with the host, what it may use.
        free_bytes: what other tenants leave; None: all of it. Of shared memory, what the driver lends in fact.
        shared: the pool that it shares with the host.
        capability: of CUDA devices.
    """

    id: str
    vendor: str
    memory: Line
    free_bytes: int | None = None
    shared: Shared | None = None
    capability: str = ""

    @property
    def unified(self) -> bool:
        """Whether it shares the host's memory."""
        return self.shared is not None

    @property
    def room(self) -> Line:
        """What a process may have of it."""
        if self.free_bytes is None:
            return self.memory
        most = self.memory.bytes if self.shared is None else self.shared.total.high
        return Line(name="free", bytes=min(self.free_bytes, most), basis="given", source="--free")


class Place(Struct, frozen=True, kw_only=True):
    """What lies on one device.

    Attributes:
        device: as the engine calls it (`CUDA0`, `Host`).
        card: the card's name; empty for the host.
        layers: numbers in words (`0-40, output`), and how many `blocks` they are.
        lines: weights, cache, state, buffers, each with its band.
        cached: numbers of the layers whose cache or state lies here, in order.
        room: what there is for them; None where nothing limits (the host, of a machine that nobody described).
    """

    device: str
    card: str
    layers: str
    blocks: int
    lines: tuple[Line, ...]
    cached: tuple[int, ...] = ()
    room: Line | None = None

    @property
    def needed(self) -> Line:
        """All lines together."""
        return total("needed", self.lines)

    @property
    def left(self) -> Line | None:
        """What stays free, with its band."""
        return None if self.room is None else total("left", (self.room, self.needed.negative()))

    @property
    def fits(self) -> bool:
        """Whether it fits even where its lines are at the upper ends of their bands."""
        return self.left is None or self.left.low >= 0

    @property
    def may_fit(self) -> bool:
        """Whether it fits where its lines are at the lower ends."""
        return self.left is None or self.left.high >= 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = {
            "device": self.device,
            "card": self.card,
            "layers": self.layers,
            "blocks": self.blocks,
            "lines": [line.to_dict() for line in self.lines],
            "needed": self.needed.to_dict(),
        }
        if self.room is not None and self.left is not None:
            found |= {"room": self.room.to_dict(), "left": self.left.to_dict()}
        return found


class Spread(Struct, frozen=True, kw_only=True):
    """Everything of one process, device by device, the host last.

    Attributes:
        context: tokens of one request, `requests` of them at once.
        offloaded: layers on devices, as the engine's log says it (`41/65`).
        settings: the engine's options that decided it, by their own names.
        command: what to type.
        notes: what a reader must know.
        pool: everything once more against the memory that CPU and GPU share; None where each has its own.
    """

    places: tuple[Place, ...]
    context: int
    requests: int
    offloaded: str
    command: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pool: Place | None = None

    def __hash__(self) -> int:
        return hash((self.context, self.requests, self.offloaded, self.command))

    @property
    def devices(self) -> tuple[Place, ...]:
        """All places but the host."""
        return self.places[:-1]

    @property
    def host(self) -> Place:
        """The host's."""
        return self.places[-1]

    @property
    def fits(self) -> bool:
        """Whether every place has room, come what may."""
        return all(place.fits for place in self.limited)

    @property
    def may_fit(self) -> bool:
        """Whether every place has room where lines are at the lower ends of their bands."""
        return all(place.may_fit for place in self.limited)

    @property
    def limited(self) -> tuple[Place, ...]:
        """The places, and the pool that all of them share."""
        return self.places if self.pool is None else (*self.places, self.pool)

    @property
    def tightest(self) -> tuple[str, int] | None:
        """Where least is left, in words, and what is left there at the lower end of its band; None where nothing limits."""
        left = [(place, left.low) for place in self.limited if (left := place.left) is not None]
        if not left:
            return None
        place, least = min(left, key=lambda pair: pair[1])
        return "the memory that both share" if place is self.pool else place.device, least

    def sum_of(self, name: str) -> Line:
        """One line over all places."""
        return total(name, (line for place in self.places for line in place.lines if line.name == name))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "context": self.context,
            "requests": self.requests,
            "fits": self.fits,
            "offloaded": self.offloaded,
            "settings": dict(self.settings),
            "command": self.command,
            "places": [place.to_dict() for place in self.places],
            "notes": list(self.notes),
            **({} if self.pool is None else {"pool": self.pool.to_dict()}),
        }


def runs(numbers: tuple[int, ...]) -> str:
    """Numbers as runs of consecutive ones.

    >>> runs((0, 1, 2, 5, 7, 8))
    '0-2, 5, 7-8'
    """
    words: list[str] = []
    start = previous = None
    for number in (*numbers, None):
        if previous is not None and number != previous + 1:
            words.append(f"{start}" if start == previous else f"{start}-{previous}")
            start = number
        start = number if start is None else start
        previous = number
    return ", ".join(words)
