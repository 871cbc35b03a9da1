"""This machine's GPU as a catalogue entry: its name and memory, asked of torch or of the driver."""

from importlib import import_module
from typing import Any

from kvplan.domain.gpus import Gpu
from kvplan.domain.machine import Learned, Machine
from kvplan.errors import EnvironmentMissing


def local_machine() -> Machine:
    """The first GPU of this machine, with what only it knows.

    torch is asked first (`torch.cuda.mem_get_info`, which ROCm answers too; `torch.xpu`; Metal's recommended maximum), then
    the NVIDIA driver through pynvml, which needs no torch. The total is exact for every process. Where both answer, the
    driver says what other processes leave before this one has a context, and the difference to torch's word is a context.

    Raises:
        EnvironmentMissing: neither knows a GPU.
    """
    before = _from_nvml()
    found = _from_torch(before) or before
    if found is None:
        raise EnvironmentMissing(
            "«gpu local»: no GPU was found on this machine (asked torch and pynvml)",
            hint="name a GPU of the catalogue (`kvplan gpus`), or install torch or nvidia-ml-py where the GPU is",
        )
    return found


def _from_torch(before: Machine | None) -> Machine | None:
    try:
        torch: Any = import_module("torch")
    except (ImportError, OSError):
        return None
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info(0)
        vendor = "amd" if getattr(torch.version, "hip", None) else "nvidia"
        major, minor = torch.cuda.get_device_capability(0)
        capability = f"{major}.{minor}" if vendor == "nvidia" else ""
        left = before.free if before is not None else ()
        context = left[0] - int(free) if left and left[0] >= free else None
        learned = Learned(total=int(total), context=context, source="this machine")
        entry = _entry(torch.cuda.get_device_name(0), vendor, int(total), "torch.cuda.mem_get_info", int(free), capability)
        return Machine(gpu=entry, learned=learned, free=left)
    if torch.xpu.is_available():
        total = int(torch.xpu.get_device_properties(0).total_memory)
        return Machine(gpu=_entry(torch.xpu.get_device_name(0), "intel", total, "torch.xpu device properties"))
    if torch.backends.mps.is_available():
        total = int(torch.mps.recommended_max_memory())
        return Machine(gpu=_entry("Metal", "metal", total, "Metal's recommended maximum working set"))
    return None


def _from_nvml() -> Machine | None:
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, no driver, no device: its errors are classes of its own
        return None
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        name = nvml.nvmlDeviceGetName(handle)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        free = int(memory.free)
        entry = _entry(name if isinstance(name, str) else name.decode(), "nvidia", int(memory.total), "NVML", free)
        return Machine(gpu=entry, free=(free,))
    finally:
        nvml.nvmlShutdown()


def _entry(name: str, vendor: str, total: int, asked: str, free: int | None = None, capability: str = "") -> Gpu:
    used = "" if free is None else f"; {total - free:,} bytes are in use now"
    return Gpu(
        id="local",
        vendor=vendor,
        arch=name,
        memory_kind="discrete",
        marketed_gb=(max(1, round(total / 10**9)),),
        sources=(asked,),
        reported_bytes=total,
        reported_by=f"{name}, {asked}{used}",
        compute_capability=capability,
    )
