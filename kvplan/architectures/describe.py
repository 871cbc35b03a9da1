"""A config's tensors and its completed text part, for ledgers: `described`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters import parameters
from kvplan.architectures.parameters.sizes import completed
from kvplan.architectures.weights import tensors
from kvplan.architectures.wrappers import text_part
from kvplan.domain.described import Described
from kvplan.domain.latest import latest
from kvplan.domain.model import Model
from kvplan.errors import ConfigError

if TYPE_CHECKING:
    from kvplan.domain.media.processor import Processor


def described(config: Mapping[str, Any], source: str = "config.json") -> Described:
    """The tensors that `config` (the whole config.json) describes.

    Raises:
        UnknownArchitecture: no rule counts this model type's tensors.
        ConfigError: a key is missing, of the wrong type, or contradicts another.
    """
    outer = Config(config, source)
    text, text_type = text_part(outer, outer.text("model_type", default=""))
    return Described(
        parameters=parameters(outer),
        config=config,
        text=completed(text, text_type).data,
        text_type=text_type,
        processor=_processor(config, text_type),
    )


@latest(4, by_identity=True)
def describe(model: Model, draft: Model | None = None) -> Described | None:
    """A model's tensors, with those of a drafter that serves beside it; None where no rule counts them.

    A model that was described by hand has no config, and its widths are not known; likewise one whose trimmed config gives
    another count than the model is known to have.
    """
    found = tensors(model)
    if found is None or model.origin is None:
        return None
    outer = Config(model.origin.config, model.name)
    text, text_type = text_part(outer, outer.text("model_type", default=""))
    beside = describe(draft) if draft is not None else None
    return Described(
        parameters=found.tensors,
        config=model.origin.config,
        text=completed(text, text_type).data,
        text_type=text_type,
        drafter=beside.parameters if beside is not None else (),
        processor=_processor(model.origin.config, text_type),
    )


def _processor(config: Mapping[str, Any], text_type: str) -> "Processor | None":
    """What preprocessing makes of images, by the family's published numbers; None for a model of text alone."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type == text_type:
        return None
    from kvplan.architectures.media import processor_for

    try:
        return processor_for(model_type, config)
    except ConfigError:  # a number that only a question about images refuses
        return None
