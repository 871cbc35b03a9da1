"""`kvplan.measure`: what a model's own code keeps, run and measured."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvplan import limits
from kvplan.api.given import Count, size
from kvplan.errors import InputError, OptionError, shown, written
from kvplan.files import expanded, read_bounded
from kvplan.loading.config_json import parse_config
from kvplan.report.notebook import displayed

if TYPE_CHECKING:
    from kvplan.questions.measure.measured import Measured


def check_seconds(seconds: float) -> None:
    """Whether the runs may take so long.

    Raises:
        OptionError: no number of seconds, or more than may be asked for.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds <= limits.MEASURE_MOST_SECONDS:
        raise OptionError(
            f"«seconds» must be from 1 to {limits.MEASURE_MOST_SECONDS:,}, got {shown(seconds)}", hint="such as 120"
        )


def measure(
    model: Any,
    *,
    config: "Mapping[str, Any] | str | PathLike[str] | None" = None,
    name: str = "",
    seconds: float = limits.MEASURE_SECONDS,
    memory: Count = limits.MEASURE_MEMORY_BYTES,
) -> "Measured":
    """Run a model at several lengths and batch sizes, find every tensor that lives on, and describe how each one grows.

    A live module is run in this process, on a copy that shares its weights and is thrown away; a class in a file is run in a
    process of its own, which is bounded by `seconds` and `memory`.

    Args:
        model: a live `torch.nn.Module`, or `FILE.py:CLASS`, whose code is then run. A model of transformers is built from its
            own config class; any other class takes the config as a dict, and its `forward(input_ids, past=None)` returns
            `(logits, past)`, or it keeps its cache in itself.
        config: what a class is built from: a dict, or the path of a JSON file. Of a live module, what its numbers are called.
        name: what the model is called in the description; the class when empty.
        seconds: about how much processor time the runs may take; a process is ended after four times that and a minute.
        memory: what the process of a class in a file may take.

    Returns:
        A `Measured`: `.model`, which `estimate` and the others take, `.passed`, `.failure()`, `.lines`, `.runs`,
        `.unexplained`, `.to_dict()`.

    Raises:
        NotMeasured: the class cannot be built or run; the message has the line.
        EnvironmentMissing: torch is not installed.
        KvplanError: a bad file, config or value.
    """
    from kvplan.questions.measure.measured import Measured, measured

    displayed(Measured, "kvplan.report.answers.measure:MeasureAnswer", several=False)
    check_seconds(seconds)
    values = _config(config)
    if isinstance(model, str | PathLike):
        from kvplan.questions.measure.apart import observed_apart

        file, kind = file_and_class(model)
        read_bounded(file, limits.MEASURE_CODE_BYTES, InputError, "a Python file with the class")
        seen = observed_apart(file, kind, values or {}, seconds=float(seconds), memory_bytes=size(memory, "memory"))
        return measured(seen, name)
    if not callable(getattr(model, "named_modules", None)) or isinstance(model, type):
        raise InputError(f"{written(model)} is no live torch.nn.Module", hint="give a module, or `FILE.py:CLASS`")
    from kvplan.questions.measure.observe import observe
    from kvplan.questions.measure.subjects import Subject

    return measured(observe(Subject(model, config=values), float(seconds)), name)


def file_and_class(text: "str | PathLike[str]") -> tuple[Path, str]:
    """`FILE.py:CLASS` in its parts.

    Raises:
        InputError: no such file, or no class is named.

    >>> file_and_class("model.py")
    Traceback (most recent call last):
        ...
    kvplan.errors.InputError: `model.py` names no class
    """
    path, colon, kind = str(text).rpartition(":")
    if not colon or not kind.isidentifier() or not path:
        raise InputError(f"`{str(text)[:120]}` names no class", hint="give FILE.py:CLASS, such as model.py:MyModel")
    file = expanded(path)
    if file.suffix != ".py":
        raise InputError(f"`{path[:120]}` is not a Python file", hint="give FILE.py:CLASS, such as model.py:MyModel")
    return file.absolute(), kind


def _config(given: "Mapping[str, Any] | str | PathLike[str] | None") -> dict[str, Any] | None:
    """The config as a dict.

    Raises:
        InputError: a file that cannot be read, or something else.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return dict(given)
    if not isinstance(given, str | PathLike):
        raise OptionError(f"config: a dict or a file is needed, got {shown(given)}", hint="such as config.json", option="config")
    path = expanded(given if isinstance(given, str) else Path(given))
    return parse_config(read_bounded(path, limits.CONFIG_BYTES, InputError, "a config in JSON"), str(path))
