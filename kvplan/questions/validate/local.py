"""This machine's GPU as a catalogue entry: its name and memory, asked of torch or of the driver."""

from importlib import import_module
from typing import Any

from kvplan.domain.gpus import Gpu
from kvplan.domain.machine import Learned, Machine
from kvplan.errors import EnvironmentMissing
from kvplan.limits import TORCH_SPACE_BYTES, need_space


def local_machine() -> Machine:
    """The first GPU of this machine, with what only it knows.

    torch is asked first (`torch.cuda.mem_get_info`, which ROCm answers too; `torch.xpu`; Metal's recommended maximum), then
    the NVIDIA driver through pynvml, which needs no torch. torch's total is every process's. What others use is the driver's
    word, read before this process has a context; what torch finds gone beyond that is a context (the driver's own total and
    free are larger: they hold what it reserves for itself).

    Raises:
        EnvironmentMissing: neither knows a GPU.
    """
    driver = _nvml()
    found = _from_torch(driver)
    if found is not None:
        return found
    if driver is not None:
        name, total, used = driver
        return Machine(gpu=_entry(name, "nvidia", total, "NVML", used))
    raise EnvironmentMissing(
        "«gpu local»: no GPU was found on this machine (asked torch and pynvml)",
        hint="name a GPU of the catalogue (`kvplan gpus`), or install torch or nvidia-ml-py where the GPU is",
    )


def _from_torch(driver: tuple[str, int, int] | None) -> Machine | None:
    need_space("torch", TORCH_SPACE_BYTES)
    try:
        torch: Any = import_module("torch")
    except (ImportError, OSError):
        return None
    if torch.cuda.is_available():
        return _cuda(torch, driver)
    if torch.xpu.is_available():
        total = int(torch.xpu.get_device_properties(0).total_memory)
        return Machine(gpu=_entry(torch.xpu.get_device_name(0), "intel", total, "torch.xpu device properties"))
    if torch.backends.mps.is_available():
        total = int(torch.mps.recommended_max_memory())
        return Machine(gpu=_entry("Metal", "metal", total, "Metal's recommended maximum working set"))
    return None


def _cuda(torch: Any, driver: tuple[str, int, int] | None) -> Machine:
    free, total = map(int, torch.cuda.mem_get_info(0))
    nvidia = not getattr(torch.version, "hip", None)
    capability = ".".join(map(str, torch.cuda.get_device_capability(0))) if nvidia else ""
    name, asked = torch.cuda.get_device_name(0), "torch.cuda.mem_get_info"
    if not nvidia or driver is None or not 0 <= driver[2] <= total - free:
        learned = Learned(total=total, source=asked, basis="measured")
        return Machine(gpu=_entry(name, "nvidia" if nvidia else "amd", total, asked, total - free, capability), learned=learned)
    used = driver[2]
    learned = Learned(total=total, context=total - free - used, source=asked, basis="measured")
    return Machine(gpu=_entry(name, "nvidia", total, asked, used, capability), learned=learned, free=(total - used,))


def _nvml() -> tuple[str, int, int] | None:
    """The first device's name, its total and what processes use of it, in bytes; what the driver keeps is no use."""
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, no driver, no device: its errors are classes of its own
        return None
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        name = nvml.nvmlDeviceGetName(handle)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        return name if isinstance(name, str) else name.decode(), int(memory.total), int(memory.used)
    except Exception:  # a driver that is too old for the second version
        return None
    finally:
        nvml.nvmlShutdown()


def _entry(name: str, vendor: str, total: int, asked: str, used: int | None = None, capability: str = "") -> Gpu:
    use = "" if used is None else f"; {used:,} bytes are in use now"
    return Gpu(
        id="local",
        vendor=vendor,
        arch=name,
        memory_kind="discrete",
        marketed_gb=(max(1, round(total / 10**9)),),
        sources=(asked,),
        reported_bytes=total,
        reported_by=f"{name}, {asked}{use}",
        compute_capability=capability,
        driver_name=name,
    )
