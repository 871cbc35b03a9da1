"""Field logs of llama.cpp: `llama_kv_cache: size = …` and `llama_memory_recurrent: size = …` of named models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.allocation import NotPredicted
from kvplan.engines.kernel.cases import Case, Read, whole
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params, Part
from kvplan.gguf.hparams import read_hparams

_NO_MODEL: Final = "the record holds no config that describes the model"


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The context, where the cells are those of a window."""
    return {"n_ctx": expected["n_ctx"]} if "n_ctx" in expected else {}


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any] | NotPredicted:
    """The sizes of the line with those cells, and of the states."""
    keys = _keys(case, read)
    if isinstance(keys, NotPredicted):
        return keys
    cells = case.workload.get("cells")
    if isinstance(cells, list):
        facts: dict[str, Any] = {}
        for each in cells:
            made = _made(case, keys, whole(each, "workload.cells", 1), 0)
            if isinstance(made, NotPredicted):
                return made
            facts |= {f"{name}[{each}]": value for name, value in made.items()}
        return facts
    return _made(case, keys, case.count("cells", minimum=1), whole(asked.get("n_ctx", 0), "n_ctx"))


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


def _made(case: Case, keys: Mapping[str, Any], cells: int, n_ctx: int) -> dict[str, Any] | NotPredicted:
    sequences, unified = case.count("n_seqs", default=1, minimum=1), bool(case.options.get("kv_unified", True))
    params = Params(
        n_ctx=n_ctx or cells,
        n_seq_max=sequences,
        kv_unified=unified,
        type_k=_type(case, "type_k"),
        type_v=_type(case, "type_v"),
    )
    context = make_context(read_hparams(keys, case.id), params)
    if isinstance(context, Refusal):
        return NotPredicted(reason=f"llama.cpp refuses: {context.message}")
    caches = [part for part in context.parts if part.sum("k")]
    main = next((part for part in caches if part.cells * part.streams == cells), caches[0] if caches else None)
    return _facts(context, main)


def _type(case: Case, name: str) -> str:
    value = case.options.get(name, "f16")
    return value if isinstance(value, str) and value in CACHE_TYPES else "f16"


def _facts(context: Context[int], main: Part[int] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if main is not None:
        size = main.sum("k", "v")
        facts |= {"total_mib_printed": size, "kv_total_mib_printed": size, "kv_mib_printed": size}
        facts |= {"k_mib_printed": main.sum("k"), "v_mib_printed": main.sum("v")}
        facts |= {"cells": main.cells * main.streams, "cells_per_seq_printed": main.cells}
    states = [part for part in context.parts if part.name == "recr"]
    if states:
        facts |= {f"recurrent{key}_mib_printed": states[0].sum(*roles) for key, roles in (("", "rsp"), ("_r", "r"), ("_s", "s"))}
    return facts
