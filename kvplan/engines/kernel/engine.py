"""An engine, and what it has decided of one model: the protocol of every back end, and what is computed of it once for all.

An engine's `on(model)` decides whatever does not depend on the workload: it gives a `Prepared`, whose `tensors` are the
cache as a function of the workload, or raises `Refused`. The same formulas take ints and int64 arrays, so one code path
serves a single estimate and, through `kvplan.questions.sweep`, a sweep of millions of cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from kvplan.domain.allocation import Allocation, Buffer, Evidence
from kvplan.domain.beyond import Beyond
from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger
from kvplan.domain.machine import Machine
from kvplan.domain.model import Model
from kvplan.domain.tiers import HostRoom
from kvplan.domain.words import layer_kinds
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.evidence import evidence
from kvplan.engines.kernel.options import own_options
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.kernel.remarks import remarks
from kvplan.engines.kernel.retention import growth_period
from kvplan.engines.kernel.tensors import At, Count, Piece, Totals
from kvplan.engines.kernel.typed import Serving as Serving
from kvplan.engines.kernel.typed import checkpoint_needed, hub_name, weights_flag, written_command
from kvplan.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from kvplan.domain.pool import Pool, Share
    from kvplan.domain.traffic import Clock, Meter, Outcome, Traffic


class Facts(Protocol):
    """What one engine alone can say of an allocation; a Struct of its own, shown by the tables that its `About` names."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        ...


class Engine:
    """One engine at one release with its options."""

    about: ClassVar[About]
    Options: ClassVar[type[Any]]  # a Struct; field names are the engine's own flag names

    def __init__(self, options: Any = None, version: str | None = None) -> None:
        self.options = self.Options() if options is None else options
        self.version = version or self.about.latest
        self.release = parse_version(self.version)

    @classmethod
    def made(cls, options: Mapping[str, Any], version: str | None = None) -> Self:
        """The engine from options by its own names or kvplan's shared words.

        Raises:
            OptionError: an unknown option, a bad value, or one option given twice under two names.
        """
        return cls(own_options(cls.about, cls.Options, options), version)

    @property
    def name(self) -> str:
        """As typed."""
        return self.about.name

    def utilization(self, model: Model) -> float | None:
        """The share of a card that it allows itself when nobody says; None for an engine that takes what it needs."""
        option = self.about.roles.get("utilization", "")
        share = getattr(self.options, option, None) if option else None
        return share if isinstance(share, float) else None

    def on(self, model: Model) -> Prepared:
        """Everything that does not depend on the workload, decided.

        Raises:
            Refused: the engine cannot serve the model so, or kvplan cannot tell.
            OptionError: options that do not fit the model.
        """
        raise NotImplementedError


