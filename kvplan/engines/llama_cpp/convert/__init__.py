"""From a hub config to the GGUF keys that llama.cpp's converter writes for it: those that decide the cache.

The memories were read from the hub config already (`kvplan.architectures`), class defaults included; here they are written
as llama.cpp's converter does, with its quirks. A model type without a row has no mapping that kvplan knows.

Source: llama.cpp 0c1e57098, `conversion/base.py` (`TextModel.set_gguf_parameters`) and the classes of `conversion/*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.model import Model
from kvplan.domain.origin import Origin
from kvplan.engines.kernel.releases import Release
from kvplan.engines.llama_cpp.convert.row import Row
from kvplan.engines.llama_cpp.convert.rows import ROWS
from kvplan.engines.llama_cpp.convert.written import Inconvertible, Written
from kvplan.errors import Refused

_OUTSIDE: Final = "llama.cpp runs GGUF files, and this description has no hub config that its converter could read"


def gguf_keys(model: Model, release: Release | None = None) -> Mapping[str, Any]:
    """The GGUF keys of a model: the file's own, or those that the converter of a build (none: the newest) writes.

    Raises:
        Refused: the converter has no form for the model, or kvplan knows none.

    >>> from kvplan.loading import load
    >>> gguf_keys(load("llama-3.1-8b"))["llama.attention.head_count_kv"]
    8
    """
    if model.origin is None or not model.origin.config:
        raise Refused(_OUTSIDE)
    if "general.architecture" in model.origin.config:
        return model.origin.config
    kind = model.text_type
    row = ROWS.get(f"{model.model_type}/{kind}") or ROWS.get(kind)
    if row is None:
        raise Refused(
            f"the GGUF keys that llama.cpp's converter writes for model type {kind} are not known here",
            see="give the GGUF file itself",
        )
    if model.inferred:
        raise Refused(f"model type {kind} was read by its shape: its GGUF keys are not known")
    if row.before is not None and release is not None and release < (0, 0, row.before[0]):
        row = replace(row, arch=row.before[1])
    try:
        return _written(model, model.origin, row)
    except Inconvertible as problem:
        raise Refused(f"llama.cpp's converter has no form for this {kind} model: {problem}") from problem


def _written(model: Model, origin: Origin, row: Row) -> Mapping[str, Any]:
    written = Written(row.arch, model, origin)
    written.common(context=row.context)
    row.build(written, row)
    return written.keys
