"""Facts of recorded placements: what lies on each device and on the host, and what the engine's own `--fit` chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kvplan.domain.stored import StoredTensor
from kvplan.engines.kernel.cases import Case, InvalidCase, whole
from kvplan.engines.kernel.verdicts import Banded
from kvplan.engines.llama_cpp.context import Context, Refusal
from kvplan.engines.llama_cpp.placement.compute import Rules, compute
from kvplan.engines.llama_cpp.placement.devices import CUDA, RPC, Backend, Device, Host, SplitMode
from kvplan.engines.llama_cpp.placement.patterns import overrides
from kvplan.engines.llama_cpp.placement.place import Asked, Part, Placed, place
from kvplan.engines.llama_cpp.placement.weights import Loading, file_order
from kvplan.gguf.ggml import GGML_TYPES
from kvplan.gguf.hparams import Hparams
from kvplan.limits import GGUF_TENSORS, LAYERS

_EACH: Final = ("name", "n_layers", "has_output", "model_bytes", "kv_bytes", "state_bytes", "output_bytes")
_WHOLE: Final = ("ok", "n_ctx", "n_layers_offloaded", "pipeline_parallel")
_BACKENDS: Final[dict[str, Backend]] = {
    "cuda-like": CUDA,
    "cuda-like-no-pipeline": Backend(name="CUDA", pads_rows=True, pinned="CUDA_Host", offloads=True),
    "rpc": RPC,
}
_MODES: Final[dict[str, SplitMode]] = {"layer": "layer", "none": "none", "row": "row"}
_DEVICES: Final = 16  # GGML_SCHED_MAX_BACKENDS
_TYPES: Final = frozenset(name for name, _, _ in GGML_TYPES.values())


def is_placement(case: Case) -> bool:
    """Whether a record is about devices."""
    return "backend" in case.options and isinstance(case.options.get("devices"), list)


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the engine loaded the model, and what it put where."""
    facts = {name: expected[name] for name in _WHOLE if expected.get(name) is not None}
    devices = expected.get("devices", [])
    if not isinstance(devices, list) or not all(isinstance(device, Mapping) for device in devices):
        raise InvalidCase("`expected.devices` must be a list of objects")
    for i, device in enumerate(devices):
        facts |= {f"devices[{i}].{name}": device[name] for name in (*_EACH, "compute_bytes") if name in device}
    return facts


def predict(case: Case, h: Hparams, context: Context[int], *, quantised: bool) -> dict[str, Any]:
    """The same facts."""
    placed = placed_case(case, h, context)
    if isinstance(placed, Refusal):
        return {"ok": False}
    facts: dict[str, Any] = {
        "ok": True,
        "n_ctx": context.n_ctx,
        "n_layers_offloaded": placed.n_layers_offloaded,
        "pipeline_parallel": placed.pipeline_parallel,
    }
    for i, part in enumerate(placed.parts):
        facts |= {f"devices[{i}].{name}": value for name, value in part_facts(part).items()}
    rules = Rules(outputs=case.option("n_outputs_max", default=0))
    for i, band in enumerate(compute(h, context, placed, rules, quantised=quantised)):
        facts[f"devices[{i}].compute_bytes"] = Banded(best=band.best, low=band.low, high=band.high, counts=False)
    return facts


def part_facts(part: Part) -> dict[str, Any]:
    """One device's facts by their names in records."""
    return {name: getattr(part, name) for name in _EACH}


def placed_case(case: Case, h: Hparams, context: Context[int]) -> Placed | Refusal:
    """The placement of a record."""
    host = Host(total_bytes=case.option("host_total_bytes", default=0))
    return place(h, context, tensors_of(case), asked_of(case), devices_of(case), host)


