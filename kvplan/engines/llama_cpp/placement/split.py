"""Which layer goes to which device.

Source: llama.cpp 0c1e57098, `src/llama-model.cpp` (`llama_model_base::load_tensors`, `get_layer_buft_list`); the sums and
quotients are C's `float`, and a share that is one byte short moves a layer.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from kvplan.engines.llama_cpp.log import float32
from kvplan.engines.llama_cpp.placement.devices import Device
from kvplan.errors import OptionError

_MOST: Final = 128  # more devices than there are
_SHARE: Final = re.compile(r"\d{1,12}(\.\d{0,12})?|\.\d{1,12}")
HOST_LAYER: Final = -1  # the "device" of a layer that stays on the host


def shares(devices: Sequence[Device], tensor_split: Sequence[float] | None, host_total_bytes: int) -> tuple[float, ...]:
    """The running shares of the devices: the last is 1.

    Without a split, free memory decides; a device that reports no memory counts with the host's.
    """
    count = len(devices)
    given = [float(share) for share in (tensor_split or ())[:count]]
    weights = [*given, *[0.0] * (count - len(given))]
    if not any(weights):
        weights = [
            float(host_total_bytes if not device.free_bytes and not device.total_bytes else device.free_bytes)
            for device in devices
        ]
    total, running = 0.0, []
    for weight in weights:
        total = float32(total + float32(weight))
        running.append(total)
    return tuple(float32(each / total) if total else 0.0 for each in running)


def layers_to_devices(
    layers: int, n_gpu_layers: int, devices: Sequence[Device], tensor_split: Sequence[float] | None, host_total_bytes: int = 0
) -> tuple[int, ...]:
    """The device of each of `layers` blocks and, last, of the output layer; -1 is the host.

    Args:
        layers: blocks, NextN blocks among them.
        n_gpu_layers: `-ngl`; negative means all.
        devices: those that take part.
        tensor_split: `-ts`, or None.
        host_total_bytes: the host's memory.
    """
    wanted = layers + 1 if n_gpu_layers < 0 else n_gpu_layers
    start = max(layers + 1 - wanted, 0)
    act = min(wanted, layers + 1) if devices else 0
    running = shares(devices, tensor_split, host_total_bytes)
    found = []
    for layer in range(layers + 1):
        if layer < start or layer - start >= act:
            found.append(HOST_LAYER)
            continue
        device = bisect_right(running, float32((layer - start) / act))  # upper_bound: the first share above it
        found.append(min(device, len(devices) - 1))
    return tuple(found)


def shares_of(text: str) -> tuple[float, ...]:
    """`-ts`'s words: shares with commas (or slashes) between.

    Raises:
        OptionError: one is no number of at least 0.

    >>> shares_of("10,6")
    (10.0, 6.0)
    """
    found = []
    for word in re.split("[,/]", text)[:_MOST]:
        if not _SHARE.fullmatch(word.strip()):
            raise OptionError(
                f"tensor_split: `{word[:40]}` is no share", hint="numbers with commas between, as in 3,1", option="tensor_split"
            )
        found.append(float(word))
    return tuple(found)
