"""The lines that llama.cpp prints when it creates a context's memory, with its own float32 arithmetic.

Source: llama.cpp 0c1e57098, `src/llama-kv-cache.cpp`, `src/llama-memory-recurrent.cpp`, `src/llama-kv-cache-dsv4.cpp`
(the constructors' `LLAMA_LOG_INFO`).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack, unpack

from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.memory import Part
from kvplan.gguf.hparams import Hparams


def float32(value: float) -> float:
    """`value` as C's `float` holds it."""
    (rounded,) = unpack("<f", pack("<f", value))
    return float(rounded)


def mib(size: int) -> str:
    """`%7.2f` of bytes as MiB: the size becomes a float before it is divided.

    >>> mib(16777216)
    '  16.00'
    """
    return f"{float32(size) / 1048576:7.2f}"


def log_lines(h: Hparams, context: Context[int], *, type_k: str, type_v: str) -> Iterator[str]:
    """One line a cache object, in the engine's order."""
    for part in context.parts:
        if part.name == "recr":
            yield _recurrent(h, context, part)
        elif part.name.endswith("_state"):
            yield _compressor(context, part)
        else:
            k, v = int(part.sum("k")), int(part.sum("v"))
            yield (
                f"llama_kv_cache: size = {mib(k + v)} MiB ({part.cells:6d} cells, {part.n_layers:3d} layers, "
                f"{context.n_seq_max:2d}/{part.streams} seqs), K ({type_k}): {mib(k)} MiB, V ({type_v}): {mib(v)} MiB"
            )


def _recurrent(h: Hparams, context: Context[int], part: Part[int]) -> str:
    """Here "layers" is the model's number of layers, whichever of them keep a state."""
    r, s, p = int(part.sum("r")), int(part.sum("s")), int(part.sum("p"))
    return (
        f"llama_memory_recurrent: size = {mib(r + s + p)} MiB ({part.cells:6d} cells, {h.n_layer:3d} layers, "
        f"{context.n_seq_max:2d} seqs {context.n_rs_seq:2d} rs_seq), "
        f"R (f32): {mib(r)} MiB, S (f32): {mib(s)} MiB, P (f32): {mib(p)} MiB"
    )


def _compressor(context: Context[int], part: Part[int]) -> str:
    """DeepSeek V4's compressor states."""
    name = part.name.removesuffix("_state")
    row = part.tensors[0].shape[0] if part.tensors else 0
    return (
        f"llama_dsv4_comp_state: {name} ratio = {128 if name == 'hca' else 4}, state = {part.cells} x {row}, "
        f"streams = {context.n_seq_max}, rs_seq = {context.n_rs_seq}, layers = {part.n_layers}, "
        f"size = {mib(int(part.sum('state')))} MiB"
    )
