"""Ollama 0.5.13 to 0.24 on models that its own engine ran: what it allocated, from a workload. Read, not run (`own_engine`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import Engine, Prepared, Serving
from kvplan.engines.kernel.tensors import At, Count, Piece, at_least, at_most
from kvplan.engines.llama_cpp.memory import CACHE_TYPES
from kvplan.engines.ollama.guess import takes_flash_attention
from kvplan.engines.ollama.launch import TIERS
from kvplan.engines.ollama.models import stored_name, subject
from kvplan.engines.ollama.own_engine import cells, refuse
from kvplan.engines.ollama.releases import CONTEXT, SLOTS, flash_by_itself, one_slot, ran_in_own_engine
from kvplan.errors import Refused
from kvplan.gguf.hparams import Hparams

if TYPE_CHECKING:
    from kvplan.domain.allocation import Evidence
    from kvplan.engines.ollama.options import OllamaOptions

_BATCH: Final = 512
_LEAST: Final = 4


class OlderOn(Prepared):
    """The own engine on one model."""

    linear_in_batch = False

    def __init__(self, engine: Engine, model: Model, read: Model, hparams: Hparams) -> None:
        """
        Raises:
            Refused: the release ran the model in llama.cpp, or how the own engine kept its cache was not read.
        """
        super().__init__(engine, model)
        self.read, self.hparams = read, hparams
        options: OllamaOptions = engine.options
        release = engine.release
        self.subject = subject(model, hparams.keys)
        if not (ran_in_own_engine(hparams.arch, release) or options.new_engine):
            raise Refused(
                f"Ollama {engine.version} ran {hparams.arch} in a llama.cpp of its time, whose builds are not predicted",
                see="-e ollama@0.30 or later",
            )
        refuse(hparams)
        able = takes_flash_attention(self.subject.metadata)
        asked = flash_by_itself(hparams.arch, release) if options.flash_attention is None else options.flash_attention
        self.flash = able and asked
        #: What it keeps, whatever was asked for.
        self.cache_type = options.cache_type if self.flash and options.cache_type in {"q8_0", "q4_0"} else "f16"
        self.one_slot = one_slot(self.subject.family, release)
        self.said = options.num_ctx or self.subject.options.get("num_ctx") or options.context_length
        memory = options.device_memory_bytes * options.gpus
        self.default = CONTEXT.at(release) or next(tokens for least, tokens in TIERS if memory >= least)

    @property
    def kv_dtype(self) -> str:
        """What it keeps."""
        return lookup(CACHE_TYPES[self.cache_type]).name

    @property
    def batch(self) -> int:
        """Tokens of a batch."""
        return self.engine.options.num_batch or _BATCH

    def slots(self, seq_len: Count, batch_size: Count) -> tuple[Count, Count]:
        """(tokens of a slot, slots): what was said, else what the workload needs."""
        zero, said = seq_len * batch_size * 0, self.engine.options.num_ctx or self.engine.options.context_length
        tokens = at_least(zero + said if said else zero + seq_len, max(_LEAST, self.batch))  # a slot holds a batch
        if self.hparams.context_length:
            tokens = at_most(tokens, max(self.hparams.context_length, self.batch))
        fixed = self.engine.options.num_parallel
        if self.one_slot:
            return tokens, zero + 1
        return tokens, zero + fixed if fixed else at_least(zero + batch_size, 1)

    def usual_workload(self) -> Workload:
        """What it made room for when nobody said."""
        tokens = self.said or self.default
        tokens = min(tokens, self.hparams.context_length) if self.hparams.context_length else tokens
        slots = 1 if self.one_slot else self.engine.options.num_parallel or SLOTS.at(self.engine.release)
        return Workload(batch_size=slots, seq_len=tokens)

    def check(self, at: At[int]) -> None:
        """A slot holds its tokens, and there are so many slots."""
        tokens, parallel = self.slots(at.seq_len, at.batch_size)
        if at.batch_size > parallel:
            raise Refused(
                f"{at.batch_size} requests at once: there is room for {parallel}, and the others wait", see=f"-b {parallel}"
            )
        if at.seq_len > tokens:
            raise Refused(f"num_ctx is {tokens:,}: no slot holds a request of {at.seq_len:,} tokens", see=f"-s {tokens}")

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Keys and values of each layer, layers alike together."""
        h, dtype, kinds = self.hparams, lookup(CACHE_TYPES[self.cache_type]), self.kinds(At(1, 1))
        alike: dict[tuple[bool, int, int], list[int]] = {}
        for layer in range(h.n_layer):
            slides = bool(h.has_swa and h.sliding[layer])
            alike.setdefault((slides, h.n_embd_k(layer), h.n_embd_v(layer)), []).append(layer)
        for (slides, keys, values), layers in alike.items():
            held = self._cells(layers[0], at)
            needed = at_most(at.seq_len, h.n_swa) if slides else at.seq_len
            for name, elements in (("keys", keys), ("values", values)):
                row = dtype.row_bytes(1, elements)
                yield Piece(
                    layers=tuple(layers),
                    name=name,
                    kind=kinds[layers[0]],
                    shape=(held, row if dtype.packed else elements),
                    dtype=dtype.torch,
                    payload=at_most(needed * at.batch_size, held) * row,
                    padded=held * row,
                    per="token",
                )

    def _cells(self, layer: int, at: At[Count]) -> Count:
        """Cells of a layer; of a grid one by one."""

        def held(tokens: int, slots: int) -> int:
            return cells(
                self.hparams, layer, num_ctx=tokens, slots=slots, batch=self.batch, flash=self.flash, release=self.engine.release
            )

        tokens, slots = self.slots(at.seq_len, at.batch_size)
        if isinstance(tokens, int) and isinstance(slots, int):
            return held(tokens, slots)
        found = tokens * slots * 0
        each = zip((tokens + found).ravel().tolist(), (slots + found).ravel().tolist(), strict=True)
        found.put(list(range(found.size)), [held(*one) for one in each])
        return found

    def evidence(self, maker: str | None = None) -> Evidence:
        """Its sources were read; two public logs agree."""
        return "inferred" if self.model.inferred else "hypothetical" if self.model.by_hand else "from source"

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return (*self.model.notes, *self._remarks())

    def _remarks(self) -> Iterator[str]:
        options = self.engine.options
        if options.cache_type not in {"", "f16", self.cache_type}:
            why = "flash attention is off" if not self.flash else "it knew q8_0 and q4_0 alone"
            yield f"OLLAMA_KV_CACHE_TYPE={options.cache_type} is ignored: {why}, and the cache is f16"
        slots = SLOTS.at(self.engine.release)
        if options.num_parallel is None and slots > 1 and not self.one_slot:
            yield f"without OLLAMA_NUM_PARALLEL this release makes {slots} slots where they fit, else one"
        yield f"Ollama's own default is {self.usual_workload().seq_len:,} tokens here; its engine was read, not run"

    def typed(self, workload: Workload) -> str:
        """The server's variables for this context."""
        return self.command(self.asked(workload))

    def command(self, serving: Serving) -> str:
        """`OLLAMA_CONTEXT_LENGTH=… ollama serve`."""
        options = self.engine.options
        tokens, parallel = self.slots(serving.context, serving.batch_size)
        words = [f"OLLAMA_CONTEXT_LENGTH={tokens}", f"OLLAMA_NUM_PARALLEL={parallel}"]
        words += [f"OLLAMA_KV_CACHE_TYPE={options.cache_type}"] if options.cache_type else []
        words += [] if options.flash_attention is None else [f"OLLAMA_FLASH_ATTENTION={int(options.flash_attention)}"]
        words += ["OLLAMA_NEW_ENGINE=1"] if options.new_engine else []
        return " ".join([*words, "ollama serve"])

    def needs(self, serving: Serving) -> tuple[str, ...]:
        """What is typed beside the server's line."""
        return (f"then: ollama run {stored_name(self.model) or 'NAME'}",)
