"""llama-server's host memory: what a sequence's state takes when it is saved, whole or in part.

A prompt-cache entry (`--cache-ram`) is the whole state of a sequence; a context checkpoint (`--ctx-checkpoints`) is the part that
cannot be cut back to an earlier token: windows, recurrent states.

Source: llama.cpp 0c1e57098, `src/llama-context.cpp:state_seq_get_size`, `src/llama-kv-cache.cpp:state_write`,
`src/llama-memory-recurrent.cpp:state_write`, `src/llama-kv-cache-dsv4.cpp`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Part, Tensor
from kvplan.gguf.hparams import Hparams
from kvplan.gguf.known import MROPE, MROPE_BY_SECTIONS, PURE_RECURRENT

_HEAD: Final = 8  # magic and version of a sequence's file
_CELL: Final = 12  # position, number of sequences, one sequence
_POSITIONS: Final = 12  # beside a cell, where a token has several positions
_LAYER: Final = 12  # type and size of a row
_RATIOS: Final = {"csa": 4, "lid": 4, "hca": 128}


class Saved(Struct, frozen=True):
    """Bytes of one sequence's state: all of it, and what a checkpoint keeps (0: the model makes none)."""

    whole: int
    checkpoint: int


def saved(h: Hparams, context: Context[int], tokens: int) -> Saved:
    """The state of a sequence that has `tokens` tokens."""
    if h.arch == "deepseek4":
        return _compressed(h, context, tokens)
    extra = _POSITIONS if _several_positions(h) or h.p_elements else 0
    whole, part = _HEAD, 0
    for cache in context.parts:
        if cache.name == "recr":
            size = _recurrent(cache)
            part += size
        else:
            window = cache.name == "swa"
            size = _cells(h, cache, _window(h, tokens) if window else tokens, extra)
            part += size if window else 0
        whole += size
    if h.arch in PURE_RECURRENT or not part:
        return Saved(whole, whole if h.arch in PURE_RECURRENT else 0)
    return Saved(whole, _HEAD + part)


def _several_positions(h: Hparams) -> bool:
    """`llama_hparams::n_pos_per_embd`: M-RoPE, of some architectures only where the file splits the rotated dimensions."""
    sections = h.keys.get(f"{h.arch}.rope.dimension_sections")
    split = isinstance(sections, list | tuple) and len(sections) > 1 and all(isinstance(n, int) and n > 0 for n in sections[:2])
    return h.arch in MROPE or (h.arch in MROPE_BY_SECTIONS and split)


def _window(h: Hparams, tokens: int) -> int:
    """Tokens of a window that a new token may still need; of attention in chunks, those of the last chunk."""
    if h.arch == "llama4":
        return (tokens - 1) % h.n_swa + 1
    return min(tokens, h.n_swa)


def _cells(h: Hparams, cache: Part[int], cells: int, extra: int) -> int:
    """A cache of keys and values: its cells, then each layer's rows."""
    size = 4 + 4 * cache.streams
    if not cells:
        return size
    rows = sum(_LAYER + cells * _row_bytes(h, cache, tensor) for tensor in cache.tensors)
    return size + cells * (_CELL + extra) + 8 + rows


def _row_bytes(h: Hparams, cache: Part[int], tensor: Tensor[int]) -> int:
    """A token's row; of values that lie transposed and are padded to the widest layer's, what the layer's own are."""
    own = tensor.role == "v" and cache.name != "indexer"
    return lookup(CACHE_TYPES[tensor.type]).row_bytes(1, h.n_embd_v(tensor.layer) if own else int(tensor.shape[0]))


def _recurrent(cache: Part[int]) -> int:
    """One row of each state, in float32; rows for rolling back are not saved."""
    size = 4 + 16 + sum(_LAYER + 4 * int(tensor.shape[0]) for tensor in cache.tensors)
    return size - sum(_LAYER - 8 for tensor in cache.tensors if tensor.role == "p")


def _compressed(h: Hparams, context: Context[int], tokens: int) -> Saved:
    """DeepSeek V4: windows and what the compressors are filling; whole, the entries too."""
    parts = {part.name: part for part in context.parts}
    kept = _HEAD + 12 + _cells(h, parts["raw_swa"], min(tokens, h.n_swa), 0)
    for name in ("csa_state", "hca_state", "lid_state"):
        part = parts[name]
        kept += 24 + sum(28 + 4 * int(tensor.shape[0]) * int(tensor.shape[1]) for tensor in part.tensors) + 4 * part.n_layers
    whole = kept + _cells(h, parts["raw_base"], tokens, 0)
    for name, ratio in _RATIOS.items():
        whole += 16 + sum(32 + tokens // ratio * _row_bytes(h, parts[name], tensor) for tensor in parts[name].tensors)
    return Saved(whole, kept)
