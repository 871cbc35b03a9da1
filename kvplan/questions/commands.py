"""What to type: an engine's own flags for a workload that `fit` has found. Rows of data, one table an engine."""

from collections.abc import Mapping
from shlex import quote
from string import Formatter
from typing import Any, Final

from kvplan.domain.allocation import Allocation
from kvplan.domain.dtypes import ALIASES, DTYPES
from kvplan.domain.model import Model
from kvplan.engines import engine_class

#: Engine -> how its command is written: pieces with the values that each one needs; a piece without its value is left out.
_COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "vllm": (
        "vllm serve {model}",
        " --max-model-len {context}",
        " --max-num-seqs {batch_size}",
        " --gpu-memory-utilization {utilization}",
        " {kv_dtype_flag}",
        " --tensor-parallel-size {tensor_parallel}",
        " --pipeline-parallel-size {pipeline_parallel_size}",
        " --data-parallel-size {replicas}",
    ),
    "transformers": ("model.generate(**inputs, max_length={context})", "  # at most {batch_size} sequences", ", {kv_dtype_flag}"),
    "transformers/static": (
        "StaticCache(model.config, max_cache_len={context})",
        "  # {batch_size} sequences",
        ", {kv_dtype_flag}",
    ),
    "llama.cpp": ("llama-server -m {model}", " -c {all_tokens}", " -np {batch_size}", " {kv_dtype_flag}"),
}


def served_name(model: Model, source: str = "") -> str:
    """What an engine is given as the model: its hub id where one is known, else the path or name that was typed."""
    hub = next((fact.value for fact in model.provenance if fact.key == "hub"), "")
    return hub or source.removesuffix("/config.json") or model.name


def kv_dtype_flag(engine: str, kv_dtype: str) -> str:
    """What an engine takes for a cache dtype, by the dtype table; empty when nothing is known."""
    row = DTYPES.get(ALIASES.get(kv_dtype, kv_dtype))
    return dict(row.flags).get(engine, "") if row else ""


def engine_flags(allocation: Allocation, options: Mapping[str, Any], *, model: str, utilization: float, replicas: int) -> str:
    """The command that gives one engine this workload, with its own flags; empty for an engine that nobody starts.

    An engine that says in its allocation what to type is believed.
    """
    engine, devices = allocation.engine, allocation.tensor_parallel
    own = allocation.details.get("flags")
    if isinstance(own, str):
        program, _, rest = own.partition(" ")
        return f"{program} -m {model} {rest}" if program in {"llama-server", "llama-cli"} else own
    asked = {"kv_dtype", engine_class(engine).aliases.get("kv_dtype")} & options.keys()
    context, batch_size = allocation.workload.seq_len, allocation.workload.batch_size
    values: Mapping[str, Any] = {
        "model": quote(model),
        "context": context,
        "batch_size": batch_size,
        "all_tokens": context * batch_size,
        "utilization": f"{utilization:g}",
        "kv_dtype_flag": kv_dtype_flag(engine, allocation.kv_dtype) if asked else "",
        "tensor_parallel": devices if devices > 1 else "",
        "pipeline_parallel_size": options.get("pipeline_parallel_size", ""),
        "replicas": replicas if replicas > 1 else "",
    }
    pieces = _COMMANDS.get(f"{engine}/{options.get('cache', '')}") or _COMMANDS.get(engine, ())
    return "".join(piece.format(**values) for piece in pieces if all(values[name] != "" for name in _names(piece)))


def _names(piece: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(piece) if name]
