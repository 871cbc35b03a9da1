"""Real tensors, held for as long as a block lasts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kvplan.errors import DoesNotFit, EnvironmentMissing
from kvplan.questions.validate.compare import RealTensor
from kvplan.questions.validate.devices import Device
from kvplan.questions.validate.tensors import PlannedTensor
from kvplan.units import MIB

#: Called with the bytes that were touched since the last call.
Watch = Callable[[int], None]

#: Memory is touched in pieces of this size, so that progress shows and Ctrl-C is answered within a large tensor.
_PIECE_BYTES: Final = 64 * MIB


def unwatched(touched_bytes: int) -> None:
    """A `Watch` that looks away."""


@contextmanager
def allocated(
    planned: Sequence[PlannedTensor], device: Device, *, limit_bytes: int | None = None, watch: Watch = unwatched
) -> Iterator[tuple[RealTensor, ...]]:
    """Hold every planned tensor on `device`, each page touched; all are freed when the block ends, however it ends.

    Args:
        limit_bytes: stop as soon as the tensors take more than that from the device.

    Raises:
        DoesNotFit: the device has not enough memory, or the limit is passed.
        EnvironmentMissing: this device or this torch cannot hold such a tensor.
    """
    tensors: list[Any] = []
    try:
        yield _fill(tensors, planned, device, limit_bytes, watch)
    finally:
        tensors.clear()
        device.settle()


def _fill(
    tensors: list[Any], planned: Sequence[PlannedTensor], device: Device, limit_bytes: int | None, watch: Watch
) -> tuple[RealTensor, ...]:
    """Append the tensors to a list that belongs to the caller, who clears it: no other name may keep one alive."""
    found: list[RealTensor] = []
    before = device.snapshot()
    storage_bytes = 0
    for wanted in planned:
        tensors.append(_empty(wanted, device))
        found.append(_seen(wanted, tensors[-1]))
        storage_bytes += found[-1].storage_bytes
        if limit_bytes is not None:
            taken = device.taken_bytes(before, storage_bytes)
            if taken > limit_bytes:
                done = f"{len(tensors):,} of {len(planned):,} tensors"
                raise DoesNotFit(f"{done} take {taken:,} bytes on {device.name}, where {limit_bytes:,} may be taken")
        _touch(tensors[-1], watch)
    return tuple(found)


def _seen(wanted: PlannedTensor, tensor: Any) -> RealTensor:
    return RealTensor(
        layer=wanted.layer,
        name=wanted.name,
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        storage_bytes=int(tensor.untyped_storage().nbytes()),
    )


def _empty(wanted: PlannedTensor, device: Device) -> Any:
    torch = device.torch
    dtype = getattr(torch, wanted.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise EnvironmentMissing(
            f"torch {torch.__version__} has no dtype `{wanted.dtype}`", hint="install a newer torch, or choose another «kv_dtype»"
        )
    try:
        return torch.empty(wanted.shape, dtype=dtype, device=device.name)
    except (RuntimeError, TypeError) as problem:
        reason = str(problem).partition("\n")[0]
        what = f"layer {wanted.layer}, {wanted.name}: {wanted.predicted_bytes:,} bytes on {device.name}"
        if isinstance(problem, torch.cuda.OutOfMemoryError) or "memory" in reason:
            raise DoesNotFit(f"out of memory at {what}", hint="ask for fewer sequences or tokens") from problem
        raise EnvironmentMissing(
            f"torch cannot allocate {what}: {reason[:200]}", hint="try another «device» or «kv_dtype»"
        ) from problem


def _touch(tensor: Any, watch: Watch) -> None:
    """Write every page, so that the memory is committed rather than promised."""
    item_bytes = tensor.element_size()
    piece = None
    try:
        for piece in tensor.view(-1).split(max(1, _PIECE_BYTES // item_bytes)):
            piece.zero_()
            watch(piece.numel() * item_bytes)
    finally:
        del tensor, piece  # a traceback keeps this frame, and must not keep the memory
