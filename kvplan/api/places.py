"""Whether a question is one about places: which engines deal layers out to several devices and the host, and when it is asked."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

from kvplan.api.cards import named
from kvplan.api.given import Source
from kvplan.domain.gpus import counted
from kvplan.domain.model import Model
from kvplan.engines import about, default_engine, located
from kvplan.engines.kernel.releases import parse_version


def places(engine: str) -> bool:
    """Whether an engine deals layers out to unequal devices."""
    known, version = about(engine), engine.partition("@")[2]
    asked = parse_version(version or known.latest or "0")
    return bool(known.spread) and asked >= parse_version(known.spread_since or "0")


def said(engine: str, options: Mapping[str, Any]) -> bool:
    """Whether options say where things lie."""
    return places(engine) and bool(set(located(about(engine).spread).PLACING) & set(options))


def together(gpu: str) -> bool:
    """Whether a text names several cards one by one."""
    parts = [part.strip() for part in gpu.split(",")]
    return len(parts) > 1 or ":" in gpu or (parts[0][:1].isdigit() and "x" in parts[0][:4].lower())


def usual_engine(model: Source, loaded: Model, gpu: str) -> str:
    """The engine of a model on these cards, where nobody named one."""
    makers = {entry.vendor for name in gpu.split(",") for entry in named(counted(name)[0])}
    typed = str(model) if isinstance(model, str | PathLike) else ""
    return default_engine(typed, gguf=bool(loaded.gguf), maker=makers.pop() if len(makers) == 1 else "")
