"""LMDeploy: its PyTorch engine's blocks and slots of states; TurboMind's blocks as `backend=turbomind`, by reading its source.

Every layer has the same shape of keys and values, a request takes whole blocks of all layers, and the pool is a share of the
memory that is free once the weights are loaded. The modules, in the order in which the engine works: `models` (what its
builders make of a config), `layers` (a block and a slot of one rank), `pool` (blocks of free memory), `turbomind`.

Source: lmdeploy 0.18.0. Golden: `tests/golden/lmdeploy.jsonl`, every recorded plan exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from msgspec.structs import replace

from kvplan.domain.model import Cross, Model, Reach, Window
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine
from kvplan.engines.kernel.retention import kept_tokens
from kvplan.engines.kernel.tensors import At, Count, Piece, at_most
from kvplan.engines.lmdeploy.about import ABOUT
from kvplan.engines.lmdeploy.facts import LmdeployFacts
from kvplan.engines.lmdeploy.layers import make_plan
from kvplan.engines.lmdeploy.log import adjusted
from kvplan.engines.lmdeploy.models import names_no_dtype, trained_tokens
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.engines.lmdeploy.plan import BlockTensor, Plan, StateTensor
from kvplan.engines.lmdeploy.pool import jobs, request_blocks, runtime_bytes, served, slots
from kvplan.engines.lmdeploy.started import Started, reaches
from kvplan.engines.lmdeploy.turbomind_engine import TurboMindOn
from kvplan.errors import Refused


class Lmdeploy(Engine):
    """LMDeploy's pools; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = LmdeployOptions
    options: LmdeployOptions

    def on(self, model: Model) -> LmdeployOn | TurboMindOn:
        """A block and a slot of `model`.

        Raises:
            Refused: what LMDeploy says instead of starting, or why kvplan cannot tell.
        """
        if any(isinstance(m, Cross) for layer in model.layers for m in layer.memories):
            raise Refused(f"LMDeploy serves decoders only, and {model.name} looks at an encoder's output")
        try:
            if self.options.backend == "turbomind":
                return TurboMindOn(self, model)
            return LmdeployOn(self, model, make_plan(model, self.options))
        except Refused as problem:
            raise type(problem)(f"LMDeploy {self.version} refuses {model.name}: {problem.reason}", problem.see) from problem


