"""llama.cpp: one cache object for each kind of layer, allocated whole when the context is created.

*Rounding* is in `llama_context` (cells are a multiple of 256), *retention* and *storage* in `llama_memory` (a window keeps its
size plus one micro-batch), the metadata's meaning in `kvplan.gguf`, defaults of the front ends in `llama_options`. Here a
workload becomes the parameters of a context, and the context's tensors become buffers.

Source: llama.cpp 0c1e57098 (libllama 0.5.0, ggml 0.25.3), `src/llama-context.cpp`, `src/llama-kv-cache*.cpp`,
`src/llama-memory-*.cpp`. Golden: `tests/golden/llama_cpp.jsonl` and `llama_live.jsonl`, every recorded context exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.domain.words import layer_kinds
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Prepared, Serving
from kvplan.engines.kernel.releases import written
from kvplan.engines.kernel.tensors import At, Count, Piece, at_least, at_most
from kvplan.engines.llama_cpp.about import ABOUT
from kvplan.engines.llama_cpp.builds import COUNTED, LATEST, build, unknown
from kvplan.engines.llama_cpp.context import Context, Refusal, make_context, refused
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.log import log_lines
from kvplan.engines.llama_cpp.memory import CACHE_TYPES, Params, Part, Tensor, pad
from kvplan.engines.llama_cpp.options import DRAFT_FILE, LlamaCppOptions
from kvplan.errors import GgufError, Refused
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.gguf.known import DRAFTERS
from kvplan.gguf.memories import model_from_hparams

if TYPE_CHECKING:
    import numpy as np

    from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic

#: What a model is for -> the flag that llama-server serves it with.
_USES: Final = {"embed": " --embedding", "rerank": " --reranking"}
#: Stands for a file that nobody has named.
_ANY_FILE: Final = "FILE.gguf"
_KEPT: Final = 4  # contexts
_NAMES: Final = {"k": "keys", "v": "values", "r": "rolling state", "s": "state", "p": "PLE state", "state": "compressor state"}
#: Tokens that one entry of a compressed cache stands for (DeepSeek V4).
_RATIOS: Final = {"csa": 4, "lid": 4, "hca": 128}


class LlamaCpp(Engine):
    """llama.cpp's contexts; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = LlamaCppOptions
    options: LlamaCppOptions

    def on(self, model: Model) -> LlamaCppOn:
        """The model through its GGUF keys: the file's own, or those that the converter writes for its hub config.

        Raises:
            Refused: a model without GGUF keys, or options that the engine refuses for it.
        """
        keys = gguf_keys(model, self.release)
        try:
            h = read_hparams(keys, model.name)
            read = model_from_hparams(h, source=model.name, name=model.name)
        except GgufError as problem:
            raise Refused(str(problem)) from problem
        return LlamaCppOn(self, model, read, h)


