"""What a processor's files beside a config.json say: `preprocessor_config.json` and its kin, in a folder or on the hub."""

from collections.abc import Callable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from kvplan.errors import ConfigError, EnvironmentMissing, UnknownModel
from kvplan.files import expanded, is_hub_id, read_bounded
from kvplan.limits import DESCRIPTION_BYTES

#: File -> the section of a processor's values that it is.
_FILES: Final = (
    ("preprocessor_config.json", "image_processor"),
    ("video_preprocessor_config.json", "video_processor"),
    ("processor_config.json", "processor"),
)
#: Sections that a processor's own file may hold.
_INSIDE: Final = ("image_processor", "video_processor", "feature_extractor", "audio_processor")
#: Moonshot's section of `preprocessor_config.json`, for both images and video (`kimi_k25_vision_processing.py`).
_MOONSHOT: Final = "media_proc_cfg"


def processor_files(source: object) -> Mapping[str, Any]:
    """The values, by section, of the files beside a model that was named as a folder, its config.json or a hub id.

    A processor's own keyword arguments win over its files, so a file's `do_pan_and_scan` says nothing (Gemma 3): only the call
    can ask for it. `source` is what errors call them; `unread` why the hub's were not had. Nothing of others: a model of the
    catalogue has its family's published numbers.

    Raises:
        ConfigError: a file is not a JSON object, or too large.
    """
    folder = _folder(source)
    if folder is not None:
        return _sections(lambda name: _local(folder / name), str(folder))
    repository = _repository(source)
    if repository is None:
        return {}
    missed: dict[str, str] = {}  # file -> why it was not had
    found = _sections(lambda name: _fetched(repository, name, missed), repository)
    if not missed:
        return found
    which, why = " and ".join(missed), next(iter(missed.values()))
    return {
        **found,
        "unread": f"{which} of {repository} may say otherwise and {'was' if len(missed) == 1 else 'were'} not had: {why}",
    }


def _sections(read: Callable[[str], bytes | None], where: str) -> Mapping[str, Any]:
    """Every file that there is."""
    from kvplan.loading.config_json import parse_config  # most models are named, and have no files at hand

    found: dict[str, Any] = {}
    for name, section in _FILES:
        text = read(name)
        if text is None:
            continue
        values = parse_config(text, f"{where}/{name}", f"a processor's {name}")
        if section == "processor":
            found |= {inner: values[inner] for inner in _INSIDE if isinstance(values.get(inner), Mapping) and inner not in found}
        found[section] = {key: value for key, value in values.items() if key not in {*_INSIDE, "do_pan_and_scan"}}
    image = found.get("image_processor")
    if image is not None and isinstance(image.get(_MOONSHOT), Mapping):
        image, found["video_processor"] = _moonshot(image[_MOONSHOT])
        found["image_processor"] = image
    if image is not None and "feature_extractor" not in found:  # one file for what the model sees and what it hears
        found["feature_extractor"] = image
    if image is not None and "video_processor" not in found and {"min_pixels", "max_pixels"} & image.keys():
        found["video_processor"] = {key: value for key, value in image.items() if key in {"min_pixels", "max_pixels"}}
    return found | {"source": f"{where}: the processor's files"} if found else {}


def _moonshot(said: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Images and video of one section, by the names of Moonshot's own code."""
    beside = {
        "in_patch_limit_each_frame": "in_patch_limit",
        "temporal_merge_kernel_size": "temporal_patch_size",
        "sample_fps": "fps",
    }
    frames = {beside[key]: value for key, value in said.items() if key in beside}
    return said, {key: value for key, value in {**said, **frames}.items() if key != "in_patch_limit" or key in frames}


def _local(path: Path) -> bytes | None:
    return read_bounded(path, DESCRIPTION_BYTES, ConfigError, f"a processor's {path.name}") if path.is_file() else None


def _fetched(repository: str, name: str, missed: dict[str, str]) -> bytes | None:
    """A file of a repository, None where it has none or the hub is out of reach; after once, only what is kept is read."""
    from kvplan.loading.fetch import HubFile

    try:
        file = HubFile(repository, name)
        if missed and file.cached() is None:
            missed[name] = next(iter(missed.values()))
            return None
        return file.whole(DESCRIPTION_BYTES)
    except EnvironmentMissing as problem:
        missed[name] = str(problem)
        return None
    except UnknownModel as problem:
        if "too large" in str(problem):
            raise ConfigError(str(problem)) from problem
        return None


def _repository(source: object) -> str | None:
    """The hub id of a model that was fetched: what neither the catalogue nor a file answers to, as `load` asks them."""
    if not isinstance(source, str) or "\0" in source or len(source) > 4096:
        return None
    from kvplan.loading import hub_name
    from kvplan.loading.catalogue import find

    text = hub_name(source)
    return text if is_hub_id(text) and find(text) is None and not expanded(Path(text)).exists() else None


def _folder(source: object) -> Path | None:
    if not isinstance(source, str | PathLike):
        return None
    text = fspath(source)
    if not isinstance(text, str) or "\0" in text or len(text) > 4096:
        return None
    path = expanded(Path(text))
    if path.name == "config.json":
        path = path.parent
    return path if path.is_dir() else None
