"""Whether a question is one about places: which engines deal layers out to several devices and the host, and when it is asked."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

from kvplan.api.cards import named
from kvplan.api.given import Source
from kvplan.domain.gpus import counted
from kvplan.domain.model import Model
from kvplan.engines import about, deals_out, default_engine, located


def places(engine: str) -> bool:
    """Whether an engine deals layers out to unequal devices."""
    return deals_out(engine)


def said(engine: str, options: Mapping[str, Any]) -> bool:
    """Whether options say where things lie."""
    return places(engine) and bool(set(located(about(engine).spread).PLACING) & set(options))


def together(gpu: str) -> bool:
    """Whether a text names several cards one by one."""
    parts = [part.strip() for part in gpu.split(",")]
    return len(parts) > 1 or ":" in gpu or (parts[0][:1].isdigit() and "x" in parts[0][:4].lower())


def choice(gpu: str) -> bool:
    """Whether a text leaves cards to choose from: `all`, a maker's name."""
    return any(len(named(counted(part)[0])) > 1 for part in gpu.split(","))


def usual_engine(model: Source, loaded: Model, gpu: str) -> str:
    """The engine of a model on these cards, where nobody named one."""
    makers = {entry.vendor for name in gpu.split(",") for entry in named(counted(name)[0])}
    typed = str(model) if isinstance(model, str | PathLike) else ""
    return default_engine(typed, gguf=bool(loaded.gguf), maker=makers.pop() if len(makers) == 1 else "")
