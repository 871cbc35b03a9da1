"""llama.cpp: one cache object for each kind of layer, allocated whole when the context is created.

*Rounding* is in `llama_context` (cells are a multiple of 256), *retention* and *storage* in `llama_memory` (a window keeps its
size plus one micro-batch), the metadata's meaning in `kvplan.gguf`, defaults of the front ends in `llama_options`. Here a
workload becomes the parameters of a context, and the context's tensors become buffers.

Source: llama.cpp 0c1e57098 (libllama 0.5.0, ggml 0.25.3), `src/llama-context.cpp`, `src/llama-kv-cache*.cpp`,
`src/llama-memory-*.cpp`. Golden: `tests/golden/llama_cpp.jsonl` and `llama_live.jsonl`, every recorded context exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import Allocation, Buffer, NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Model
from kvplan.domain.words import layer_kinds
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import PieceEngine
from kvplan.engines.kernel.tensors import Count, Totals, at_least, at_most
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context, refused
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.log import log_lines
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params, Part, Tensor, pad
from kvplan.engines.llama_cpp.options import LlamaCppOptions
from kvplan.errors import GgufError, OptionError
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.gguf.known import DRAFTERS
from kvplan.gguf.memories import model_from_hparams

_NAMES: Final = {"k": "keys", "v": "values", "r": "rolling state", "s": "state", "p": "PLE state", "state": "compressor state"}
#: Tokens that one entry of a compressed cache stands for (DeepSeek V4).
_RATIOS: Final = {"csa": 4, "lid": 4, "hca": 128}


class _Read(Struct, frozen=True, kw_only=True):
    """A model as llama.cpp reads it: its hparams, and the memories that follow from them."""

    hparams: Hparams
    model: Model


class LlamaCpp(PieceEngine):
    """llama.cpp's contexts; see the module's docstring."""

    name: ClassVar[str] = "llama.cpp"
    Options: ClassVar[type[Any]] = LlamaCppOptions
    aliases: ClassVar[Mapping[str, str]] = {"kv_dtype": "kv_dtype"}
    latest: ClassVar[str] = "0.5.0"
    linear_in_batch: ClassVar[bool] = False
    options: LlamaCppOptions

    def __init__(self, options: Any = None, version: str | None = None) -> None:
        super().__init__(options, version)
        self._last: tuple[Model, _Read | NotPredicted] | None = None

    def kv_dtype(self, model: Model) -> str:
        """The key type, and the value type where it is another."""
        k, v = (lookup(CACHE_TYPES[kind]).name for kind in (self.options.type_k, self.options.type_v))
        return k if k == v else f"{k}/{v}"

    def _read(self, model: Model) -> _Read | NotPredicted:
        """The model through its GGUF keys: the file's own, or those that the converter writes for its hub config."""
        if self._last is None or self._last[0] is not model:
            keys = gguf_keys(model)
            if isinstance(keys, NotPredicted):
                self._last = (model, keys)
            else:
                h = read_hparams(keys, model.name)
                self._last = (model, _Read(hparams=h, model=model_from_hparams(h, source=model.name, name=model.name)))
        return self._last[1]

    def refuse(self, model: Model) -> NotPredicted | None:
        """A model without GGUF keys, or options that the engine refuses for it."""
        try:
            read = self._read(model)
        except GgufError as problem:
            return NotPredicted(reason=str(problem))
        if isinstance(read, NotPredicted):
            return read
        if read.hparams.arch in DRAFTERS:
            return NotPredicted(reason=f"a {read.hparams.arch} drafter works in another model's context, which was not studied")
        if self.options.ctx_size == 0 and not read.hparams.context_length:
            return NotPredicted(reason="the model's own length is not known, and ctx_size 0 asks for it", see="give a ctx_size")
        message = refused(read.hparams, self.params(read.hparams, 1, 1))
        return NotPredicted(reason=f"llama.cpp refuses: {message}") if message else None

    def params(self, h: Hparams, seq_len: Count, batch_size: Count) -> Params[Count]:
        """The context's parameters for `batch_size` sequences of `seq_len` tokens."""
        o, zero = self.options, seq_len * batch_size * 0
        n_seq_max = batch_size if o.sequences is None else batch_size * 0 + o.sequences
        # A context of fewer tokens than sequences aborts: what is typed for this workload has at least as many.
        enough = at_least(seq_len * at_least(batch_size, 1), at_least(n_seq_max, 1))
        n_ctx = enough if o.ctx_size is None else zero + (o.ctx_size or h.context_length)
        return Params(
            n_ctx=n_ctx,
            n_seq_max=n_seq_max,
            n_batch=o.n_batch,
            n_ubatch=o.n_ubatch,
            n_rs_seq=o.n_rs_seq,
            kv_unified=o.unified,
            swa_full=o.keeps_all,
            flash_attn=o.flash,
            type_k=o.type_k,
            type_v=o.type_v,
            ctx_type="mtp" if o.ctx_type == "mtp" else "default",
            embeddings=o.embeddings,
        )

    def footprint(self, model: Model, workload: Workload) -> Allocation | NotPredicted:
        """The context's memory, tensor by tensor."""
        refusal = self.refuse(model)
        if refusal is not None:
            return refusal
        read = self._read(model)
        if isinstance(read, NotPredicted):
            return read
        context = make_context(read.hparams, self.params(read.hparams, workload.seq_len, workload.batch_size))
        if isinstance(context, Refusal):
            return NotPredicted(reason=f"llama.cpp refuses: {context.message}")
        if workload.batch_size > context.n_seq_max:
            return NotPredicted(
                reason=f"{workload.batch_size} sequences at once are more than n_seq_max, which is {context.n_seq_max} here"
            )
        kinds = self._kinds(read.model, context)
        return Allocation(
            model=model,
            engine=self.name,
            engine_version=self.version,
            workload=workload,
            kv_dtype=self.kv_dtype(model),
            tensor_parallel=1,
            buffers=tuple(self._buffers(read.hparams, context, workload, kinds)),
            kinds=kinds,
            bytes_per_token=self.bytes_per_token(model, workload.seq_len),
            evidence=self.evidence(replace(read.model, inferred=model.inferred)),
            notes=(*model.notes, *self._remarks(read, context, workload)),
            details=self._details(read.hparams, context),
        )

    def _kinds(self, read: Model, context: Context[int]) -> tuple[str, ...]:
        """One phrase a layer; NextN layers, where they have memory, come after the others."""
        kept = {tensor.layer for part in context.parts for tensor in part.tensors}
        layers, count = layer_kinds(read), len(read.layers)
        if not any(layer >= count for layer in kept):
            return layers
        drafts = layer_kinds(replace(read, layers=tuple(replace(d, index=i) for i, d in enumerate(read.drafts)), drafts=()))
        unused = self.options.ctx_type == "mtp" and not any(layer < count for layer in kept)
        return (("not in an MTP context",) * count if unused else layers) + drafts

    def _buffers(self, h: Hparams, context: Context[int], workload: Workload, kinds: tuple[str, ...]) -> Iterator[Buffer]:
        for part in context.parts:
            for tensor, layers in grouped(h, part):
                if not tensor.bytes:
                    continue  # layers without heads have tensors of no bytes
                by_kind: dict[str, list[int]] = {}
                for layer in layers:
                    by_kind.setdefault(kinds[layer], []).append(layer)
                row, dtype = tensor.shape[0], lookup(CACHE_TYPES.get(tensor.type, tensor.type))
                shape = (*reversed(tensor.shape[1:]), dtype.row_bytes(1, row) if dtype.packed else row)
                payload = needed(h, part, tensor, workload.seq_len, workload.batch_size)
                for kind, alike in by_kind.items():
                    yield Buffer(
                        layers=tuple(alike),
                        name=_NAMES[tensor.role] if part.name != "indexer" and part.name != "lid" else "index keys",
                        kind=kind,
                        shape=shape,
                        dtype=dtype.torch,
                        payload_bytes=payload * len(alike),
                        padded_bytes=tensor.bytes * len(alike),
                        per="sequence" if tensor.role not in {"k", "v"} else "token",
                    )

    def totals(self, model: Model, seq_len: Count, batch_size: Count, encoder_len: int) -> Totals[Count]:
        """The sums of `footprint`, for one workload or for arrays of them."""
        read = self._read(model)
        if isinstance(read, NotPredicted):
            raise OptionError(read.reason)
        context = make_context(read.hparams, self.params(read.hparams, seq_len, batch_size))
        if isinstance(context, Refusal):
            raise OptionError(f"llama.cpp refuses: {context.message}")
        payload = seq_len * batch_size * 0
        allocated, state = payload, payload
        for part in context.parts:
            for tensor, layers in grouped(read.hparams, part):
                payload = payload + needed(read.hparams, part, tensor, seq_len, batch_size) * len(layers)
                allocated = allocated + tensor.bytes * len(layers)
                if tensor.role not in {"k", "v"}:
                    state = state + tensor.bytes * len(layers)
        return Totals(payload=payload, allocated=allocated, bookkeeping=0, state=state)

    def _remarks(self, read: _Read, context: Context[int], workload: Workload) -> Iterator[str]:
        tokens = context.n_ctx_seq * (1 if self.options.unified and workload.batch_size > 1 else workload.batch_size)
        if workload.seq_len * workload.batch_size > tokens:
            each = context.n_ctx_seq // (workload.batch_size if self.options.unified else 1)
            yield f"the context holds {each:,} tokens a sequence, not {workload.seq_len:,}: a larger ctx_size is needed"
        h = read.hparams
        drafts = {t.layer for part in context.parts for t in part.tensors if t.layer >= h.n_layer}
        if drafts and self.options.ctx_type != "mtp":
            yield f"{len(drafts)} prediction layer(s) counted: llama.cpp holds them here too (files made with --no-mtp have none)"
        trained = h.context_length
        if trained and context.n_ctx_seq > pad(trained):
            yield f"the model was trained for {trained:,} tokens; llama.cpp warns, and allocates all the same"

    def _details(self, h: Hparams, context: Context[int]) -> Mapping[str, Any]:
        """The engine's own words: the normalised context, each cache object, the lines of the log, what to type."""
        o = self.options
        return {
            "n_ctx": context.n_ctx,
            "n_ctx_seq": context.n_ctx_seq,
            "n_seq_max": context.n_seq_max,
            "n_batch": context.n_batch,
            "n_ubatch": context.n_ubatch,
            "kv_unified": o.unified,
            "flash_attn": context.flash_attn,
            "output_buffer_bytes": context.output_buffer_bytes,
            "parts": [part_words(part) for part in context.parts],
            "backend_buffer_bytes": {"cpu": backend_bytes(context, 32), "cuda": backend_bytes(context, 128, tail=True)},
            "backend_evidence": {"cpu": "measured", "cuda": "derived"},
            "log": list(log_lines(h, context, type_k=o.type_k, type_v=o.type_v)),
            "flags": o.flags(context.n_ctx if o.ctx_size != 0 else 0, context.n_seq_max),
        }


