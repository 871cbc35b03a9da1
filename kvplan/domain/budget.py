"""Where a device's memory goes, line by line, each with what stands behind it. Pure.

Nothing is guessed silently: each line says its basis (`kvplan.domain.ledger`).
"""

from math import ceil

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Basis, Ledger, Line, total
from kvplan.errors import OptionError
from kvplan.units import GIB, ceil_div


class Budget(Struct, frozen=True, kw_only=True):
    """One device: its memory, and what is taken before the cache gets the rest.

    `ledger` has every line where the engine's are known; `reserve` is then their sum beside the weights. `context` is what a
    process's context takes, where that was measured and stands in no ledger. `refused` is what the server says instead of
    starting, where that is known before its cache is made.
    """

    memory: Line
    utilization: float
    unused: Line  # what the utilization leaves alone
    weights: Line
    reserve: Line
    ledger: Ledger | None = None
    context: Line | None = None
    refused: str = ""

    @property
    def cache(self) -> Line:
        """What is left for the cache, with its band; negative when the weights alone do not fit."""
        if self.ledger is not None:
            return self.ledger.available
        return total("for the cache", (self.memory, *(line.negative() for line in self._taken)))

    @property
    def _taken(self) -> tuple[Line, ...]:
        if self.ledger is not None:
            return (self.unused, *self.ledger.lines)
        measured = () if self.context is None else (self.context,)
        return (self.unused, self.weights, *measured, self.reserve)

    @property
    def beside(self) -> tuple[Line, ...]:
        """What the process takes outside that sum."""
        return () if self.ledger is None else self.ledger.beside

    @property
    def context_bytes(self) -> int | None:
        """What a process's context takes, in that sum or beside it; None where no line says it."""
        found = self.context or (None if self.ledger is None else self.ledger.line("context"))
        return None if found is None else found.bytes

    @property
    def told(self) -> Line | None:
        """The cache as the engine was told it, whatever is left; None where it takes what is left."""
        return None if self.ledger is None else self.ledger.told

    @property
    def cache_bytes(self) -> int:
        """The best value of `cache`."""
        return self.cache.bytes

    @property
    def lines(self) -> tuple[Line, ...]:
        """The entries in order, those that are taken with negative bytes."""
        return (self.memory, *(line.negative() for line in self._taken))


def gpu_memory(gpu: Gpu) -> Line:
    """What one device has, as its driver reports it; the number on the box where no source has more.

    Raises:
        OptionError: it is sold in several sizes and none was chosen.
    """
    name = f"GPU memory ({gpu.id})"
    if gpu.cuda_total_bytes is not None:
        return Line(name=name, bytes=gpu.cuda_total_bytes, basis="measured", source="the total that CUDA reports")
    if gpu.reported_bytes is not None and not gpu.vendor:
        return Line(name=name, bytes=gpu.reported_bytes, basis="given", source="--gpu")
    if gpu.reported_bytes is not None:
        return Line(name=name, bytes=gpu.reported_bytes, basis="measured", source=gpu.reported_by or "the driver's total")
    if len(gpu.marketed_gb) != 1:
        largest = gpu.marketed_gb[-1]
        hint = f"say which with «memory», such as «memory {largest}GiB», or in its name: {gpu.id}-{largest}gb"
        raise OptionError(f"{gpu.id} is sold with {gpu.sizes}", hint=hint)
    size = gpu.marketed_gb[0]
    if gpu.vendor == "apple":  # RAM, in powers of two
        return Line(name=f"unified memory ({gpu.id})", bytes=size * GIB, basis="derived", source=f"{size} GB of RAM")
    if gpu.memory_kind == "unified":
        from kvplan.domain.unified import shared_memory

        total = shared_memory(gpu).total
        return Line(name=f"unified memory ({gpu.id})", bytes=total.low, basis=total.basis, source=total.source)
    return Line(name=name, bytes=size * 10**9, basis="assumed", source=f"{size} GB on the box")


def given_memory(gpu_id: str, amount_bytes: int) -> Line:
    """A figure that whoever asks knows better."""
    return Line(name=f"GPU memory ({gpu_id})", bytes=amount_bytes, basis="given", source="--memory")


def given_reserve(amount_bytes: int) -> Line:
    """A reserve that whoever asks has measured or chosen."""
    return Line(name="activations and runtime", bytes=amount_bytes, basis="given", source="--reserve")


def shares(gpu: Gpu) -> bool:
    """Whether the card has no memory but the CPU's."""
    return gpu.memory_kind == "unified"


def not_lent(gpu: Gpu, memory: Line) -> Line:
    """What the GPU may not use of memory that it shares with the CPU: assumed, for the system decides; the low side counts."""
    from kvplan.domain.unified import shared_memory  # in fractions, which only a unified machine's question loads

    found = shared_memory(gpu, memory.bytes)
    kept = memory.bytes - found.lent.low
    if found.setting:
        return Line(name="not lent to the GPU", bytes=kept, basis="assumed", source=found.lent.source)
    return Line(name="kept by the system", bytes=kept, basis="assumed", source=found.system.source)


def kept_free(gpu: Gpu, memory: Line) -> Line:
    """What nobody may take of a card unless told otherwise: of unified memory, what the GPU is not lent."""
    if shares(gpu):
        return not_lent(gpu, memory)
    return Line(name="kept free", bytes=0, basis="given", source="`reserve` of the plan")


def unused_words(engine: str, share: float) -> str:
    """The line of what an engine does not use.

    >>> unused_words("vllm", 0.1)
    'not used by vllm (10%)'
    >>> unused_words("vllm", -0.1)
    'more than the device has'
    """
    if share < 0:
        return "more than the device has"
    return f"not used by {engine} ({100 * share:.3g}%)"


def unused(memory: Line, utilization: float, basis: Basis, source: str, engine: str) -> Line:
    """What an engine does not use: the total less ceil(total x utilization), as vLLM computes it in floating point.

    Source: vLLM `v1/worker/utils.py:request_memory`.

    Raises:
        OptionError: a utilization that is no share.
    """
    if not 0 < utilization <= 1:
        raise OptionError(f"«utilization» must be above 0 and at most 1, got {utilization:g}", hint="0.9 is nine tenths")
    kept = memory.bytes if utilization == 1 else ceil(memory.bytes * utilization)
    return Line(name=unused_words(engine, 1 - utilization), bytes=memory.bytes - kept, basis=basis, source=source)


def counted_weights(parameters: int, dtype: str) -> Line:
    """Every parameter at one dtype: quantisers that leave some layers alone take a little more.

    Raises:
        OptionError: no such dtype.
    """
    row = lookup(dtype, what="«weights_dtype»")
    size = ceil_div(parameters * row.block_bytes, row.block)
    return Line(name="weights", bytes=size, basis="derived", source=f"{parameters:,} parameters in {row.name}")


def share_of_weights(weights: Line, devices: int) -> Line:
    """One device's weights when `devices` split every matrix; what is replicated (norms, routers) is not counted twice."""
    if devices == 1:
        return weights
    return Line(
        name="weights",
        bytes=ceil_div(weights.bytes, devices),
        basis="derived" if weights.basis == "measured" else weights.basis,
        source=f"{weights.source}; split over {devices}",
    )
