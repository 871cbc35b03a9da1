"""Logs of engines as something to audit: which engine's it is, then every printed number against the prediction.

A file is a log when one of its first lines looks like an engine's and it does not begin as JSON lines do. To add an
engine, write its reader (`judge_log(name, lines, model) -> list[Result]`, and `MARKS`) and name it in the engine's `About`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kvplan.architectures.describe import describe
from kvplan.domain.machine import Learned
from kvplan.engines import ABOUTS, located
from kvplan.engines.kernel.verdicts import Result
from kvplan.files import expanded
from kvplan.limits import AUDIT_FILE_BYTES, AUDIT_STARTS

if TYPE_CHECKING:
    from kvplan.domain.model import Model

_HEAD_BYTES: Final = 2**20
_LINE_BYTES: Final = 2**16


def reader_of(path: Path) -> Any | None:
    """The module that reads this log, or None when the file is not a log that kvplan knows."""
    path = expanded(path)
    try:
        if not path.is_file():  # the reader of cases says what is wrong with it
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
    if head.lstrip()[:1] in {"", "{"}:
        return None
    for found in sorted(ABOUTS.values(), key=lambda about: not about.behind):  # who starts another prints its lines too
        module = located(found.logs) if found.logs else None
        if module is None:
            continue
        if any(mark in head for mark in module.MARKS):
            return module
    return None


def judge_log(
    path: Path, reader: Any, model: Model | None, *, gpu: str | None = None, learn: list[Learned] | None = None
) -> list[Result]:
    """Every context that the log shows; one result that says so when it shows none.

    Args:
        gpu: the card, where the log does not tell it.
        learn: gets what only the machine knows, from readers that look for it.
    """
    more: dict[str, Any] = {}
    if hasattr(reader, "startup"):
        more = {"tensors": describe(model) if model is not None else None, "learn": learn}
        more["gpu"] = gpu
    found: list[Result] = reader.judge_log(path.name, _lines(path), model, **more)
    if len(found) >= AUDIT_STARTS:
        return [*found, left_out(path.name, f"it holds {AUDIT_STARTS} starts or more: what comes after was left out")]
    if found:
        return found
    return [Result(id=path.name, engine="log", status="invalid", reason="the log shows no cache being created")]


def left_out(name: str, reason: str) -> Result:
    """What says that a file was not audited to its end."""
    return Result(id=name, engine="audit", status="invalid", reason=reason)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a log, long ones cut, bounded."""
    left = AUDIT_FILE_BYTES
    with expanded(path).open("rb") as file:
        while left > 0 and (line := file.readline(_LINE_BYTES)):
            left -= len(line)
            yield line.decode("utf-8", "replace").rstrip("\r\n")