def grouped(h: Hparams, part: Part[Count]) -> list[tuple[Tensor[Count], list[int]]]:
    """Equal tensors of one cache object together: one of them, and the layers that hold it."""
    found: dict[tuple[str, int | Count, int], tuple[Tensor[Count], list[int]]] = {}
    for tensor in part.tensors:  # rows of one width may be padded from different ones
        own = h.n_embd_v(tensor.layer) if tensor.role == "v" else 0
        found.setdefault((tensor.role, tensor.shape[0], own), (tensor, []))[1].append(tensor.layer)
    return list(found.values())


def needed(h: Hparams, part: Part[Count], tensor: Tensor[Count], seq_len: Count, batch_size: Count) -> Count:
    """Bytes of one tensor that hold what the workload's tokens need."""
    if tensor.role not in {"k", "v"}:  # one row a sequence; spare rows are for rolling back
        rows = part.streams if part.name.endswith("_state") else tensor.shape[-1]
        return at_most(tensor.bytes // rows * batch_size, tensor.bytes)
    elements = int(tensor.shape[0])
    if tensor.role == "v":
        elements = 0 if part.name == "indexer" else min(elements, h.n_embd_v(tensor.layer))
    kept = seq_len // _RATIOS.get(part.name, 1)
    if part.name in {"swa", "raw_swa"}:
        kept = at_most(kept, h.n_swa)
    row = lookup(CACHE_TYPES[tensor.type]).row_bytes(1, elements)
    return at_most(kept * batch_size * row, tensor.bytes)


def part_words(part: Part[int]) -> dict[str, Any]:
    """A cache object in the log's words; sizes in bytes."""
    sizes = {f"{role}_bytes": int(part.sum(role)) for role in ("k", "v", "r", "s", "p", "state")}
    told = {
        name: size for name, size in sizes.items() if size or (name in {"k_bytes", "v_bytes"} and not part.sum("r", "s", "state"))
    }
    return {"name": part.name, "cells": part.cells, "streams": part.streams, "layers": part.n_layers, **told}


def backend_bytes(context: Context[int], alignment: int, *, tail: bool = False) -> int:
    """What a backend's buffers take: each tensor padded to the alignment; CUDA adds a tail to quantised rows.

    Source (read, not measured): `ggml_backend_alloc_ctx_tensors_from_buft`, `ggml_backend_cuda_buffer_type_get_alloc_size`.
    """
    total = 0
    for part in context.parts:
        for tensor in part.tensors:
            size, row = tensor.bytes, int(tensor.shape[0])
            dtype = lookup(CACHE_TYPES.get(tensor.type, tensor.type))
            if tail and dtype.packed and size and row % 512:
                size += dtype.row_bytes(1, 512 - row % 512)
            total += pad(size, alignment)
    return total
