"""Parameters counted from a config, tensor by tensor, in the order in which the model's modules are constructed.

A module of this package has `read(sizes, root) -> Iterator[Parameter]` for its model types. Head counts, head sizes and
which layer does what come from the family reader in `kvplan.architectures`; this package adds the widths, biases, norms,
experts and tables that a cache does not need to know.
"""

from importlib import import_module

import kvplan.architectures as architectures
from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters.index import MODULES
from kvplan.architectures.parameters.sizes import Sizes, assumed_part, completed
from kvplan.domain.parameters import Parameter
from kvplan.errors import UnknownArchitecture

__all__ = ["parameters"]


def parameters(config: Config) -> tuple[Parameter, ...]:
    """Every tensor of the checkpoint that `config` (the whole config.json) describes.

    Raises:
        UnknownArchitecture: no rule counts this model type.
        ConfigError: a key is missing, of the wrong type, or contradicts another.
    """
    model_type = config.text("model_type")
    text, text_type = architectures._text_part(config, model_type)
    module = next(
        (m for m in (import_module(f"kvplan.architectures.parameters.{name}") for name in MODULES) if text_type in m.ROWS), None
    )
    if module is None:
        raise UnknownArchitecture(text_type, [], config.source)
    family = architectures._family(text_type, config.source, infer=False)
    decoder = family.read(text, text_type)
    given = {} if text is config else assumed_part(model_type, "text_config").get("given") if not _has_text(config) else {}
    outer = completed(config, model_type) if text.data is not config.data else config
    sizes = Sizes(completed(text, text_type, given), outer, decoder, text_type)
    return tuple(module.read(sizes))


def _has_text(config: Config) -> bool:
    return any(
        isinstance(config.data.get(key), dict) and config.data[key] for key in ("text_config", "language_config", "llm_config")
    )
