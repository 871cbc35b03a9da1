"""SGLang: pools of rows, one row a token in every layer, sized once from what is free on the card.

A class name decides what a layer stores (`models`, `classes`), the flags and the card decide the rest (`arguments`, `backends`,
`fraction`, `speculation`); `layers`, `states` and `deepseek_v4` say what a token and a request cost, `pool` and `requests` what
the server makes of its memory, `log` what it prints, `refusals` what it says instead.

An estimate is what running requests hold: whole pages of the full pool, of the sliding pool what its scheduler may hold beside
the window, and one state with its tracking copies. Slots that only the radix cache uses are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec.structs import replace

from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger
from kvplan.domain.machine import Machine
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Served
from kvplan.engines.kernel.retention import cross_tokens
from kvplan.engines.kernel.tensors import At, Count, Piece, at_most, whole_blocks
from kvplan.engines.kernel.typed import Serving, weights_flag, written_command
from kvplan.engines.sglang import classes, deepseek_v4, sizing, states
from kvplan.engines.sglang.about import ABOUT
from kvplan.engines.sglang.arguments import Arguments, allowance, settle
from kvplan.engines.sglang.facts import SglangFacts
from kvplan.engines.sglang.layers import layout
from kvplan.engines.sglang.models import folds_layers
from kvplan.engines.sglang.options import SglangOptions
from kvplan.engines.sglang.pool import Reserved, share_out
from kvplan.engines.sglang.refusals import refuse
from kvplan.engines.sglang.requests import NoRoom, request_row_bytes, sliding_rows
from kvplan.engines.sglang.shares import pool_of
from kvplan.engines.sglang.stored import as_stored, differences
from kvplan.engines.sglang.tensors import Tensor
from kvplan.engines.sglang.typed import environment, flags
from kvplan.errors import ConfigError, Refused

if TYPE_CHECKING:
    import numpy as np

    from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic
    from kvplan.engines.sglang.scheduler.settings import Settings

_DRAFTER: Final = "drafter"


class Sglang(Engine):
    """SGLang's pools; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = SglangOptions
    options: SglangOptions

    def utilization(self, model: Model) -> float | None:
        """`mem_fraction_static`: the flag's, or what the server works out from card, model and flags."""
        return settle(model, self.options).mem_fraction_static

    def on(self, model: Model) -> SglangOn:
        """What the flags become for `model`, and what a token costs.

        Raises:
            Refused: what SGLang says instead of starting, or why kvplan cannot tell.
            OptionError: flags that SGLang does not take together.
        """
        try:
            args = settle(model, self.options)
            refuse(args)
            return SglangOn(self, model, args)
        except Refused as problem:
            raise Refused(f"SGLang {self.version} refuses {model.name}: {problem.reason}", problem.see) from problem


