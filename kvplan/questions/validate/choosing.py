"""`--device`: from the text to a backend that is really there."""

import re
from typing import Any, Final

from kvplan.errors import EnvironmentMissing, OptionError, nearest
from kvplan.questions.validate.devices import Cpu, Cuda, Device, Mps, Xpu, import_torch
from kvplan.questions.validate.ranks import Ranks

KINDS: Final = ("auto", "cpu", "cuda", "mps", "xpu")
_OTHER_NAMES: Final = {"gpu": "cuda", "nvidia": "cuda", "rocm": "cuda", "hip": "cuda", "metal": "mps", "host": "cpu"}
_TEXT = re.compile(r"(auto|cpu|cuda|mps|xpu)(?::(\d{1,4}))?")


def parse_device(text: str) -> tuple[str, int | None]:
    """The kind and the index of a device as torch writes it.

    Raises:
        OptionError: no such kind, or an index where there is none; the message names the nearest.

    >>> parse_device("cuda:1")
    ('cuda', 1)
    """
    match = _TEXT.fullmatch(text.strip().lower())
    if match is None or (match[2] and match[1] in {"auto", "cpu", "mps"}):
        said = text.strip().lower().partition(":")[0]
        near = _OTHER_NAMES.get(said) or nearest(said, KINDS)
        raise OptionError(
            f"«device»: unknown device `{text[:40]}`",
            hint=(f"did you mean `{near}`? " if near else "") + "one of auto, cpu, cuda, cuda:N, mps, xpu, xpu:N",
        )
    return match[1], int(match[2]) if match[2] else None


def open_device(text: str, ranks: Ranks) -> Device:
    """The device that `text` names, or for `auto` the best one: CUDA, XPU, MPS, then the CPU.

    Under torchrun a GPU's index is the rank's `LOCAL_RANK`.

    Raises:
        OptionError: an unknown device, or one GPU for several ranks.
        EnvironmentMissing: torch or the device is not there.
    """
    kind, index = parse_device(text)
    if ranks.local_world_size > 1 and index is not None:
        raise OptionError(
            f"«device {text}»: {ranks.local_world_size} ranks of torchrun cannot share one GPU",
            hint=f"write «device {kind}»: each rank takes the GPU of its LOCAL_RANK",
        )
    torch = import_torch()
    if kind == "auto":
        kind = next(k for k in ("cuda", "xpu", "mps", "cpu") if _count(torch, k) >= (ranks.local_world_size if k != "cpu" else 1))
    if kind == "cpu":
        return Cpu(torch, sharers=ranks.local_world_size)
    return _gpu(torch, kind, index, ranks)


def _gpu(torch: Any, kind: str, index: int | None, ranks: Ranks) -> Device:
    there = _count(torch, kind)
    if there == 0:
        raise EnvironmentMissing(
            f"no {kind} device is available (torch {torch.__version__})",
            hint="use «device cpu», or install a torch that is built for this machine's GPU",
        )
    if ranks.local_world_size > there:
        raise EnvironmentMissing(
            f"{ranks.local_world_size} ranks need as many {kind} devices, and this machine has {there}",
            hint="start fewer ranks, or use «device cpu»",
        )
    index = ranks.local_rank if index is None else index
    if index >= there:
        raise EnvironmentMissing(
            f"«device {kind}:{index}»: this machine has {there} {kind} device{'s' if there > 1 else ''}",
            hint=f"use {kind}:0" + (f" to {kind}:{there - 1}" if there > 1 else ""),
        )
    if kind == "mps":
        return Mps(torch)
    return Cuda(torch, index) if kind == "cuda" else Xpu(torch, index)


def _count(torch: Any, kind: str) -> int:
    """How many devices of that kind torch can use."""
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(bool(torch.backends.mps.is_available()))
    backend = getattr(torch, kind)
    return int(backend.device_count()) if backend.is_available() else 0
