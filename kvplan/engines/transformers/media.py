"""Images, video and audio in transformers: the model's own processor is what runs, so its rules hold as they are."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.media.asked import Media
from kvplan.domain.media.cost import Cost, NotTaken, total
from kvplan.domain.media.processor import Processor
from kvplan.engines.kernel.cases import Case, Read
from kvplan.engines.kernel.media_cases import asked_media, facts, refusal
from kvplan.errors import Refused


def cost_of(processor: Processor, media: Media) -> Cost:
    """What the media of one prompt cost.

    Raises:
        NotTaken: the processor refuses one.
        Refused: the model takes no such media.
    """
    return total(_costs(processor, media))


def _costs(processor: Processor, media: Media) -> Iterator[Cost]:
    if media.images:
        if processor.image is None:
            raise Refused(f"{processor.family} takes no images")
        yield processor.image.of([(size.height, size.width) for size in media.images])
    for video in media.videos:
        if processor.video is None:
            raise Refused(f"no rule of {processor.family} for video was read")
        yield processor.video.one(video.frames, video.height, video.width, video.fps, sampled=video.sampled)
    for sound in media.sounds:
        if processor.audio is None:
            raise Refused(f"{processor.family} takes no audio")
        yield processor.audio.one(sound.seconds)


def predict(case: Case, read: Read) -> Mapping[str, Any] | NotPredicted:
    """The facts of a recorded case.

    Raises:
        InvalidCase: a size that is none.
    """
    family = str(case.more["family"])
    processor = read.processor(family, case.config, _files(case))
    if processor is None:
        return NotPredicted(reason=f"no rule of the family `{family[:60]}` was read")
    try:
        return facts(cost_of(processor, asked_media(case)))
    except NotTaken as problem:
        return refusal(problem)


def _files(case: Case) -> Mapping[str, Any]:
    """A processor's values, with what the call itself said."""
    said = case.more.get("preprocessor")
    files = dict(said) if isinstance(said, Mapping) else {}
    options = case.workload.get("options")
    if isinstance(options, Mapping):
        for name in ("image_processor", "video_processor"):
            if isinstance(files.get(name), Mapping):
                files[name] = {**files[name], **options}
    return files
