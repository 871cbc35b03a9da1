"""What an engine says: buffers that equal real tensors, and their sums."""

from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct
from msgspec.structs import asdict, force_setattr

from kvplan.domain.media.use import Use
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.errors import printable
from kvplan.limits import HINT, MESSAGE
from kvplan.units import human_bytes

Per = Literal["token", "block", "sequence", "encoder"]
#: What stands behind a number; `kvplan.engines.kernel.evidence` says what each means, and decides.
Evidence = Literal["recorded", "same rule", "from source", "theory", "hypothetical", "inferred"]


#: The columns of an estimate in CSV, Parquet and data frames, in order; docs/reference/formats.md says what each means.
COLUMNS: Final = (
    "model", "engine", "engine_version", "kv_dtype", "tensor_parallel", "batch_size", "seq_len", "encoder_len",
    "total_bytes", "payload_bytes", "allocated_bytes", "bookkeeping_bytes", "bytes_per_token", "state_bytes", "evidence",
)  # fmt: skip


class Buffer(Struct, frozen=True, kw_only=True):
    """`count` equal tensors, one for each entry of `layers`; without layers, one tensor that belongs to none of them.

    `shape` and `dtype` are of one real tensor as it is allocated; `payload_bytes` counts what the
    model needs in all of them, `padded_bytes` what the engine allocates for them.
    """

    layers: tuple[int, ...]  # layer indices
    name: str  # keys, values, latent, conv …
    kind: str  # the kind of layer, as tables group it
    shape: tuple[int, ...]  # items of `dtype`
    dtype: str  # a torch dtype's name
    payload_bytes: int  # all `count` tensors
    padded_bytes: int  # all `count` tensors
    per: Per

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int."""
        return {**asdict(self), "layers": list(self.layers), "shape": list(self.shape), "count": self.count}

    @property
    def count(self) -> int:
        """How many such tensors there are."""
        return len(self.layers) or 1


class LayerBytes(Struct, frozen=True, kw_only=True):
    """One layer's share: its kind in words, and its bytes."""

    index: int
    kind: str
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


class Group(Struct, frozen=True, kw_only=True):
    """Layers of one kind together."""

    kind: str
    layers: tuple[int, ...]
    count: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"kind": self.kind, "layers": list(self.layers), "count": self.count, "bytes": self.bytes}


