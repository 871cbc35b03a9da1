"""The backends: what each can say about its memory, and what is predicted of it.

A device is asked for a `snapshot` before, during and after; `checks` holds the difference of two snapshots
against the prediction. Figures are `int` bytes.
"""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from kvplan.domain.caching_allocator import simulate, unpredicted_setting
from kvplan.errors import EnvironmentMissing
from kvplan.limits import TORCH_SPACE_BYTES, need_space
from kvplan.questions.validate.compare import Check
from kvplan.questions.validate.host_memory import available_bytes, resident_bytes
from kvplan.units import MIB

Snapshot = Mapping[str, int]


def import_torch() -> Any:
    """The torch module.

    Raises:
        EnvironmentMissing: it is not installed, or does not start.
        MemoryError: this process may not have the address space that it takes.
    """
    need_space("torch", TORCH_SPACE_BYTES)
    try:
        return import_module("torch")
    except ImportError as problem:
        missing = isinstance(problem, ModuleNotFoundError) and problem.name == "torch"
        raise EnvironmentMissing(
            "torch is not installed" if missing else f"torch cannot be imported: {problem}",
            hint="pip install 'kvplan-exact[torch]'; for the smaller CPU build first "
            "pip install torch --index-url https://download.pytorch.org/whl/cpu",
        ) from problem


def _taken(name: str, before: Snapshot, after: Snapshot, key: str, predicted: int | None, *, remark: str = "") -> Check:
    """A figure that is information: the bytes taken (what is free falls, what is held rises), both values in the remark."""
    seen = f"{before[key]:,} before, {after[key]:,} after"
    change = after[key] - before[key]
    return Check(
        name=name,
        predicted=predicted,
        real=-change if key == "free" else change,
        exact=False,
        remark=f"{seen}; {remark}" if remark else seen,
    )


class Device:
    """One backend; the base class is what they share.

    `sharers` is how many processes of this run draw on the same memory; `headroom_bytes` must stay free.
    """

    kind: ClassVar[str]
    headroom_bytes: ClassVar[int] = 0

    def __init__(self, torch: Any, index: int | None = None, sharers: int = 1) -> None:
        self.torch = torch
        self.index = index
        self.sharers = sharers
        self.name = self.kind if index is None else f"{self.kind}:{index}"

    @property
    def description(self) -> str:
        """What the hardware calls itself."""
        return self.name

    def free_bytes(self) -> int:
        """Bytes that an allocation may take now."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot:
        """This device's figures now."""
        raise NotImplementedError

    def needed_bytes(self, sizes: Sequence[int]) -> int:
        """What tensors of `sizes` storage bytes take from the device, as far as that is predicted."""
        return sum(sizes)

    def taken_bytes(self, before: Snapshot, storage_bytes: int) -> int:
        """What has really been taken since `before`, in the terms of `needed_bytes`."""
        return storage_bytes

    def checks(self, before: Snapshot, after: Snapshot, sizes: Sequence[int]) -> tuple[Check, ...]:
        """The device's figures while the tensors are held, against the prediction for `sizes`."""
        raise NotImplementedError

    def freed_checks(self, before: Snapshot, freed: Snapshot) -> tuple[Check, ...]:
        """The device's figures once the tensors are gone."""
        return ()

    def synchronize(self) -> None:
        """Wait for queued work."""

    def settle(self) -> None:
        """Wait for queued work, and hand cached memory back to the driver."""


class Cpu(Device):
    """Host memory. Linux kills who takes too much instead of refusing, so some of it must stay free."""

    kind = "cpu"
    headroom_bytes = 256 * MIB

    def free_bytes(self) -> int:
        """Available memory, or what the cgroup leaves."""
        return available_bytes()

    def snapshot(self) -> Snapshot:
        """Resident set size."""
        return {"resident": resident_bytes()}

    def checks(self, before: Snapshot, after: Snapshot, sizes: Sequence[int]) -> tuple[Check, ...]:
        """The resident set grows by the touched pages, and by whatever else the process did meanwhile."""
        return (_taken("resident set size", before, after, "resident", sum(sizes)),)


