"""Model type of the text part -> the module of this package that counts its parameters."""

from typing import Final

from kvplan.architectures.parameters import dense

MODULES: Final[dict[str, tuple[str, ...]]] = {
    "dense": tuple(dense.ROWS),
}
MODULE_OF: Final[dict[str, str]] = {model_type: module for module, types in MODULES.items() for model_type in types}
