"""Parameters counted from a config, tensor by tensor, in the order in which the model's modules are constructed.

A module of this package has `read(sizes, root) -> Iterator[Parameter]` for its model types. Head counts, head sizes and
which layer does what come from the family reader in `kvplan.architectures`; this package adds the widths, biases, norms,
experts and tables that a cache does not need to know.
"""

from importlib import import_module

import kvplan.architectures as architectures
from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters.index import MODULE_OF
from kvplan.architectures.parameters.sizes import Sizes, completed
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
    module = MODULE_OF.get(text_type)
    if module is None:
        raise UnknownArchitecture(text_type, sorted(MODULE_OF), config.source)
    family = architectures._family(text_type, config.source, infer=False)
    decoder = family.read(text, text_type)
    sizes = Sizes(completed(text, text_type), completed(config, model_type), decoder, text_type)
    return tuple(import_module(f"kvplan.architectures.parameters.{module}").read(sizes))