class LmdeployOn(Started):
    """The PyTorch engine serving one model."""

    def __init__(self, engine: Engine, model: Model, plan: Plan) -> None:
        super().__init__(engine, model)
        self.plan = plan
        self.block_size, self.block_bytes = plan.block_size, plan.block_bytes
        self.linear_in_batch = not plan.states
        self._reaches = reaches(model)

    @property
    def kv_dtype(self) -> str:
        """The dtype of keys and values, scales included."""
        return self.plan.kv_dtype

    def blocks(self, at: At[Count]) -> Count:
        """Blocks of all requests; where every layer slides, a request gives back those that its window has left behind."""
        return request_blocks(self.plan, self.options, at.seq_len) * at.batch_size

    def slots(self, at: At[Count]) -> Count:
        """Slots of states: for `max_batch_size` sequences where it is given, else for the workload's."""
        told = self.options.max_batch_size
        return slots(self.options, at.batch_size if told is None else at.batch_size * 0 + told)

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Each tensor of a block in its layers, then those of a slot, with what rounding adds."""
        blocks, words = self.blocks(at), super().kinds(At(1, 1))
        for tensor in self.plan.tensors:
            alike: dict[tuple[str, Reach], list[int]] = {}
            for layer in tensor.layers:
                alike.setdefault((words[layer], self._reaches[layer]), []).append(layer)
            for (kind, reach), layers in alike.items():
                yield self._block_piece(tensor, tuple(layers), kind, reach, blocks, at)
        for state in self.plan.states:
            yield from self._state_pieces(state, words, at)

    def _block_piece(
        self, tensor: BlockTensor, layers: tuple[int, ...], kind: str, reach: Reach, blocks: Count, at: At[Count]
    ) -> Piece[Count]:
        kernels = self.plan.block_size // self.plan.kernel_block_size
        per_row = self.plan.kernel_block_size // tensor.shape[0]
        row = tensor.raw_bytes // tensor.shape[0]
        padded = blocks * (kernels * tensor.bytes)
        if per_row > 1:
            rows = at.seq_len // per_row
        else:
            rows = kept_tokens(reach, at.seq_len) if self.plan.window_size > 0 else at.seq_len  # else no block is given back
        payload = rows * at.batch_size * row
        return Piece(
            layers=layers,
            name=tensor.name,
            kind=kind,
            shape=(blocks * kernels, *tensor.shape),
            dtype=tensor.dtype,
            payload=at_most(payload, padded),
            padded=padded,
            per="block",
        )

    def _state_pieces(self, state: StateTensor, words: tuple[str, ...], at: At[Count]) -> Iterator[Piece[Count]]:
        count, each = self.slots(at) + at.seq_len * 0, state.raw_bytes
        alike: dict[str, list[int]] = {}
        for layer in state.layers:
            alike.setdefault(words[layer], []).append(layer)
        for kind, layers in alike.items():
            yield Piece(
                layers=tuple(layers),
                name=state.name,
                kind=kind,
                shape=(count, *state.shape),
                dtype=state.dtype,
                payload=at.batch_size * each + at.seq_len * 0,
                padded=count * each,
                per="sequence",
            )
        rest = state.bytes - each * len(state.layers)
        if rest:
            yield Piece(
                layers=(),
                name="alignment",
                kind="alignment of slots",
                shape=(count, rest),
                dtype="uint8",
                payload=count * 0,
                padded=count * rest,
                per="sequence",
            )

    def _notes(self, workload: Workload) -> Iterator[str]:
        yield from super()._notes(workload)
        yield from adjusted(self.plan, self.options)
        options, plan = self.options, self.plan
        if plan.vocab_size:
            aside = runtime_bytes(plan, options, options.max_batch_size or workload.batch_size)
            yield (
                f"before blocks are counted, {aside:,} bytes are set aside for a pass of prefill (a vocabulary of "
                f"{plan.vocab_size:,}); blocks are {options.cache_max_entry_count:g} of the rest"
            )
        if names_no_dtype(self.model) and options.dtype == "auto":
            yield "the config names no dtype, and LMDeploy takes float16 then"
        if plan.window_size <= 0 and any(isinstance(reach, Window) for reach in self._reaches):
            yield "windows save nothing here: every layer holds every block"
        if plan.states and options.max_batch_size is None:
            yield (
                f"states are counted at --max-batch-size {workload.batch_size}; a server that is not told makes room for "
                f"{jobs(options):,} sequences: {slots(options, jobs(options)) * plan.state_slot_bytes:,} bytes"
            )
        if options.speculative_algorithm:
            yield "a drafter's own cache is not counted"
        if options.num_gpu_blocks:
            yield "num_gpu_blocks has no flag on the command line: it is told in Python"

    def facts(self, workload: Workload) -> LmdeployFacts:
        """The block, the slot, and the reserve of a prefill pass."""
        at, plan = At(workload.seq_len, workload.batch_size), self.plan
        blocks, count = self.blocks(at), self.slots(at) if plan.states else 0
        return LmdeployFacts(
            backend="pytorch",
            block_size=plan.block_size,
            kernel_block_size=plan.kernel_block_size,
            block_bytes=plan.block_bytes,
            request_blocks=self.blocks(At(workload.seq_len, 1)),
            kv_bytes=blocks * plan.block_bytes,
            state_slot_bytes=plan.state_slot_bytes,
            num_state_caches=count,
            state_bytes=count * plan.state_slot_bytes,
            runtime_bytes=runtime_bytes(plan, self.options, self.options.max_batch_size or workload.batch_size),
            vocab_size=plan.vocab_size,
            dtype=plan.dtype,
            window_size=plan.window_size,
        )

    def with_options(self, options: LmdeployOptions) -> LmdeployOn:
        """The same model in a server with other options."""
        return LmdeployOn(Lmdeploy(options, self.engine.version), self.model, make_plan(self.model, options))

    def aside_bytes(self, at: At[int]) -> int:
        """A pass of prefill."""
        return runtime_bytes(self.plan, self.options, self.options.max_batch_size or at.batch_size)

    def pool(self, budget_bytes: int) -> Pool:
        """The pool of a server with `budget_bytes` free on each rank once the weights are loaded."""
        found = served(self.plan, self.options, trained_tokens(self.model), budget_bytes)
        return replace(found, model=self.model.name, engine_version=self.engine.version)
