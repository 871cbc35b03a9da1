"""What `fit` is asked and what it answers: plain values."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

from kvplan.domain.allocation import Allocation
from kvplan.domain.budget import Budget
from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Line
from kvplan.domain.machine import NOTHING, Learned
from kvplan.domain.media.use import Use
from kvplan.domain.mix import Mix
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.domain.tiers import TierAsk, Tiers
from kvplan.engines import about, data_ranks, pipeline_stages
from kvplan.units import MAX_COUNT, ceil_div

Asked = Literal["target", "batch", "context", "table"]
Limit = Literal["memory", "model", "engine", "nothing"]


class Question(Struct, frozen=True, kw_only=True):
    """One thing to find out. None for `context` or `batch_size` means: find it.

    `options` are the engine's own and kvplan's shared ones; `memory_bytes`, `reserve_bytes` and `utilization` override
    what kvplan knows or assumes. `gpus` devices serve together: `tensor_parallel` of them, times the pipeline's stages,
    hold one copy of the model (times its data ranks, for engines that have such), and the rest are replicas.
    """

    model: Model
    weights: Line
    gpu: Gpu
    engine: str = "ideal"
    gpus: int = 1
    tensor_parallel: int = 1
    context: int | None = None  # tokens
    batch_size: int | None = None  # requests held at once, by all replicas together
    encoder_len: int = 0
    media: Use | None = None  # images, video and audio of each request, which `context` and `average` count
    processor_files: Mapping[str, Any] = field(default_factory=dict)  # what the model's processor's files say
    average: int | None = None  # tokens that a request holds on average, for servers with a shared pool
    mix: Mix | None = None  # or how many requests hold how many
    max_seqs: bool = False  # the most requests at once that the server can be told, and still start, are wanted too
    memory_bytes: int | None = None
    reserve_bytes: int | None = None
    utilization: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    learned: Learned = NOTHING  # what a machine file says
    free: tuple[int, ...] = ()  # bytes that other tenants leave, one value or one a rank
    weights_given: bool = False  # `weights` are whoever asks', not worked out
    source: str = ""  # MODEL as it was typed, for commands
    weights_flag: str = ""  # as it was typed
    machine: str = ""  # the file behind `learned`, as it was typed
    below: TierAsk | None = None  # budgets below the device; 0 tokens: of the answer

    @property
    def given_bytes(self) -> int | None:
        """Memory of each device that whoever asks gave; a card that was named by its size alone is that."""
        return self.memory_bytes if self.gpu.vendor or self.memory_bytes is not None else self.gpu.reported_bytes

    @property
    def asked(self) -> Asked:
        """Which of the two numbers is wanted."""
        if self.context is None:
            return "table" if self.batch_size is None else "context"
        return "batch" if self.batch_size is None else "target"

    @property
    def text(self) -> int | None:
        """Tokens of a request's text: the context without its media."""
        return None if self.context is None else max(0, self.context - (self.media.tokens if self.media else 0))

    @property
    def pipeline(self) -> int:
        """Stages that share the layers, for engines that have them."""
        return pipeline_stages(self.engine, self.options)

    @property
    def ranks(self) -> int:
        """Data ranks of one copy: they share its experts, and each has a cache and requests of its own."""
        return data_ranks(self.engine, self.options)

    @property
    def inside(self) -> int:
        """Data ranks that lie within the devices of tensor parallelism, for engines that count them so; else 1."""
        known = about(self.engine).data_ranks
        return self.ranks if known is not None and known.inside else 1

    @property
    def devices(self) -> int:
        """Devices that one copy of the model takes."""
        return self.tensor_parallel * self.pipeline * (self.ranks // self.inside)

    @property
    def replicas(self) -> int:
        """Copies of the model, each on `devices` of them."""
        return self.gpus // self.devices

    @property
    def caches(self) -> int:
        """Caches that share the requests: of every data rank of every copy."""
        return self.replicas * self.ranks

    @property
    def each(self) -> int | None:
        """Requests that one of the caches must hold."""
        return None if self.batch_size is None else ceil_div(self.batch_size, self.caches)

    @property
    def ceiling(self) -> int:
        """The longest context that the model takes."""
        return self.model.max_tokens or MAX_COUNT


class Row(Struct, frozen=True, kw_only=True):
    """One point of the trade-off: what fits, and its cache on one device. `decisive` is the one that was asked for."""

    context: int
    batch_size: int  # requests of all replicas; 0: not even one
    cache_bytes: int
    fits: bool
    decisive: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "context": self.context,
            "batch_size": self.batch_size,
            "cache_bytes": self.cache_bytes,
            "fits": self.fits,
            "decisive": self.decisive,
        }


class Alternative(Struct, frozen=True, kw_only=True):
    """The same question at another cache dtype: what fits then, and what the engine takes for it."""

    kv_dtype: str
    context: int
    batch_size: int
    fits: bool
    flag: str
    evidence: str = ""  # what stands behind the cache's bytes

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "kv_dtype": self.kv_dtype,
            "context": self.context,
            "batch_size": self.batch_size,
            "fits": self.fits,
            "flag": self.flag,
            "evidence": self.evidence,
        }


class Fix(Struct, frozen=True, kw_only=True):
    """A change that makes it fit, what it gives, and what to type."""

    change: str
    result: str
    command: str

    def to_dict(self) -> dict[str, str]:
        """The JSON form."""
        return {"change": self.change, "result": self.result, "command": self.command}


