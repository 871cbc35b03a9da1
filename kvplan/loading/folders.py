"""Folders as people have them: a model's, or one with GGUF files, an adapter, checkpoints or another's config in it."""

import re
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from kvplan.errors import UnknownModel

#: Configs that a folder may have instead, the first that is there; what they are, their content says.
CONFIGS: Final = ("config.json", "params.json", "adapter_config.json", "model_index.json")
_MOST: Final = 10_000  # entries of a folder that are looked at
_SHOWN: Final = 6
_PART: Final = re.compile(r"-\d{5}-of-\d{5}$")


def config_in(folder: Path) -> Path:
    """The file that describes the model of a folder: one of `CONFIGS`, or its one GGUF file.

    Raises:
        UnknownModel: there is none; the message says what there is.
    """
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        return folder / "adapter_config.json"
    found = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    return found or _gguf_in(folder) or _nowhere(folder)


def _gguf_in(folder: Path) -> Path | None:
    """The one model in GGUF, its first part where it has several; a vision projector beside it is none."""
    models: dict[str, Path] = {}
    for path in sorted(_entries(folder)):
        if path.suffix.lower() == ".gguf" and not path.name.lower().startswith("mmproj"):
            models.setdefault(_PART.sub("", path.stem), path)
    if len(models) > 1:
        shown = ", ".join(path.name for path in islice(models.values(), _SHOWN)) + (", …" if len(models) > _SHOWN else "")
        raise UnknownModel(f"`{folder}` has {len(models)} GGUF models: {shown}", hint="name one of them")
    return next(iter(models.values()), None)


def _nowhere(folder: Path) -> Path:
    below = [inner for inner in _below(folder) if (inner / "config.json").is_file()]
    if below:
        shown = ", ".join(str(inner.relative_to(folder)) for inner in below[:_SHOWN]) + (", …" if len(below) > _SHOWN else "")
        raise UnknownModel(
            f"`{folder}` has no config.json, and below it: {shown}", hint=f"`kvplan estimate {shlex.quote(str(below[-1]))}`"
        )
    raise UnknownModel(
        f"`{folder}` is a folder without a config.json", hint="give the folder of a downloaded model, or a config.json"
    )


def _below(folder: Path) -> list[Path]:
    """Folders in it, checkpoints in the order of their numbers; of the hub's cache, its snapshots."""
    inner = [path for path in _entries(folder) if path.is_dir()]
    snapshots = folder / "snapshots"
    if snapshots in inner:
        inner += [path for path in _entries(snapshots) if path.is_dir()]
    return sorted(inner, key=lambda path: (len(path.name), path.name) if path.name.startswith("checkpoint-") else (0, path.name))


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from islice(folder.iterdir(), _MOST)
    except OSError as problem:
        raise UnknownModel(f"cannot read `{folder}`: {problem.strerror or problem}", hint="check its permissions") from problem
