"""llama.cpp's context: its parameters as the engine normalises them, what it refuses, and the memory that follows.

Source: llama.cpp 0c1e57098, `src/llama-context.cpp` (`llama_init_from_model`, `llama_context::llama_context`,
`output_reserve`).
"""

from __future__ import annotations

from typing import Generic

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.engines.kernel.tensors import Count, at_least, at_most
from kvplan.engines.llama_cpp.builds import DIVIDES_UP, HYBRID_WHOLE, LEAST_BATCH, MAX_SEQUENCES, PADDING
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Memory, Params, Part, pad
from kvplan.gguf.hparams import Hparams
from kvplan.gguf.known import HYBRID, IGNORES_NEXTN, MTP_GRAPHS, NO_CACHE, PURE_RECURRENT


class Refusal(Struct, frozen=True):
    """The engine fails instead of allocating; `message` is its own."""

    message: str


class Context(Struct, Generic[Count], frozen=True, kw_only=True):
    """A context as the engine normalised it, and its memory."""

    n_ctx: Count
    n_ctx_seq: Count
    n_seq_max: Count
    n_batch: int | Count
    n_ubatch: int | Count
    n_rs_seq: int
    flash_attn: bool
    output_buffer_bytes: Count
    parts: tuple[Part[Count], ...]

    @property
    def k_bytes(self) -> int | Count:
        """All key tensors."""
        return sum(p.sum("k") for p in self.parts)

    @property
    def v_bytes(self) -> int | Count:
        """All value tensors."""
        return sum(p.sum("v") for p in self.parts)

    @property
    def state_bytes(self) -> int | Count:
        """All recurrent and compressor states."""
        return sum(p.sum("r", "s", "p", "state") for p in self.parts)

    @property
    def total_bytes(self) -> int | Count:
        """The whole memory."""
        return sum(p.sum("k", "v", "r", "s", "p", "state") for p in self.parts)


def make_context(h: Hparams, p: Params[Count]) -> Context[Count] | Refusal:
    """What `llama_init_from_model` allocates for these parameters, or why it fails."""
    refusal = refused(h, p)
    if refusal:
        return Refusal(refusal)
    flash = p.flash_attn != "off" and h.arch != "grok"
    n_seq_max = at_least(p.n_seq_max, 1)
    n_ctx = p.n_ctx
    if isinstance(n_ctx, int) and not n_ctx:
        n_ctx = n_seq_max * 0 + h.context_length
    n_batch = at_most(n_ctx, p.n_batch) if h.causal else n_ctx * 0 + p.n_batch
    n_batch = at_least(n_batch, LEAST_BATCH.at(p.release))
    crowded = n_seq_max > n_batch
    if crowded if isinstance(crowded, bool) else bool(crowded.any()):
        return Refusal("more sequences than n_batch: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed")
    n_ubatch = at_most(n_batch, p.n_batch if isinstance(p.n_ubatch, int) and not p.n_ubatch else p.n_ubatch)
    padding = PADDING.at(p.release)
    size, whole = padding.flash if flash else padding.plain, h.arch in HYBRID and HYBRID_WHOLE.at(p.release)
    if p.kv_unified or (whole and DIVIDES_UP.at(p.release)):
        n_ctx = pad(n_ctx, size)
        n_ctx_seq = n_ctx
    elif DIVIDES_UP.at(p.release):
        n_ctx_seq = pad(-(-n_ctx // n_seq_max), size)
        n_ctx = n_ctx_seq * n_seq_max
    else:
        n_ctx_seq = pad(pad(n_ctx, size) // n_seq_max, size)
        n_ctx = n_ctx_seq * n_seq_max
    memory = Memory(
        h, p, cells=n_ctx if whole else n_ctx_seq, n_seq_max=n_seq_max, n_batch=n_batch, n_ubatch=n_ubatch, flash=flash
    )
    outputs = 4 * h.n_vocab * n_seq_max
    if p.embeddings or h.arch == "t5":
        outputs = outputs + 4 * h.n_embd_out * n_seq_max
    return Context(
        n_ctx=n_ctx,
        n_ctx_seq=n_ctx_seq,
        n_seq_max=n_seq_max,
        n_batch=n_batch,
        n_ubatch=n_ubatch,
        n_rs_seq=memory.n_rs_seq,
        flash_attn=flash,
        output_buffer_bytes=outputs,
        parts=tuple(memory.mtp() if p.ctx_type == "mtp" else memory.parts()),
    )


def refused(h: Hparams, p: Params[Count]) -> str:
    """The engine's message, or nothing. Source: `llama_init_from_model`, `llama_context::llama_context`."""
    most = p.n_seq_max if isinstance(p.n_seq_max, int) else int(p.n_seq_max.max())
    allowed = MAX_SEQUENCES.at(p.release)
    if most > allowed:
        return f"n_seq_max must be <= {allowed}"
    flash = p.flash_attn != "off" and h.arch != "grok"
    block_k, block_v = lookup(CACHE_TYPES[p.type_k]).block, lookup(CACHE_TYPES[p.type_v]).block
    if block_v > 1 and not flash:
        return "quantized V cache requires flash_attn to be enabled"
    if flash:
        for layer in range(h.n_layer):
            sliding = h.sliding[layer]
            for side, kind, block, dim in (
                ("K", p.type_k, block_k, h.key_length_swa if sliding else h.key_length),
                ("V", p.type_v, block_v, h.value_length_swa if sliding else h.value_length),
            ):
                if block > 1 and dim % block:
                    return f"{side} cache type {kind} with block size {block} does not divide n_embd_head_{side.lower()}={dim}"
    if (h.is_mla or h.arch == "deepseek4") and p.type_k != p.type_v:
        return f"model does not support different K ({p.type_k}) and V ({p.type_v}) cache types"
    if p.ctx_type == "mtp" and h.n_layer == h.n_layer_all:
        return "the model has no NextN layers for an MTP context"
    ignored = h.arch in {*NO_CACHE, *PURE_RECURRENT, *HYBRID, *IGNORES_NEXTN} - {"glm5-next"}
    if p.ctx_type == "mtp" and h.arch not in MTP_GRAPHS and not ignored:
        return f"{h.arch} has no graph for an MTP context"
    if h.has_swa and not any(h.sliding) and h.arch not in {*HYBRID, *NO_CACHE, "deepseek4", "dots3note"}:
        return "no layer slides: GGML_ASSERT(hparams.is_swa_any()) failed"
    if h.arch == "t5" and most > 1 and not p.kv_unified:
        return "building the graph of a t5 model with several streams aborts (GGML_ASSERT)"
    return ""
