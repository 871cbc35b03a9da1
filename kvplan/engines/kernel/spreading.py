"""What an engine that deals layers out to unequal devices offers to the questions: named by its `About` (`spread`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.domain.spread import Card, Spread


class Move(Protocol):
    """A change of the command line."""

    change: str
    options: Mapping[str, Any]


class Spreading(Protocol):
    """One model, one command line, some cards."""

    model: Model
    cards: tuple[Card, ...]
    weights: Line
    own_why: str  # why the engine itself would run with less than what fits

    @property
    def ceiling(self) -> int:
        """Tokens that the model was made for."""
        ...

    def at(self, context: int, requests: int) -> Spread:
        """Everything, device by device.

        Raises:
            Refused: the engine does not start so.
        """
        ...

    def changed(self, **more: Any) -> Self:
        """The same with other options."""
        ...

    def needs(self, context: int, requests: int) -> tuple[str, ...]:
        """What must be there beside the command line."""
        ...

    def own_choice(self, context: int | None, requests: int) -> tuple[str, int, Self]:
        """What the engine itself would run with: in words, the tokens of a request, and the same with those options."""
        ...

    def kept(self, context: int, requests: int) -> Self:
        """The same, told to change nothing by itself where the engine would."""
        ...

    def lent_more(self) -> tuple[str, Self] | None:
        """The command that lends a GPU more of the memory that it shares with the host, and the same afterwards."""
        ...

    def moves(self) -> Iterator[Move]:
        """What may be changed where it does not fit, from what costs least."""
        ...

    def fewer(self) -> Iterator[tuple[str, str, int, int]]:
        """Ways to leave some of the model on the host: words with `{}`, the option, and its range, the least change first."""
        ...

    def splits(self, context: int, requests: int) -> Iterator[Move]:
        """Other ways to deal the layers out to the cards."""
        ...

    def cache_types(self) -> Iterator[Move]:
        """Other storage of the cache; the first is the present one."""
        ...
