"""Ollama: it tells llama-server how large a context to make, and llama-server allocates.

A workload here is what one slot holds (`num_ctx`) and how many slots there are (`OLLAMA_NUM_PARALLEL`). What is started for it
stands in `launch`; the bytes are those of `kvplan.engines.llama_cpp`. Source: ollama 0.32.15 (fb3076099). Golden:
`tests/golden/ollama.jsonl`, and llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from shlex import quote
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import Evidence
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Prepared, Serving
from kvplan.engines.kernel.tensors import At, Count, Piece, at_least, at_most
from kvplan.engines.llama_cpp.convert import gguf_keys
from kvplan.engines.llama_cpp.engine import LlamaCpp, LlamaCppOn
from kvplan.engines.llama_cpp.memory import Params
from kvplan.engines.llama_cpp.options import LlamaCppOptions
from kvplan.engines.ollama.about import ABOUT
from kvplan.engines.ollama.launch import ONE_SLOT, TIERS, Device, Launch, Started, System, launch, options_of, start
from kvplan.engines.ollama.models import stored_name, subject
from kvplan.engines.ollama.older import OlderOn
from kvplan.engines.ollama.options import OllamaOptions
from kvplan.engines.ollama.releases import BUILD, FIRST_OWN, SERVED, behind, unserved
from kvplan.errors import GgufError, Refused
from kvplan.gguf.hparams import Hparams, read_hparams
from kvplan.gguf.memories import model_from_hparams
from kvplan.units import GIB

if TYPE_CHECKING:
    import numpy as np

    from kvplan.domain.described import Described
    from kvplan.domain.ledger import Ledger
    from kvplan.domain.machine import Machine
    from kvplan.domain.pool import Pool
    from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
    from kvplan.engines.llama_cpp.context import Context
    from kvplan.engines.llama_cpp.slots.settings import Settings as Slots

_PREFIX: Final = "OLLAMA_"
#: The least context of any model, and of one that sees.
_LEAST, _LEAST_VISION = 4, 2048


class Ollama(Engine):
    """Ollama at one release."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = OllamaOptions
    options: OllamaOptions

    @classmethod
    def made(cls, options: Mapping[str, Any], version: str | None = None) -> Self:
        """As every engine; the server's variables by their full names, too."""
        plain: dict[str, Any] = {}
        for name, value in options.items():
            plain[name.removeprefix(_PREFIX).lower() if name.startswith(_PREFIX) else name] = value
        if len(plain) < len(options):
            plain = dict(options)  # one option under two names: refused where it is read
        return super().made(plain, version)

    def on(self, model: Model) -> OllamaOn | OlderOn:
        """The model through its GGUF keys.

        Raises:
            Refused: a model without GGUF keys, one that llama.cpp refuses so, or a release that started another engine.
        """
        if self.release < FIRST_OWN:
            raise Refused(
                f"Ollama {self.version} ran models in a llama.cpp of its time, whose builds are not predicted",
                see="-e ollama@0.30 or later",
            )
        keys = gguf_keys(model)
        try:
            h = read_hparams(keys, model.name)
            read = model_from_hparams(h, source=model.name, name=model.name)
        except GgufError as problem:
            raise Refused(str(problem)) from problem
        return OllamaOn(self, model, read, h) if self.release >= SERVED else OlderOn(self, model, read, h)


class _Behind(LlamaCppOn):
    """llama.cpp on the model, its context as Ollama's command line asks for it."""

    front: OllamaOn

    def __init__(self, front: OllamaOn, options: LlamaCppOptions, read: Model, hparams: Hparams) -> None:
        self.front = front
        super().__init__(LlamaCpp(options, behind(front.engine.release)), front.model, read, hparams)

    def params(self, seq_len: Count, batch_size: Count) -> Params[Count]:
        """Slots of `num_ctx` tokens each, and the batch that goes with them."""
        tokens, parallel = self.front.slots(seq_len, batch_size)
        batch = self.front.batch(tokens, parallel)
        found = super().params(tokens, parallel)
        return replace(found, n_ctx=tokens * parallel, n_seq_max=parallel, n_batch=batch, n_ubatch=batch)