class Prepared:
    """One engine on one model. A subclass gives `kv_dtype` and `tensors`; the rest follows.

    `model` is the model that was asked about, `read` the model as the engine reads it. `linear_in_batch` says that n
    sequences take n times the bytes of one (bookkeeping aside), which makes a sweep a single outer product.
    """

    def __init__(self, engine: Engine, model: Model) -> None:
        self.engine = engine
        self.model = model
        self.read = model

    linear_in_batch: bool = True
    by_requests: bool = False  # lines of its ledger depend on the requests that it holds: it keeps nothing for them before
    one_pool: bool = True  # every layer takes from the same memory, so that bytes alone say what it holds
    tensor_parallel: int = 1  # devices that share the heads

    @property
    def kv_dtype(self) -> str:
        """The name of the cache dtype."""
        raise NotImplementedError

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Every tensor of the cache, one entry for each set of equal layers."""
        raise NotImplementedError

    def check(self, at: At[int]) -> None:
        """Refuse what the engine does not take although its tensors could be counted.

        Raises:
            Refused: in the engine's words.
        """

    def bookkeeping(self, at: At[Count]) -> Count | int:
        """Bytes of small tensors beside the cache (positions, lengths)."""
        return 0

    def kinds(self, at: At[int]) -> tuple[str, ...]:
        """One phrase a layer, for tables."""
        return layer_kinds(self.read)

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return self.model.notes

    def facts(self, workload: Workload) -> Facts | None:
        """What this engine alone can say."""
        return None

    def beyond(self, workload: Workload) -> Beyond | None:
        """What it takes beyond what the model needs, told apart by cause; None for an engine whose causes are not told apart."""
        return None

    def log(self, workload: Workload) -> tuple[str, ...]:
        """The lines that the engine prints of this cache."""
        return ()

    def typed(self, workload: Workload) -> str:
        """What to type to get this cache, where the engine is told so exactly."""
        return ""

    def asked(self, workload: Workload) -> Serving:
        """A workload as a command line needs it, of a model by the name that is known of it."""
        return Serving(model=hub_name(self.model), context=workload.seq_len, batch_size=workload.batch_size)

    def usual_workload(self) -> Workload | None:
        """What the engine makes room for when nobody says how much; None for one that has no such number."""
        return None

    def own_way(self, left_bytes: int) -> tuple[str, ...]:
        """What the engine does by itself on a card that has `left_bytes` for the cache, and what it does beyond that."""
        return ()

    def ledger(self, machine: Machine, tensors: Described) -> Ledger | None:
        """Where one process's memory goes on one card; None for an engine whose lines beside the cache are not known.

        Args:
            machine: the card, and what is known of it.
            tensors: what the model loads.
        """
        return None

    def ledger_of(self, machine: Machine, tensors: Described | None, at: Workload) -> Ledger | None:
        """Where memory goes while the process holds `at`: the same for every workload, unless `by_requests`.

        Args:
            machine: the card, and what is known of it.
            tensors: what the model loads; None for a model of which nobody knows it, which few engines say more of.
            at: the requests, and tokens of each.
        """
        return None if tensors is None else self.ledger(machine, tensors)

    def startup(self, found: Ledger, machine: Machine, tensors: Described, pool: Pool) -> tuple[str, ...]:
        """What the engine prints while it starts, as far as memory goes, in its own words."""
        return pool.log

    def too_little_free(self, found: Ledger, machine: Machine) -> str:
        """What the engine says instead of starting where other tenants leave less than it asks for; empty: it starts."""
        return ""

    def largest_pool(self, budget_bytes: int) -> Pool | None:
        """The largest cache that `budget_bytes` on each device hold, for an engine that is told its size before requests come;
        None for one whose requests decide.
        """
        return None

    def command(self, serving: Serving) -> str:
        """The command line that starts the engine for a workload; empty for an engine that nobody starts."""
        about = self.engine.about
        flag = weights_flag(about, serving)
        return written_command(about, serving, self.kv_dtype, self.tensor_parallel, [flag] if flag else [])

    def needs(self, serving: Serving) -> tuple[str, ...]:
        """What must be there beside the command line: what no flag does."""
        return checkpoint_needed(self.engine.about, serving)

    @property
    def stored(self) -> str:
        """How elements are stored, in the word that recorded cases of it have: the cache dtype, unless something packs it."""
        return self.kv_dtype

    def evidence(self, maker: str | None = None) -> Evidence:
        """What stands behind the numbers.

        Args:
            maker: of the device, where one is named.
        """
        return evidence(self.engine.about, self.engine.release, self.model, self.stored, maker=maker, read=self.read)

    def totals(self, at: At[Count]) -> Totals[Count]:
        """The sums of `tensors` by the same formulas, for one workload or for arrays of them.

        Nothing here can see an int64 overflow; the sweep looks at the largest cell first.
        """
        zero = at.seq_len * at.batch_size * 0
        payload, padding, state = zero + 0, zero, zero  # `+ 0`: arrays are added to in place
        for p in self.tensors(at):
            payload += p.payload * p.count
            if p.padded is not p.payload:
                padding = padding + (p.padded - p.payload) * p.count
            if p.per == "sequence":
                state = state + p.padded * p.count
        return Totals(
            payload=payload,
            allocated=payload if padding is zero else payload + padding,
            bookkeeping=self.bookkeeping(at),
            state=state,
        )

    def most_bytes(self, at: At[int]) -> int:
        """The most that the cache takes on the way to `at`: what must fit. More than its totals where a prompt takes more."""
        return self.totals(at).allocated

    def bytes_per_token(self, seq_len: Count, payload: Count | None = None) -> Count:
        """What the next token of one sequence adds, rounded up where entries stand for several tokens.

        Args:
            seq_len: tokens that the sequence has.
            payload: what one such sequence takes, if known; with no encoder tokens.
        """
        period = growth_period(self.read)
        one = seq_len * 0 + 1
        now = self.totals(At(seq_len, one)).payload if payload is None else payload
        grown = self.totals(At(seq_len + period, one)).payload - now
        return grown if period == 1 else -(-grown // period)

    # Requests over time.

    def told_pool(self, budget_bytes: int) -> Pool | None:
        """What requests share of a server whose options alone say how large it is; None: another kind of server, or none.

        Raises:
            Refused: this engine's steps are not written down, or those of what it was told.
        """
        return None

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
        """Requests with times through the server's own scheduler, which has `pool`.

        Args:
            meter: adds up what is held.
            advance: told how many more requests have ended.
            stop: give None as soon as a request waits for room or is displaced.

        Raises:
            Refused: this engine's steps are not written down, or those of what it was told.
        """
        raise self._no_steps()

    def host_room(self, budget_bytes: int) -> HostRoom:
        """Host memory below the device's cache, whose use `serve_above` follows.

        Raises:
            Refused: this engine's is not followed, or it does not start so.
        """
        raise Refused(
            f"what {self.engine.name} keeps in host memory, request by request, is not written down",
            "docs/guides/replay.md says whose is; `kvplan tiers` says how much fits",
        )

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
        """As `serve`, with host memory below the cache.

        Raises:
            Refused: as `host_room`, or the trace is longer than what is followed step by step.
        """
        raise self._no_steps()

    def kept_blocks(self, pool: Pool, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Blocks of the pool that requests of `tokens` tokens hold at their ends.

        Raises:
            Refused: as `serve`.
        """
        raise self._no_steps()

    @property
    def step_notes(self) -> tuple[str, ...]:
        """What whoever reads a replay must know of the steps that it follows."""
        return ()

    def _no_steps(self) -> Refused:
        return Refused(
            f"what {self.engine.name} does with requests step by step is not written down",
            "docs/guides/replay.md says whose steps are",
        )


