"""One row of the converter's mapping, and how most of them are written."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from kvplan.domain.model import Shared
from kvplan.engines.llama_cpp.convert.written import Written


def plain(w: Written, row: "Row") -> None:
    """Attention, and windows as the row says; `conversion/base.py`, `TextModel.set_gguf_parameters`."""
    if row.drafts:
        w.with_drafts()
    w.attention()
    if row.window:
        w.window(pattern=row.window == "pattern")
    if row.arch == "gemma4":  # `gemma.py`: the windows' sizes in any case; the last layers read earlier ones
        for size in ("key_length", "value_length"):
            w.keys.setdefault(f"gemma4.attention.{size}_swa", w.keys[f"gemma4.attention.{size}"])
        w.put("attention.shared_kv_layers", sum(any(isinstance(m, Shared) for m in layer.memories) for layer in w.layers))


class Row(Struct, frozen=True, kw_only=True):
    """One model type: its GGUF architecture and how its keys are written."""

    arch: str
    build: Callable[[Written, "Row"], None] = plain
    window: Literal["", "size", "pattern"] = ""  # what is written about sliding layers
    drafts: bool = False  # NextN layers become blocks
    context: int = 0  # tokens, where the converter writes a constant
    before: tuple[int, str] | None = None  # the build that named `arch`, and what converters of earlier builds wrote
