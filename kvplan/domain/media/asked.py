"""What a prompt holds beside its text: images, videos, clips. How people write them, bounded."""

import re
from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import Struct

from kvplan.errors import OptionError

One = TypeVar("One")
MOST_SIDE: Final = 2**16  # pixels
MOST_IMAGES: Final = 10_000  # of one prompt
MOST_FRAMES: Final = 1_000_000
MOST_SECONDS: Final = 1_000_000.0

_N: Final = r"[0-9]{1,9}"
_REAL: Final = r"[0-9]{1,9}(?:\.[0-9]{1,6})?"
_IMAGES: Final = rf"(?:({_N})[x×])?({_N})[x×]({_N})"
_VIDEO: Final = rf"(?:({_N})[x×])?({_REAL})(s|m|min|f)@({_REAL})fps@({_N})[x×]({_N})"
_SOUND: Final = rf"(?:({_N})[x×])?({_REAL})(s|m|min)"
_IMAGE_FORM: Final = "count x height x width, as in 4x1024x1024; several with commas"
_VIDEO_FORM: Final = "seconds, frames a second, height x width, as in 60s@1fps@720x1280"
_SOUND_FORM: Final = "seconds, as in 30s or 2x30s"


class Size(Struct, frozen=True):
    """An image in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


class Video(Struct, frozen=True, kw_only=True):
    """A video: frames that are handed over, at `fps`; `sampled`: the processor may pick from them."""

    frames: int
    height: int
    width: int
    fps: float
    sampled: bool = True

    def __str__(self) -> str:
        return f"{self.frames / self.fps:g}s@{self.fps:g}fps@{self.height}x{self.width}"


class Sound(Struct, frozen=True, kw_only=True):
    """A clip."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:g}s"


class Media(Struct, frozen=True, kw_only=True):
    """All media of one request."""

    images: tuple[Size, ...] = ()
    videos: tuple[Video, ...] = ()
    sounds: tuple[Sound, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.images or self.videos or self.sounds)

    def __str__(self) -> str:
        return ", ".join(
            filter(None, (_counted("image", self.images), _counted("video", self.videos), _counted("clip", self.sounds)))
        )

    def written(self) -> dict[str, str]:
        """The options that ask for this, by name."""
        named = (("images", self.images), ("video", self.videos), ("audio", self.sounds))
        return {name: ",".join(_runs(parts)) for name, parts in named if parts}


#: A prompt of text alone.
NO_MEDIA: Final = Media()


def _runs(parts: tuple[Size, ...] | tuple[Video, ...] | tuple[Sound, ...]) -> list[str]:
    counts: dict[str, int] = {}
    for part in parts:
        counts[str(part)] = counts.get(str(part), 0) + 1
    return [f"{count}x{text}" for text, count in counts.items()]


def _counted(what: str, parts: tuple[Size, ...] | tuple[Video, ...] | tuple[Sound, ...]) -> str:
    if not parts:
        return ""
    sizes = " and ".join(dict.fromkeys(str(part) for part in parts[:4])) + (" …" if len(set(parts)) > 4 else "")
    return f"{len(parts):,} {what}{'s' if len(parts) > 1 else ''} of {sizes}"


def parse_media(images: str | None = None, video: str | None = None, audio: str | None = None) -> Media:
    """Media as people write them: `4x1024x1024`, `60s@1fps@720x1280`, `30s`, several of a kind with commas.

    Raises:
        OptionError: a text that is none of these, or beyond what is taken.

    >>> parse_media("2x1024x768", audio="30s").written()
    {'images': '2x1024x768', 'audio': '1x30s'}
    """
    return Media(
        images=_all(images, _images, "images"), videos=_all(video, _videos, "video"), sounds=_all(audio, _sounds, "audio")
    )


def _all(text: str | None, read: Callable[[str], list[One]], name: str) -> tuple[One, ...]:
    """Every part of a list, as long as they are not too many together.

    Raises:
        OptionError: a part that is none, or too many.
    """
    found: list[One] = []
    for part in _listed(text):
        found += read(part)
        if len(found) > MOST_IMAGES:
            raise OptionError(f"«{name}»: 1 to {MOST_IMAGES:,} are taken together", option=name)
    return tuple(found)


def _listed(text: str | None) -> list[str]:
    return [] if text is None else [part.strip() for part in text.split(",")]


def _refuse(name: str, text: str, form: str) -> OptionError:
    return OptionError(f"«{name}»: expected {form}, got `{text[:60]}`", option=name)


def _times(text: str | None, name: str) -> int:
    count = int(text or 1)
    if not 1 <= count <= MOST_IMAGES:
        raise OptionError(f"«{name}»: 1 to {MOST_IMAGES:,} are taken, got {count:,}", option=name)
    return count


def _side(text: str, name: str) -> int:
    side = int(text)
    if not 1 <= side <= MOST_SIDE:
        raise OptionError(f"«{name}»: a side has 1 to {MOST_SIDE:,} pixels, got {side:,}", option=name)
    return side


def _images(text: str) -> list[Size]:
    found = re.fullmatch(_IMAGES, text, re.IGNORECASE)
    if found is None:
        raise _refuse("images", text, _IMAGE_FORM)
    count, height, width = found.groups()
    return [Size(_side(height, "images"), _side(width, "images"))] * _times(count, "images")


def _videos(text: str) -> list[Video]:
    found = re.fullmatch(_VIDEO, text, re.IGNORECASE)
    if found is None:
        raise _refuse("video", text, _VIDEO_FORM)
    count, length, unit, rate, height, width = found.groups()
    fps = float(rate)
    if not 0 < fps <= 1000:
        raise OptionError(f"«video»: frames a second are above 0 and at most 1,000, got {fps:g}", option="video")
    frames = float(length) if unit == "f" else float(length) * (1 if unit.lower() == "s" else 60) * fps
    if not 1 <= round(frames) <= MOST_FRAMES:
        raise OptionError(f"«video»: 1 to {MOST_FRAMES:,} frames are taken, got {frames:,.0f}", option="video")
    one = Video(frames=round(frames), height=_side(height, "video"), width=_side(width, "video"), fps=fps)
    return [one] * _times(count, "video")


def _sounds(text: str) -> list[Sound]:
    found = re.fullmatch(_SOUND, text, re.IGNORECASE)
    if found is None:
        raise _refuse("audio", text, _SOUND_FORM)
    count, length, unit = found.groups()
    seconds = float(length) * (1 if unit.lower() == "s" else 60)
    if not 0 < seconds <= MOST_SECONDS:
        raise OptionError(f"«audio»: a clip has more than 0 and at most {MOST_SECONDS:,.0f} seconds", option="audio")
    return [Sound(seconds=seconds)] * _times(count, "audio")