class SglangOn(Served):
    """SGLang serving one model. An estimate speaks of the pipeline stage that stores most for a token."""

    engine: Sglang
    one_pool = False

    def __init__(self, engine: Sglang, model: Model, args: Arguments) -> None:
        super().__init__(engine, model)
        self.args = args
        self.read = as_stored(model, args)
        self.tensor_parallel = engine.options.tp_size
        self.compressed = args.reading.architecture == classes.COMPRESSED
        ranks = range(engine.options.pp_size)
        if self.compressed:
            self.rank = max(ranks, key=lambda rank: deepseek_v4.price(args, rank))
        else:
            self.rank = max(ranks, key=lambda rank: layout(args, rank).cell)
            self.layout = layout(args, self.rank)
        self.state = states.state(args)

    @property
    def kv_dtype(self) -> str:
        """The cache dtype that SGLang resolves."""
        return self.args.cache

    def command(self, serving: Serving) -> str:
        """`python -m sglang.launch_server …` with everything that was asked for."""
        options, given = self.engine.options, serving.options.keys()
        told = replace(
            serving,
            context=(options.context_length or serving.context) if "context_length" in given else serving.context,
            batch_size=(options.max_running_requests or 1) if "max_running_requests" in given else serving.batch_size,
        )
        more = list(flags(options, given, use=serving.use or self.model.use, replicas=serving.replicas))
        loaded = weights_flag(self.engine.about, serving)
        more += [loaded] if loaded else []
        before = environment(options, given)
        return written_command(self.engine.about, told, self.kv_dtype, self.tensor_parallel, more=more, environment=before)

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Rows and states that running requests hold."""
        if self.compressed:
            yield from self._entries(at)
            return
        at = self._with_encoder(at)
        tokens, rows = self._rows(at.seq_len)
        for tensor in self.layout.tensors:
            if not tensor.layers:  # one workspace for all layers, as long as the pool
                continue
            held, kept = rows, tokens
            if tensor.place == "sliding":
                kept = at_most(at.seq_len, self.args.reading.window or 1)
                held = self._sliding(at.seq_len)
            yield self._piece(tensor, at, kept, held)
        yield from self._drafter(at, rows)
        yield from self._states(at)

    def _with_encoder(self, at: At[Count]) -> At[Count]:
        """A workload whose encoder's tokens are tokens like the others."""
        encoder = self.args.reading.encoder
        return at if encoder is None else At(at.seq_len + cross_tokens(encoder, at.encoder_len), at.batch_size)

    def _rows(self, seq_len: Count) -> tuple[Count, Count]:
        """Tokens of one request on one device, and the rows of the pages that hold them."""
        shared, page = self.args.options.dcp_size, self.args.page_size
        return whole_blocks(seq_len, shared), whole_blocks(seq_len, page * shared) * page

    def _sliding(self, seq_len: Count) -> Count:
        page = self.args.page_size
        return at_most(whole_blocks(seq_len, page) * page, whole_blocks(sliding_rows(self.args), page) * page)

    def _piece(self, tensor: Tensor, at: At[Count], kept: Count, held: Count) -> Piece[Count]:
        """A tensor's rows; index keys lie in pages of their own, which no device shares."""
        if tensor.place == "index":
            slot = tensor.row_bytes // tensor.tokens_per_row
            rows = held * self.args.options.dcp_size // tensor.tokens_per_row * at.batch_size
            payload = at.seq_len * at.batch_size * slot
        else:
            rows, payload = held * at.batch_size, kept * at.batch_size * tensor.row_bytes
        return Piece(
            layers=tensor.layers,
            name=tensor.name,
            kind=tensor.kind,
            shape=(rows, *tensor.row),
            dtype=tensor.dtype,
            payload=payload,
            padded=rows * tensor.row_bytes,
            per="block",
        )

    def _drafter(self, at: At[Count], rows: Count) -> Iterator[Piece[Count]]:
        """What the budget is charged for a drafter's cache, which its own worker allocates."""
        for amount, held in ((self.layout.draft_cell, rows), (self.layout.draft_sliding_cell, None)):
            if amount:
                size = (self._sliding(at.seq_len) if held is None else held) * at.batch_size
                yield Piece(
                    layers=(), name=_DRAFTER, kind=_DRAFTER, shape=(size, amount), dtype="uint8", payload=size * 0,
                    padded=size * amount, per="block",
                )  # fmt: skip

    def _states(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """One state a request, with the copies that the radix cache tracks and a drafter's snapshots."""
        one = self.state
        if one is None:
            return
        layers = tuple(i for i in self.args.reading.state_layers if i in self.layout.stage)
        zero, slots = at.seq_len * 0, 1 + self.args.tracking_slots
        for part in one.parts:
            name, item = part[0], part[2]
            row: tuple[int, ...] = part[1]
            size = at.batch_size * (prod(row) * item) + zero
            yield Piece(
                layers=layers,
                name=name,
                kind="state",
                shape=(at.batch_size * slots, *row),
                dtype="bfloat16" if name == "conv" else self.args.reading.state_dtype,
                payload=size,
                padded=size * slots,
                per="sequence",
            )
        snapshots = states.snapshot_bytes(self.args, one)
        if snapshots:
            yield Piece(
                layers=layers, name="snapshots", kind="state", shape=(at.batch_size, snapshots), dtype="uint8",
                payload=at.batch_size * 0 + zero, padded=at.batch_size * snapshots + zero, per="sequence",
            )  # fmt: skip

    def _entries(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """DeepSeek V4: pages of 256 tokens, in the window, of entries, and of the states that make them."""
        for held in deepseek_v4.held(self.args, self.rank):
            if not held.layers:
                continue
            if held.per_request:
                rows = at.batch_size * held.per_request + at.seq_len * 0
                payload = rows * held.row_bytes
            else:
                pages = whole_blocks(at.seq_len, deepseek_v4.PAGE)
                tokens = at.seq_len
                if held.most is not None:
                    pages, tokens = at_most(pages, held.most), at_most(tokens, self.args.reading.window or 1)
                rows = pages * held.rows_per_page * at.batch_size
                payload = tokens // held.ratio * held.entry_bytes * at.batch_size if held.entry_bytes else rows * held.row_bytes
            yield Piece(
                layers=held.layers, name=held.name, kind=held.name, shape=(rows, held.row_bytes), dtype="uint8", payload=payload,
                padded=rows * held.row_bytes, per="sequence" if held.per_request else "block",
            )  # fmt: skip

    def bookkeeping(self, at: At[Count]) -> Count | int:
        """A request's row of the table of slots, and the map from full to sliding rows: not charged to the budget."""
        size: Count | int = at.batch_size * request_row_bytes(self.args)
        if self.compressed or self.args.reading.sliding:
            size = size + self._rows(at.seq_len)[1] * at.batch_size * 8
        return size

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        args, found = self.args, [*self.model.notes, *differences(self.model, self.args)]
        if workload.seq_len > args.reading.context:
            found.append(f"requests of more than {args.reading.context:,} tokens (context_length) are refused by the engine")
        if args.options.pp_size > 1:
            found.append(f"the pipeline stage of {args.options.pp_size} that stores most for a token, number {self.rank + 1}")
        if args.options.attention_groups > 1:
            found.append(f"one of {args.options.attention_groups} attention groups, each of which serves requests of its own")
        if folds_layers(self.model):
            count = len(self.model.layers)
            found.append(
                f"SGLang {ABOUT.latest} takes every second of the {count} layers for attention and skips the weights that it has "
                f"no names for; its later source keeps keys and values for all {count}, twice these bytes (configs/zaya.py)"
            )
        if self.engine.release != (0, 5, 23):
            found.append(f"the rules are those of SGLang {ABOUT.latest}; what other releases do differently is not in them")
        return tuple(found)

    def facts(self, workload: Workload) -> SglangFacts:
        """What the flags became, and what a token and a request cost."""
        args = self.args
        split = self.compressed or bool(args.reading.sliding)
        return SglangFacts(
            page_size=args.page_size,
            cell_bytes=deepseek_v4.price(args, self.rank) if self.compressed else self.layout.cell,
            mem_fraction_static=args.mem_fraction_static,
            chunked_prefill_size=args.chunked_prefill_size,
            context_length=args.reading.context,
            max_running_requests=args.max_running_requests,
            attention_backends=(args.kernels.prefill, args.kernels.decode),
            sliding_rows=sliding_rows(args) if split else None,
            swa_full_tokens_ratio=args.swa_full_tokens_ratio if split else None,
            state_slots_per_request=args.slots_per_request if self.state is not None else None,
            state_slot_bytes=states.slot_bytes(args, self.state, self.rank) if self.state is not None else None,
            req_to_token_row_bytes=request_row_bytes(args),
            draft_layers=args.speculation.layers if args.speculation.shares_budget else 0,
        )

    def reserved(self, budget_bytes: int) -> tuple[Reserved, ...]:
        """The pools of every stage that `budget_bytes` on each device pay for.

        Raises:
            NoRoom: the server does not start.
        """
        return share_out(self.args, budget_bytes)

    def pool(self, budget_bytes: int) -> Pool:
        """The pools of the largest stage, and the lines that it prints."""
        known = {"model": self.model.name, "engine_version": self.engine.version}
        try:
            found = self.reserved(budget_bytes)[self.rank]
        except NoRoom as problem:
            empty = Pool(
                engine=self.engine.name, budget_bytes=budget_bytes, num_blocks=0, block_bytes=0, num_tokens=0,
                max_model_len=self.args.reading.context, concurrency=0.0, refused=problem.reason,
            )  # fmt: skip
            return replace(empty, **known)
        return replace(pool_of(self.args, found, budget_bytes), **known)

    def holds(self, pool: Pool, at: At[int]) -> bool:
        """Whether every pool has the rows, states and running requests that the workload takes at once."""
        if pool.refused:
            return False
        return sizing.holds(self.args, self.rank, pool.budget_bytes, self._with_encoder(at).seq_len, at.batch_size)

    def needed(self, at: At[int]) -> int:
        """Of a server that is told how many requests run."""
        args = sizing.told(self.model, self.args, at.batch_size)
        return sizing.least_budget(args, self.rank, self._with_encoder(at).seq_len, at.batch_size)

    def aside_bytes(self, at: At[int]) -> int:
        """What SGLang's own rule leaves for activations and graphs."""
        return allowance(sizing.told(self.model, self.args, at.batch_size))

    def shared(self, at: At[int], free_bytes: int, loaded_bytes: int) -> tuple[str, Pool] | None:
        """`mem_fraction_static` is a share of what is free before loading."""
        args, tokens = sizing.told(self.model, self.args, at.batch_size), self._with_encoder(at).seq_len
        before, after = ((free_bytes + more) / states.GIB for more in (loaded_bytes, 0))
        least = sizing.least_fraction(args, self.rank, before, after, tokens, at.batch_size)
        if least is None:
            return None
        args, size = least
        found = pool_of(args, share_out(args, size)[self.rank], size)
        return f"{args.mem_fraction_static:g}", replace(found, model=self.model.name, engine_version=self.engine.version)

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
        """Requests with times through the scheduler; see `kvplan.engines.sglang.scheduler`."""
        from kvplan.engines.sglang.scheduler.serve import serve

        return serve(self._scheduler(pool), traffic, clock, meter, advance=advance, stop=stop)

    def kept_blocks(self, pool: Pool, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Whole pages."""
        return -(-tokens // self._scheduler(pool).page)

    def _scheduler(self, pool: Pool) -> Settings:
        from kvplan.engines.sglang.scheduler.settings import settings_of

        return settings_of(self.args, self.reserved(pool.budget_bytes)[self.rank].sizes)

    def ledger(self, machine: Machine, tensors: Described) -> Ledger | None:
        """Every line of a rank's memory; see `kvplan.engines.sglang.ledger`. None for weights that kvplan cannot count."""
        from kvplan.engines.sglang.ledger.build import ledger

        try:
            return ledger(self.args, machine, tensors)
        except ConfigError:
            return None

    def too_little_free(self, found: Ledger, machine: Machine) -> str:
        """The refusal where some cards are less free than others."""
        from kvplan.engines.sglang.ledger.words import too_little_free

        return too_little_free(self.args, machine)

    def startup(self, found: Ledger, machine: Machine, tensors: Described, pool: Pool) -> tuple[str, ...]:
        """What the server prints while it starts."""
        from kvplan.engines.sglang.ledger.words import startup

        refused = self.too_little_free(found, machine)
        return (f"RuntimeError: {refused}",) if refused else tuple(startup(self.args, found, tensors, pool))
