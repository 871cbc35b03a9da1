"""Facts of recorded logs of real cards: caches and states by card to the printed digits, compute buffers inside a band.

Such a record has no list of tensors: what weights on the host add to a card is bounded by the model's own dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from msgspec.structs import replace

from kvplan.engines.kernel.cases import Case, InvalidCase, whole
from kvplan.engines.kernel.printed import written_like
from kvplan.engines.kernel.verdicts import Banded
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.memory import Params
from kvplan.engines.llama_cpp.placement.compute import Band
from kvplan.engines.llama_cpp.placement.devices import CUDA, METAL, ROCM, SYCL, VULKAN, Backend, Device
from kvplan.engines.llama_cpp.placement.place import Asked, Placed, place
from kvplan.engines.llama_cpp.placement.split import HOST_LAYER, shares_of
from kvplan.engines.llama_cpp.releases import bands_between, between
from kvplan.gguf.hparams import Hparams
from kvplan.units import MIB

_PRINTED: Final = ("kv_mib_printed", "state_mib_printed")
BACKENDS: Final = {backend.name: backend for backend in (CUDA, ROCM, VULKAN, SYCL, METAL)} | {"Metal": METAL}
_MOST: Final = 16
_ON_HOST: Final = re.compile(r"(?:CPU|CPU_Mapped|\w+_Host) model buffer size =\s*(\d{1,9}\.\d\d) MiB")
#: Eighths of a byte that an element of a weight takes at least and at most, where the file is not known.
_ELEMENT: Final = (2, 17)


def is_gpu_log(case: Case) -> bool:
    """Whether a record is a log of real cards."""
    return "backend" not in case.options and isinstance(case.options.get("devices"), list)


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """What each card printed of caches, states and compute, and the host of compute."""
    devices = _listed(expected)
    facts: dict[str, Any] = {}
    for i, device in enumerate(devices):
        facts |= {f"devices[{i}].{name}": device[name] for name in (*_PRINTED, "compute_mib_printed") if name in device}
    if "host_compute_mib_printed" in expected:
        facts["host_compute_mib_printed"] = expected["host_compute_mib_printed"]
    return facts


def _listed(expected: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    devices = expected.get("devices", [])
    if not isinstance(devices, list) or not all(isinstance(device, Mapping) for device in devices) or len(devices) > _MOST:
        raise InvalidCase(f"`expected.devices` must be a list of at most {_MOST} objects")
    return devices


def _host_mib(expected: Mapping[str, Any]) -> float:
    """Weights on the host, as the log's lines of buffers say."""
    lines = expected.get("log", ())
    found = (_ON_HOST.search(line[:400]) for line in lines if isinstance(line, str)) if isinstance(lines, list) else ()
    return sum(float(match[1]) for match in found if match)


def keys_of(case: Case) -> Mapping[str, Any]:
    """The keys of the record; dimensions alone say neither the architecture's name nor the model's length."""
    found = dict(case.config)
    arch = found.get("general.architecture") or next((key.partition(".")[0] for key in found if "." in key), "")
    found.setdefault("general.architecture", arch)
    found.setdefault(f"{arch}.context_length", case.option("n_ctx", default=0) or 4096)
    return found


def asked(expected: Mapping[str, Any]) -> dict[str, Any]:
    """How the cards are called, how many layers went to them, and whether batches overlap."""
    return {
        "names": [str(device.get("name")) for device in _listed(expected)],
        "offloaded": expected.get("n_layers_offloaded"),
        "pipeline": expected.get("pipeline_parallel"),
        "host_mib": _host_mib(expected),
    }


