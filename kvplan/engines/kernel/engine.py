"""What every engine policy is: options, then pieces of cache as a function of the workload.

An engine file reads top to bottom: *options* (the engine's own flag names and defaults), *retention and
rounding* (tokens -> kept tokens -> slots: the only places where token counts change), *storage* (a `match`
over the memory kinds that yields `Piece`s). The same formulas take ints and int64 arrays, so one code path
serves a single estimate and, through `kvplan.questions.sweep.grid`, a sweep of millions of cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from kvplan.domain.allocation import Allocation, Buffer, Evidence, NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.domain.words import layer_kinds
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.evidence import evidence
from kvplan.engines.kernel.retention import growth_period
from kvplan.engines.kernel.tensors import Count, Piece, Totals


class Engine(Protocol):
    """One engine at one version with its options: a pure function from model and workload to bytes."""

    name: ClassVar[str]
    Options: ClassVar[type[Any]]  # frozen dataclass; field names are the engine's own flag names
    aliases: ClassVar[Mapping[str, str]]  # kvplan's shared option -> the engine's own name for it
    latest: ClassVar[str]  # the version whose rules are current here
    linear_in_batch: ClassVar[bool]  # n sequences take n times the bytes of one
    options: Any
    version: str

    def footprint(self, model: Model, workload: Workload) -> Allocation | NotPredicted:
        """The cache of `workload`, tensor by tensor."""
        ...

    def refuse(self, model: Model) -> NotPredicted | None:
        """Why this engine cannot be predicted for `model`, if so."""
        ...

    def totals(self, model: Model, seq_len: Count, batch_size: Count, encoder_len: int) -> Totals[Count]:
        """The sums of `footprint`, for one workload or for arrays of them."""
        ...

    def bookkeeping_bytes(self, model: Model, seq_len: Count, batch_size: Count) -> Count | int:
        """Small tensors beside the cache."""
        ...

    def bytes_per_token(self, model: Model, seq_len: Count, payload: Count | None = None) -> Count:
        """What the next token of one sequence adds; `payload` is what the sequence takes, if known."""
        ...

    def reserve(self, model: Model, budget_bytes: int) -> Pool | NotPredicted:
        """What a server of this engine would make of `budget_bytes`."""
        ...


class PieceEngine:
    """The shared half of an engine whose cache is a sum of pieces.

    A subclass gives `pieces`; footprint and totals follow. `linear_in_batch` says that n sequences take n
    times the bytes of one (bookkeeping aside), which makes a sweep a single outer product.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Any]]
    aliases: ClassVar[Mapping[str, str]] = {}
    latest: ClassVar[str]
    linear_in_batch: ClassVar[bool] = True

    def __init__(self, options: Any = None, version: str | None = None) -> None:
        self.options = self.Options() if options is None else options
        self.version = version or self.latest

    def pieces(self, model: Model, seq_len: Count, batch_size: Count, encoder_len: int) -> Iterator[Piece[Count]]:
        """Every tensor of the cache, one entry for each set of equal layers."""
        raise NotImplementedError

    def kv_dtype(self, model: Model) -> str:
        """The name of the cache dtype for this model under these options."""
        raise NotImplementedError

    @property
    def tensor_parallel(self) -> int:
        """Devices that share the heads."""
        return 1

    def refuse(self, model: Model) -> NotPredicted | None:
        """Why this engine cannot be predicted for `model`, if so."""
        return None

    def evidence(self, model: Model) -> Evidence:
        """What stands behind the numbers."""
        return evidence(self.name, self.version, model)

    def notes(self, model: Model, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return model.notes

    def bookkeeping_bytes(self, model: Model, seq_len: Count, batch_size: Count) -> Count | int:
        """Small tensors beside the cache (positions, lengths)."""
        return 0

    def details(self, model: Model, workload: Workload) -> Mapping[str, Any]:
        """What this engine alone can say."""
        return {}

    def footprint(self, model: Model, workload: Workload) -> Allocation | NotPredicted:
        """The cache of `workload`, tensor by tensor."""
        refusal = self.refuse(model)
        if refusal is not None:
            return refusal
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
            for p in self.pieces(model, workload.seq_len, workload.batch_size, workload.encoder_len)
        )
        return Allocation(
            model=model,
            engine=self.name,
            engine_version=self.version,
            workload=workload,
            kv_dtype=self.kv_dtype(model),
            tensor_parallel=self.tensor_parallel,
            buffers=buffers,
            kinds=layer_kinds(model),
            bytes_per_token=self.bytes_per_token(model, workload.seq_len),
            bookkeeping_bytes=self.bookkeeping_bytes(model, workload.seq_len, workload.batch_size),
            evidence=self.evidence(model),
            notes=self.notes(model, workload),
            details=self.details(model, workload),
        )

    def totals(self, model: Model, seq_len: Count, batch_size: Count, encoder_len: int) -> Totals[Count]:
        """The sums of `footprint` by the same formulas, for one workload or for arrays of them.

        Nothing here can see an int64 overflow; `kvplan.questions.sweep.grid` looks at the largest cell first.
        """
        zero = seq_len * batch_size * 0
        payload, padding, state = zero + 0, zero, zero  # `+ 0`: arrays are added to in place
        for p in self.pieces(model, seq_len, batch_size, encoder_len):
            payload += p.payload * p.count
            if p.padded is not p.payload:
                padding = padding + (p.padded - p.payload) * p.count
            if p.per == "sequence":
                state = state + p.padded * p.count
        return Totals(
            payload=payload,
            allocated=payload if padding is zero else payload + padding,
            bookkeeping=self.bookkeeping_bytes(model, seq_len, batch_size),
            state=state,
        )

    def bytes_per_token(self, model: Model, seq_len: Count, payload: Count | None = None) -> Count:
        """What the next token of one sequence adds, rounded up where entries stand for several tokens.

        Args:
            model: the model.
            seq_len: tokens that the sequence has.
            payload: what one such sequence takes, if known; with no encoder tokens.
        """
        period = growth_period(model)
        one = seq_len * 0 + 1
        now = self.totals(model, seq_len, one, 0).payload if payload is None else payload
        grown = self.totals(model, seq_len + period, one, 0).payload - now
        return grown if period == 1 else -(-grown // period)

    def reserve(self, model: Model, budget_bytes: int) -> Pool | NotPredicted:
        """Only servers reserve."""
        return NotPredicted(reason=f"{self.name} reserves no pool: it allocates what a request needs")
