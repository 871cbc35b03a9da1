"""Field logs of llama.cpp: `llama_kv_cache: size = …` and `llama_memory_recurrent: size = …` of named models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from kvplan.domain.allocation import NotPredicted
from kvplan.engines.kernel.cases import Case, Read, whole
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params, Part
from kvplan.engines.llama_cpp.placement.devices import CUDA, Device
from kvplan.engines.llama_cpp.placement.place import Asked, place
from kvplan.engines.llama_cpp.placement.split import shares_of
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.units import MIB

_SUMS: Final = ("whole_cache_mib", "kv_mib_mtp_context")
_BY_DEVICE: Final = ("per_device_mib", "indexer_per_device_mib")
_INDEXERS: Final = ("indexer", "lid")  # caches with lines of their own
_NO_MODEL: Final = "the record holds no config that describes the model"


def printed(case: Case) -> tuple[str, ...]:
    """Further printed sizes; those by device where the record says how the layers were dealt out."""
    return (*_SUMS, *_BY_DEVICE) if _is_split(case) else _SUMS


def _is_split(case: Case) -> bool:
    return any(case.options.get(name) is not None for name in ("tensor_split", "free_mib", "devices"))


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The context, where the cells are those of a window; and how the devices are called."""
    found = {"n_ctx": expected["n_ctx"]} if "n_ctx" in expected else {}
    named = expected.get("per_device_mib")
    return found | ({"devices": list(named)} if isinstance(named, Mapping) else {})


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any] | NotPredicted:
    """The sizes of the line with those cells, and of the states."""
    keys = _keys(case, read)
    if isinstance(keys, NotPredicted):
        return keys
    cells = case.workload.get("cells")
    if isinstance(cells, list):
        facts: dict[str, Any] = {}
        for each in cells:
            made = _made(case, keys, whole(each, "workload.cells", 1), 0, ())
            if isinstance(made, NotPredicted):
                return made
            facts |= {f"{name}[{each}]": value for name, value in made.items()}
        return facts
    n_ctx = whole(asked.get("n_ctx", case.workload.get("n_ctx", 0)), "n_ctx")
    return _made(case, keys, case.count("cells", default=n_ctx or None, minimum=1), n_ctx, asked.get("devices", ()))


def _keys(case: Case, read: Read) -> Mapping[str, Any] | NotPredicted:
    """GGUF keys of the record's config; files from before the latent was stored keep every head."""
    if "model_type" not in case.config:
        return NotPredicted(reason=_NO_MODEL)
    keys = gguf_keys(read(case.config, ""))
    if "without MLA" not in case.model:
        return keys
    arch = keys["general.architecture"]
    heads = keys[f"{arch}.attention.head_count"]
    kept = {key: value for key, value in keys.items() if not key.endswith("_mla")}
    return kept | {
        f"{arch}.attention.head_count_kv": heads,
        f"{arch}.attention.key_length": keys[f"{arch}.attention.key_length_mla"],
        f"{arch}.attention.value_length": keys[f"{arch}.attention.value_length_mla"],
    }


def _made(case: Case, keys: Mapping[str, Any], cells: int, n_ctx: int, devices: Sequence[str]) -> dict[str, Any] | NotPredicted:
    sequences, unified = case.count("n_seqs", default=1, minimum=1), bool(case.options.get("kv_unified", True))
    params = Params(
        n_ctx=n_ctx or cells,
        n_seq_max=sequences,
        n_batch=case.option("batch", default=2048, minimum=1),
        n_ubatch=case.option("ubatch", default=512),
        ctx_type="mtp" if case.options.get("ctx_type") == "mtp" else "default",
        kv_unified=unified,
        type_k=_type(case, "type_k"),
        type_v=_type(case, "type_v"),
    )
    h = read_hparams(keys, case.id)
    context = make_context(h, params)
    if isinstance(context, Refusal):
        return NotPredicted(reason=f"llama.cpp refuses: {context.message}")
    caches = [part for part in context.parts if part.sum("k")]
    main = next((part for part in caches if part.cells * part.streams == cells), caches[0] if caches else None)
    return _facts(context, main) | (_by_device(case, h, context, devices) if devices else {})


def _by_device(case: Case, h: Hparams, context: Context[int], names: Sequence[str]) -> dict[str, Any]:
    """The main cache and an indexer's on each device. Older builds that split matrices by row keep caches by layer."""
    free = case.options.get("free_mib")
    memory = free if isinstance(free, list) and len(free) == len(names) else [1] * len(names)
    cards = tuple(
        Device(name=name, backend=CUDA, total_bytes=size, free_bytes=size)
        for name, size in zip(names, (whole(each, "options.free_mib", 1) * MIB for each in memory), strict=True)
    )
    text = case.options.get("tensor_split")
    layers = case.options.get("n_gpu_layers")
    asked = Asked(
        n_gpu_layers=layers if isinstance(layers, int) and not isinstance(layers, bool) else -1,
        tensor_split=shares_of(text) if isinstance(text, str) else None,
    )
    found: dict[str, Any] = {}
    for fact, indexer in (("per_device_mib", False), ("indexer_per_device_mib", True)):
        only = replace(context, parts=tuple(part for part in context.parts if (part.name in _INDEXERS) == indexer))
        placed = place(h, only, (), asked, cards)
        if not isinstance(placed, Refusal):
            found |= {f"{fact}[{part.name}]": part.kv_bytes for part in placed.parts[:-1]}
    return found


def _type(case: Case, name: str) -> str:
    value = case.options.get(name, "f16")
    return value if isinstance(value, str) and value in CACHE_TYPES else "f16"


def _facts(context: Context[int], main: Part[int] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if main is not None:
        size = main.sum("k", "v")
        facts |= {"total_mib_printed": size, "kv_total_mib_printed": size, "kv_mib_printed": size}
        facts |= {"k_mib_printed": main.sum("k"), "v_mib_printed": main.sum("v"), "kv_mib_mtp_context": size}
        facts["whole_cache_mib"] = context.k_bytes + context.v_bytes
        facts |= {"cells": main.cells * main.streams, "cells_per_seq_printed": main.cells}
    states = [part for part in context.parts if part.name == "recr"]
    if states:
        facts |= {f"recurrent{key}_mib_printed": states[0].sum(*roles) for key, roles in (("", "rsp"), ("_r", "r"), ("_s", "s"))}
    return facts
