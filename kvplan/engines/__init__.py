"""Back ends: how an engine stores what a model must remember. One file an engine, imported when asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from kvplan.errors import OptionError, nearest

if TYPE_CHECKING:
    from kvplan.engines.kernel.engine import Engine

#: Engine name -> where its class is. A new engine is one file and one row.
ENGINES: Final[dict[str, tuple[str, str]]] = {
    "ideal": ("kvplan.engines.ideal.engine", "Ideal"),
    "llama.cpp": ("kvplan.engines.llama_cpp.engine", "LlamaCpp"),
    "transformers": ("kvplan.engines.transformers.engine", "Transformers"),
    "vllm": ("kvplan.engines.vllm.engine", "Vllm"),
}
#: Engines that recorded cases and flags speak of, and that a later release will predict.
PLANNED: Final = ("sglang", "tensorrt-llm", "mlx-lm")


def engine_class(name: str) -> "type[Engine]":
    """The class behind an engine's name.

    Raises:
        OptionError: no such engine; the message names the nearest.
    """
    found = ENGINES.get(name.strip().lower())
    if found is None:
        if name.strip().lower() in PLANNED:
            raise OptionError(f"engine `{name}` is not predicted by this release", hint=f"available: {', '.join(ENGINES)}")
        near = nearest(name, ENGINES)
        raise OptionError(
            f"unknown engine `{name[:60]}`",
            hint=f"did you mean `{near}`?" if near else f"available: {', '.join(ENGINES)}",
        )
    module, attribute = found
    cls: type[Engine] = getattr(import_module(module), attribute)
    return cls


def make_engine(spec: str, options: Mapping[str, Any]) -> "Engine":
    """An engine from `NAME` or `NAME@VERSION` and options by the engine's or kvplan's shared names.

    Raises:
        OptionError: unknown engine, option or value.
    """
    from kvplan.engines.kernel.options import build_options
    from kvplan.engines.kernel.releases import parse_version

    name, _, version = spec.partition("@")
    cls = engine_class(name)
    if version:
        parse_version(version)
    own = {cls.aliases.get(key, key): value for key, value in options.items()}
    return cls(build_options(cls.Options, own, engine=name), version or None)  # type: ignore[call-arg]
