"""What one load needs on each device, as `--fit` measures it: weights without mmap, the context, and compute from elsewhere.

Source: llama.cpp 0c1e57098, `common/fit.cpp` (`common_get_device_memory_data_impl`): bytes of CPU_REPACK are in no sum.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from kvplan.domain.stored import StoredTensor
from kvplan.engines.llama_cpp.context import Context, Refusal
from kvplan.engines.llama_cpp.placement.devices import Device, Host
from kvplan.engines.llama_cpp.placement.fit import Trial, all_experts, moved_by
from kvplan.engines.llama_cpp.placement.place import Asked, Placed, place
from kvplan.engines.llama_cpp.placement.weights import REPACKED
from kvplan.gguf.hparams import Hparams


def trial_asked(asked: Asked, trial: Trial, blocks: int) -> Asked:
    """The command line of one trial."""
    loading = replace(asked.loading, mmap=False)
    if trial.cpu_moe:
        return replace(asked, loading=replace(loading, moved=all_experts()))
    if trial.given is None:
        return replace(asked, loading=loading)
    several = len(trial.given) > 1
    return replace(
        asked,
        n_gpu_layers=sum(each.layers for each in trial.given),
        tensor_split=tuple(float(each.layers) for each in trial.given) if several else asked.tensor_split,
        loading=replace(loading, moved=moved_by(trial.given, blocks)),
    )


def loaded(
    h: Hparams,
    context: Context[int],
    tensors: Sequence[StoredTensor],
    asked: Asked,
    devices: Sequence[Device],
    host: Host,
) -> tuple[Placed, list[tuple[int, int]]] | Refusal:
    """A placement, and bytes of model and context on each device and, last, on the host."""
    placed = place(h, context, tensors, asked, devices, host)
    if isinstance(placed, Refusal):
        return placed
    sums = []
    for part in placed.parts:
        model = sum(size for name, size in part.model.items() if name != REPACKED)
        sums.append((model, part.kv_bytes + part.state_bytes))
    return placed, sums