class Allocation(Struct, frozen=True, kw_only=True):
    """The cache of one workload on one device, as one engine stores it.

    `bytes_per_token` is the marginal cost of the next token of one sequence (payload); layers whose
    window is full add nothing. Everything is per device when `tensor_parallel` is above 1.
    """

    model: Model
    engine: str
    engine_version: str
    workload: Workload
    kv_dtype: str
    tensor_parallel: int
    buffers: tuple[Buffer, ...]
    kinds: tuple[str, ...]  # one a layer, in words
    bytes_per_token: int
    bookkeeping_bytes: int = 0
    evidence: Evidence = "from source"
    notes: tuple[str, ...] = ()
    facts: Any = None  # what one engine alone can say (blocks, groups …): a value of its own, with `to_dict`
    log: tuple[str, ...] = ()  # the lines that the engine prints of it
    typed: str = ""  # what to type to get exactly this
    needs: tuple[str, ...] = ()  # what must be there for that
    media: Use | None = None  # images, video and audio of each sequence, which `workload` counts
    media_bytes: int = 0  # what they add to the cache

    def __hash__(self) -> int:
        return hash((self.model.name, self.engine, self.engine_version, self.workload, self.kv_dtype, self.total_bytes))

    def __repr__(self) -> str:
        w = self.workload
        what = f"{self.model.name} · {self.engine} · {self.kv_dtype} · {w.batch_size:,} x {w.seq_len:,} tokens"
        return f"<Allocation {what}: {human_bytes(self.total_bytes)}>"

    @property
    def details(self) -> dict[str, Any]:
        """What one engine alone can say, as JSON shows it."""
        found = self.facts.to_dict() if self.facts is not None else {}
        return found | ({"log": list(self.log)} if self.log else {}) | ({"flags": self.typed} if self.typed else {})

    @property
    def payload_bytes(self) -> int:
        """Bytes that hold what the model needs."""
        return sum(b.payload_bytes for b in self.buffers)

    @property
    def allocated_bytes(self) -> int:
        """Bytes that the engine's tensors take, padding included, bookkeeping not."""
        return sum(b.padded_bytes for b in self.buffers)

    @property
    def total_bytes(self) -> int:
        """The answer: `allocated_bytes`."""
        return self.allocated_bytes

    @property
    def state_bytes(self) -> int:
        """Bytes that do not grow with the tokens: recurrent states."""
        return sum(b.padded_bytes for b in self.buffers if b.per == "sequence")

    @property
    def layers(self) -> tuple[LayerBytes, ...]:
        """One entry a layer, in order; a layer that shares or keeps nothing has 0 bytes."""
        sums = [0] * len(self.kinds)
        for buffer in self.buffers:
            each = buffer.padded_bytes // buffer.count
            for index in buffer.layers:
                sums[index] += each
        return tuple(LayerBytes(index=i, kind=k, bytes=sums[i]) for i, k in enumerate(self.kinds))

    @property
    def groups(self) -> tuple[Group, ...]:
        """Layers of the same kind together, in first-seen order; then what belongs to no layer, by its kind."""
        found: dict[str, list[LayerBytes]] = {}
        for layer in self.layers:
            found.setdefault(layer.kind, []).append(layer)
        beside: dict[str, int] = {}
        for buffer in self.buffers:
            if not buffer.layers:
                beside[buffer.kind] = beside.get(buffer.kind, 0) + buffer.padded_bytes
        return (
            *(
                Group(kind=kind, layers=tuple(x.index for x in alike), count=len(alike), bytes=sum(x.bytes for x in alike))
                for kind, alike in found.items()
            ),
            *(Group(kind=kind, layers=(), count=0, bytes=size) for kind, size in beside.items() if size),
        )

    def to_dict(self, *, per_layer: bool = False) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int (docs/reference/formats.md)."""
        answer: dict[str, Any] = {
            "model": self.model.name,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "kv_dtype": self.kv_dtype,
            "tensor_parallel": self.tensor_parallel,
            "batch_size": self.workload.batch_size,
            "seq_len": self.workload.seq_len,
            "encoder_len": self.workload.encoder_len,
            "total_bytes": self.total_bytes,
            "payload_bytes": self.payload_bytes,
            "allocated_bytes": self.allocated_bytes,
            "bookkeeping_bytes": self.bookkeeping_bytes,
            "bytes_per_token": self.bytes_per_token,
            "state_bytes": self.state_bytes,
            "evidence": self.evidence,
            "groups": [group.to_dict() for group in self.groups],
            "notes": list(self.notes),
        }
        if self.media is not None:
            answer["media"] = {**self.media.to_dict(), "cache_bytes": self.media_bytes}
        details = self.details
        if details:
            answer["details"] = details
        if per_layer:
            answer["layers"] = [layer.to_dict() for layer in self.layers]
        return answer


class NotPredicted(Struct, frozen=True, kw_only=True):
    """kvplan cannot tell, and says why: a value that tables show, not a crash."""

    reason: str
    see: str = ""
    model: str = ""  # its name
    engine: str = ""
    engine_version: str = ""
    no_start: bool = False  # the reason is the engine's own: it does not start so

    def __post_init__(self) -> None:
        for name, most in (("reason", MESSAGE), ("see", HINT)):
            force_setattr(self, name, printable(getattr(self, name), most))

    def __repr__(self) -> str:
        what = " · ".join(filter(None, (self.model, f"{self.engine} {self.engine_version}".strip())))
        return f"<NotPredicted{' ' if what else ''}{what}: {self.reason}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: what was asked, why there is no answer, and where to look."""
        return {
            "model": self.model,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "not_predicted": self.reason,
            "see": self.see,
        }

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """An answer's fields are asked of what is none: the reason says why.

            Raises:
                AttributeError: always.
            """
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(f"not predicted, so there is no `{name[:60]}`: {self.reason}")