class OllamaOn(Prepared):
    """Ollama on one model: its defaults for it, and llama.cpp behind."""

    engine: Ollama
    linear_in_batch = False

    def __init__(self, engine: Ollama, model: Model, read: Model, hparams: Hparams) -> None:
        super().__init__(engine, model)
        options = engine.options
        no = unserved(hparams, engine.release)
        if no:
            raise Refused(f"the llama.cpp of Ollama {engine.version}: {no}")
        self.read = read
        self.subject = subject(model, hparams.keys)
        self.trained = hparams.context_length
        self.environment = options.environment
        self.one_slot = "completion" not in self.subject.capabilities or self.subject.family in ONE_SLOT
        self.devices = _devices(options)
        #: What the server starts when a request names nothing but the model.
        self.usual: Started = start(self.subject, self.environment, self.devices, options.request, System())
        first = self.usual.launches[0]
        kept = options.cache_type or None
        behind = LlamaCppOptions(cache_type_k=kept, cache_type_v=kept, flash_attn=first.flash, embeddings=first.embedding)
        self._batches: dict[int, int] = {}
        self.behind = _Behind(self, behind, read, hparams)

    @property
    def kv_dtype(self) -> str:
        """The cache type that it passes on, or f16."""
        return self.behind.kv_dtype

    def slots(self, seq_len: Count, batch_size: Count) -> tuple[Count, Count]:
        """(tokens of a slot, slots) for `batch_size` requests of `seq_len` tokens: what was said, else what they need."""
        options, zero = self.engine.options, seq_len * batch_size * 0
        said = options.num_ctx or options.context_length
        tokens = zero + said if said else zero + seq_len
        tokens = at_least(tokens, _LEAST_VISION if "vision" in self.subject.capabilities else _LEAST)
        if self.trained:
            tokens = at_most(tokens, self.trained)
        if self.one_slot:
            return tokens, zero + 1
        fixed = options.num_parallel
        return tokens, zero + max(fixed, 1) if fixed is not None else at_least(zero + batch_size, 1)

    def batch(self, tokens: Count, parallel: Count) -> Count:
        """Tokens of a batch and a micro-batch for such slots: by the tokens of all together, of vectors by the one slot's."""
        if isinstance(tokens, int) and isinstance(parallel, int):
            return self._batch(tokens, parallel)
        found = tokens * parallel * 0
        slots = zip((tokens + found).ravel().tolist(), (parallel + found).ravel().tolist(), strict=True)
        found.put(list(range(found.size)), [self._batch(each, count) for each, count in slots])
        return found

    def _batch(self, tokens: int, parallel: int) -> int:
        key = tokens * parallel
        if key not in self._batches:
            self._batches[key] = self.launched(tokens, parallel).batch
        return self._batches[key]

    def launched(self, tokens: int, parallel: int) -> Launch:
        """What llama-server is started with for slots of `tokens` tokens."""
        request = {**self.engine.options.request, "num_ctx": tokens}
        runner = options_of(self.subject, self.environment, request, tokens)
        automatic = "num_batch" not in request and "num_batch" not in self.subject.options and not self.embeds
        environment = replace(self.environment, num_parallel=parallel)
        return launch(self.subject, environment, self.devices, runner, System(), batch_auto=automatic)

    @property
    def embeds(self) -> bool:
        """Whether the model makes vectors: such models have a batch of their own."""
        return "embedding" in self.subject.capabilities

    def usual_workload(self) -> Workload:
        """What it makes room for when nobody says how much."""
        first = self.usual.launches[0]
        return Workload(batch_size=first.parallel, seq_len=first.num_ctx)

    def check(self, at: At[int]) -> None:
        """A slot holds its tokens, and there are so many slots."""
        tokens, parallel = self.slots(at.seq_len, at.batch_size)
        if at.batch_size > parallel:
            why = f"models of the family {self.subject.family} get one slot" if self.one_slot else f"num_parallel is {parallel}"
            raise Refused(f"{at.batch_size} requests at once: {why}, and the others wait", see=f"-b {parallel}")
        if at.seq_len > tokens:
            cut = f"Ollama cuts num_ctx to the {tokens:,} tokens that the model was trained for"
            why = cut if tokens == self.trained else f"num_ctx is {tokens:,}"
            raise Refused(f"{why}: no slot holds a request of {at.seq_len:,} tokens", see=f"-s {tokens}")
        self.behind.check(At(tokens, parallel, at.encoder_len))

    # Requests over time: its scheduler hands a request to the loaded llama-server at once (`server/sched.go:getRunner`;
    # OLLAMA_MAX_QUEUE counts those that come while it loads), and a semaphore lets as many in as there are slots, in their
    # order (`llm/llama_server.go:Completion`).

    def _slots(self) -> tuple[Slots, Context[int]]:
        from kvplan.engines.llama_cpp.slots.settings import settings_of

        usual = self.usual_workload()
        return settings_of(self.behind, self.behind.params(usual.seq_len, usual.batch_size))

    def told_pool(self, budget_bytes: int) -> Pool:
        """The cells of its llama-server's slots; see `kvplan.engines.llama_cpp.slots`."""
        from kvplan.engines.llama_cpp.slots.settings import pool_of

        found = pool_of(self.behind, *self._slots(), budget_bytes)
        return replace(found, engine=self.engine.name, engine_version=self.engine.version)

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
        """Requests with times through the slots.

        Raises:
            Refused: a request is longer than a slot.
        """
        from kvplan.engines.llama_cpp.slots.serve import serve

        settings, longest = self._slots()[0], int((traffic.prompt + traffic.output).max(initial=0))
        if longest > settings.context:
            raise Refused(
                f"num_ctx is {settings.context:,}, and a request has {longest:,} tokens: how Ollama cuts its prompt or shifts "
                "its context is not followed",
                see=f"OLLAMA_CONTEXT_LENGTH={longest}",
            )
        return serve(settings, traffic, clock, meter, advance=advance, stop=stop)

    def kept_blocks(self, pool: Pool, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A cell a token."""
        return tokens

    @property
    def step_notes(self) -> tuple[str, ...]:
        """What is not followed."""
        build = BUILD.at(self.engine.release)
        return (
            *self.behind.step_notes,
            f"Ollama {self.engine.version} brings llama.cpp b{build}, whose slots were not compared with those; it is loaded all "
            "the time, and with it no other model",
        )

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """The context's memory, tensor by tensor."""
        return self.behind.tensors(at)

    def kinds(self, at: At[int]) -> tuple[str, ...]:
        """One phrase a layer."""
        return self.behind.kinds(at)

    def evidence(self, maker: str | None = None) -> Evidence:
        """What stands behind llama.cpp's bytes: Ollama adds none."""
        return self.behind.evidence(maker)

    def ledger(self, machine: Machine, tensors: Described) -> Ledger | None:
        """llama-server's memory."""
        return self.behind.ledger(machine, tensors)

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return (*self.model.notes, *self._remarks(workload))

    def _remarks(self, workload: Workload) -> Iterator[str]:
        tokens, parallel = self.slots(workload.seq_len, workload.batch_size)
        if self.one_slot and (self.engine.options.num_parallel or 1) > 1:
            yield f"OLLAMA_NUM_PARALLEL changes nothing: models of the family {self.subject.family} get one slot"
        if parallel > 1:
            yield f"{parallel} slots of {tokens:,} tokens: the cache is allocated for {tokens * parallel:,} when the model loads"
        yield self._default()

    def _default(self) -> str:
        """Where the context comes from that it would take by itself."""
        usual, options = self.usual, self.engine.options
        if not usual.num_ctx_auto:
            said = "num_ctx" in options.request, "num_ctx" in self.subject.options
            who = "the request says" if said[0] else "the model's parameters say" if said[1] else "OLLAMA_CONTEXT_LENGTH says"
            return f"num_ctx is {usual.launches[0].num_ctx:,} where nobody asks for another, as {who}"
        ladder = ", ".join(f"{context:,} from {least // GIB} GiB" for least, context in reversed(TIERS[:-1]))
        on = f"on {usual.total_vram / GIB:.2f} GiB of GPU memory" if usual.total_vram else "without a GPU"
        default = f"Ollama's own default {on} is {usual.default_num_ctx:,} tokens"
        return f"{default} ({TIERS[-1][1]:,}; {ladder} of all GPUs together)"

    def own_way(self, left_bytes: int) -> tuple[str, ...]:
        """Whether what it starts by itself stays on the card; what it does with more; what is lowered and what never."""
        usual = self.usual_workload()
        need = self.totals(At(usual.seq_len, usual.batch_size)).allocated
        started = f"by itself Ollama starts {usual.batch_size} x {usual.seq_len:,} tokens here"
        cache, left = (f"{amount / GIB:.2f} GiB" for amount in (need, left_bytes))
        if need <= left_bytes:
            first = f"{started}: {cache} of cache, and {left} are left, so that all of it stays on the card"
        else:
            first = f"{started}: {cache} of cache, and {left} are left, so that llama-server leaves layers to the CPU"
        return (first, *self.offloading())

    def offloading(self) -> tuple[str, ...]:
        """What happens where more is asked for than a card holds."""
        auto = (
            "a start that runs out of memory is tried once more with 32,768 or 4,096 tokens"
            if self.usual.num_ctx_auto
            else "num_ctx was said, and what was said is never lowered"
        )
        return (
            f"more does not fail, it offloads (llama-server keeps 1,024 MiB of a card free: LLAMA_ARG_FIT_TARGET): {auto}",
            "`ollama ps` counts in GB of 10**9 bytes",
        )

    def facts(self, workload: Workload) -> OllamaFacts:
        """What it is started with, and llama.cpp's facts."""
        tokens, parallel = self.slots(workload.seq_len, workload.batch_size)
        found = self.launched(tokens, parallel)
        return OllamaFacts(
            num_ctx=found.num_ctx,
            num_parallel=parallel,
            num_batch=found.batch,
            flash_attention=found.flash,
            cache_type=found.cache_type,
            default_num_ctx=self.usual.default_num_ctx,
            usual_num_ctx=self.usual.launches[0].num_ctx,
            one_slot=self.one_slot,
            predicted_vram=found.predicted_vram,
            arguments=tuple(found.arguments(self.model.gguf or "FILE.gguf")),
            context=self.behind.facts(workload).to_dict(),
        )

    def log(self, workload: Workload) -> tuple[str, ...]:
        """The lines that llama-server prints of its caches."""
        return self.behind.log(workload)

    def typed(self, workload: Workload) -> str:
        """The server's variables for this context."""
        return self.command(self.asked(workload))

    def asked(self, workload: Workload) -> Serving:
        """A workload of the model by Ollama's name, where it has one."""
        found = super().asked(workload)
        return replace(found, model=stored_name(self.model) or found.model)

    def command(self, serving: Serving) -> str:
        """`OLLAMA_CONTEXT_LENGTH=… ollama serve`."""
        options = self.engine.options
        tokens, parallel = self.slots(serving.context, serving.batch_size)
        words = [f"OLLAMA_CONTEXT_LENGTH={tokens}", f"OLLAMA_NUM_PARALLEL={parallel}"]
        words += [f"OLLAMA_KV_CACHE_TYPE={options.cache_type}"] if options.cache_type else []
        words += [] if options.flash_attention is None else [f"OLLAMA_FLASH_ATTENTION={int(options.flash_attention)}"]
        words += [f"OLLAMA_GPU_OVERHEAD={options.gpu_overhead}"] if options.gpu_overhead else []
        words += ["OLLAMA_SCHED_SPREAD=1"] if options.sched_spread else []
        return " ".join([*words, "ollama serve"])

    def needs(self, serving: Serving) -> tuple[str, ...]:
        """What is typed beside the server's line."""
        named = stored_name(self.model)
        run = f"then: ollama run {quote(named)}" if named else f"then: ollama run NAME, a GGUF of {quote(serving.model)}"
        limits = "num_ctx" in self.subject.options and self.engine.options.num_ctx is None
        told = (
            f"the model's own parameter num_ctx {self.subject.options.get('num_ctx')} goes before the variable" if limits else ""
        )
        layers = self.engine.options.num_gpu
        return tuple(filter(None, (run, told, "" if layers is None else f"/set parameter num_gpu {layers}")))


def _devices(options: OllamaOptions) -> tuple[Device, ...]:
    """The cards, as far as they are known: all of their memory free."""
    memory, (major, minor) = options.device_memory_bytes, divmod(options.compute_capability, 10)
    if not memory:
        return ()
    library = "CUDA" if major else "ROCm"  # of others than NVIDIA's flash attention is never switched off
    one = Device(library=library, total=memory, free=memory, major=major, minor=minor)
    return tuple(replace(one, name=f"{library}{index}") for index in range(options.gpus))


class OllamaFacts(Struct, frozen=True, kw_only=True):
    """What Ollama starts, and llama.cpp's context behind it."""

    num_ctx: int
    num_parallel: int
    num_batch: int
    flash_attention: str
    cache_type: str
    default_num_ctx: int
    usual_num_ctx: int
    one_slot: bool
    predicted_vram: int
    arguments: tuple[str, ...]
    context: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {**found, "arguments": list(self.arguments)}
