"""What the images of a request are in llama.cpp: by its own preprocessor, and as the model's own processor would have it."""

from msgspec.structs import replace

from kvplan.domain.media.asked import Media
from kvplan.domain.media.processor import Processor
from kvplan.domain.media.use import Saving, Use
from kvplan.domain.model import Model
from kvplan.engines.llama_cpp.convert.projector import PROJECTOR_OF, hyperparameters
from kvplan.engines.llama_cpp.engine import LlamaCpp
from kvplan.engines.llama_cpp.media import DynamicSize, Limits, rule_of
from kvplan.errors import Refused


def used(engine: LlamaCpp, model: Model, processor: Processor, media: Media) -> Use:
    """What the images of a request are.

    Raises:
        Refused: no rule of the model's projector was read, or video or audio is asked about.
    """
    if media.videos or media.sounds:
        raise Refused("what video and audio are in llama.cpp was not read", see="images are: «images 1x1080x1920»")
    projector = PROJECTOR_OF.get(model.model_type)
    if projector is None or processor.image is None:
        raise Refused(f"which projector llama.cpp has for {model.model_type} was not read", see="-e transformers or -e vllm")
    options = engine.options
    limits = Limits(least=options.image_min_tokens, most=options.image_max_tokens)
    hparams = hyperparameters(processor.image)
    rule = rule_of(projector, hparams, limits)
    sizes = [(size.height, size.width) for size in media.images]
    cost, own = rule.of(sizes), processor.cost(media)
    savings = []
    if isinstance(rule, DynamicSize):
        most = max(rule.least, rule.most // 4)
        fewer = rule_of(projector, hparams, replace(limits, most=most)).of(sizes)
        if fewer.tokens < cost.tokens:
            saved = Saving(flag=f"--image-max-tokens {most}", options={"image_max_tokens": str(most)}, tokens=fewer.tokens)
            savings.append(saved)
    return Use(
        media=media,
        engine=engine.name,
        cost=cost,
        source=f"llama.cpp tools/mtmd/mtmd-image.cpp, clip.cpp: projector {projector}",
        own=own if own.tokens != cost.tokens else None,
        savings=tuple(savings),
        notes=("the projector and its encoder are a file of their own (--mmproj), which is not in these numbers",),
    )
