"""What one process keeps on each of its devices, allocated part by part: each is freed before the next is made.

A machine without the cards holds the parts that it has memory for one after the other, on what it has; with as many GPUs as the
question names, each part lies on the GPU of its number. The host's part is always in host memory.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import Allocation, Buffer
from kvplan.domain.spread import Place, Spread
from kvplan.errors import DoesNotFit, InputError
from kvplan.questions.validate.allocate import Watch, unwatched
from kvplan.questions.validate.choosing import open_device, parse_device
from kvplan.questions.validate.compare import Check, Validation
from kvplan.questions.validate.devices import Device
from kvplan.questions.validate.ranks import Ranks
from kvplan.questions.validate.session import check_fits, measure

#: Lines of a device that are caches and states.
_KEPT: Final = frozenset({"cache", "state"})


class CachePart(Struct, frozen=True, kw_only=True):
    """The caches and states of one device: what the engine's places say that they take, and the tensors."""

    place: Place
    allocation: Allocation


def parts_of(allocation: Allocation, spread: Spread) -> tuple[CachePart, ...]:
    """The tensors of an allocation by the device that they lie on, devices without any left out.

    A layer that no device names, as some models append, lies where the last one does.
    """
    places = [place for place in spread.places if place.cached]
    if not places:
        raise InputError("no device holds a cache here", hint="a model without a cache has nothing to allocate")
    last = max(places, key=lambda place: place.cached[-1])
    where = {layer: place.device for place in places for layer in place.cached}
    found = []
    for place in places:
        buffers = tuple(
            part for buffer in allocation.buffers for part in _here(buffer, where, place.device, last.device) if part.padded_bytes
        )
        if buffers:
            found.append(CachePart(place=place, allocation=replace(allocation, buffers=buffers)))
    return tuple(found)


def _here(buffer: Buffer, where: dict[int, str], device: str, last: str) -> tuple[Buffer, ...]:
    """What of a buffer lies on a device."""
    if not buffer.layers:
        return (buffer,) if device == last else ()
    numbers = [n for n, layer in enumerate(buffer.layers) if where.get(layer, last) == device]
    each, rest = divmod(buffer.padded_bytes, buffer.count)
    mine = replace(
        buffer,
        layers=tuple(buffer.layers[n] for n in numbers),
        padded_bytes=sum(each + (n < rest) for n in numbers),
        payload_bytes=buffer.payload_bytes * len(numbers) // buffer.count,
    )
    return (mine,) if numbers else ()


def validate_parts(
    allocation: Allocation, spread: Spread, device: str, *, limit_bytes: int | None = None, watch: Watch = unwatched
) -> list[Validation]:
    """Every device's part in turn: look whether it fits, allocate, measure, free, compare.

    Args:
        allocation: of the whole process.
        spread: where its layers lie.
        device: as people type it (`auto`, `cpu`, `cuda`); with `cuda` each part is on the GPU of its number where there are
            as many.
        limit_bytes: no part takes more.
        watch: called with the bytes touched, as they are.

    Raises:
        DoesNotFit: a part needs more than there is; the parts before it have been freed.
        EnvironmentMissing: torch or the device is not there.
    """
    parts = parts_of(allocation, spread)
    opened = _opened(parts, device)
    limits = [_checked(part, on, limit_bytes) for part, on in zip(parts, opened, strict=True)]
    found = []
    for part, on, limit in zip(parts, opened, limits, strict=True):
        measured = measure(part.allocation, on, limit, watch=watch)
        placed = _as_placed(part, measured.checks[0].real)
        found.append(replace(measured, part=part.place.device, checks=(*measured.checks, placed)))
    return found


def _checked(part: CachePart, device: Device, limit_bytes: int | None) -> int:
    """What the tensors of a part may take; one that does not fit is named."""
    try:
        return check_fits(part.allocation, device, limit_bytes)
    except DoesNotFit as problem:
        raise DoesNotFit(f"{part.place.device}: {problem}", hint=problem.hint) from problem


def _as_placed(part: CachePart, real: int) -> Check:
    """The buffer that the engine makes there, which pads rows of packed types on some backends, beside the tensors."""
    packed = any(buffer.dtype == "uint8" for buffer in part.allocation.buffers)
    predicted = sum(line.bytes for line in part.place.lines if line.name in _KEPT)
    remark = "rows of packed types are padded there" if packed and predicted != real else ""
    return Check(name="the engine's buffer", predicted=predicted, real=real, exact=not packed or predicted == real, remark=remark)


def _opened(parts: Sequence[CachePart], device: str) -> list[Device]:
    """A device for each part."""
    first = open_device(device, Ranks())
    several = first.kind == "cuda" and parse_device(device)[1] is None and first.torch.cuda.device_count() >= len(parts)
    found: list[Device] = []
    for number, part in enumerate(parts):
        if not part.place.card:
            found.append(first if first.kind == "cpu" else open_device("cpu", Ranks()))
        else:
            found.append(open_device(f"cuda:{number}", Ranks()) if several else first)
    return found
