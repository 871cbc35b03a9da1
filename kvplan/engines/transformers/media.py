"""Images, video and audio in transformers: the model's own processor is what runs, so its rules hold as they are."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.media.asked import Media
from kvplan.domain.media.cost import NotTaken
from kvplan.domain.media.images import PixelRange
from kvplan.domain.media.processor import Processor
from kvplan.domain.media.use import Saving, Use
from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import Case, Read
from kvplan.engines.kernel.engine import Engine
from kvplan.engines.kernel.media_cases import asked_media, facts, refusal

#: Pixels that Qwen-VL's users limit images to: 1,280 tokens of 28 x 28.
FEWER_PIXELS: Final = 1_003_520


def used(engine: Engine, model: Model, processor: Processor, media: Media) -> Use:
    """What the media of a request are: the processor is the model's own.

    Raises:
        NotTaken: the processor refuses one.
        Refused: the model takes no such media.
    """
    cost, savings = processor.cost(media), []
    image = processor.image
    if isinstance(image, PixelRange) and media.images and image.most > FEWER_PIXELS:
        least = min(image.least, FEWER_PIXELS)
        fewer = replace(processor, image=replace(image, least=least, most=FEWER_PIXELS)).cost(media)
        if fewer.tokens < cost.tokens:
            savings.append(Saving(flag=f"processor(…, max_pixels={FEWER_PIXELS})", tokens=fewer.tokens))
    return Use(media=media, engine=engine.name, cost=cost, source=processor.source, savings=tuple(savings))


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
        return facts(processor.cost(asked_media(case)))
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
