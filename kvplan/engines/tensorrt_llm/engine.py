"""TensorRT-LLM: blocks of one pool or of one for each window, by either of its two cache managers, by reading its source.

The modules, in the order in which the engine works: `models` (what it makes of a config), `layers` (what a layer of one rank
keeps), `settle` (which manager, dtype, blocks, windows), `pool` (the first manager's pools), `storage` (the second's).

Source: TensorRT-LLM 1.4.0rc4, rows by release in `releases`. Golden: `tests/golden/tensorrt_llm_logs.jsonl`, published starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger
from kvplan.domain.machine import Machine
from kvplan.domain.model import Cross, Model, Reach, Window
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Served, Serving
from kvplan.engines.kernel.retention import cross_tokens, kept_tokens
from kvplan.engines.kernel.search import largest
from kvplan.engines.kernel.tensors import At, Count, Piece, at_most
from kvplan.engines.tensorrt_llm import ledger, log
from kvplan.engines.tensorrt_llm.about import ABOUT
from kvplan.engines.tensorrt_llm.facts import TrtllmFacts
from kvplan.engines.tensorrt_llm.layers import Kept
from kvplan.engines.tensorrt_llm.options import TrtllmOptions
from kvplan.engines.tensorrt_llm.pool import TrtllmPool, first_pool, groups, held_blocks
from kvplan.engines.tensorrt_llm.settle import Settled, settle
from kvplan.engines.tensorrt_llm.storage import quota_of, second_pool
from kvplan.errors import Refused

_PARTS: Final = 10_000  # a fraction has four digits
_TENSORS: Final = {"fp8_e4m3": "float8_e4m3fn", "nvfp4": "uint8"}


class TensorrtLlm(Engine):
    """TensorRT-LLM's pools; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = TrtllmOptions
    options: TrtllmOptions

    def on(self, model: Model) -> TrtllmOn:
        """A block and a slot of `model`.

        Raises:
            Refused: what TensorRT-LLM says instead of starting, or why kvplan cannot tell.
        """
        try:
            return TrtllmOn(self, model, settle(model, self.options, self.release))
        except Refused as problem:
            said = f"TensorRT-LLM {self.version} refuses {model.name}: {problem.reason}"
            raise type(problem)(said, problem.see) from problem


class _Alike(Struct, frozen=True):
    """Layers of one shape, window and reach."""

    kept: Kept
    kind: str
    layers: tuple[int, ...]


