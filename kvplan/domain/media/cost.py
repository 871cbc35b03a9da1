"""What the media of one prompt cost, and the steps by which a rule came to it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from kvplan.errors import Refused


class NotTaken(Refused):
    """The model's own preprocessing refuses this image, video or clip; the sentence is the processor's."""


class Step(Struct, frozen=True):
    """One step from pixels or samples to tokens: what is done, and what comes out."""

    what: str
    result: str


class Cost(Struct, frozen=True, kw_only=True):
    """What media put into one sequence.

    `placeholders` are decoder positions that the tower's output fills; `marks` the other special tokens that come along
    (begin, end, separators); `characters` of plain text beside them, which a real tokenizer makes tokens of. `positions` is
    what the tower's attention runs over (None: not known), `tiles` how many images it sees, `cross` the keys of one
    cross-attention layer.
    """

    placeholders: int = 0
    marks: int = 0
    characters: int = 0
    positions: int | None = None
    tiles: int | None = None
    cross: int = 0
    steps: tuple[Step, ...] = ()

    @property
    def tokens(self) -> int:
        """Special tokens in the sequence, placeholders and marks together."""
        return self.placeholders + self.marks


def total(costs: Iterable[Cost]) -> Cost:
    """Several together; a count that one of them does not know is not known of all. The steps are the first one's."""
    found = list(costs)
    if not found:
        return Cost()
    positions, tiles = [cost.positions for cost in found], [cost.tiles for cost in found]
    return Cost(
        placeholders=sum(cost.placeholders for cost in found),
        marks=sum(cost.marks for cost in found),
        characters=sum(cost.characters for cost in found),
        positions=None if None in positions else sum(n for n in positions if n is not None),
        tiles=None if None in tiles else sum(n for n in tiles if n is not None),
        cross=sum(cost.cross for cost in found),
        steps=found[0].steps,
    )