class LlamaCppOn(Prepared):
    """llama.cpp on one model: its hparams, and the memories that follow from them (`read`)."""

    engine: LlamaCpp
    linear_in_batch = False

    def __init__(self, engine: LlamaCpp, model: Model, read: Model, hparams: Hparams) -> None:
        super().__init__(engine, model)
        self.read = read
        self.hparams = h = hparams
        self.settled = engine.options.settled(engine.release)
        self._words = layer_kinds(read)
        self._made: dict[tuple[Any, Any], Context[Any]] = {}
        if h.arch in DRAFTERS:
            raise Refused(f"a {h.arch} drafter works in another model's context, which was not studied")
        if engine.options.ctx_size == 0 and not h.context_length:
            raise Refused("the model's own length is not known, and ctx_size 0 asks for it", see="give a ctx_size")
        o = engine.options
        no = unknown(h, engine.release, mtp=o.ctx_type == "mtp", rollback=bool(o.n_rs_seq), flash=self.settled.flash == "on")
        if no:
            raise Refused(no)
        message = refused(h, self.params(1, 1))
        if message:
            raise Refused(f"llama.cpp refuses: {message}")

    @property
    def kv_dtype(self) -> str:
        """The key type, and the value type where it is another."""
        options = self.engine.options
        k, v = (lookup(CACHE_TYPES[kind]).name for kind in (options.type_k, options.type_v))
        return k if k == v else f"{k}/{v}"

    def context(self, seq_len: Count, batch_size: Count) -> Context[Count]:
        """The context that is made for `batch_size` sequences of `seq_len` tokens.

        Raises:
            Refused: the engine makes none.
        """
        asked = (seq_len, batch_size)
        whole = isinstance(seq_len, int) and isinstance(batch_size, int)
        if whole and asked in self._made:
            return self._made[asked]
        made = make_context(self.hparams, self.params(seq_len, batch_size))
        if isinstance(made, Refusal):
            raise Refused(f"llama.cpp refuses: {made.message}")
        if whole:  # one answer asks for few contexts, and for each of them several times
            if len(self._made) >= _KEPT:
                self._made.clear()
            self._made[asked] = made
        return made

    def _context(self, workload: Workload) -> Context[int]:
        return self.context(workload.seq_len, workload.batch_size)

    def params(self, seq_len: Count, batch_size: Count) -> Params[Count]:
        """The context's parameters for `batch_size` sequences of `seq_len` tokens."""
        o, h, zero = self.engine.options, self.hparams, seq_len * batch_size * 0
        asked = self.settled
        n_seq_max = batch_size if asked.sequences is None else batch_size * 0 + asked.sequences
        # A context of fewer tokens than sequences aborts: what is typed for this workload has at least as many.
        enough = at_least(seq_len * at_least(batch_size, 1), at_least(n_seq_max, 1))
        n_ctx = enough if o.ctx_size is None else zero + (o.ctx_size or h.context_length)
        return Params(
            n_ctx=n_ctx,
            n_seq_max=n_seq_max,
            n_batch=asked.batch,
            n_ubatch=o.n_ubatch,
            n_rs_seq=o.n_rs_seq,
            kv_unified=asked.unified,
            swa_full=o.keeps_all,
            flash_attn=asked.flash,
            type_k=o.type_k,
            type_v=o.type_v,
            ctx_type="mtp" if o.ctx_type == "mtp" else "default",
            embeddings=o.embeddings,
            release=self.engine.release,
        )

    def check(self, at: At[int]) -> None:
        """A context takes so many sequences and no more."""
        allowed = self.context(at.seq_len, at.batch_size).n_seq_max
        if at.batch_size > allowed:
            raise Refused(f"{at.batch_size} sequences at once are more than n_seq_max, which is {allowed} here")

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """The context's memory, tensor by tensor."""
        context = self.context(at.seq_len, at.batch_size)
        kinds = self._kinds(context)
        for part in context.parts:
            for tensor, layers in grouped(self.hparams, part):
                yield from self._alike(part, tensor, layers, kinds, at)

    def _alike(
        self, part: Part[Count], tensor: Tensor[Count], layers: list[int], kinds: tuple[str, ...], at: At[Count]
    ) -> Iterator[Piece[Count]]:
        """Equal tensors of one cache object, those of one kind of layer together."""
        if isinstance(tensor.bytes, int) and not tensor.bytes:
            return  # layers without heads have tensors of no bytes
        by_kind: dict[str, list[int]] = {}
        for layer in layers:
            by_kind.setdefault(kinds[layer], []).append(layer)
        row, dtype = int(tensor.shape[0]), lookup(CACHE_TYPES.get(tensor.type, tensor.type))
        payload = needed(self.hparams, part, tensor, at.seq_len, at.batch_size)
        last = dtype.row_bytes(1, row) if dtype.packed else row
        shape: tuple[int | Count, ...] = tuple(reversed(tensor.shape[1:])) + (last,)  # noqa: RUF005  (the type)
        for kind, alike in by_kind.items():
            yield Piece(
                layers=tuple(alike),
                name=_NAMES[tensor.role] if part.name not in {"indexer", "lid"} else "index keys",
                kind=kind,
                shape=shape,
                dtype=dtype.torch,
                payload=payload,
                padded=tensor.bytes + at.seq_len * 0,
                per="sequence" if tensor.role not in {"k", "v"} else "token",
            )

    def kinds(self, at: At[int]) -> tuple[str, ...]:
        """One phrase a layer; NextN layers, where they have memory, come after the others."""
        return self._kinds(self.context(at.seq_len, at.batch_size))

    def _kinds(self, context: Context[Count]) -> tuple[str, ...]:
        read = self.read
        kept = {tensor.layer for part in context.parts for tensor in part.tensors}
        layers, count = self._words, len(read.layers)
        if not any(layer >= count for layer in kept):
            return layers
        drafts = layer_kinds(replace(read, layers=tuple(replace(d, index=i) for i, d in enumerate(read.drafts)), drafts=()))
        unused = self.engine.options.ctx_type == "mtp" and not any(layer < count for layer in kept)
        return (("not in an MTP context",) * count if unused else layers) + drafts

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return (*self.model.notes, *self._remarks(self._context(workload), workload))

    def _remarks(self, context: Context[int], workload: Workload) -> Iterator[str]:
        tokens = context.n_ctx_seq * (1 if self.settled.unified and workload.batch_size > 1 else workload.batch_size)
        if workload.seq_len * workload.batch_size > tokens:
            each = context.n_ctx_seq // (workload.batch_size if self.settled.unified else 1)
            yield f"the context holds {each:,} tokens a sequence, not {workload.seq_len:,}: a larger ctx_size is needed"
        h, release = self.hparams, self.engine.release
        if build(COUNTED) < release < LATEST:
            yield f"b{COUNTED} is the last build that was counted: {written(release)} is taken by the rules of {ABOUT.latest}"
        drafts = {t.layer for part in context.parts for t in part.tensors if t.layer >= h.n_layer}
        if drafts and self.engine.options.ctx_type != "mtp":
            yield f"{len(drafts)} prediction layer(s) counted: llama.cpp holds them here too (files made with --no-mtp have none)"
        trained = h.context_length
        if trained and context.n_ctx_seq > pad(trained):
            yield f"the model was trained for {trained:,} tokens; llama.cpp warns, and allocates all the same"

    def facts(self, workload: Workload) -> LlamaCppFacts:
        """The normalised context, and each cache object."""
        context = self._context(workload)
        return LlamaCppFacts(
            n_ctx=context.n_ctx,
            n_ctx_seq=context.n_ctx_seq,
            n_seq_max=context.n_seq_max,
            n_batch=context.n_batch,
            n_ubatch=context.n_ubatch,
            kv_unified=self.settled.unified,
            flash_attn=context.flash_attn,
            output_buffer_bytes=context.output_buffer_bytes,
            parts=tuple(part_words(part) for part in context.parts),
            backend_buffer_bytes={"cpu": backend_bytes(context, 32), "cuda": backend_bytes(context, 128, tail=True)},
            backend_evidence={"cpu": "recorded", "cuda": "from source"},
        )

    def log(self, workload: Workload) -> tuple[str, ...]:
        """The lines that the library prints of its caches."""
        options, context = self.engine.options, self._context(workload)
        return tuple(log_lines(self.hparams, context, type_k=options.type_k, type_v=options.type_v))

    def typed(self, workload: Workload) -> str:
        """The front end's own words for this context."""
        return self.command(self.asked(workload))

    def asked(self, workload: Workload) -> Serving:
        """A workload of the file that was read, where one was."""
        found = super().asked(workload)
        return replace(found, model=self.model.gguf) if self.model.gguf else found

    def command(self, serving: Serving) -> str:
        """`llama-server -m FILE.gguf …`, or what the front end is told in code."""
        workload = Workload(batch_size=serving.batch_size, seq_len=serving.context)
        options, context = self.engine.options, self._context(workload)
        typed = options.flags(context.n_ctx if options.ctx_size != 0 else 0, context.n_seq_max, self.engine.release)
        program, _, rest = typed.partition(" ")
        if program not in {"llama-server", "llama-cli"}:
            return typed
        use = (
            {"embed": " --embedding", "rerank": " --reranking"}.get(serving.use or self.model.use, "")
            if program == "llama-server"
            else ""
        )
        return f"{program} {self._file(serving)} {rest}{use}"

    def _file(self, serving: Serving) -> str:
        """What names the weights: a GGUF file or a repository of them; this engine loads nothing else."""
        name = serving.model
        owner, slash, rest = name.partition("/")
        repository, _, file = rest.partition("/")
        if self.model.gguf and file.endswith(".gguf") and not Path(name).exists() and not name.startswith((".", "/")):
            return f"-hf {quote(f'{owner}/{repository}')} -hff {quote(file)}"
        if self.model.gguf:
            return f"-m {quote(name)}"
        if slash and repository.lower().endswith("-gguf") and not file:
            quantised = f":{serving.weights_dtype.upper()}" if serving.weights_dtype else ""
            return f"-hf {quote(name + quantised)}"
        return f"-m {_ANY_FILE}"

    def needs(self, serving: Serving) -> tuple[str, ...]:
        """Of which models the files must be, where none was named."""
        found, draft = [], self.engine.options.draft
        if self.engine.options.frontend not in {"server", "cli"}:
            return ()
        if self._file(serving) == f"-m {_ANY_FILE}":
            form = f" in {serving.weights_dtype}" if serving.weights_dtype else ""
            found.append(f"{_ANY_FILE}: a GGUF of {serving.model.rpartition('/')[2] or serving.model}{form}")
        if draft is not None and not draft.gguf:
            found.append(f"{DRAFT_FILE}: a GGUF of {draft.name}, of the same vocabulary")
        return tuple(found)

    def told_pool(self, budget_bytes: int) -> Pool:
        """The cells of a llama-server's slots; see `kvplan.engines.llama_cpp.slots`."""
        from kvplan.engines.llama_cpp.slots.settings import pool_of, settings_of, told

        return pool_of(self, *settings_of(self, told(self)), budget_bytes)

    def serve(
        self,
        pool: Pool,
        traffic: Traffic,
        clock: Clock,
        meter: Meter,
        *,
        advance: Callable[[int], None] = lambda _: None,
        stop: bool = False,
    ) -> Outcome | None:
        """Requests with times through the slots."""
        from kvplan.engines.llama_cpp.slots.serve import serve
        from kvplan.engines.llama_cpp.slots.settings import settings_of, told

        return serve(settings_of(self, told(self))[0], traffic, clock, meter, advance=advance, stop=stop)

    def kept_blocks(self, pool: Pool, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A cell a token."""
        return tokens

    @property
    def step_notes(self) -> tuple[str, ...]:
        """What is not followed."""
        return (
            "llama-server's slots are from its source (0c1e57098) and were not held against recorded runs; context shift, drafts "
            "and several answers to a prompt are not followed; requests that end with an error count as refused",
        )


class LlamaCppFacts(Struct, frozen=True, kw_only=True):
    """The context as it is made, in the engine's own words; sizes of one context."""

    n_ctx: int
    n_ctx_seq: int
    n_seq_max: int
    n_batch: int
    n_ubatch: int
    kv_unified: bool
    flash_attn: bool
    output_buffer_bytes: int
    parts: tuple[Mapping[str, Any], ...]
    backend_buffer_bytes: Mapping[str, int]
    backend_evidence: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**{name: getattr(self, name) for name in self.__struct_fields__}, "parts": [dict(part) for part in self.parts]}


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
    # capped before it is multiplied: a context of few cells may be asked about more tokens than 64 bits of bytes can hold
    rows = at_most(kept * batch_size, tensor.bytes // row + 1) if row else kept * 0
    return at_most(rows * row, tensor.bytes)


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
