"""The prediction against ExLlamaV3's own cache: its config, model and cache classes, and the tensors that they allocate.

A model is built without weights, which has all the geometry that the cache classes ask for, and each layer's tensors are
allocated on the device, read and freed. No kernel runs, so where the compiled extension is missing (a machine without CUDA)
a stand-in takes its place, and the report says so. Nothing is downloaded, and no code that came with a checkpoint is run.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from kvplan.domain.allocation import Allocation
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines.exllamav3.engine import ExLlamaV3, ExLlamaV3On
from kvplan.engines.exllamav3.planes import PAGE
from kvplan.engines.kernel.engine import Engine, footprint
from kvplan.engines.kernel.tensors import At
from kvplan.errors import DoesNotFit, InputError, Refused
from kvplan.questions.validate.against import asked, same_release
from kvplan.questions.validate.compare import Check, RealTensor, Validation, compare
from kvplan.questions.validate.devices import Device, import_torch
from kvplan.questions.validate.exllamav3_library import built, opened
from kvplan.questions.validate.session import spendable_bytes
from kvplan.questions.validate.tensors import PlannedTensor, tensor_plan


def validate_against_exllamav3(model: Model, workload: Workload, engine: Engine, device: Device) -> Validation:
    """Build the library's cache and compare each tensor with the prediction.

    Args:
        model: read from a config.json; an explicit layer list names no class of the library.
        workload: what the cache is made for.
        engine: the `exllamav3` engine, of the installed release.
        device: where each layer's tensors are allocated, one layer at a time.

    Raises:
        EnvironmentMissing: the library is not installed.
        InputError: no config, another engine or release, options that are not compared, or a model that the library refuses.
        DoesNotFit: a single layer's tensors are more than the device has free.
    """
    told, _ = asked(engine, ExLlamaV3, model)
    if told.options.tensor_parallel > 1 or told.options.draft is not None or told.options.draft_mode == "mtp":
        raise InputError("«against exllamav3» compares one card's main cache", hint="leave out tensor_parallel and the drafter")
    with opened() as (library, version, complete):
        same_release(told, version, patch=False)
        answer, prepared = _predicted(model, workload, told)
        network, filled = built(library, model, told)
        found = _compared(_cache(library, network, prepared, workload), answer, device)
        remarks = [] if complete else ["without the compiled kernels, which no cache needs to be allocated"]
        if filled:
            remarks.append(f"keys that decide no cache tensor were filled in: {', '.join(filled)}")
        noted = replace(answer, notes=(*answer.notes, *remarks))
        return replace(found, allocation=noted, device_name=f"exllamav3 {version}")


def _predicted(model: Model, workload: Workload, engine: ExLlamaV3) -> tuple[Allocation, ExLlamaV3On]:
    try:
        prepared = engine.on(model)
        return footprint(prepared, workload), prepared
    except Refused as problem:
        raise InputError(f"not predicted: {problem.reason}", hint=problem.see) from problem


def _cache(library: Any, network: Any, prepared: ExLlamaV3On, workload: Workload) -> Any:
    """The cache that TabbyAPI would make; its layers hold nothing until they are allocated."""
    torch, options = import_torch(), prepared.engine.options
    at = At(workload.seq_len, workload.batch_size)
    mode, slots = options.mode, prepared.slots(prepared.jobs(at))
    packed = {"layer_type": library.CacheLayer_quant, "k_bits": mode.k_bits, "v_bits": mode.v_bits} if mode.quantised else {}
    return library.Cache(
        network,
        max_num_tokens=prepared.pages(at) * PAGE,
        max_batch_size=slots.jobs,
        max_history=slots.history,
        recurrent_dtype=getattr(torch, slots.state_dtype),
        **packed,
    )


# The comparison.


def _compared(cache: Any, answer: Allocation, device: Device) -> Validation:
    """Each predicted tensor beside the real one, and the sums."""
    planned = tensor_plan(answer)
    waiting: dict[int, list[PlannedTensor]] = defaultdict(list)
    for tensor in planned:
        waiting[tensor.layer].append(tensor)
    largest = max((sum(t.predicted_bytes for t in tensors) for tensors in waiting.values()), default=0)
    if largest > spendable_bytes(device):
        raise DoesNotFit(
            f"one layer's tensors take {largest:,} bytes, more than {device.name} has free", hint="ask for less: -s, -b"
        )
    real: list[RealTensor] = []
    host = checkpoint = 0
    for layer, holder in _holders(cache, sorted(waiting)):
        holder.alloc(device.torch.device(device.name))
        for tensor in _tensors(holder):
            if tensor.device.type != "cpu" or str(tensor.dtype) != "torch.int64":
                real.append(_as_real(tensor, layer, waiting[layer]))
            else:
                host += tensor.untyped_storage().nbytes()
        checkpoint += int(holder.get_checkpoint_size()) if hasattr(holder, "get_checkpoint_size") else 0
        holder.free()
    facts = answer.facts
    checks = (
        Check(
            name="tensor storage",
            predicted=answer.allocated_bytes,
            real=sum(tensor.storage_bytes for tensor in real),
            exact=True,
            remark=f"{len(real):,} tensors of the library's cache, layer by layer on {device.name}",
        ),
        Check(name="token ids in host memory", predicted=facts.host_state_bytes, real=host, exact=True),
        Check(name="a checkpoint of one sequence", predicted=facts.checkpoint_bytes, real=checkpoint, exact=True),
    )
    return Validation(
        allocation=answer,
        device=device.name,
        device_name=device.description,
        torch_version=str(device.torch.__version__),
        checks=checks,
        buffers=compare(answer, planned, real),
    )


def _holders(cache: Any, predicted: list[int]) -> Iterator[tuple[int, Any]]:
    """Paged layers and states of the cache with the model's layer.

    N-gram injections are numbered from -1 downwards; a model that skips layers without attention numbers the others on.
    """
    own = sorted({layer for held in (cache.layers, cache.recurrent_layers) for layer, _ in held if layer >= 0})
    place = dict(zip(own, predicted, strict=True)) if len(own) == len(predicted) else {}
    for held in (cache.layers, cache.recurrent_layers):
        for (layer, _), holder in held.items():
            yield (place.get(layer, layer) if layer >= 0 else -layer - 1), holder


def _tensors(holder: Any) -> list[Any]:
    """What a layer has allocated, staging buffers included."""
    if hasattr(holder, "get_tensors"):
        found = holder.get_tensors()
    else:
        found = holder._tensors() if hasattr(holder, "_tensors") else holder.get_state_tensors()
    return [tensor for tensor in found if tensor is not None]


def _as_real(tensor: Any, layer: int, waiting: list[PlannedTensor]) -> RealTensor:
    """A real tensor under the name of the next planned one of its shape and dtype, else under none."""
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    like = next((planned for planned in waiting if (planned.shape, planned.dtype) == (shape, dtype)), None)
    if like is not None:
        waiting.remove(like)
    return RealTensor(
        layer=layer,
        name=like.name if like else "a tensor of another shape",
        shape=shape,
        dtype=dtype,
        storage_bytes=int(tensor.untyped_storage().nbytes()),
    )
