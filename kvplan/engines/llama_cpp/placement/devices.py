"""What llama.cpp knows of a device, and which devices take part.

Source: llama.cpp 0c1e57098, `src/llama.cpp` (`llama_prepare_model_devices`), `ggml/src/ggml-cuda/ggml-cuda.cu`
(`ggml_backend_cuda_buffer_type_get_alignment`, `…_get_alloc_size`), `ggml/src/ggml-rpc/ggml-rpc.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.engines.llama_cpp.context import Refusal
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, pad
from kvplan.gguf.ggml import GGML_TYPES

SplitMode = Literal["layer", "none", "row"]

#: Bytes to which tensors of host buffers are padded (`TENSOR_ALIGNMENT`).
HOST_ALIGNMENT: Final = 32
#: Elements to which CUDA pads the rows of quantised tensors (`MATRIX_ROW_PADDING`).
_ROW: Final = 512
_TYPES: Final = {name: (block, size) for name, block, size in GGML_TYPES.values()}


class Backend(Struct, frozen=True, kw_only=True):
    """The rules of one kind of device.

    Attributes:
        name: how its devices are called, without their number.
        alignment: bytes to which each tensor of a buffer is padded.
        pads_rows: whether a quantised tensor whose rows are not whole multiples of 512 elements gets one more tail of a row.
        pinned: the buffer of host memory that it can read by itself; empty where it has none.
        events: whether it computes beside the others, which pipeline parallelism needs.
        splits_rows: whether it has buffers that are split by row over several cards.
        offloads: whether operations of the host on large batches are moved to it, with copies of their weights.
        host_is_device: whether host memory and device memory are one.
    """

    name: str
    alignment: int = 128
    pads_rows: bool = False
    pinned: str = ""
    events: bool = False
    splits_rows: bool = False
    offloads: bool = False
    host_is_device: bool = False

    def alloc(self, kind: str, row: int, size: int) -> int:
        """What a tensor takes in a buffer: `size` bytes of rows of `row` elements in ggml's type `kind`, padded."""
        block, block_bytes = _TYPES[kind]
        if self.pads_rows and block > 1 and size and row % _ROW:
            size += -(-(_ROW - row % _ROW) // block) * block_bytes
        return pad(size, self.alignment)


CUDA: Final = Backend(name="CUDA", pads_rows=True, pinned="CUDA_Host", events=True, offloads=True)
ROCM: Final = Backend(name="ROCm", pads_rows=True, pinned="ROCm_Host", events=True, offloads=True)
VULKAN: Final = Backend(name="Vulkan", alignment=64, pinned="Vulkan_Host", events=True, offloads=True)
SYCL: Final = Backend(name="SYCL", pads_rows=True, pinned="SYCL_Host", offloads=True)
METAL: Final = Backend(name="MTL", alignment=32, host_is_device=True)
RPC: Final = Backend(name="RPC", alignment=HOST_ALIGNMENT, events=True)
HOST: Final = Backend(name="CPU", alignment=HOST_ALIGNMENT)


class Device(Struct, frozen=True, kw_only=True):
    """One device as the backend reports it when a model is loaded.

    Attributes:
        name: as the log prints it (`CUDA0`).
        total_bytes, free_bytes: what the driver says.
        integrated: whether it shares the host's memory; such devices take part where there is no other.
        maps_files: whether it takes weights by mmap (integrated CUDA and Vulkan devices say no).
    """

    name: str
    backend: Backend
    total_bytes: int
    free_bytes: int
    integrated: bool = False
    maps_files: bool = True


class Host(Struct, frozen=True, kw_only=True):
    """The processor and its memory: `total_bytes` in all, and whether it has the wide vectors that repacking asks for.

    `avx2` and `avx512` are x86's; other processors repack other types, which were not studied.
    """

    total_bytes: int = 0
    avx2: bool = True
    avx512: bool = True

    def repacks(self, kind: str) -> bool:
        """Whether matrices of ggml's type `kind` lie in CPU_REPACK (`ggml/src/ggml-cpu/repack.cpp`)."""
        return (self.avx2 and kind in {"q4_0", "q4_k", "iq4_nl", "mxfp4"}) or (self.avx512 and kind == "q2_k")


def taking_part(
    devices: Sequence[Device],
    *,
    use_devices: Sequence[str] | None = None,
    split_mode: SplitMode = "layer",
    main_gpu: int = 0,
) -> tuple[Device, ...] | Refusal:
    """The devices that a model is spread over, in the engine's order, or why it does not load.

    Args:
        devices: all that the backends report, in their order.
        use_devices: `-dev`: these, in this order.
        split_mode: none keeps one.
        main_gpu: which one; negative: none at all.
    """
    if use_devices is not None:
        named = {device.name: device for device in devices}
        unknown = next((name for name in use_devices if name not in named), None)
        if unknown is not None:
            return Refusal(f"invalid device: {unknown}")
        listed = [named[name] for name in use_devices]
    else:
        remote = [device for device in devices if device.backend == RPC]
        cards = [device for device in devices if device.backend != RPC and not device.integrated]
        shared = [device for device in devices if device.integrated and device.backend != RPC]
        listed = [*remote, *(cards or shared)]
    if split_mode == "none" and listed:
        if main_gpu >= len(listed):
            return Refusal(f"invalid value for main_gpu: {main_gpu} (available devices: {len(listed)})")
        listed = [listed[main_gpu]] if main_gpu >= 0 else []
    if split_mode == "row":
        without = next((device for device in listed if not device.backend.splits_rows), None)
        if without is not None:
            return Refusal(f"device {without.name} does not support split buffers")
    return tuple(listed)


def cache_type(kind: str) -> str:
    """ggml's name of a cache or state type, as the sizes of tensors know it."""
    return kind if kind in _TYPES else lookup(CACHE_TYPES[kind]).name
