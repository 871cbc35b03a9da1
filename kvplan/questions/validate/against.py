"""What every comparison with a library asks first: the engine that models it, its release, and a config that names a class."""

from collections.abc import Mapping
from typing import Any, TypeVar

from kvplan.domain.model import Model
from kvplan.engines.kernel.engine import Engine
from kvplan.errors import InputError

E = TypeVar("E", bound=Engine)


def asked(engine: Engine, kind: type[E], model: Model) -> tuple[E, Mapping[str, Any]]:
    """`engine`, if it is the one that models the library, and the config of `model`, if the library can build one.

    Raises:
        InputError: another engine, or a model that is a list of layers and names no class.
    """
    name = kind.about.name
    if not isinstance(engine, kind):
        raise InputError(f"«against {name}» compares the engine {name}", hint=f"add «engine {name}»")
    if model.origin is None or not model.origin.config:
        raise InputError(
            "the library needs a config.json, and this model is a list of layers", hint="give its config.json or hub id"
        )
    return engine, model.origin.config


def same_release(engine: Engine, installed: str, *, patch: bool = True) -> None:
    """The installed release is the one that was predicted.

    Args:
        installed: the library's own version.
        patch: whether the last number counts too.

    Raises:
        InputError: another release is installed.
    """
    name, digits = engine.about.name, 3 if patch else 2
    if engine.version.split(".")[:digits] != installed.split(".")[:digits]:
        raise InputError(
            f"{name} {installed} is installed, and the prediction is for {engine.version}",
            hint=f"use -e {name}@{installed}, or install that release",
        )