def devices_of(case: Case) -> tuple[Device, ...]:
    """The devices of a record, as its backend reports them."""
    listed = case.options.get("devices", [])
    backend = _BACKENDS.get(str(case.options.get("backend")))
    if backend is None:
        raise InvalidCase("`options.backend` is none that kvplan knows")
    if len(listed) > _DEVICES or not all(isinstance(device, Mapping) for device in listed):
        raise InvalidCase(f"`options.devices` must be a list of at most {_DEVICES} objects")
    return tuple(
        Device(
            name=str(device.get("name", f"{backend.name}{i}")),
            backend=backend,
            total_bytes=whole(device.get("total_bytes"), f"devices[{i}].total_bytes"),
            free_bytes=whole(device.get("free_bytes"), f"devices[{i}].free_bytes"),
            integrated=device.get("type") == "igpu",
            maps_files=device.get("type") != "igpu",
        )
        for i, device in enumerate(listed)
    )


def asked_of(case: Case) -> Asked:
    """The command line of a record."""
    o = case.options
    split = o.get("tensor_split")
    if split is not None and not (isinstance(split, list) and len(split) <= 128 and all(_share(share) for share in split)):
        raise InvalidCase("`options.tensor_split` must be a list of shares")
    named = o.get("use_devices")
    if named is not None and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise InvalidCase("`options.use_devices` must be a list of names")
    mode = _MODES.get(str(o.get("split_mode") or "layer"))
    if mode is None:
        raise InvalidCase("`options.split_mode` must be layer, none or row")
    moved = o.get("override_tensor")
    n_cpu_moe = case.option("n_cpu_moe", default=0)
    if n_cpu_moe > LAYERS or not isinstance(moved or "", str):
        raise InvalidCase("`options.n_cpu_moe` or `options.override_tensor` cannot be read")
    return Asked(
        n_gpu_layers=_signed(o.get("n_gpu_layers"), "n_gpu_layers"),
        split_mode=mode,
        main_gpu=_signed(o.get("main_gpu"), "main_gpu", 0),
        tensor_split=None if split is None else tuple(float(share) for share in split),
        use_devices=None if named is None else tuple(named),
        offload_kqv=o.get("offload_kqv") is not False,
        loading=Loading(
            mmap={"none": False, "mmap": True}.get(str(o.get("load_mode"))),
            no_host=o.get("no_host") is True,
            repack=o.get("repack") is not False,
            load_mtp=o.get("load_mtp") is True,
            moved=overrides(moved, cpu_moe=o.get("cpu_moe") is True, n_cpu_moe=n_cpu_moe),
        ),
    )


def _share(share: object) -> bool:
    return isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share < 2**40


def _signed(value: object, name: str, default: int = -1) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**31:
        raise InvalidCase(f"`options.{name}` must be a whole number")
    return value


def tensors_of(case: Case) -> tuple[StoredTensor, ...]:
    """The file's tensors as the record lists them: those without a block number, and sets of equal blocks."""
    listed = case.more.get("tensors", {})
    if not isinstance(listed, Mapping):
        raise InvalidCase("`tensors` must be an object")
    found = list(_named(listed))
    if len(found) > GGUF_TENSORS:
        raise InvalidCase(f"`tensors` names more than {GGUF_TENSORS:,}")
    return file_order(found)


def _named(listed: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    for entry in listed.get("global", []):
        yield _one(entry, "")
    for group in listed.get("blocks", []):
        layers = group["layers"]
        if len(layers) > LAYERS or len(group["tensors"]) > 1024:
            raise InvalidCase("`tensors.blocks` names more than a model has")
        for layer in layers:
            for entry in group["tensors"]:
                yield _one(entry, f"blk.{whole(layer, 'tensors.blocks.layers')}.")


def _one(entry: Any, prefix: str) -> tuple[str, str, tuple[int, ...], int]:
    name, kind, dims, size = entry
    extents = tuple(whole(extent, "tensors.dims", 1) for extent in dims)
    if str(kind).lower() not in _TYPES or not 1 <= len(extents) <= 4:
        raise InvalidCase(f"tensor `{str(name)[:60]}` has an unknown type or shape")
    return f"{prefix}{str(name)[:100]}", str(kind), extents, whole(size, "tensors.bytes")
