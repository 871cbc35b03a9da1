"""A model's own preprocessing: the rule for each kind of media that it takes."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.media.asked import Media
from kvplan.domain.media.cost import Cost, total
from kvplan.domain.media.images import ImageRule
from kvplan.domain.media.sounds import SoundRule
from kvplan.domain.media.videos import VideoRule
from kvplan.errors import Refused

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

    def cost(self, media: Media, *, sampled: bool = True) -> Cost:
        """What the media of one prompt cost; `sampled`: the processor picks a video's frames, where it does so at all.

        Raises:
            NotTaken: the processor refuses one.
            Refused: it takes no such media.
        """
        costs = list(self._costs(media, sampled=sampled))
        return replace(total(costs), steps=tuple(step for cost in costs for step in cost.steps))

    def _costs(self, media: Media, *, sampled: bool) -> Iterator[Cost]:
        if media.images:
            if self.image is None:
                raise Refused(f"{self.family} takes no images: {self._takes}")
            yield self.image.of([(size.height, size.width) for size in media.images])
        for video in media.videos:
            if self.video is None:
                raise Refused(f"no rule for videos of {self.family} was read: {self._takes}")
            rate = sampled and video.sampled
            yield self.video.one(video.frames, video.height, video.width, video.fps, sampled=rate)
        if media.sounds:
            if self.audio is None:
                raise Refused(f"{self.family} takes no audio: {self._takes}")
            yield self.audio.of([sound.seconds for sound in media.sounds])

    @property
    def _takes(self) -> str:
        return f"its processor takes {' and '.join(self.kinds)}"
