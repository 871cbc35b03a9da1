"""What the media of a request are in one engine: tokens of its sequence, keys beside it, memory of the encoder, what saves."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from kvplan.domain.media.asked import Media
from kvplan.domain.media.cost import Cost


class Held(Struct, frozen=True, kw_only=True):
    """Memory that media take beside the cache: how many rows or keys, and their bytes on one device."""

    name: str
    count: int
    bytes: int
    note: str = ""


class Saving(Struct, frozen=True, kw_only=True):
    """Something to tell the engine that makes media cheaper.

    `flag` is what to type, `options` the same as options of kvplan's engine (empty: it is told elsewhere), `tokens` what the
    request's media are then, `rows` what the encoder's cache is then.
    """

    flag: str
    options: Mapping[str, str] = field(default_factory=dict)
    tokens: int | None = None
    rows: int | None = None


class Use(Struct, frozen=True, kw_only=True):
    """The media of one request in one engine.

    `read` says whether the engine's own count was read, `own` is what the model's own processor makes of them, where the engine
    counts otherwise; `source` where the rule is from.
    """

    media: Media
    engine: str
    cost: Cost
    source: str
    own: Cost | None = None
    read: bool = True
    held: tuple[Held, ...] = ()
    savings: tuple[Saving, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """What they add to the sequence."""
        return self.cost.tokens

    @property
    def words(self) -> str:
        """The tokens in one line.

        >>> from kvplan.domain.media.asked import parse_media
        >>> Use(media=parse_media("1x336x336"), engine="x", cost=Cost(placeholders=144, marks=2), source="").words
        '1 image of 336x336 is 146 tokens (144 placeholders, 2 marks)'
        """
        c = self.cost
        return self._said(f" ({c.placeholders:,} placeholders, {c.marks:,} marks)" if c.marks else "")

    @property
    def short(self) -> str:
        """The same without its parts."""
        return self._said("")

    def _said(self, parts: str) -> str:
        several = sum(map(len, (self.media.images, self.media.videos, self.media.sounds))) > 1
        keys = f"{self.cost.cross:,} keys of each cross-attention layer"
        said = f"{self.media} {'are' if several else 'is'}"
        if self.cost.cross and not self.tokens:
            return f"{said} {keys}"
        said = f"{said} {self.tokens:,} token{'s' if self.tokens != 1 else ''}{parts}"
        return f"{said}, and {keys}" if self.cost.cross else said

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        c = self.cost
        return {
            **self.media.written(),
            "engine": self.engine,
            "tokens": c.tokens,
            "placeholder_tokens": c.placeholders,
            "marks": c.marks,
            "text_characters": c.characters,
            "cross_tokens": c.cross,
            "encoder_positions": c.positions,
            "tiles": c.tiles,
            "own_processor_tokens": None if self.own is None else self.own.tokens,
            "held": [asdict(held) for held in self.held],
            "savings": [{**asdict(saving), "options": dict(saving.options)} for saving in self.savings],
            "steps": [{"what": step.what, "result": step.result} for step in c.steps],
            "source": self.source,
            "notes": list(self.notes),
        }