class Served(Prepared):
    """A server: it reserves a pool of its memory when it starts, and requests share that."""

    def pool(self, budget_bytes: int) -> Pool:
        """What the server makes of `budget_bytes` on each device, with the lines that it prints."""
        raise NotImplementedError

    def holds(self, pool: Pool, at: At[int]) -> bool:
        """Whether `pool` holds that workload at once."""
        return self.totals(at).allocated <= pool.usable_bytes

    def largest_pool(self, budget_bytes: int) -> Pool:
        """The same."""
        return self.pool(budget_bytes)

    @property
    def shares(self) -> tuple[Share, ...]:
        """The blocks of the pool that one request takes, group by group; empty where its blocks alone do not say it."""
        return ()

    @property
    def most_running(self) -> int | None:
        """The requests that run at once at most, where the server is told so."""
        return None

    def aside_bytes(self, at: At[int]) -> int:
        """What the server itself keeps free beside weights and cache when it starts."""
        return 0

    def needed(self, at: At[int]) -> int | None:
        """The fewest bytes of which the server makes pools that hold `at`; None where its blocks alone say it."""
        return None

    def shared(self, at: At[int], free_bytes: int, loaded_bytes: int) -> tuple[str, Pool] | None:
        """The least fraction of four digits with which the server's pool holds `at`, and that pool.

        None where no fraction does, or where the engine's fraction is of something else.

        Args:
            at: what it must hold at once.
            free_bytes: free once its weights are loaded.
            loaded_bytes: the weights, which were free before.
        """
        return None


def footprint(prepared: Prepared, workload: Workload, maker: str | None = None) -> Allocation:
    """The cache of `workload`, tensor by tensor.

    Args:
        prepared: the engine on a model.
        workload: what it holds.
        maker: of the device, where one is named: evidence and notes go by it.

    Raises:
        Refused: the engine does not take this workload.
    """
    at = At(workload.seq_len, workload.batch_size, workload.encoder_len)
    prepared.check(at)
    buffers = tuple(
        Buffer(
            layers=p.layers,
            name=p.name,
            kind=p.kind,
            shape=tuple(p.shape),
            dtype=p.dtype,
            payload_bytes=p.payload * p.count,
            padded_bytes=p.padded * p.count,
            per=p.per,
        )
        for p in prepared.tensors(at)
    )
    return Allocation(
        model=prepared.model,
        engine=prepared.engine.name,
        engine_version=prepared.engine.version,
        workload=workload,
        kv_dtype=prepared.kv_dtype,
        tensor_parallel=prepared.tensor_parallel,
        buffers=buffers,
        kinds=prepared.kinds(at),
        bytes_per_token=prepared.bytes_per_token(workload.seq_len),
        bookkeeping_bytes=prepared.bookkeeping(at),
        evidence=prepared.evidence(maker),
        notes=(
            *remarks(prepared.engine.about, prepared.engine.release, prepared.read, workload),
            *prepared.notes(workload),
            *foreign(prepared.engine.about, maker),
        ),
        facts=prepared.facts(workload),
        log=prepared.log(workload),
        typed="" if prepared.read.design else prepared.typed(workload),
        needs=() if prepared.read.design else prepared.needs(prepared.asked(workload)),
    )


def foreign(about: About, maker: str | None) -> tuple[str, ...]:
    """That a maker's devices were not studied with an engine, where they were not."""
    if not maker or not about.makers or maker in about.makers:
        return ()
    words = {"amd": "AMD's", "google": "Google's", "intel": "Intel's", "apple": "Apple's", "nvidia": "NVIDIA's"}
    return (f"predicted by {about.rules_of_device}: {about.name} on {words.get(maker, maker)} devices was not studied",)
