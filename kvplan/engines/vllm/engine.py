"""vLLM: blocks of a pool that all layers share, so that a page, a group and a block decide what a token costs.

Every layer says how large one block of it is (its page); layers of a kind form groups; every group takes blocks of the
same size, the widest group's. A request takes whole blocks of each group. The modules, in the order in which vLLM
works: `options` (flags), `layers` (specs), `plan` (block sizes, alignment), `groups`, `pool` (blocks, tokens, concurrency),
`waste` (why it is more than `ideal`), `releases` (what changed), `models` (what differs by model type).

An estimate is what requests of `seq_len` tokens may hold at once, as the engine's own admission counts it: windows with
the tokens in flight beside them, states with the copies that prefix caching makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec.structs import replace

from kvplan.domain.allocation import Per
from kvplan.domain.beyond import Beyond
from kvplan.domain.described import Described
from kvplan.domain.latest import latest
from kvplan.domain.ledger import Ledger
from kvplan.domain.machine import Machine
from kvplan.domain.model import Latent, Memory, Model, Shared
from kvplan.domain.pool import Pool, Share
from kvplan.domain.tiers import HostRoom
from kvplan.domain.words import memory_words
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Served
from kvplan.engines.kernel.tensors import At, Count, Piece
from kvplan.engines.kernel.typed import Serving, weights_flag, written_command
from kvplan.engines.vllm.about import ABOUT
from kvplan.engines.vllm.facts import GroupFacts, VllmFacts
from kvplan.engines.vllm.groups import CacheGroup
from kvplan.engines.vllm.ledger.releases import UTILIZATION
from kvplan.engines.vllm.loops import served
from kvplan.engines.vllm.models import any_traits, described_by_hand, mixture, quantised_cache
from kvplan.engines.vllm.options import VllmOptions
from kvplan.engines.vllm.plan import Plan, make_plan
from kvplan.engines.vllm.pool import Reserved, request_bytes, reserve
from kvplan.engines.vllm.refusals import refuse
from kvplan.engines.vllm.resolved import prefix_caching
from kvplan.engines.vllm.specs import FullSpec, Held
from kvplan.engines.vllm.typed import environment, flags
from kvplan.engines.vllm.waste import needed, wasted
from kvplan.errors import Refused
from kvplan.units import ceil_div

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
    from kvplan.engines.vllm.scheduler.settings import Settings

_PADDING: Final = "group padding"
_DRAFTER: Final = "drafter"
#: Drafting methods with a model of their own.
_DRAFTERS: Final = frozenset({"eagle", "eagle3", "draft_model", "medusa", "mlp_speculator", "dflash"})
_PER: Final[dict[str, Per]] = {"state": "sequence", "cross": "encoder"}


class Vllm(Engine):
    """vLLM's block pool; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = VllmOptions
    options: VllmOptions

    def on(self, model: Model) -> VllmOn:
        """Block sizes, groups and pages for `model`.

        Raises:
            Refused: what vLLM says instead of starting, or why kvplan cannot tell.
            OptionError: flags that do not fit the model.
        """
        try:
            read = served(model)
            refuse(read, self.options, self.release)
            return VllmOn(self, read, make_plan(read, self.options, self.release))
        except Refused as problem:
            raise type(problem)(f"vLLM {self.version} refuses {model.name}: {problem.reason}", problem.see) from problem

    def utilization(self, model: Model) -> float:
        """The share of a card that it allows itself: the option's, or the release's default."""
        given = self.options.gpu_memory_utilization
        return UTILIZATION.at(self.release) if given is None else given


