"""Field logs of vLLM: what people's servers printed at start-up, of named models, from 0.5 to today.

A record tells the model's config, the flags that its reporter gave, and the printed numbers. What it leaves open is
tried: the release where only "V1" or a year is named, the batch where the GPU is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import Any, Final

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import Case, InvalidCase, Read, whole
from kvplan.engines.vllm.audit import printed as vllm_printed
from kvplan.engines.vllm.dtypes import NAMES

_FLAGS: Final = (
    "block_size", "enable_chunked_prefill", "enable_prefix_caching", "gpu_memory_utilization", "mamba_cache_dtype",
    "mamba_cache_mode", "mamba_ssm_cache_dtype", "max_num_batched_tokens", "max_num_seqs", "num_gpu_blocks_override",
    "disable_hybrid_kv_cache_manager", "async_scheduling", "tensor_parallel_size", "pipeline_parallel_size",
    "decode_context_parallel_size", "pp_layer_partition", "dtype",
)  # fmt: skip
_SHORT: Final = {
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dcp": "decode_context_parallel_size",
}
#: Options that say what the machine or the drafter is, or decide nothing of the cache.
_BESIDE: Final = frozenset(
    {"gpu", "device", "spec", "kv_dtype", "swap_space_gib", "quantization", "server", "enforce_eager", "dp"}
)
_NUMBER: Final = re.compile(r"(?<![\d.])(\d{1,3}\.\d{1,3}(?:\.\d{1,3})?)")
#: Releases whose rules differ, for logs that name none.
_V1: Final = ("0.32.0", "0.24.0", "0.19.0", "0.11.0")
_FOREIGN: Final = ("ROCm", "fork", "EXL3")
_LARGE: Final = re.compile(r"h100|h200|gh200|b200|mi3\d\d|gb200", re.IGNORECASE)
_SMALL_BATCH: Final = {"max_num_batched_tokens": 2048}
_PROGRAM: Final = {"usage_context": "LLM_CLASS"}  # which kind of start a record is of, few say
_MOST_LENGTHS: Final = 64
_MTP: Final = range(1, 5)  # tokens that an MTP drafter usually proposes


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The memory, from which blocks and tokens (or the longest request) are predicted; and those, for the memory."""
    found: dict[str, Any] = {}
    for name in ("available_kv_gib", *vllm_printed.AVAILABLE):
        if isinstance(expected.get(name), int | float):
            found["available"] = expected[name]
    lengths = expected.get("max_concurrency")
    if isinstance(lengths, Mapping):
        found["lengths"] = [length for length in list(lengths)[:_MOST_LENGTHS] if isinstance(length, str) and length.isdecimal()]
    if "groups" in expected:
        found["groups"] = True
    for name, key in (("num_gpu_blocks", "blocks"), ("num_tokens", "tokens")):
        if expected.get(name) is not None:
            found[key] = whole(expected[name], name, 1)
    if isinstance(expected.get("needed_gib_printed"), int | float):
        found["estimated"] = whole(expected.get("estimated_max_model_len_printed", 0), "estimated_max_model_len_printed")
    if any(name in expected for name in vllm_printed.HYBRID):
        found["aligned"] = True
    return found


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any] | NotPredicted:
    """The printed numbers, each as the values that the record leaves possible."""
    if not asked:
        return NotPredicted(reason="the record says neither the memory nor the blocks that it became")
    foreign = next((word for word in _FOREIGN if word in case.engine_version), "")
    if foreign:
        return NotPredicted(reason=f"the rules are those of vLLM on CUDA and CPUs, and this is a server of its {foreign} kind")
    if "model_type" not in case.config:
        return NotPredicted(reason="the record holds no config that describes the model")
    model = read(case.config, "")
    flags = _flags(case)
    if isinstance(flags, NotPredicted):
        return flags
    return vllm_printed.predict(model, versions(case.engine_version), _open(case, model, flags), asked)


def versions(text: str) -> tuple[str, ...]:
    """The releases that `engine_version` may mean: its number, V0, or those whose rules differ.

    >>> versions("vllm 0.6.x (V0)")
    ('0.6.6',)
    """
    words = text.partition(" ")[2]
    if "V0" in words:
        return ("0.6.6",)
    numbers = _NUMBER.findall(words.replace(".x", ".6"))
    return tuple(numbers) if numbers else _V1


def _flags(case: Case) -> dict[str, Any] | NotPredicted:
    """The flags that the record tells."""
    given = case.options
    found: dict[str, Any] = {name: given[name] for name in _FLAGS if given.get(name) is not None}
    for short, name in _SHORT.items():
        if given.get(short) is not None:
            found[name] = whole(given[short], f"options.{short}", 1)
    dtype = given.get("kv_dtype", "auto")
    if not isinstance(dtype, str) or (dtype not in NAMES and "see" in dtype):
        return NotPredicted(reason="the record does not say the cache's dtype")
    found["kv_cache_dtype"] = re.split(r"[ /(]", dtype)[0]
    if given.get("device") == "cpu":
        found["device"] = "cpu"
        found.pop("block_size", None)
    if given.get("swap_space_gib") is not None:
        found["swap_space"] = float(whole(given["swap_space_gib"], "options.swap_space_gib"))
    length = case.workload.get("max_model_len", case.workload.get("seq_len"))
    if length is not None:
        found["max_model_len"] = whole(length, "workload.max_model_len", 1)
    return found


def remark(case: Case) -> str:
    """Options of the record that decide nothing here because no reader knows them; else empty."""
    unknown = sorted(set(case.options) - {*_FLAGS, *_SHORT, *_BESIDE})
    return f"options that are not read: {', '.join(name[:40] for name in unknown[:8])}" if unknown else ""


def _open(case: Case, model: Model, flags: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The flags with each choice that the record leaves open."""
    batches: list[Mapping[str, Any]] = [{}]
    if "max_num_batched_tokens" not in flags:
        if not _LARGE.search(str(case.options.get("gpu", ""))):
            batches.append(_SMALL_BATCH)
        batches.append(_PROGRAM)
    drafters: list[Mapping[str, Any]] = [{}]
    if "MTP" in str(case.options.get("spec", "")):
        if not model.drafts:
            raise InvalidCase("the record speaks of MTP layers, and its config has none")
        drafters = [{"speculative_config": f'{{"method": "mtp", "num_speculative_tokens": {n}}}'} for n in _MTP]
    return tuple({**flags, **batch, **drafter} for batch, drafter in product(batches, drafters))
