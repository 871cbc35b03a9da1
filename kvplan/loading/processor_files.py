"""What a processor's files beside a config.json say: `preprocessor_config.json` and its kin, where the model is a folder."""

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from kvplan.errors import ConfigError
from kvplan.files import expanded, read_bounded
from kvplan.limits import DESCRIPTION_BYTES
from kvplan.loading.config_json import parse_config

#: File -> the section of a processor's values that it is.
_FILES: Final = (
    ("preprocessor_config.json", "image_processor"),
    ("video_preprocessor_config.json", "video_processor"),
    ("processor_config.json", "processor"),
)
#: Sections that a processor's own file may hold.
_INSIDE: Final = ("image_processor", "video_processor", "feature_extractor", "audio_processor")


def processor_files(source: object) -> Mapping[str, Any]:
    """The values, by section, of the files beside a model that was named as a folder or its config.json; nothing of others.

    A processor's own keyword arguments win over its files, so a file's `do_pan_and_scan` says nothing (Gemma 3): only the call
    can ask for it. `source` is what errors call them.

    Raises:
        ConfigError: a file is not a JSON object.
    """
    folder = _folder(source)
    if folder is None:
        return {}
    found: dict[str, Any] = {}
    for name, section in _FILES:
        path = folder / name
        if not path.is_file():
            continue
        what = f"a processor's {name}"
        values = parse_config(read_bounded(path, DESCRIPTION_BYTES, ConfigError, what), str(path), what)
        if section == "processor":
            found |= {inner: values[inner] for inner in _INSIDE if isinstance(values.get(inner), Mapping) and inner not in found}
        found[section] = {key: value for key, value in values.items() if key not in {*_INSIDE, "do_pan_and_scan"}}
    image = found.get("image_processor")
    if image is not None and "feature_extractor" not in found:  # one file for what the model sees and what it hears
        found["feature_extractor"] = image
    if image is not None and "video_processor" not in found and {"min_pixels", "max_pixels"} & image.keys():
        found["video_processor"] = {key: value for key, value in image.items() if key in {"min_pixels", "max_pixels"}}
    return found | {"source": f"{folder}: the processor's files"} if found else {}


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
