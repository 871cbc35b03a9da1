"""vLLM: blocks of a pool that all layers share, so that a page, a group and a block decide what a token costs.

Every layer says how large one block of it is (its page); layers of a kind form groups; every group takes blocks of the
same size, the widest group's. A request takes whole blocks of each group. The modules, in the order in which vLLM
works: `vllm_options` (flags), `vllm_layers` (specs), `vllm_plan` (block sizes, alignment), `vllm_groups` (groups),
`vllm_pool` (blocks, tokens, concurrency), `vllm_waste` (why it is more than `ideal`), `vllm_versions` (what changed).

An estimate is what requests of `seq_len` tokens may hold at once, as the engine's own admission counts it: windows with
the tokens in flight beside them, states with the copies that prefix caching makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model, Shared
from kvplan.domain.pool import Pool
from kvplan.domain.words import memory_words
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import PieceEngine
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.kernel.tensors import Count, Piece
from kvplan.engines.vllm.groups import CannotGroup
from kvplan.engines.vllm.layers import IGNORES_SHARING
from kvplan.engines.vllm.options import VllmOptions
from kvplan.engines.vllm.plan import Plan, make_plan
from kvplan.engines.vllm.pool import Reserved, request_bytes, reserve
from kvplan.engines.vllm.refusals import refusal
from kvplan.engines.vllm.releases import LATEST
from kvplan.engines.vllm.specs import Held, request_blocks
from kvplan.engines.vllm.states import NotServed
from kvplan.engines.vllm.waste import needed, waste

_PADDING: Final = "group padding"
_DRAFTER: Final = "drafter"


class Vllm(PieceEngine):
    """vLLM's block pool; see the module's docstring."""

    name: ClassVar[str] = "vllm"
    Options: ClassVar[type[Any]] = VllmOptions
    aliases: ClassVar[Mapping[str, str]] = {"kv_dtype": "kv_cache_dtype", "tensor_parallel": "tensor_parallel_size"}
    latest: ClassVar[str] = LATEST
    options: VllmOptions
    _planned: tuple[Model, Plan] | None = None

    @property
    def tensor_parallel(self) -> int:
        """Devices that share the heads."""
        return self.options.tensor_parallel_size

    def plan(self, model: Model) -> Plan:
        """Block sizes, groups and pages for `model`.

        Raises:
            NotServed, CannotGroup: vLLM cannot serve the model so.
            OptionError: flags that do not fit the model.
        """
        if self._planned is None or self._planned[0] is not model:
            self._planned = (model, make_plan(model, self.options, parse_version(self.version)))
        return self._planned[1]

    def refuse(self, model: Model) -> NotPredicted | None:
        """What vLLM says instead of starting, or why kvplan cannot tell."""
        words = refusal(model, self.options, parse_version(self.version))
        if not words:
            try:
                self.plan(model)
            except (NotServed, CannotGroup) as problem:
                words = str(problem)
        return NotPredicted(reason=f"vLLM {self.version} does not serve {model.name} so: {words}") if words else None

    def kv_dtype(self, model: Model) -> str:
        """The cache dtype that vLLM resolves."""
        plan = self.plan(model)
        return plan.model_dtype if plan.cache_dtype == "auto" else plan.cache_dtype

    def stage(self, model: Model) -> int:
        """The pipeline stage whose block is the largest: the one that an estimate speaks of."""
        sizes = self.plan(model).block_bytes
        return sizes.index(max(sizes))

    def pieces(self, model: Model, seq_len: Count, batch_size: Count, encoder_len: int) -> Iterator[Piece[Count]]:
        """Each group's blocks: one region a cache, and what the group leaves of a block."""
        plan, stage = self.plan(model), self.stage(model)
        block = plan.block_bytes[stage]
        for whole, part in zip(plan.groups, plan.stages[stage], strict=True):
            blocks = request_blocks(whole.spec, seq_len, plan.scheduling) * batch_size
            alike: dict[Held, list[int]] = {}
            for held in part.members:
                alike.setdefault(_without_layer(held, model), []).append(held.layer)
            for held, layers in alike.items():
                payload = needed(held, model, plan, seq_len, encoder_len, layers[0]) * batch_size
                yield from _region(held, tuple(layers), blocks, payload, model)
            rest = block - part.page_bytes
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

    def notes(self, model: Model, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        plan, found = self.plan(model), list(model.notes)
        if workload.seq_len > plan.max_model_len:
            found.append(f"requests of more than {plan.max_model_len:,} tokens (max_model_len) are refused by the engine")
        if _shares(model) and {model.text_type, model.model_type} & IGNORES_SHARING:
            found.append("vLLM does not read the sharing of this model: every layer caches (models/registry.py)")
        elif _shares(model) and model.config is None:
            found.append("no released engine reads such a sharing map from a config: this is what vLLM would need if it did")
        if self.options.kv_cache_dtype == "auto" and quantised_cache(model):
            found.append("the checkpoint asks for an fp8 cache, which vLLM then uses: add --kv-dtype fp8")
        if len(plan.stages) > 1:
            found.append(f"the largest of {len(plan.stages)} pipeline stages, number {self.stage(model) + 1}")
        return tuple(found)

    def details(self, model: Model, workload: Workload) -> Mapping[str, Any]:
        """Block sizes, groups, and where the bytes beyond `ideal` go."""
        plan, stage = self.plan(model), self.stage(model)
        return {
            "block_size": plan.block_size,
            "mamba_block_size": plan.state_block_size,
            "block_bytes": plan.block_bytes[stage],
            "max_model_len": plan.max_model_len,
            "max_num_batched_tokens": plan.scheduling.batch_tokens,
            "max_in_flight_tokens": plan.scheduling.in_flight_tokens,
            "request_blocks": plan.blocks(workload.seq_len),
            "bytes_one_request_at_max_model_len": request_bytes(plan, stage, plan.max_model_len),
            "cache_groups": group_rows(plan, stage, workload.seq_len),
            **waste(self, model, workload),
        }

    def reserved(self, model: Model, budgets: tuple[int, ...]) -> Reserved:
        """What vLLM makes of `budgets` bytes on each pipeline stage (one stands for all)."""
        return reserve(self.plan(model), budgets)

    def reserve(self, model: Model, budget_bytes: int) -> Pool | NotPredicted:
        """The pool that vLLM makes of `budget_bytes` on each device, and the lines that it prints."""
        refused = self.refuse(model)
        if refused is not None:
            return refused
        given = self.options.kv_cache_memory_bytes
        budget_bytes = budget_bytes if given is None else given  # the flag replaces what profiling found
        plan, found = self.plan(model), self.reserved(model, (budget_bytes,))
        stage = self.stage(model)
        return Pool(
            engine=self.name,
            budget_bytes=budget_bytes,
            num_blocks=found.num_blocks,
            block_bytes=plan.block_bytes[stage],
            num_tokens=found.num_tokens,
            max_model_len=found.max_model_len,
            concurrency=found.concurrency,
            groups=tuple(group_rows(plan, stage, found.max_model_len)),
            refused=found.refused,
            null_blocks=1 if plan.groups else 0,
            details={
                "model": model.name,
                "engine_version": self.version,
                "lines": list(found.lines),
                "estimated_max_model_len": found.estimated_max_model_len,
                "allocated_bytes": found.num_blocks * plan.block_bytes[stage],
            },
        )


def _without_layer(held: Held, model: Model) -> Held:
    """A cache with the first layer that is like its own, so that equal ones collapse; a drafter's stays apart."""
    if held.draft:
        return held
    like = model.layers[held.layer].memories
    return replace(held, layer=next(layer.index for layer in model.layers if layer.memories == like))


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
            per="sequence" if held.spec.kind == "state" else "encoder" if held.spec.kind == "cross" else "block",
        )


