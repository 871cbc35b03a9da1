"""What every engine policy is: options, then pieces of cache as a function of the workload.

An engine file reads top to bottom: *options* (the engine's own flag names and defaults), *retention and
rounding* (tokens -> kept tokens -> slots: the only places where token counts change), *storage* (a `match`
over the memory kinds that yields `Piece`s). The same formulas take ints and int64 arrays, so one code path
serves a single estimate and a sweep of millions of cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from kvplan.allocation import Allocation, Buffer, Evidence, NotPredicted, Per, Pool
from kvplan.errors import OptionError, nearest
from kvplan.model import Compressed, Model, layer_words
from kvplan.records import dataclass
from kvplan.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

#: A token or sequence count: one `int`, or an int64 array with one entry a grid cell.
Count = TypeVar("Count", int, "IntArray")


def at_most(amount: Count, limit: int) -> Count:
    """`min(amount, limit)` for an int or an array."""
    if isinstance(amount, int):
        return min(amount, limit)
    return amount.clip(max=limit)


def at_least(amount: Count, limit: int) -> Count:
    """`max(amount, limit)` for an int or an array."""
    if isinstance(amount, int):
        return max(amount, limit)
    return amount.clip(min=limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece(Generic[Count]):
    """One tensor that each of `layers` holds; `payload` and `padded` are bytes of *one* such tensor."""

    layers: tuple[int, ...]
    name: str
    kind: str
    shape: tuple[int | Count, ...]
    dtype: str
    payload: Count
    padded: Count
    per: Per


@dataclass(frozen=True, slots=True)
class Quirk:
    """A rule that changed between versions: from `since` on, option or behaviour `field` is `value`."""

    since: tuple[int, ...]
    field: str
    value: Any
    source: str


def parse_version(text: str) -> tuple[int, ...]:
    """`0.11.0` -> (0, 11, 0); anything after the first non-numeric part is ignored.

    Raises:
        OptionError: it does not begin with a number.
    """
    parts: list[int] = []
    for part in text.strip().lstrip("v").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 9:
            break
        parts.append(int(digits))
        if digits != part:
            break
    if not parts:
        raise OptionError(f"engine version: expected something like `0.11.0`, got `{text[:40]}`")
    return tuple(parts)


def rule_for(quirks: tuple[Quirk, ...], name: str, version: tuple[int, ...]) -> Any:
    """The value of quirk `name` in `version`: the row with the latest `since` that is not after it."""
    rows = [q for q in quirks if q.field == name and q.since <= version]
    return max(rows, key=lambda q: q.since).value


class Engine(Protocol):
    """One engine at one version with its options: a pure function from model and workload to bytes."""

    name: ClassVar[str]
    Options: ClassVar[type[Any]]  # frozen dataclass; field names are the engine's own flag names
    aliases: ClassVar[Mapping[str, str]]  # kvplan's shared option -> the engine's own name for it
    latest: ClassVar[str]  # the version whose rules are current here
    options: Any
    version: str

    def footprint(self, model: Model, workload: Workload) -> Allocation | NotPredicted:
        """The cache of `workload`, tensor by tensor."""
        ...

    def sweep(self, model: Model, seq_lens: IntArray, batch_sizes: IntArray, encoder_len: int = 0) -> Grid | NotPredicted:
        """The same totals over a grid."""
        ...

    def reserve(self, model: Model, budget_bytes: int) -> Pool | NotPredicted:
        """What a server of this engine would make of `budget_bytes`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Totals of a sweep, int64, shape (sequence lengths, batch sizes); `bytes_per_token` has one axis."""

    payload_bytes: IntArray
    allocated_bytes: IntArray
    state_bytes: IntArray  # shape (batch sizes,)
    bytes_per_token: IntArray  # shape (sequence lengths,)


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
    elif isinstance(value, str):
        return value
    raise OptionError(f"engine {engine}, option {name}: expected {annotation}, got `{str(value)[:40]}`")


class PieceEngine:
    """The shared half of an engine whose cache is a sum of pieces.

    A subclass gives `pieces`; footprint and sweep follow. `linear_in_batch` says that n sequences take n
    times the bytes of one, which makes a sweep a single outer product.
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
        return "inferred" if model.inferred else "derived"

    def notes(self, model: Model, workload: Workload) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        return model.notes

    def bookkeeping_bytes(self, model: Model, workload: Workload) -> int:
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
                payload_bytes=p.payload * len(p.layers),
                padded_bytes=p.padded * len(p.layers),
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
            bytes_per_token=self._bytes_per_token(model, workload.seq_len),
            bookkeeping_bytes=self.bookkeeping_bytes(model, workload),
            evidence=self.evidence(model),
            notes=self.notes(model, workload),
            details=self.details(model, workload),
        )

    def _token_payload(self, model: Model, seq_len: Count) -> Count:
        total = seq_len * 0
        one = seq_len * 0 + 1
        for p in self.pieces(model, seq_len, one, 0):
            if p.per in {"token", "block"}:
                total = total + p.payload * len(p.layers)
        return total

    def _bytes_per_token(self, model: Model, seq_len: Count) -> Count:
        period = growth_period(model)
        grown = self._token_payload(model, seq_len + period) - self._token_payload(model, seq_len)
        return -(-grown // period)

    def sweep(self, model: Model, seq_lens: IntArray, batch_sizes: IntArray, encoder_len: int = 0) -> Grid | NotPredicted:
        """Totals over `seq_lens` x `batch_sizes`.

        Raises:
            OptionError: a cell would not fit 64 bits.
        """
        refusal = self.refuse(model)
        if refusal is not None:
            return refusal
        self._check_width(model, seq_lens, batch_sizes, encoder_len)
        if self.linear_in_batch:
            ones = seq_lens * 0 + 1
            payload, padded, state = self._sums(model, seq_lens, ones, encoder_len)
            # a state is the same at every length, so its first entry stands for all
            return Grid(
                payload_bytes=payload[:, None] * batch_sizes,
                allocated_bytes=(payload if padded is payload else padded)[:, None] * batch_sizes,
                state_bytes=state[0] * batch_sizes,
                bytes_per_token=self._bytes_per_token(model, seq_lens),
            )
        tokens, batches = seq_lens[:, None], batch_sizes[None, :]
        zero = tokens * batches * 0
        payload, padded, state = self._sums(model, tokens + zero, batches + zero, encoder_len)
        return Grid(
            payload_bytes=payload,
            allocated_bytes=padded,
            state_bytes=state[0],
            bytes_per_token=self._bytes_per_token(model, seq_lens),
        )

    def _sums(self, model: Model, tokens: IntArray, batches: IntArray, encoder_len: int) -> tuple[IntArray, IntArray, IntArray]:
        payload = tokens * 0
        padded = tokens * 0
        state = tokens * 0
        for p in self.pieces(model, tokens, batches, encoder_len):
            payload = payload + p.payload * len(p.layers)
            padded = padded + p.padded * len(p.layers)
            if p.per == "sequence":
                state = state + p.padded * len(p.layers)
        return payload, padded, state

    def _check_width(self, model: Model, seq_lens: IntArray, batch_sizes: IntArray, encoder_len: int) -> None:
        """Refuse before anything can wrap: evaluate the largest cell, with a margin, in exact integers."""
        longest, most = int(seq_lens.max(initial=0)), int(batch_sizes.max(initial=0))
        largest = sum(
            max(p.padded, p.payload) * len(p.layers)
            for p in self.pieces(model, longest + growth_period(model), most, encoder_len)
        )
        if largest >= 2**62 or longest * max(most, 1) >= 2**62:
            raise OptionError(
                f"the sweep's largest cell ({longest:,} tokens x {most:,} sequences) does not fit 64-bit integers",
                hint="sweep smaller values; `kvplan estimate` has no such limit",
            )

    def reserve(self, model: Model, budget_bytes: int) -> Pool | NotPredicted:
        """Only servers reserve."""
        return NotPredicted(reason=f"{self.name} reserves no pool: it allocates what a request needs")