class Seqs(Struct, frozen=True, kw_only=True):
    """The most requests at once that a server can be told (`option`, its own name) with which it starts.

    `low` and `high` are the same at both ends of what may be left for the cache; 0: it starts with none. `stops` is what the
    engine says to one more, empty where no number that was tried is too large.
    """

    option: str
    most: int
    low: int
    high: int
    stops: str

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"option": self.option, "most": self.most, "low": self.low, "high": self.high, "stops": self.stops}


class Fit(Struct, frozen=True, kw_only=True):
    """The answer to a `Question`.

    `context` and `batch_size` are what fits (or the target that does not); `limited_by` is what stops the next larger
    one. `allocation` is one device's cache at the answer, `pool` what a server reserves. `fixes` are filled in when it
    does not fit, `tried` when several GPUs were compared.
    """

    question: Question
    budget: Budget
    fits: bool
    context: int
    batch_size: int
    limited_by: Limit
    rows: tuple[Row, ...] = ()
    allocation: Allocation | None = None
    pool: Pool | None = None
    span: tuple[int, int] | None = None  # fewest and most of what was looked for, over the band of the cache's share
    text_alone: "Fit | None" = None  # the same question without its media
    unsure: bool = False  # a target that fits the best value of the cache's share and not its smallest, or the other way
    typical: int | None = None  # requests of `average` tokens, or of the mix, where a pool is shared
    typical_span: tuple[int, int] | None = None  # fewest and most of them
    evidence: str = ""  # what stands behind the cache's bytes
    seqs: Seqs | None = None  # where the question asks for it
    flags: str = ""
    needs: tuple[str, ...] = ()  # what must be there beside the command: what no flag does
    not_predicted: str = ""
    notes: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    fixes: tuple[Fix, ...] = ()
    tried: "tuple[Fit, ...]" = ()
    tiers: Tiers | None = None  # what lies below the device, where that was asked

    def __hash__(self) -> int:
        q = self.question
        return hash((q.model.name, q.engine, q.gpu.id, q.gpus, q.asked, self.fits, self.context, self.batch_size))

    def __repr__(self) -> str:
        q = self.question
        said = "not predicted" if self.not_predicted else "fits" if self.fits else "does not fit"
        on = q.gpu.id if q.gpus == 1 else f"{q.gpus} x {q.gpu.id}"
        return f"<Fit {q.model.name} · {q.engine} on {on}: {self.batch_size:,} x {self.context:,} tokens, {said}>"

    @property
    def cache_bytes(self) -> int:
        """The cache on one device at the answer; at the target where that does not fit."""
        return self.allocation.total_bytes if self.allocation else 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/formats.md), every bytes value an exact int."""
        q, a = self.question, self.allocation
        return {
            "model": q.model.name,
            "engine": q.engine.partition("@")[0],
            "engine_version": a.engine_version if a else "",
            "kv_dtype": a.kv_dtype if a else "",
            "gpu": q.gpu.id,
            "gpus": q.gpus,
            "tensor_parallel": q.tensor_parallel,
            "asked": q.asked,
            "fits": self.fits,
            "context": self.context,
            "batch_size": self.batch_size,
            "limited_by": self.limited_by,
            "average": q.average,
            "mix": q.mix.words if q.mix else None,
            "typical_batch_size": self.typical,
            "cache_bytes": self.cache_bytes,
            "budget_bytes": self.budget.cache_bytes,
            "budget_low_bytes": self.budget.cache.low,
            "budget_high_bytes": self.budget.cache.high,
            "span": list(self.span) if self.span else None,
            "unsure": self.unsure,
            "budget": [line.to_dict() for line in self.budget.lines],
            "beside": [line.to_dict() for line in self.budget.beside],
            "context_bytes": self.budget.context_bytes,
            "pool": _pool_dict(self.pool),
            "evidence": self.evidence,
            "max_seqs": self.seqs.to_dict() if self.seqs else None,
            "flags": self.flags,
            "needs": list(self.needs),
            "rows": [row.to_dict() for row in self.rows],
            "alternatives": [other.to_dict() for other in self.alternatives],
            "fixes": [fix.to_dict() for fix in self.fixes],
            "tried": [_summary(fit) for fit in self.tried],
            "notes": list(self.notes),
            "not_predicted": self.not_predicted,
            **({"tiers": self.tiers.to_dict()} if self.tiers is not None else {}),
            **({"media": q.media.to_dict()} if q.media is not None else {}),
            **({"text_alone": _summary(self.text_alone)} if self.text_alone is not None else {}),
        }


def _pool_dict(pool: Pool | None) -> dict[str, Any] | None:
    if pool is None:
        return None
    keys = ("num_blocks", "block_bytes", "num_tokens", "max_model_len", "concurrency", "refused")
    return {key: getattr(pool, key) for key in keys}


def _summary(fit: Fit) -> dict[str, Any]:
    q = fit.question
    return {
        "gpu": q.gpu.id,
        "gpus": q.gpus,
        "tensor_parallel": q.tensor_parallel,
        "memory_bytes": fit.budget.memory.bytes * q.gpus,
        "budget_bytes": fit.budget.cache_bytes,
        "fits": fit.fits,
        "context": fit.context,
        "batch_size": fit.batch_size,
        "not_predicted": fit.not_predicted,
    }
