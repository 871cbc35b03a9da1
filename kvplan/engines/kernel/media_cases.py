"""Recorded cases of images, videos and clips: what was asked, read as bounded numbers, and the facts that they hold.

The same in every engine; how an engine counts is in its `media.py`.
"""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.media.asked import MOST_FRAMES, MOST_IMAGES, MOST_SECONDS, MOST_SIDE, Media, Size, Sound, Video
from kvplan.domain.media.cost import Cost, NotTaken
from kvplan.engines.kernel.cases import Case, InvalidCase, whole

#: Facts that are one number.
COUNTS: Final = ("placeholder_tokens", "tokens", "encoder_positions", "tiles", "cross_tokens")


def is_media(case: Case) -> bool:
    """Whether a case is about images, video or audio, or about an encoder's budget for them."""
    kinds = ("images", "video", "audio_seconds", "budget")
    return isinstance(case.more.get("family"), str) and any(kind in case.workload for kind in kinds)


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The counts, or that the engine refuses."""
    if expected.get("refused") is True:
        return {"refused": True}
    return {name: expected[name] for name in COUNTS if name in expected}


def asked_media(case: Case) -> Media:
    """What one prompt of a case holds.

    Raises:
        InvalidCase: a size, a number of frames or a length that is none.
    """
    work = case.workload
    images = work.get("images", [])
    if not isinstance(images, list) or len(images) > MOST_IMAGES:
        raise InvalidCase(f"`workload.images` must be a list of at most {MOST_IMAGES} [height, width]")
    video, seconds = work.get("video"), work.get("audio_seconds")
    if video is not None and not isinstance(video, Mapping):
        raise InvalidCase("`workload.video` must be an object")
    return Media(
        images=tuple(_size(pair, f"images[{i}]") for i, pair in enumerate(images)),
        videos=() if video is None else (_video(video, sampled=work.get("do_sample_frames") is not False),),
        sounds=() if seconds is None else (Sound(seconds=_number(seconds, "audio_seconds", MOST_SECONDS)),),
    )


def _size(pair: object, name: str) -> Size:
    if not isinstance(pair, list) or len(pair) != 2:
        raise InvalidCase(f"`workload.{name}` must be [height, width]")
    return Size(height=_side(pair[0], name), width=_side(pair[1], name))


def _side(value: object, name: str) -> int:
    side = whole(value, f"workload.{name}", 1)
    if side > MOST_SIDE:
        raise InvalidCase(f"`workload.{name}` is more than {MOST_SIDE:,} pixels")
    return side


def _video(video: Mapping[str, Any], *, sampled: bool) -> Video:
    frames = whole(video.get("frames"), "workload.video.frames", 1)
    if frames > MOST_FRAMES:
        raise InvalidCase(f"`workload.video.frames` is more than {MOST_FRAMES:,}")
    return Video(
        frames=frames,
        height=_side(video.get("height"), "video.height"),
        width=_side(video.get("width"), "video.width"),
        fps=_number(video.get("fps", 24.0), "video.fps", 1000.0),
        sampled=sampled,
    )


def _number(value: object, name: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise InvalidCase(f"`workload.{name}` must be a number above 0 and at most {most:,.0f}")
    return float(value)


def facts(cost: Cost) -> dict[str, Any]:
    """A cost under the names of the facts; what is not known is left out."""
    named = (
        ("placeholder_tokens", cost.placeholders),
        ("tokens", cost.tokens),
        ("encoder_positions", cost.positions),
        ("tiles", cost.tiles),
        ("cross_tokens", cost.cross or None),
    )
    return {name: value for name, value in named if value is not None}


def refusal(problem: NotTaken) -> dict[str, Any]:
    """The facts of a refusal; the sentence is for reading."""
    return {"refused": True, "error": problem.reason}
