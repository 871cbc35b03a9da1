"""What every engine policy is: options, then pieces of cache as a function of the workload.

An engine file reads top to bottom: *options* (the engine's own flag names and defaults), *retention and
rounding* (tokens -> kept tokens -> slots: the only places where token counts change), *storage* (a `match`
over the memory kinds that yields `Piece`s). The same formulas take ints and int64 arrays, so one code path
serves a single estimate and, through `kvplan.questions.sweep.grid`, a sweep of millions of cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from kvplan.domain.allocation import Allocation, Buffer, Evidence, NotPredicted, Per
from kvplan.domain.model import Compressed, Model, layer_words
from kvplan.domain.pool import Pool
from kvplan.domain.records import dataclass
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.evidence import evidence
from kvplan.errors import OptionError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

#: A token or sequence count: one `int`, or an int64 array with one entry a grid cell.
Count = TypeVar("Count", int, "IntArray")


def at_most(amount: Count, limit: int | Count) -> Count:
    """`min(amount, limit)` for an int or an array, whose limit may be one too."""
    if isinstance(amount, int):
        return min(amount, limit)
    return amount.clip(max=limit)


def at_least(amount: Count, limit: int | Count) -> Count:
    """`max(amount, limit)` for an int or an array, whose limit may be one too."""
    if isinstance(amount, int):
        return max(amount, limit)
    return amount.clip(min=limit)


def whole_blocks(amount: Count, size: int) -> Count:
    """Blocks of `size` that hold `amount`, for an int or an array."""
    return -(-amount // size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece(Generic[Count]):
    """One tensor that each of `layers` holds; `payload` and `padded` are bytes of *one* such tensor.

    Without layers it is one tensor that belongs to none of them: padding, or a drafter's cache.
    """

    layers: tuple[int, ...]
    name: str
    kind: str
    shape: tuple[int | Count, ...]
    dtype: str
    payload: Count
    padded: Count
    per: Per

    @property
    def count(self) -> int:
        """How many such tensors there are."""
        return len(self.layers) or 1


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals(Generic[Count]):
    """What a sweep reports of a workload, in bytes."""

    payload: Count
    allocated: Count  # the same object as `payload` where an engine pads nothing
    bookkeeping: Count | int
    state: Count


def layer_kinds(model: Model) -> tuple[str, ...]:
    """One phrase a layer, for tables."""
    words: dict[Any, str] = {}
    return tuple(
        words.get(layer.memories) or words.setdefault(layer.memories, layer_words(layer.memories, model.attention_heads))
        for layer in model.layers
    )


def split_heads(kv_heads: int, tensor_parallel: int) -> int:
    """KV heads on each of `tensor_parallel` devices: split evenly, or replicated when there are fewer heads.

    Raises:
        OptionError: neither number divides the other.

    Source: vLLM `config/model.py:get_num_kv_heads`; Megatron's column-parallel QKV has the same rule.
    """
    if tensor_parallel == 1:
        return kv_heads
    if kv_heads % tensor_parallel and tensor_parallel % kv_heads:
        raise OptionError(
            f"tensor_parallel {tensor_parallel} neither divides {kv_heads} kv_heads nor is a multiple of them",
            hint=f"use a divisor of {kv_heads}, or a multiple (heads are then replicated)",
        )
    return max(1, kv_heads // tensor_parallel)


def growth_period(model: Model) -> int:
    """Tokens after which every layer's growth repeats: 1, unless entries stand for several tokens."""
    from math import lcm

    reaches = (getattr(memory, "reach", None) for layer in model.layers for memory in layer.memories)
    return lcm(*{reach.ratio for reach in reaches if isinstance(reach, Compressed)})


_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def build_options(options_type: type[Any], values: Mapping[str, Any], *, engine: str) -> Any:
    """An engine's options from names and values (text from `--set`, or Python values).

    Raises:
        OptionError: an unknown option (the message names the nearest) or a value of the wrong type.
    """
    known = {item.name: item for item in fields(options_type)}
    built: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            near = nearest(name, known)
            raise OptionError(
                f"engine {engine} has no option `{name[:60]}`",
                hint=f"did you mean `{near}`?" if near else f"its options: {', '.join(known)}",
            )
        built[name] = _coerced(name, value, str(known[name].type), engine)
    return options_type(**built)


def _coerced(name: str, value: Any, annotation: str, engine: str) -> Any:
    """`value` as the annotation asks: `int`, `bool`, `float`, `str`, each possibly `| None`."""
    from kvplan.units import parse_count

    if value is None and "None" in annotation:
        return None
    if isinstance(value, str) and value.strip().lower() in {"none", "null"} and "None" in annotation:
        return None
    if "bool" in annotation:
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
    elif "int" in annotation:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            sign, digits = (-1, value[1:]) if value.startswith("-") else (1, value)
            return sign * parse_count(digits, what=f"{engine} option {name}", minimum=0)
    elif "float" in annotation:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if number == number and abs(number) != float("inf"):
            return number
    elif isinstance(value, str) if annotation == "str" else type(value).__name__ in annotation:
        return value
    raise OptionError(f"engine {engine}, option {name}: expected {annotation}, got `{str(value)[:40]}`")


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
