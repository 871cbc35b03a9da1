"""What to type: an engine's own flags for a workload that `fit` has found. Rows of data, one table an engine."""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.allocation import Allocation
from kvplan.dtypes import DTYPES

#: Engine -> (first words, then flag templates). A flag whose value is empty is left out.
_COMMANDS: Final[dict[str, tuple[str, tuple[tuple[str, str], ...]]]] = {
    "vllm": (
        "vllm serve {model}",
        (
            ("--max-model-len {}", "context"),
            ("--max-num-seqs {}", "batch_size"),
            ("--gpu-memory-utilization {}", "utilization"),
            ("{}", "kv_dtype_flag"),
            ("--tensor-parallel-size {}", "tensor_parallel"),
            ("--data-parallel-size {}", "replicas"),
        ),
    ),
    "transformers": (
        "StaticCache(config=model.config",
        ((", max_cache_len={})", "context"), ("for a batch of {}", "batch_size"), ("with {}", "kv_dtype_flag")),
    ),
    "llama.cpp": (
        "llama-server -m {model}",
        (("-c {}", "all_tokens"), ("-np {}", "batch_size"), ("{}", "kv_dtype_flag"), ("-ngl {}", "gpu_layers")),
    ),
}


def kv_dtype_flag(engine: str, kv_dtype: str) -> str:
    """What an engine takes for a cache dtype, by the dtype table; empty when nothing is known."""
    row = DTYPES.get(kv_dtype)
    return dict(row.flags).get(engine, "") if row else ""


def engine_flags(allocation: Allocation, *, utilization: float, replicas: int, asked_dtype: bool) -> str:
    """The command that gives one engine this workload, with its own flags; empty for an engine that nobody starts.

    An engine that says in its allocation what to type is believed.
    """
    engine = allocation.engine
    context, batch_size = allocation.workload.seq_len, allocation.workload.batch_size
    first, flags = _COMMANDS.get(engine, ("", ()))
    own = allocation.details.get("flags")
    if isinstance(own, str):
        return own
    if not first:
        return ""
    values: Mapping[str, Any] = {
        "context": context,
        "batch_size": batch_size,
        "all_tokens": context * batch_size,
        "utilization": f"{utilization:g}",
        "kv_dtype_flag": kv_dtype_flag(engine, allocation.kv_dtype) if asked_dtype else "",
        "tensor_parallel": allocation.tensor_parallel if allocation.tensor_parallel > 1 else "",
        "replicas": replicas if replicas > 1 else "",
        "gpu_layers": "all",
    }
    words = [first.format(model=allocation.model.name)]
    words += [template.format(values[key]) for template, key in flags if values[key] != ""]
    return " ".join(words).replace(" , ", ", ")
