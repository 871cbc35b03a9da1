"""Which cards of a node each member goes on. Pure, and exact: a placement is found whenever there is one.

All cards are alike, and a member takes the same bytes on each of its cards, so only the bytes already on a card matter. The
search is bounded; where it would be too long it says so, and is never taken for an answer.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from kvplan.errors import OptionError

Cards = tuple[int, ...]
#: Positions of the exact search: twenty members on eight cards need a few hundred. `--solve` searches hundreds of times.
_MOST_TRIED: Final = 5_000


class TooLong(OptionError):
    """The search for a placement was given up: there may be one or not."""


class Item(Struct, frozen=True, kw_only=True):
    """One member: `bytes` on each of `devices` different cards, on those of `pinned` where they are named.

    `by_card` are bytes on each of `pinned`, of a member whose layers are dealt out; `bytes` is the most of them.
    """

    bytes: int
    devices: int = 1
    pinned: Cards = ()
    by_card: tuple[int, ...] = ()


def place(items: Sequence[Item], cards: int, room_bytes: int) -> tuple[Cards, ...] | None:
    """The cards of every item, in the items' order, or None when no placement keeps every card within `room_bytes`.

    Spread out (the largest first, each on the emptiest cards) where that works; else whatever works.

    Raises:
        TooLong: the search was given up: some items must be pinned.

    >>> place([Item(bytes=6), Item(bytes=5), Item(bytes=4)], 2, 10)
    ((0,), (1,), (1,))
    """
    spread = spread_out(items, cards)
    if max(loads_of(items, spread, cards)) <= room_bytes:
        return spread
    if cards == 1:
        return None
    return _Search(items, cards, room_bytes).found()


def spread_out(items: Sequence[Item], cards: int) -> tuple[Cards, ...]:
    """The largest first, each on the emptiest cards, whether it fits or not."""
    loads, chosen = [0] * cards, [item.pinned for item in items]
    for item in items:
        _pin(loads, item)
    for i in _largest_first(items):
        emptiest = sorted(range(cards), key=lambda card: (loads[card], card))[: items[i].devices]
        chosen[i] = tuple(sorted(emptiest))
        _add(loads, chosen[i], items[i].bytes)
    return tuple(chosen)


def loads_of(items: Sequence[Item], chosen: Sequence[Cards], cards: int) -> list[int]:
    """Bytes on each card."""
    loads = [0] * cards
    for item, where in zip(items, chosen, strict=True):
        if item.by_card:
            _pin(loads, item)
        else:
            _add(loads, where, item.bytes)
    return loads


def _pin(loads: list[int], item: Item) -> None:
    for position, card in enumerate(item.pinned):
        loads[card] += item.by_card[position] if item.by_card else item.bytes


def _add(loads: list[int], where: Cards, amount: int) -> None:
    for card in where:
        loads[card] += amount


def _largest_first(items: Sequence[Item]) -> list[int]:
    """Those on several cards first (they get neighbours where all are empty), then by bytes."""
    free = [i for i, item in enumerate(items) if not item.pinned]
    return sorted(free, key=lambda i: (-items[i].devices, -items[i].bytes, i))


class Node:
    """Some cards and the room on each. `gave_up` turns true when a search was not taken to its end."""

    def __init__(self, cards: int, room_bytes: int) -> None:
        self.cards, self.room_bytes, self.gave_up = cards, room_bytes, False

    def holds(self, items: Sequence[Item]) -> bool:
        """Whether a placement was found."""
        try:
            return place(items, self.cards, self.room_bytes) is not None
        except TooLong:
            self.gave_up = True
            return False


class _Search:
    """Depth first, the largest items first, each on the fullest cards that still hold it; equal states are tried once."""

    def __init__(self, items: Sequence[Item], cards: int, room_bytes: int) -> None:
        self.items, self.room = items, room_bytes
        self.order = _largest_first(items)
        self.loads = [0] * cards
        self.chosen = [item.pinned for item in items]
        for item in items:
            _pin(self.loads, item)
        sizes = [items[i].bytes * items[i].devices for i in self.order]
        #: From each depth on: the bytes still to place, and the least that any of them takes of a card.
        self.rest = [sum(sizes[n:]) for n in range(len(sizes) + 1)]
        self.least = [min(items[i].bytes for i in self.order[n:]) for n in range(len(sizes))]
        self.failed: set[tuple[int, tuple[int, ...]]] = set()
        self.tried = 0

    def found(self) -> tuple[Cards, ...] | None:
        """A placement, or None when there is none."""
        possible = max(self.loads) <= self.room and self._from(0)
        return tuple(self.chosen) if possible else None

    def _from(self, depth: int) -> bool:
        if depth == len(self.order):
            return True
        state = depth, tuple(sorted(self.loads))
        if state in self.failed:
            return False
        free = (self.room - load for load in self.loads)
        if self.rest[depth] > sum(left for left in free if left >= self.least[depth]):
            return False  # too little is left on the cards that hold anything more
        self.tried += 1
        if self.tried > _MOST_TRIED:
            raise TooLong(
                f"which of {len(self.loads)} cards each of {len(self.items)} members goes on is too long a search",
                hint="say it for some of them: `cards: [0]`",
            )
        i = self.order[depth]
        for where in self._choices(self.items[i]):
            _add(self.loads, where, self.items[i].bytes)
            self.chosen[i] = where
            if self._from(depth + 1):
                return True
            _add(self.loads, where, -self.items[i].bytes)
        self.failed.add(state)
        return False

    def _choices(self, item: Item) -> Iterator[Cards]:
        """Sets of cards that hold the item, the fullest first; of equally full cards the first ones stand for all."""
        alike: dict[int, list[int]] = {}
        for card in sorted(range(len(self.loads)), key=lambda card: (-self.loads[card], card)):
            if self.loads[card] + item.bytes <= self.room:
                alike.setdefault(self.loads[card], []).append(card)
        groups = list(alike.values())

        def taken(group: int, needed: int) -> Iterator[Cards]:
            if needed == 0:
                yield ()
            elif group < len(groups):
                for count in range(min(needed, len(groups[group])), -1, -1):
                    for others in taken(group + 1, needed - count):
                        yield (*groups[group][:count], *others)

        yield from (tuple(sorted(where)) for where in taken(0, item.devices))