class TrtllmOn(Served):
    """TensorRT-LLM serving one model."""

    def __init__(self, engine: Engine, model: Model, settled: Settled) -> None:
        super().__init__(engine, model)
        self.options: TrtllmOptions = engine.options
        self.settled = settled
        self.stage = settled.worst
        self.tensor_parallel = self.options.tp_size
        self.linear_in_batch = not self.stage.states
        self.one_pool = False
        self._alike = tuple(self._sets())
        self._encoder = next((m for layer in model.layers for m in layer.memories if isinstance(m, Cross)), None)

    @property
    def kv_dtype(self) -> str:
        """The dtype of keys and values, scales included."""
        return self.settled.dtype

    def _sets(self) -> Iterator[_Alike]:
        words, layers = super().kinds(At(1, 1)), len(self.model.layers)
        found: dict[tuple[Any, ...], tuple[Kept, str, list[int]]] = {}
        for one in self.stage.kept:
            kind = words[one.layer] if one.layer < layers else "drafter"
            key = (one.heads, one.width, one.planes, one.index_bytes, one.reach, one.window, one.cross, kind)
            found.setdefault(key, (one, kind, []))[2].append(one.layer)
        for one, kind, alike in found.values():
            yield _Alike(one, kind, tuple(alike))

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Keys and values of each layer, its scales and its index keys, then states."""
        size = self.settled.tokens_per_block
        blocks_of: dict[int | None, Count] = {}
        for alike in self._alike:
            one = alike.kept
            if one.cross:
                tokens = at.seq_len * 0 + (cross_tokens(self._encoder, at.encoder_len) if self._encoder is not None else 0)
                blocks, kept = -(-tokens // size) * at.batch_size, tokens
            else:
                if one.window not in blocks_of:
                    blocks_of[one.window] = held_blocks(self.settled, one.window, at.seq_len) * at.batch_size
                blocks, kept = blocks_of[one.window], kept_tokens(_of_window(one), at.seq_len)
            kept = kept * at.batch_size
            for name, each, dtype, block in self._parts(one):
                padded = blocks * (size * each)
                if one.drafts:
                    yield _drafter(len(alike.layers), name, _shape(blocks, block), dtype, kept * each, padded)
                    continue
                yield Piece(
                    layers=alike.layers,
                    name=name,
                    kind=alike.kind,
                    shape=_shape(blocks, block),
                    dtype=dtype,
                    payload=at_most(kept * each, padded),
                    padded=padded,
                    per="block",
                )
        yield from self._states(at)

    def _parts(self, one: Kept) -> Iterator[tuple[str, int, str, tuple[int, ...]]]:
        size = self.settled.tokens_per_block
        name = "latents" if one.latent else "encoder's keys and values" if one.cross else "keys and values"
        dtype = _TENSORS.get(one.dtype, one.dtype)
        width = one.width // 2 if one.dtype == "nvfp4" else one.width
        yield name, one.kv_bytes, dtype, (one.planes, one.heads, size, width)
        if one.scale_bytes:
            yield "block scales", one.scale_bytes, "float8_e4m3fn", (size, one.scale_bytes)
        if one.index_bytes:
            yield "index keys", one.index_bytes, "uint8", (size, one.index_bytes)

    def _states(self, at: At[Count]) -> Iterator[Piece[Count]]:
        if not self.stage.states:
            return
        words = super().kinds(At(1, 1))
        told = self.options.max_batch_size
        live = at.batch_size if told is None else at.batch_size * 0 + told
        slots = live * self.options.pp_size + (self.settled.slots(0)) + at.seq_len * 0
        alike: dict[tuple[Any, ...], list[int]] = {}
        for state in self.stage.states:
            alike.setdefault((state.shapes, words[state.layer]), []).append(state.layer)
        for (shapes, kind), layers in alike.items():
            for name, shape, dtype, each in shapes:
                yield Piece(
                    layers=tuple(layers),
                    name=name,
                    kind=kind,
                    shape=_shape(slots, shape),
                    dtype=dtype,
                    payload=at.batch_size * each + at.seq_len * 0,
                    padded=slots * each,
                    per="sequence",
                )

    def check(self, at: At[int]) -> None:
        """A server holds so many requests at once; others wait."""
        told = self.options.max_batch_size
        if told is not None and at.batch_size > told:
            raise Refused(f"{at.batch_size:,} requests at once are more than max_batch_size, which is {told:,}")

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return (*self.model.notes, *self._notes(workload))

    def _notes(self, workload: Workload) -> Iterator[str]:
        options, settled = self.options, self.settled
        if options.max_seq_len is not None and workload.seq_len > options.max_seq_len:
            yield f"requests of more than {options.max_seq_len:,} tokens (max_seq_len) are refused by the server"
        slides = any(isinstance(one.reach, Window) for one in self.stage.kept)
        if slides and all(one.window is None for one in self.stage.kept):
            yield "windows save nothing here unless max_attention_window says them: every layer holds every block"
        if self.stage.states and options.max_batch_size is None:
            count = settled.slots(options.sequences)
            yield (
                f"states are counted at --max_batch_size {workload.batch_size}; a server that is not told makes room for "
                f"{options.sequences:,} sequences: {count * self.stage.state_bytes:,} bytes"
            )
        if options.pp_size > 1:
            yield "of the pipeline rank whose layers take most"
        if settled.backend == "pytorch" and self.engine.release < (1, 0):
            yield "the PyTorch backend before 1.0 was not studied"

    def log(self, workload: Workload) -> tuple[str, ...]:
        """What it says where it changes what was asked."""
        return self.settled.said

    def facts(self, workload: Workload) -> TrtllmFacts:
        """The manager, its blocks and its slots."""
        settled, stage = self.settled, self.stage
        size = settled.tokens_per_block
        windows: dict[int | None, int] = {}
        for one in stage.kept:
            if not one.cross:
                windows[one.window] = windows.get(one.window, 0) + one.token_bytes
        return TrtllmFacts(
            backend=settled.backend,
            manager="V2" if settled.second else "V1",
            tokens_per_block=size,
            bytes_per_token=stage.token_bytes,
            pools=tuple(
                (-1 if window is None else window, held_blocks(settled, window, workload.seq_len), each * size)
                for window, each in windows.items()
            ),
            state_slot_bytes=stage.state_bytes,
            state_slots=settled.slots(self.options.max_batch_size or workload.batch_size) if stage.states else 0,
            dtype=settled.dtype,
            state_dtype=settled.state_dtype,
            cross_bytes_per_token=stage.cross_bytes,
        )

    def pool(self, budget_bytes: int) -> TrtllmPool:
        """The pools of a server with `budget_bytes` free on each rank beside weights and activations."""
        settled, free = self.settled, max(0, budget_bytes)
        if settled.second:
            parts, taken, refused = second_pool(settled, free)
            lines = () if refused else tuple(log.second_lines(quota_of(settled, self.stage, free)))
        else:
            parts, tokens, refused = first_pool(settled, free)
            taken = sum(part.bytes for part in parts)
            lines = ()
        longest = self._longest(parts) if not refused else 0
        if not settled.second and not refused:
            lines = (*self._lowered(tokens), *log.first_lines(settled, parts, min(settled.longest or tokens, tokens)))
        main = next((part for part in parts if part.windows and part.windows[-1] is None), parts[0] if parts else None)
        asked = self.options.max_seq_len or self.model.max_tokens
        return TrtllmPool(
            engine=ABOUT.name,
            budget_bytes=budget_bytes,
            num_blocks=main.blocks if main is not None else 0,
            block_bytes=main.block_bytes if main is not None else 0,
            num_tokens=main.blocks * settled.tokens_per_block if main is not None else 0,
            max_model_len=min(asked, longest) if asked is not None else longest,
            concurrency=self._concurrency(parts, min(asked or longest, longest)) if not refused else 0.0,
            groups=groups(parts, budget_bytes - taken) if parts else (),
            refused=refused,
            parts=parts,
            reserved_bytes=taken,
            short=self.options.max_seq_len is not None and longest < self.options.max_seq_len,
            model=self.model.name,
            engine_version=self.engine.version,
            log=lines,
        )

    def _lowered(self, tokens: int) -> Iterator[str]:
        limit = self.settled.longest
        if limit is not None and limit > tokens and self.settled.backend == "pytorch" and not self.settled.windowed:
            yield f"Attention window size {limit} exceeds upper bound {tokens} for available blocks. Reducing to {tokens}."

    def _longest(self, parts: tuple[Any, ...]) -> int:
        """The longest request that every pool holds."""

        def fits(tokens: int) -> bool:
            return self._room(parts, At(tokens, 1, self._encoder_tokens()))

        return largest(fits, ceiling=2**40)

    def _encoder_tokens(self) -> int:
        return self._encoder.tokens or 0 if self._encoder is not None else 0

    def _room(self, parts: tuple[Any, ...], at: At[int]) -> bool:
        encoder = cross_tokens(self._encoder, at.encoder_len) if self._encoder is not None else 0
        return all(part.needed(self.settled, at.seq_len, at.batch_size, encoder) <= part.blocks for part in parts)

    def _concurrency(self, parts: tuple[Any, ...], tokens: int) -> float:
        most = float(self.options.sequences)
        for part in parts:
            one = part.needed(self.settled, tokens, 1, self._encoder_tokens()) - part.needed(self.settled, tokens, 0, 0)
            if one and not part.state:
                most = min(most, part.blocks / one)
        return most

    def holds(self, pool: Pool, at: At[int]) -> bool:
        """Whether every pool has the blocks for that workload."""
        if not isinstance(pool, TrtllmPool) or not pool.usable_bytes:
            return False
        return self._room(pool.parts, at)

    def shared(self, at: At[int], free_bytes: int, loaded_bytes: int) -> tuple[str, Pool] | None:
        """By bisection over the server's own pools: more of the memory never holds less."""
        tried: dict[int, Pool] = {}

        def too_few(part: int) -> bool:
            told = replace(self.options, kv_cache_free_gpu_memory_fraction=part / _PARTS, max_batch_size=at.batch_size)
            there = self.with_options(told)
            tried[part] = pool = there.pool(free_bytes)
            return not there.holds(pool, at)

        least = largest(too_few, ceiling=_PARTS - 1) + 1
        if least == _PARTS:
            return None
        too_few(least)
        return f"{least / _PARTS:g}", tried[least]

    def with_options(self, options: TrtllmOptions) -> TrtllmOn:
        """The same model in a server with other options."""
        engine = TensorrtLlm(options, self.engine.version)
        return TrtllmOn(engine, self.model, settle(self.model, options, engine.release))

    def command(self, serving: Serving) -> str:
        """`trtllm-serve …`."""
        return log.command(
            serving.model,
            self.options,
            max_seq_len=serving.context,
            max_batch_size=serving.batch_size,
            share=serving.utilization if serving.utilization < 1 else self.options.kv_cache_free_gpu_memory_fraction,
        )

    def typed(self, workload: Workload) -> str:
        """The server's command line."""
        return self.command(self.asked(workload))

    def ledger(self, machine: Machine, tensors: Described) -> Ledger | None:
        """Where one rank's memory goes before the pools get their share."""
        return ledger.ledger(self.settled, machine, tensors)


def _of_window(one: Kept) -> Reach:
    """What is needed of a layer: its own reach, or the window that its manager was told, whichever is shorter."""
    if one.window is None:
        return one.reach
    if isinstance(one.reach, Window):
        return Window(min(one.reach.size, one.window))
    return Window(one.window)


def _shape(count: Any, rest: tuple[Any, ...]) -> tuple[Any, ...]:
    return (count, *rest)


def _drafter(layers: int, name: str, shape: tuple[Any, ...], dtype: str, payload: Count, padded: Count) -> Piece[Count]:
    """A drafter's tensor: of no layer of the model."""
    return Piece(
        layers=(),
        name=f"drafter's {name}",
        kind="drafter",
        shape=_shape(layers, shape),
        dtype=dtype,
        payload=at_most(payload, padded) * layers,
        padded=padded * layers,
        per="block",
    )
