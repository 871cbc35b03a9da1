"""A model's own preprocessing: the rule for each kind of media that it takes."""

from typing import Literal

from msgspec import Struct

from kvplan.domain.media.images import ImageRule
from kvplan.domain.media.sounds import SoundRule
from kvplan.domain.media.videos import VideoRule

Kind = Literal["image", "video", "audio"]


class Processor(Struct, frozen=True, kw_only=True):
    """What the model's processor does with images, videos and clips; None: it takes none.

    `family` is the row that was read, `source` where the rule and its numbers are from; `assumed` when its numbers are class
    defaults, because no published file of the family was found.
    """

    family: str
    source: str
    image: ImageRule | None = None
    video: VideoRule | None = None
    audio: SoundRule | None = None
    assumed: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What it takes."""
        found: tuple[tuple[Kind, object], ...] = (("image", self.image), ("video", self.video), ("audio", self.audio))
        return tuple(kind for kind, rule in found if rule is not None)
