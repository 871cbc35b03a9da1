"""llama-server's host memory: what a sequence's state takes when it is saved, whole or in part.

A prompt-cache entry (`--cache-ram`) is the whole state of a sequence; a context checkpoint (`--ctx-checkpoints`) is the part that
cannot be cut back to an earlier token: windows, recurrent states.

Source: llama.cpp 0c1e57098, `src/llama-context.cpp:state_seq_get_size`, `src/llama-kv-cache.cpp:state_write`,
`src/llama-memory-recurrent.cpp:state_write`, `src/llama-kv-cache-dsv4.cpp`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.domain.tiers import Tier, TierAsk
from kvplan.engines.llama_cpp.context import Context
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Part, Tensor
from kvplan.engines.llama_cpp.on import OnModel
from kvplan.engines.llama_cpp.options import CACHE_RAM_MIB
from kvplan.errors import Refused
from kvplan.gguf.hparams import Hparams
from kvplan.gguf.known import MROPE, MROPE_BY_SECTIONS, PURE_RECURRENT
from kvplan.units import MIB

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


MIN_STEP: Final = 8192  # tokens between two of them: --checkpoint-min-step
_AT_THE_END: Final = 2  # beside those: 4 and 4 + n_ubatch tokens before a prompt's end


def checkpoints_of(tokens: int, most: int) -> tuple[int, int]:
    """Fewest and most checkpoints of a prompt of `tokens` tokens: where messages begin decides [read: server-context.cpp].

    >>> checkpoints_of(60_000, 32), checkpoints_of(500, 32)
    ((2, 9), (1, 2))
    """
    fewest = min(most, _AT_THE_END if tokens > MIN_STEP // 16 + 4 else 1)
    return fewest, max(fewest, min(most, tokens // MIN_STEP + _AT_THE_END))


def checkpoint_bytes(on: OnModel, context: Context[int], tokens: int) -> int:
    """One checkpoint of a slot that holds `tokens` tokens; 0 where none is made."""
    if on.engine.options.keeps_all and on.hparams.has_swa:
        return 0
    return saved(on.hparams, context, tokens).checkpoint


def tiers(on: OnModel, ask: TierAsk) -> Iterator[Tier]:
    """llama-server's prompt cache, and the checkpoints of the slots that run, which lie outside it."""
    options, slots = on.engine.options, max(1, ask.slots)
    asked = ask.host_bytes is not None
    if options.frontend != "server" or (not asked and ask.disk_bytes is not None):
        return
    told = ask.host_bytes // MIB if ask.host_bytes is not None else options.cache_ram
    try:
        context = on.context(ask.tokens, slots)
    except Refused as problem:
        budget = max(told, 0) * MIB
        yield Tier(tier="prompt-cache", title="prompt cache", place="host", budget_bytes=budget, refused=problem.reason)
        return
    one = saved(on.hparams, context, ask.tokens)
    each = checkpoint_bytes(on, context, ask.tokens)
    live = slots * options.ctx_checkpoints * each
    if told < 0:
        words = f"no limit is set (--cache-ram {told}): an entry of {ask.tokens:,} tokens is at least {one.whole:,} bytes"
        yield Tier(tier="prompt-cache", title="prompt cache", place="host", budget_bytes=0, refused=words)
    if told > 0:
        yield _prompt_row(on, ask, one, each, told * MIB, live)
    if live:
        yield Tier(
            tier="checkpoints",
            title=f"checkpoints of {slots} slots",
            place="host",
            budget_bytes=0,
            sessions=slots,
            session_bytes=options.ctx_checkpoints * each,
            returned_tokens=ask.tokens,
            beside_bytes=live,
            evidence=on.evidence(),
            flags=f"--ctx-checkpoints {options.ctx_checkpoints}" if asked else "",
            notes=(
                f"a checkpoint is {each:,} bytes ({each / MIB:.1f} MiB), and every slot keeps up to {options.ctx_checkpoints}",
            ),
        )


def _prompt_row(on: OnModel, ask: TierAsk, one: Saved, each: int, budget: int, live: int) -> Tier:
    """What the prompt cache keeps in a budget: whole states, each with the checkpoints that its slot made."""
    fewest, most = checkpoints_of(ask.tokens, on.engine.options.ctx_checkpoints) if each else (0, 0)
    entry, small = one.whole + most * each, one.whole + fewest * each
    count = budget // entry
    return Tier(
        tier="prompt-cache",
        title="prompt cache",
        place="host",
        budget_bytes=budget,
        used_bytes=count * entry,
        tokens=count * ask.tokens,
        sessions=count,
        sessions_high=budget // small if small < entry else None,
        session_bytes=entry,
        returned_tokens=ask.tokens,
        evidence=on.evidence(),
        flags=f"--cache-ram {budget // MIB}" if ask.host_bytes is not None else "",
        notes=tuple(_prompt_notes(one, each, fewest, most, live)),
    )


def _prompt_notes(one: Saved, each: int, fewest: int, most: int, live: int) -> Iterator[str]:
    if each:
        yield (
            f"an entry is the whole state, {one.whole:,} bytes, and {fewest} to {most} checkpoints of {each:,} "
            "(where messages begin decides): sessions are of the most"
        )
        yield f"checkpoints of slots that run are outside --cache-ram: up to {live:,} bytes more"
    else:
        yield f"an entry is the whole state, {one.whole:,} bytes; this model makes no checkpoint so"
    yield f"--cache-ram is {CACHE_RAM_MIB} MiB where nobody says; an entry over the limit is not kept"