class VllmOn(Served):
    """vLLM serving one model. An estimate speaks of the pipeline stage whose block is the largest."""

    engine: Vllm

    def __init__(self, engine: Vllm, model: Model, plan: Plan) -> None:
        super().__init__(engine, model)
        self.plan = plan
        self.tensor_parallel = engine.options.tensor_parallel_size
        sizes = plan.block_bytes
        self.stage = sizes.index(max(sizes))
        self.block_bytes = sizes[self.stage]

    @property
    def kv_dtype(self) -> str:
        """The cache dtype that vLLM resolves."""
        return self.plan.model_dtype if self.plan.cache_dtype == "auto" else self.plan.cache_dtype

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Each group's blocks: one region a cache, and what the group leaves of a block."""
        plan, model, parts = self.plan, self.model, self.plan.stages[self.stage]
        for whole, part, members in zip(plan.groups, parts, _alike(parts, model), strict=True):
            blocks = whole.spec.blocks(at.seq_len, plan.scheduling) * at.batch_size
            for held, layers in members:
                payload = needed(held, model, plan, at.seq_len, at.encoder_len, layers[0]) * at.batch_size
                yield from _region(held, layers, blocks, payload, model)
            rest = self.block_bytes - part.page_bytes
            if rest:
                yield Piece(
                    layers=(),
                    name=_PADDING,
                    kind=_PADDING,
                    shape=(blocks, rest),
                    dtype="int8",
                    payload=blocks * 0,
                    padded=blocks * rest,
                    per="block",
                )

    def bytes_per_token(self, seq_len: Count, payload: Count | None = None) -> Count:
        """And what a drafter keeps of that token, which is no part of what the model must remember."""
        return super().bytes_per_token(seq_len, payload) + self._drafted

    @cached_property
    def _drafted(self) -> int:
        """Bytes that a drafter's layers keep of each token; a window that is full keeps no more of them."""
        drafts = (held.spec for part in self.plan.stages[self.stage] for held in part.members if held.draft)
        return sum(ceil_div(spec.entry_bytes, spec.tokens_per_entry) for spec in drafts if isinstance(spec, FullSpec))

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        plan, model, found = self.plan, self.model, list(self.model.notes)
        if workload.seq_len > plan.max_model_len and not (described_by_hand(model) and model.max_tokens is None):
            found.append(f"requests of more than {plan.max_model_len:,} tokens (max_model_len) are refused by the engine")
        if _shares(model) and any(t.ignores_sharing for t in any_traits(model)):
            found.append("vLLM does not read the sharing of this model: every layer caches (models/registry.py)")
        if self.engine.options.kv_cache_dtype == "auto" and quantised_cache(model):
            found.append("auto is an fp8 cache here: the checkpoint asks for it")
        if self.engine.options.dtype == "auto" and not self.engine.options.has_bfloat16 and plan.model_dtype != model.dtype:
            found.append("runs in float16: cards before compute capability 8.0 have no bfloat16 (vLLM falls back to it)")
        ranks, devices = self.engine.options.data_parallel_size, self.tensor_parallel
        if ranks > 1:
            found.append(f"one of {ranks} data ranks, each of which serves requests of its own")
        elif devices > 1 and mixture(model) and any(isinstance(m, Latent) for layer in model.layers for m in layer.memories):
            found.append(
                f"each of the {devices} devices keeps every latent: data ranks that share the experts keep each once "
                f"(kvplan fit … --dp {devices} --ep)"
            )
        method, size = self.engine.options.speculative.method, self.engine.options.block_size
        if method in _DRAFTERS and self.engine.options.draft is None:
            found.append(f"the layers of the {method} drafter are not counted: name its model with --set draft=MODEL")
        if size is not None and size % 16 and self.engine.options.device == "cuda":
            found.append(f"block_size {size} is no multiple of 16, which vLLM's kernels for CUDA ask for (attention/backends)")
        if len(plan.stages) > 1:
            found.append(f"the largest of {len(plan.stages)} pipeline stages, number {self.stage + 1}")
        return tuple(found)

    def facts(self, workload: Workload) -> VllmFacts:
        """Block sizes, groups, and where the bytes beyond `ideal` go."""
        plan = self.plan
        ideal_bytes, waste = wasted(plan, self.stage, self.model, workload, self.tensor_parallel)
        return VllmFacts(
            block_size=plan.block_size,
            mamba_block_size=plan.state_block_size,
            block_bytes=self.block_bytes,
            max_model_len=plan.max_model_len,
            max_num_batched_tokens=plan.scheduling.batch_tokens,
            max_in_flight_tokens=plan.scheduling.in_flight_tokens,
            request_blocks=plan.blocks(workload.seq_len),
            bytes_one_request_at_max_model_len=request_bytes(plan, self.stage, plan.max_model_len),
            cache_groups=group_facts(plan, self.stage, workload.seq_len),
            ideal_bytes=ideal_bytes,
            waste=waste,
        )

    def beyond(self, workload: Workload) -> Beyond:
        """The causes that the waste table names."""
        from kvplan.engines.vllm.tables import parts

        return parts(*wasted(self.plan, self.stage, self.model, workload, self.tensor_parallel))

    def command(self, serving: Serving) -> str:
        """`vllm serve …` with everything that was asked for.

        Replicas of a mixture are servers of their own: `--data-parallel-size` would spread its experts over them.
        """
        options, given = self.engine.options, serving.options.keys()
        joined = serving.replicas > 1 and options.data_parallel_size == 1 and mixture(self.model)
        told = replace(
            serving,
            replicas=1 if joined else serving.replicas,
            context=(options.max_model_len or serving.context) if "max_model_len" in given else serving.context,
            batch_size=(options.max_num_seqs or serving.batch_size) if "max_num_seqs" in given else serving.batch_size,
        )
        more = list(flags(options, given, self.engine.release, use=serving.use or self.model.use))
        loaded = weights_flag(self.engine.about, serving)
        more += [loaded] if loaded and "quantization" not in given else []
        return written_command(
            self.engine.about, told, self.kv_dtype, self.tensor_parallel, more=more, environment=environment(options)
        )

    def ledger(self, machine: Machine, tensors: Described) -> Ledger | None:
        """Every line of a worker's memory; see `kvplan.engines.vllm.ledger`."""
        from kvplan.engines.vllm.ledger.process import process_ledger

        return process_ledger(self.engine.options, self.plan, self.engine.release, machine, tensors)

    def too_little_free(self, found: Ledger, machine: Machine) -> str:
        """The refusal "Free memory on device … is less than desired"."""
        from kvplan.engines.vllm.ledger.process import too_little_free

        return too_little_free(found, machine, self.engine.release)

    def startup(self, found: Ledger, machine: Machine, tensors: Described, pool: Pool) -> tuple[str, ...]:
        """What the server prints while it starts, in its own words."""
        from kvplan.engines.vllm.ledger.process import startup_lines

        return startup_lines(self.engine.options, self.plan, self.engine.release, machine, tensors, found, pool)

    def reserved(self, budgets: tuple[int, ...]) -> Reserved:
        """What vLLM makes of `budgets` bytes on each pipeline stage (one stands for all)."""
        return reserve(self.plan, budgets)

    def pool(self, budget_bytes: int) -> Pool:
        """The pool that vLLM makes of `budget_bytes` on each device, and the lines that it prints."""
        given = self.engine.options.kv_cache_memory_bytes
        budget_bytes = budget_bytes if given is None else given  # the flag replaces what profiling found
        found = self.reserved((budget_bytes,))
        return Pool(
            engine=self.engine.name,
            budget_bytes=budget_bytes,
            num_blocks=found.num_blocks,
            block_bytes=self.block_bytes,
            num_tokens=found.num_tokens,
            max_model_len=found.max_model_len,
            concurrency=found.concurrency,
            groups=tuple(group.to_dict() for group in group_facts(self.plan, self.stage, found.max_model_len)),
            refused=found.refused,
            null_blocks=1 if self.plan.groups else 0,
            model=self.model.name,
            engine_version=self.engine.version,
            log=tuple(found.lines),
            estimated_max_model_len=found.estimated_max_model_len,
        )

    @property
    def shares(self) -> tuple[Share, ...]:
        """Each group's blocks, as its `max_memory_usage_bytes` counts them."""
        return tuple(group.spec.share(self.plan.scheduling) for group in self.plan.groups)

    @property
    def most_running(self) -> int:
        """`max_num_seqs`."""
        return self.plan.scheduling.max_num_seqs

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
        """Requests with times through the scheduler; see `kvplan.engines.vllm.scheduler`."""
        from kvplan.engines.vllm.scheduler.of_plan import serve

        return serve(self._scheduler(pool), traffic, clock, meter, advance=advance, stop=stop)

    def host_room(self, budget_bytes: int) -> HostRoom:
        """The native connector's chunks; see `kvplan.engines.vllm.tiers.followed`."""
        from kvplan.engines.vllm.tiers.followed import host_room

        return host_room(self.read, self.plan, budget_bytes)

    def serve_above(
        self,
        host: HostRoom,
        pool: Pool,
        traffic: Traffic,
        clock: Clock,
        meter: Meter,
        *,
        advance: Callable[[int], None] = lambda _: None,
        stop: bool = False,
    ) -> Outcome | None:
        """Requests with times through the scheduler and its native connector."""
        from kvplan.engines.vllm.scheduler.of_plan import serve_above

        return serve_above(self._scheduler(pool), host.chunks, traffic, clock, meter, advance=advance, stop=stop)

    def kept_blocks(self, pool: Pool, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Of each group what is not given back."""
        from kvplan.engines.vllm.scheduler.of_plan import held_by_one

        return held_by_one(self._scheduler(pool), tokens)

    def _scheduler(self, pool: Pool) -> Settings:
        from kvplan.engines.vllm.scheduler.of_plan import settings_of

        engine = self.engine
        return settings_of(self.plan, pool, caching=prefix_caching(self.model, engine.options, engine.release))


@latest(16, by_identity=True)  # the parts of a layout that is kept
def _alike(parts: tuple[CacheGroup, ...], model: Model) -> list[list[tuple[Held, tuple[int, ...]]]]:
    """Each group's caches on a stage, equal ones together with their layers."""
    found = []
    first = {layer.memories: layer.index for layer in reversed(model.layers)}
    for part in parts:
        alike: dict[Held, list[int]] = {}
        for held in part.members:
            alike.setdefault(_without_layer(held, model, first), []).append(held.layer)
        found.append([(held, tuple(layers)) for held, layers in alike.items()])
    return found


def _without_layer(held: Held, model: Model, first: Mapping[tuple[Memory, ...], int]) -> Held:
    """A cache with the `first` layer of its memories, so that equal ones collapse; a drafter's stays apart."""
    if held.draft:
        return held
    return replace(held, layer=first[model.layers[held.layer].memories])


def _region(held: Held, layers: tuple[int, ...], blocks: Count, payload: Count, model: Model) -> Iterator[Piece[Count]]:
    page = held.spec.page_bytes
    kind = _DRAFTER if held.draft else held.name
    if not held.draft and held.memory >= 0 and held.memory < len(model.layers[layers[0]].memories):
        kind = memory_words(model.layers[layers[0]].memories[held.memory], model.attention_heads)
    for group in [()] * len(layers) if held.draft else [layers]:
        yield Piece(
            layers=group,
            name=held.name,
            kind=kind,
            shape=(blocks, page),
            dtype="int8",
            payload=payload,
            padded=blocks * page,
            per=_PER.get(held.spec.kind, "block"),
        )


def _shares(model: Model) -> bool:
    return any(isinstance(memory, Shared) for layer in model.layers for memory in layer.memories)


def group_facts(plan: Plan, stage: int, tokens: int) -> tuple[GroupFacts, ...]:
    """Each group on a stage: what it holds, its page, and the blocks of one request of `tokens` tokens."""
    return tuple(
        GroupFacts(
            kind=whole.spec.kind,
            caches=len(part.members),
            layers=part.layers,
            drafter_caches=part.drafter_caches,
            block_size=whole.spec.block_size,
            page_bytes=part.widest_page_bytes,
            content_bytes=part.widest_content_bytes,
            group_bytes=part.page_bytes,
            request_blocks=whole.spec.blocks(tokens, plan.scheduling),
        )
        for whole, part in zip(plan.groups, plan.stages[stage], strict=True)
    )
