"""Front end of preprocessing: a config and a processor's files to the rules of images, videos and clips.

A family is a row of `ROWS` (`rows.py`), found by model type or by the name of its records. What a rule does with a size is
`kvplan/domain/media/`; what an engine does otherwise is the engine's (`engines/NAME/media.py`).
"""

from collections.abc import Mapping
from typing import Any

from kvplan.architectures.media.index import ROWS
from kvplan.architectures.media.values import Row, read_part
from kvplan.domain.media.processor import Processor
from kvplan.domain.model import Model

__all__ = ["family_of", "processor", "processor_for", "processor_of"]


def family_of(name: str) -> str | None:
    """The row of a recorded family: its own name, a model type, or the longest beginning of it that ends at a `_`.

    >>> family_of("qwen2_vl_bounded"), family_of("phi4mm"), family_of("nothing")
    ('qwen2_vl', 'phi4_multimodal', None)
    """
    words = name[:200].split("_")
    for n in range(len(words), 0, -1):
        found = "_".join(words[:n])
        if found in ROWS:
            return found
        typed = next((family for family, row in ROWS.items() if found in row.types), None)
        if typed is not None:
            return typed
    return None


def processor(family: str, config: Mapping[str, Any], files: Mapping[str, Any], source: str = "config.json") -> Processor | None:
    """The rules of a family, by its files' values over the row's.

    Args:
        family: a row's name.
        config: the model's config, for assumptions that it answers.
        files: `image_processor`, `video_processor`, `feature_extractor`, `processor`: sections of a processor's values.
        source: what errors call the files.

    Raises:
        ConfigError: a value is out of range.
    """
    row = ROWS.get(family)
    return None if row is None else _read(family, row, config, files, source)


def processor_of(model: Model, files: Mapping[str, Any] | None = None) -> Processor | None:
    """The rules of a model's preprocessing, None where no row is of its type.

    Raises:
        ConfigError: a value of its config or files is out of range.
    """
    if model.origin is None:
        return None
    said = files or {}
    return processor_for(model.model_type, model.origin.config, said, str(said.get("source", model.origin.source)))


def processor_for(
    model_type: str, config: Mapping[str, Any], files: Mapping[str, Any] | None = None, source: str = "config.json"
) -> Processor | None:
    """The same by a config's type.

    Raises:
        ConfigError: a value of its config or files is out of range.
    """
    family = next((name for name, row in ROWS.items() if model_type in row.types), None)
    if family is None or (ROWS[family].section and ROWS[family].section not in config):
        return None
    return _read(family, ROWS[family], config, files or {}, source)


def _read(family: str, row: Row, config: Mapping[str, Any], files: Mapping[str, Any], source: str) -> Processor:
    parts = {
        kind: None if part is None else read_part(part, row, config, files, source)
        for kind, part in (("image", row.image), ("video", row.video), ("audio", row.audio))
    }
    return Processor(family=family, source=row.source, assumed=row.assumed, **parts)
