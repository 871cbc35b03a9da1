"""What the images of a request are in llama.cpp: by its own preprocessor, and as the model's own processor would have it."""

from typing import Any

from msgspec.structs import replace

from kvplan.domain.media.asked import Media
from kvplan.domain.media.processor import Processor
from kvplan.domain.media.use import Saving, Use
from kvplan.domain.model import Model
from kvplan.engines.llama_cpp.convert.projector import PROJECTOR_OF, of_file, ranged
from kvplan.engines.llama_cpp.engine import LlamaCpp
from kvplan.engines.llama_cpp.media import DynamicSize, PixelSize
from kvplan.engines.llama_cpp.projectors import Limits, rule_of
from kvplan.errors import Refused


def used(engine: LlamaCpp, model: Model, processor: Processor, media: Media) -> Use:
    """What the images of a request are.

    Raises:
        Refused: no rule of the model's projector was read, or video or audio is asked about.
        GgufError: the projector's file is none.
        ConfigError: one of its numbers is out of range.
    """
    if media.videos or media.sounds:
        raise Refused("what video and audio are in llama.cpp was not read", see="images are: «images 1x1080x1920»")
    options = engine.options
    limits = Limits(least=options.image_min_tokens, most=options.image_max_tokens)
    if options.mmproj is not None:
        projector, hparams = of_file(options.mmproj)
        source = options.mmproj.name
    else:
        projector, hparams = _by_type(model, processor)
        source = "mmproj"
    rule = rule_of(projector, hparams, limits, source)
    sizes = [(size.height, size.width) for size in media.images]
    cost, own = rule.of(sizes), None if processor.image is None else processor.cost(media)
    savings = []
    if isinstance(rule, DynamicSize) and not isinstance(rule, PixelSize):
        most = max(rule.least, rule.most // 4)
        fewer = rule_of(projector, hparams, replace(limits, most=most), source).of(sizes)
        if fewer.tokens < cost.tokens:
            saved = Saving(flag=f"--image-max-tokens {most}", options={"image_max_tokens": str(most)}, tokens=fewer.tokens)
            savings.append(saved)
    return Use(
        media=media,
        engine=engine.name,
        cost=cost,
        source=f"llama.cpp tools/mtmd/mtmd-image.cpp, clip.cpp: projector {projector}",
        own=None if own is None or own.tokens == cost.tokens else own,
        savings=tuple(savings),
        notes=(
            "the projector and its encoder are a file of their own (--mmproj), which is not in these numbers"
            if options.mmproj is None
            else f"by the numbers of {options.mmproj.name}",
        ),
    )


def _by_type(model: Model, processor: Processor) -> tuple[str, dict[str, Any]]:
    """What the converter would write of the model's own processor.

    Raises:
        Refused: no rule of its projector was read.
    """
    projector = PROJECTOR_OF.get(model.model_type)
    if projector is None or processor.image is None:
        raise Refused(
            f"which projector llama.cpp has for {model.model_type} was not read",
            see="--mmproj FILE is read, or -e transformers and -e vllm",
        )
    return projector, ranged(projector, processor.image)