def quantised_cache(model: Model) -> bool:
    """Whether the checkpoint's quantisation asks for an fp8 cache. Source: `config/cache.py:resolve_kv_cache_dtype`."""
    quantised = (model.config or {}).get("quantization_config")
    if not isinstance(quantised, Mapping):
        return False
    return str(quantised.get("kv_cache_quant_algo")).upper() == "FP8" or bool(quantised.get("kv_cache_scheme"))


def _shares(model: Model) -> bool:
    return any(isinstance(memory, Shared) for layer in model.layers for memory in layer.memories)


def group_rows(plan: Plan, stage: int, tokens: int) -> list[dict[str, Any]]:
    """Each group on a stage, for reports: what it holds, its page, and the blocks of one request."""
    rows: list[dict[str, Any]] = []
    for whole, part in zip(plan.groups, plan.stages[stage], strict=True):
        spec = whole.spec
        rows.append(
            {
                "kind": spec.kind,
                "caches": len(part.members),
                "layers": sorted({held.layer for held in part.members if not held.draft}),
                "drafter_caches": sum(held.draft for held in part.members),
                "block_size": spec.block_size,
                "page_bytes": max((held.spec.page_bytes for held in part.members), default=0),
                "content_bytes": max((held.spec.content_bytes for held in part.members), default=0),
                "group_bytes": part.page_bytes,
                "request_blocks": request_blocks(spec, tokens, plan.scheduling),
            }
        )
    return rows