def predict(case: Case, asked: Mapping[str, Any], h: Hparams, params: Params[int]) -> dict[str, Any]:
    """The same facts in MiB."""
    context = make_context(h, params)
    if isinstance(context, Refusal):
        return {}
    names = [name for name in asked["names"] if name != "Host"]
    placed = place(h, context, (), _asked(case, asked), _devices(case, names))
    if isinstance(placed, Refusal):
        return {}
    if isinstance(asked["pipeline"], bool):
        placed = replace(placed, pipeline_parallel=asked["pipeline"])
    moved = asked["host_mib"] * MIB > 6 * h.n_vocab * h.n_embd and not placed.host.blocks
    largest = _weights(h, placed, moved=moved)
    placed = replace(placed, experts=(True,) * len(names), moved=moved, largest_on_host=largest, next_on_host=None)
    if moved:
        placed = replace(placed, pipeline_parallel=False)
    facts: dict[str, Any] = {}
    bands = bands_of(case.engine_version, h, context, placed, _outputs(case), params)
    for i, name in enumerate(asked["names"]):
        part = next(part for part in placed.parts if part.name == name)
        facts[f"devices[{i}].kv_mib_printed"] = part.kv_bytes
        facts[f"devices[{i}].state_mib_printed"] = part.state_bytes
        if name != "Host":
            facts[f"devices[{i}].compute_mib_printed"] = _in_mib(bands[names.index(name)])
    facts["host_compute_mib_printed"] = _in_mib(bands[-1])
    return facts


def bands_of(
    version: str, h: Hparams, context: Context[int], placed: Placed, outputs: int | None, params: Params[int]
) -> list[Band]:
    """The compute buffers of a build, each device's and the host's, from the least to the most of its rules."""
    quantised = any(kind[0] in "qi" for kind in (params.type_k, params.type_v))
    least = replace(placed, largest_on_host=tuple(1 for _ in placed.largest_on_host))  # of unknown types
    return list(bands_between(h, context, (least, placed), between(version), quantised=quantised, outputs=outputs))


def as_recorded(name: str, predicted: Any, recorded: Any) -> Any:
    """Bytes of a cache as the log prints them."""
    if name.endswith(_PRINTED) and isinstance(predicted, int):
        return written_like(recorded, (Fraction(predicted),), name, unit="MiB", convention="binary")
    return predicted


def _in_mib(band: Band) -> Banded:
    low, best, high = (round(amount / MIB, 2) for amount in (band.low, band.best, band.high))
    return Banded(best=best, low=max(0.0, round(low - 0.01, 2)), high=round(high + 0.01, 2))


def _weights(h: Hparams, placed: Placed, *, moved: bool) -> tuple[int, ...]:
    """The largest matrices that may lie on the host: a feed-forward's, its experts', the vocabulary's; eight bits an element."""
    found = []
    if moved or placed.host.blocks:
        experts, width = (h.keys.get(f"{h.arch}.{name}") for name in ("expert_count", "expert_feed_forward_length"))
        if isinstance(experts, int) and isinstance(width, int):
            found += [experts * width * h.n_embd * _ELEMENT[1] // 16] * 2
    if placed.host.blocks:
        found += [max(h.feed_forward, default=0) * h.n_embd * _ELEMENT[1] // 16] * 2
    if placed.layers[-1] == HOST_LAYER:
        found.append(h.n_vocab * h.n_embd * _ELEMENT[1] // 16)
    return tuple(sorted(found, reverse=True))


def _asked(case: Case, asked: Mapping[str, Any]) -> Asked:
    layers = case.options.get("n_gpu_layers")
    text = asked["offloaded"]
    if isinstance(text, str) and text.partition("/")[0].isdecimal() and len(text) < 12:
        layers = int(text.partition("/")[0])
    split = case.options.get("tensor_split")
    shares = (
        shares_of(split) if isinstance(split, str) else tuple(float(each) for each in split) if isinstance(split, list) else None
    )
    return Asked(
        n_gpu_layers=layers if isinstance(layers, int) and not isinstance(layers, bool) and abs(layers) < 2**31 else -1,
        tensor_split=shares,
        offload_kqv=case.options.get("offload_kqv") is not False,
    )


def _devices(case: Case, names: Sequence[str]) -> tuple[Device, ...]:
    """The cards by name; those whose free memory nobody printed count alike."""
    free = {
        str(device.get("name")): whole(device.get("free_mib", 24 * 1024), "devices.free_mib", 1)
        for device in case.options["devices"][:_MOST]
        if isinstance(device, Mapping)
    }
    found = []
    for name in names:
        backend = BACKENDS.get(name.rstrip("0123456789"), Backend(name=name, events=True, offloads=True))
        size = free.get(name, 24 * 1024) * MIB
        found.append(Device(name=name, backend=backend, total_bytes=size, free_bytes=size))
    return tuple(found)


def _outputs(case: Case) -> int | None:
    value = case.options.get("n_outputs_max")
    return whole(value, "options.n_outputs_max") if value is not None else None
