"""Field logs of TensorRT-LLM: sizes that people's servers printed, from the tokens beside them, from 0.8 to today."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import Case, InvalidCase, Read, of_equal_layers, whole
from kvplan.engines.kernel.options import build_options
from kvplan.engines.kernel.printed import written_like
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.tensorrt_llm.about import ABOUT
from kvplan.engines.tensorrt_llm.audit.printed import blocks_of, free_of, left, sizes, tokens_of
from kvplan.engines.tensorrt_llm.layers import Stage
from kvplan.engines.tensorrt_llm.options import TrtllmOptions
from kvplan.engines.tensorrt_llm.settle import Settled, settle
from kvplan.errors import OptionError, UnknownArchitecture

#: Facts that are exact beside those of every engine.
EXACT: Final = ("kv_bytes",)
_RELEASE: Final = re.compile(r"(?<![\d.])(\d{1,3}\.\d{1,3}(?:\.\d{1,3})?)")
#: Of a log that names no release: the last that keeps one pool and one manager.
_UNNAMED: Final = "1.2.0"
_SHOWN: Final = ("total_gib_printed", "kv_bytes", "num_blocks_printed")
_FREE: Final = "available_gib_printed"  # what was free, of which the cache takes a fraction
_MEMORY: Final = (
    "device_total_gib", "peak_gib", "temporary_kv_gib", "free_gpu_memory_fraction", "available_gib", "max_tokens",
)  # fmt: skip


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens, from which sizes are predicted, and the sizes, from which the tokens are."""
    found: dict[str, Any] = {"shown": {}}
    if expected.get("num_tokens") is not None:
        found["tokens"] = whole(expected["num_tokens"], "num_tokens", 1)
    for name in _SHOWN:
        value = expected.get(name)
        if value is None:
            continue
        found["shown"][name] = value if name.endswith("gib_printed") else whole(value, name, 1)
    if expected.get(_FREE) is not None and "num_blocks_printed" in found["shown"]:
        found["shown"][_FREE] = expected[_FREE]
    return found


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any] | NotPredicted:
    """The printed numbers, in bytes, and the tokens that they leave possible."""
    model = _model(case, read)
    if isinstance(model, NotPredicted):
        return model
    settled = settle(model, _options(case), parse_version(release(case.engine_version)), any_model=True)
    if settled.windowed:
        return NotPredicted(reason="the log names the tokens of several pools together")
    memory = {name: case.workload[name] for name in _MEMORY if case.workload.get(name) is not None}
    if "max_tokens" in memory:
        whole(memory["max_tokens"], "workload.max_tokens", 1)
    longest = case.workload.get("max_seq_len")
    longest = whole(longest, "workload.max_seq_len", 1) if longest is not None else None
    stage = _stage(settled, asked)
    tokens = asked.get("tokens")
    found = sizes(stage, tokens, longest)
    possible = tokens_of(settled, stage, asked["shown"], memory)
    if possible is not None:
        found["num_tokens"] = possible
    if tokens is not None:
        found["num_blocks_printed"] = tokens // settled.tokens_per_block
    free = asked["shown"].get(_FREE)
    share = case.options.get("kv_cache_free_gpu_mem_fraction")
    if free is not None and share is not None and tokens is None:
        blocks = asked["shown"]["num_blocks_printed"]
        found |= {"num_blocks_printed": blocks_of(settled, stage, free, share), _FREE: free_of(settled, stage, blocks, share)}
    available = left(memory)
    if available is not None:
        found["available_kv_gib_printed"] = available
    return found


def release(text: str) -> str:
    """The release that `engine_version` names.

    >>> release("tensorrt-llm 0.12 to 0.17 (documentation)"), release("tensorrt-llm (2026, PyTorch backend)")
    ('0.12', '1.2.0')
    """
    match = _RELEASE.search(text.partition(" ")[2])
    return match[1] if match else _UNNAMED


def one_of_equals(text: str) -> str:
    """The first of several dtypes that a record leaves open, where all take as much.

    >>> one_of_equals("float16/bfloat16"), one_of_equals("fp16/fp8"), one_of_equals("int8")
    ('float16', 'fp16/fp8', 'int8')
    """
    first, *others = text.split("/")
    try:
        alike = {lookup(name).row_bytes(1, 1) for name in (first, *others)}
    except OptionError:
        return text
    return first if len(alike) == 1 else text


def _stage(settled: Settled, asked: Mapping[str, Any]) -> Stage:
    """The rank that printed the size; every rank of a pipeline prints its own."""
    size, tokens = asked["shown"].get("total_gib_printed"), asked.get("tokens")
    for stage in settled.stages:
        amount = sizes(stage, tokens, None).get("total_gib_printed")
        if size is not None and amount is not None:
            if written_like(size, (amount,), "total_gib_printed", unit="GiB", convention="binary") == size:
                return stage
        elif tokens is not None and asked["shown"].get("kv_bytes") == tokens * stage.token_bytes:
            return stage
    return settled.stages[0]


def _model(case: Case, read: Read) -> Model | NotPredicted:
    """The model, by its dimensions where no family knows its type."""
    config = case.config
    try:
        return read(config, "")
    except UnknownArchitecture:
        names = ("num_hidden_layers", "num_attention_heads", "hidden_size")
        if not all(isinstance(config.get(name), int) for name in names):
            return NotPredicted(reason="the record holds no config that describes the model")
    layers, heads, hidden = (whole(config[name], f"config.{name}", 1) for name in names)
    return of_equal_layers(
        case.model, layers, config.get("num_key_value_heads", heads), config.get("head_dim") or hidden // heads
    )


def _options(case: Case) -> Any:
    given = case.options
    found: dict[str, Any] = {
        "tp_size": case.option("tp", default=1, minimum=1),
        "pp_size": case.option("pp", default=1, minimum=1),
    }
    dtype = given.get("kv_dtype", "auto")
    if not isinstance(dtype, str):
        raise InvalidCase("`options.kv_dtype` must be a text")
    found["kv_cache_dtype"] = one_of_equals(dtype.partition(" ")[0])
    found["enable_attention_dp"] = given.get("attention_dp") is True
    found["num_nextn_predict_layers"] = case.option("mtp", default=0)
    if given.get("tokens_per_block") is not None:
        found["tokens_per_block"] = case.option("tokens_per_block", minimum=1)
        found["compute_capability"] = 1  # the log shows its blocks: no card changes them
    windows = given.get("max_attention_window")
    if windows is not None:
        listed = windows if isinstance(windows, list) else [windows]
        found["max_attention_window"] = ",".join(str(whole(size, "options.max_attention_window", 1)) for size in listed)
    if found["kv_cache_dtype"] == "int8":
        found["backend"] = "tensorrt"
    return build_options(TrtllmOptions, found, engine=ABOUT.name)
