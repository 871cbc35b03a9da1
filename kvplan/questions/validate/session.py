"""One validation from end to end: look whether it fits, allocate, measure, free, compare."""

from kvplan.domain.allocation import Allocation
from kvplan.errors import DoesNotFit
from kvplan.questions.validate.allocate import Watch, allocated, unwatched
from kvplan.questions.validate.compare import Check, Validation, compare
from kvplan.questions.validate.devices import Device
from kvplan.questions.validate.ranks import Ranks
from kvplan.questions.validate.tensors import tensor_plan
from kvplan.units import human_bytes


def spendable_bytes(device: Device) -> int:
    """What one process of this run may take from `device` now, the headroom left out."""
    return max(0, (device.free_bytes() - device.headroom_bytes) // device.sharers)


def check_fits(allocation: Allocation, device: Device, limit_bytes: int | None = None) -> int:
    """Look before allocating anything.

    Returns:
        The bytes that the tensors may take at most.

    Raises:
        DoesNotFit: more is needed than the device has free, or than `limit_bytes`.
    """
    needed = device.needed_bytes([tensor.predicted_bytes for tensor in tensor_plan(allocation)])
    hint = "ask for fewer sequences (-b) or tokens (-s); `kvplan estimate` needs no memory"
    if limit_bytes is not None and needed > limit_bytes:
        raise DoesNotFit(f"the cache needs {_both(needed)}, and «limit» allows {_both(limit_bytes)}", hint=hint)
    spendable = spendable_bytes(device)
    if needed > spendable:
        share = f" for each of {device.sharers} ranks" if device.sharers > 1 else ""
        kept = f" (with {human_bytes(device.headroom_bytes)} kept free)" if device.headroom_bytes else ""
        there = f"{device.name} has {_both(spendable)} free{share}{kept}"
        raise DoesNotFit(f"the cache needs {_both(needed)}, and {there}", hint=hint)
    return spendable if limit_bytes is None else min(spendable, limit_bytes)


def _both(amount: int) -> str:
    return f"{amount:,} bytes" + (f" ({human_bytes(amount)})" if amount >= 1024 else "")


def validate(
    allocation: Allocation,
    device: Device,
    *,
    ranks: Ranks | None = None,
    limit_bytes: int | None = None,
    watch: Watch = unwatched,
) -> Validation:
    """Look whether it fits, then `measure`.

    Raises:
        DoesNotFit: more is needed than there is, or than `limit_bytes`; nothing has been allocated.
    """
    return measure(allocation, device, check_fits(allocation, device, limit_bytes), ranks=ranks, watch=watch)


def measure(
    allocation: Allocation, device: Device, ceiling_bytes: int, *, ranks: Ranks | None = None, watch: Watch = unwatched
) -> Validation:
    """Allocate every tensor of `allocation` on `device`, measure while they are held, free them, compare.

    Args:
        ceiling_bytes: stop when the tensors take more than that, which only a wrong prediction can cause.
        ranks: this process's place among several, for the report.
        watch: called with the bytes touched, as they are.

    Raises:
        DoesNotFit: the device refused, or the ceiling was passed; all memory is freed again.
        EnvironmentMissing: the device cannot hold such tensors.
    """
    planned = tensor_plan(allocation)
    sizes = [tensor.predicted_bytes for tensor in planned]
    place = ranks or Ranks()
    device.settle()
    before = device.snapshot()
    with allocated(planned, device, limit_bytes=ceiling_bytes, watch=watch) as real:
        device.synchronize()
        after = device.snapshot()
    freed = device.snapshot()
    storage = Check(
        name="tensor storage",
        predicted=allocation.allocated_bytes,
        real=sum(tensor.storage_bytes for tensor in real),
        exact=True,
        remark=f"{len(real):,} tensors, untyped_storage().nbytes()",
    )
    return Validation(
        allocation=allocation,
        device=device.name,
        device_name=device.description,
        torch_version=str(device.torch.__version__),
        checks=(storage, *device.checks(before, after, sizes), *device.freed_checks(before, freed)),
        buffers=compare(allocation, planned, real),
        rank=place.rank,
        world_size=place.world_size,
    )
