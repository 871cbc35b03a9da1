"""A config's tensors and its completed text part, for ledgers: `described`."""

from collections.abc import Mapping
from typing import Any

from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters import parameters
from kvplan.architectures.parameters.sizes import completed
from kvplan.architectures.wrappers import text_part
from kvplan.domain.described import Described
from kvplan.domain.latest import latest
from kvplan.domain.model import Model
from kvplan.domain.parameters import elements
from kvplan.errors import KvplanError

_CLOSE = 0.01  # of the known count: a list that is further off comes from a config whose widths were left out


def described(config: Mapping[str, Any], source: str = "config.json") -> Described:
    """The tensors that `config` (the whole config.json) describes.

    Raises:
        UnknownArchitecture: no rule counts this model type's tensors.
        ConfigError: a key is missing, of the wrong type, or contradicts another.
    """
    outer = Config(config, source)
    text, text_type = text_part(outer, outer.text("model_type", default=""))
    return Described(parameters=parameters(outer), config=config, text=completed(text, text_type).data, text_type=text_type)


@latest(4)
def describe(model: Model, draft: Model | None = None) -> Described | None:
    """A model's tensors, with those of a drafter that serves beside it; None where no rule counts them.

    A model that was described by hand has no config, and its widths are not known; likewise one whose trimmed config gives
    another count than the model is known to have.
    """
    if model.origin is None or not model.origin.config or "general.architecture" in model.origin.config:
        return None
    try:
        found = described(model.origin.config, model.name)
    except KvplanError:
        return None
    if model.parameters and abs(elements(found.parameters) / model.parameters - 1) > _CLOSE:
        return None
    beside = describe(draft) if draft is not None else None
    if beside is None:
        return found
    return Described(
        parameters=found.parameters, config=found.config, text=found.text, text_type=found.text_type, drafter=beside.parameters
    )