class Cuda(Device):
    """NVIDIA through CUDA, AMD through ROCm: torch names both `cuda`."""

    kind = "cuda"

    @property
    def description(self) -> str:
        """The card's name."""
        return str(self.torch.cuda.get_device_name(self.index))

    def free_bytes(self) -> int:
        """Free memory as the driver counts it."""
        return int(self.torch.cuda.mem_get_info(self.index)[0])

    def snapshot(self) -> Snapshot:
        """The caching allocator's two figures and the driver's one."""
        cuda = self.torch.cuda
        return {
            "allocated": int(cuda.memory_allocated(self.index)),
            "reserved": int(cuda.memory_reserved(self.index)),
            "free": self.free_bytes(),
        }

    def unpredicted(self) -> str | None:
        """Why the caching allocator's figures are not predicted, if so."""
        setting = unpredicted_setting(os.environ)
        if setting:
            return f"not predicted under {setting}"
        backend = self.torch.cuda.get_allocator_backend()
        return None if backend == "native" else f"not predicted for the {backend} allocator"

    def needed_bytes(self, sizes: Sequence[int]) -> int:
        """Whole segments, where they are predicted."""
        return sum(sizes) if self.unpredicted() else simulate(sizes).reserved_bytes

    def taken_bytes(self, before: Snapshot, storage_bytes: int) -> int:
        """Segments taken since `before`, where they are predicted."""
        if self.unpredicted():
            return storage_bytes
        return int(self.torch.cuda.memory_reserved(self.index)) - before["reserved"]

    def checks(self, before: Snapshot, after: Snapshot, sizes: Sequence[int]) -> tuple[Check, ...]:
        """`memory_allocated` and `memory_reserved` to the byte when the cache began empty, and the driver's view."""
        why = self.unpredicted()
        empty = before["reserved"] == 0
        figures = None if why else simulate(sizes)
        remark = why or ("" if empty else f"the cache was not empty: {before['reserved']:,} bytes reserved before")
        rows = (
            Check(
                name=f"torch.cuda.memory_{key}",
                predicted=getattr(figures, f"{key}_bytes") if figures else None,
                real=after[key] - before[key],
                exact=figures is not None and empty,
                remark=remark,
            )
            for key in ("allocated", "reserved")
        )
        return (*rows, _taken("free device memory", before, after, "free", figures.reserved_bytes if figures else None))

    def freed_checks(self, before: Snapshot, freed: Snapshot) -> tuple[Check, ...]:
        """Nothing of ours may stay allocated."""
        left = freed["allocated"] - before["allocated"]
        return (Check(name="allocated after freeing", predicted=0, real=left, exact=True),)

    def synchronize(self) -> None:
        """Wait for queued kernels."""
        self.torch.cuda.synchronize(self.index)

    def settle(self) -> None:
        """Synchronize and empty the cache."""
        self.synchronize()
        self.torch.cuda.empty_cache()


class Xpu(Device):
    """Intel GPUs. Their caching allocator follows CUDA's, which is shown but not required."""

    kind = "xpu"

    @property
    def description(self) -> str:
        """The card's name."""
        return str(self.torch.xpu.get_device_name(self.index))

    def free_bytes(self) -> int:
        """Free memory as the driver counts it (torch 2.6 and later), or the card's total less what torch holds."""
        xpu = self.torch.xpu
        if hasattr(xpu, "mem_get_info"):
            return int(xpu.mem_get_info(self.index)[0])
        return int(xpu.get_device_properties(self.index).total_memory) - int(xpu.memory_reserved(self.index))

    def snapshot(self) -> Snapshot:
        """The caching allocator's two figures and the driver's one."""
        xpu = self.torch.xpu
        return {
            "allocated": int(xpu.memory_allocated(self.index)),
            "reserved": int(xpu.memory_reserved(self.index)),
            "free": self.free_bytes(),
        }

    def checks(self, before: Snapshot, after: Snapshot, sizes: Sequence[int]) -> tuple[Check, ...]:
        """All information: the rules are CUDA's, and nobody has measured them here."""
        figures = simulate(sizes)
        same = "by the rules of CUDA's allocator"
        return (
            _taken("torch.xpu.memory_allocated", before, after, "allocated", figures.allocated_bytes, remark=same),
            _taken("torch.xpu.memory_reserved", before, after, "reserved", figures.reserved_bytes, remark=same),
            _taken("free device memory", before, after, "free", figures.reserved_bytes),
        )

    def synchronize(self) -> None:
        """Wait for queued kernels."""
        self.torch.xpu.synchronize(self.index)

    def settle(self) -> None:
        """Synchronize and empty the cache."""
        self.synchronize()
        self.torch.xpu.empty_cache()


class Mps(Device):
    """Apple GPUs, in memory shared with the host."""

    kind = "mps"

    def free_bytes(self) -> int:
        """What Metal recommends as the most, less what the driver holds; never more than the host has."""
        mps = self.torch.mps
        return min(int(mps.recommended_max_memory()) - int(mps.driver_allocated_memory()), available_bytes())

    def snapshot(self) -> Snapshot:
        """Tensor bytes, driver bytes, and what is left."""
        mps = self.torch.mps
        return {
            "allocated": int(mps.current_allocated_memory()),
            "reserved": int(mps.driver_allocated_memory()),
            "free": self.free_bytes(),
        }

    def checks(self, before: Snapshot, after: Snapshot, sizes: Sequence[int]) -> tuple[Check, ...]:
        """All information: Metal heaps have rules of their own."""
        return (
            _taken("torch.mps.current_allocated_memory", before, after, "allocated", sum(sizes)),
            _taken("torch.mps.driver_allocated_memory", before, after, "reserved", None),
            _taken("free device memory", before, after, "free", None),
        )

    def synchronize(self) -> None:
        """Wait for queued kernels."""
        self.torch.mps.synchronize()

    def settle(self) -> None:
        """Synchronize and empty the cache."""
        self.synchronize()
        self.torch.mps.empty_cache()
