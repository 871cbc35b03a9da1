"""Parameters counted from a config, tensor by tensor, in the order in which the model's modules are constructed.

A module of this package has `read(sizes, root) -> Iterator[Parameter]` for its model types. Head counts, head sizes and
which layer does what come from the family reader in `kvplan.architectures`; this package adds the widths, biases, norms,
experts and tables that a cache does not need to know.
"""

from importlib import import_module
from itertools import chain
from types import ModuleType
from typing import NamedTuple

from kvplan.architectures import reader_of
from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters.index import MODULE_OF, WRAPPERS
from kvplan.architectures.parameters.sizes import Sizes, assumed_part, class_defaults, completed
from kvplan.architectures.wrappers import text_part
from kvplan.domain.parameters import Parameter
from kvplan.errors import UnknownArchitecture

__all__ = ["Counted", "counted", "parameters"]


#: Wrappers whose text part alone says whether the head is the embedding table.
_TIED_BY_TEXT = frozenset({"shieldgemma2"})
#: Wrappers that put any two models together: nothing is known of how they meet.
_COMPOSED = frozenset({"encoder-decoder", "speech-encoder-decoder", "vision-encoder-decoder"})

#: Text models whose configs may be a wrapper's, under the text model's own type.
_WRAPPED_AS = {"ministral3": "mistral3"}


class Counted(NamedTuple):
    """A checkpoint's tensors, and the sections of its config that no rule counts (towers of unknown classes)."""

    tensors: tuple[Parameter, ...]
    uncounted: tuple[str, ...] = ()


def parameters(config: Config) -> tuple[Parameter, ...]:
    """Every tensor of the checkpoint that `config` (the whole config.json) describes, as far as a rule counts it.

    Raises:
        UnknownArchitecture: no rule counts this model type.
        ConfigError: a key is missing, of the wrong type, or contradicts another.
    """
    return counted(config).tensors


def counted(config: Config) -> Counted:
    """As `parameters`, with the sections that were not counted.

    Raises:
        UnknownArchitecture: no rule counts this model type.
        ConfigError: a key is missing, of the wrong type, or contradicts another.
    """
    model_type = config.text("model_type")
    text, text_type = text_part(config, model_type)
    if text.data is not config.data:
        model_type = _WRAPPED_AS.get(model_type, model_type)
    module = module_of(text_type)
    if module is None or model_type in _COMPOSED:
        raise UnknownArchitecture(text_type, [], config.source)
    decoder = reader_of(text_type, config.source).read(text)
    whole = text.data is config.data
    given = assumed_part(model_type, "text_config").get("given") if not whole and not _has_text(config) else {}
    outer = config if (whole and model_type not in WRAPPERS) or model_type in _TIED_BY_TEXT else completed(config, model_type)
    assumed = text_type if text_type in class_defaults() else assumed_part(model_type, "text_config").get("type", text_type)
    sizes = Sizes(completed(text, assumed, given), outer, decoder, text_type, (config.data, text.data))
    if whole and model_type not in WRAPPERS:
        return Counted(tuple(module.read(sizes)))
    from kvplan.architectures.parameters.wrappers import row_of, towers_and_projectors  # a text model loads no towers

    row = row_of(model_type)
    before, after, uncounted = towers_and_projectors(sizes, outer, model_type)
    inner = module.read(sizes, row.text if row else None)
    return Counted(tuple(chain(*before, inner, *after)), uncounted)


def module_of(text_type: str) -> ModuleType | None:
    """The module that counts a text part's model type."""
    name = MODULE_OF.get(text_type)
    return None if name is None else import_module(f"kvplan.architectures.parameters.{name}")


def _has_text(config: Config) -> bool:
    return any(
        isinstance(config.data.get(key), dict) and config.data[key] for key in ("text_config", "language_config", "llm_config")
    )
