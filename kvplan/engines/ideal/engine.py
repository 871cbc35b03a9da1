"""`ideal`: the theory as an engine, and the default of `estimate`; its tensors are `kvplan.engines.kernel.theory`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, assert_never

from msgspec import Struct

from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Cross, Index, Latent, Model, Reach, Recurrent, Shared, Softmax
from kvplan.domain.words import NO_ENGINE
from kvplan.domain.workload import Workload
from kvplan.engines.ideal.about import ABOUT
from kvplan.engines.ideal.models import own_cache
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Prepared
from kvplan.engines.kernel.retention import growth_period, kept_tokens
from kvplan.engines.kernel.tensors import At, Count, Piece, Totals
from kvplan.engines.kernel.theory import memory_tensors, theory
from kvplan.errors import OptionError


class IdealOptions(Struct, frozen=True, kw_only=True):
    """`kv_dtype` "auto" is what the checkpoint asks for, else the model's dtype; `tensor_parallel` devices split the KV heads."""

    kv_dtype: str = "auto"
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.tensor_parallel <= 65_536:
            raise OptionError(f"tensor_parallel must be from 1 to 65,536, got {self.tensor_parallel}", option="tensor_parallel")


class Slopes(Struct, frozen=True, kw_only=True):
    """Bytes of one sequence: for each entry kept under a reach, and whatever the length (encoder's, states')."""

    by_reach: Mapping[Reach, int]
    fixed: int
    state: int
    period: int  # tokens after which growth repeats


class Ideal(Engine):
    """The theory; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = IdealOptions
    options: IdealOptions

    @classmethod
    def made(cls, options: Mapping[str, Any], version: str | None = None) -> Self:
        """The theory, which has no releases.

        Raises:
            OptionError: one is asked for, or a bad option.
        """
        if version not in {None, ABOUT.latest}:
            raise OptionError("engine ideal is no program: it has no versions", hint="leave out the `@`")
        return super().made(options, version)

    def on(self, model: Model) -> IdealOn:
        """The theory of one model."""
        return IdealOn(self, model)


class IdealOn(Prepared):
    """The theory of one model."""

    engine: Ideal

    def __init__(self, engine: Ideal, model: Model) -> None:
        super().__init__(engine, model)
        asked = engine.options.kv_dtype
        own = own_cache(model) if asked == "auto" else ""
        self.cache = lookup(own or (model.dtype if asked == "auto" else asked))
        self._own = own
        self.tensor_parallel = engine.options.tensor_parallel
        self._slopes: dict[int, Slopes] = {}

    @property
    def kv_dtype(self) -> str:
        """The option, or the checkpoint's or the model's own dtype."""
        return self.cache.name

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """The model's, but for what they say of engines, and whose dtype it is."""
        said = (f"the checkpoint asks for a cache in {self._own} (`auto`)",) if self._own else ()
        return (*(note for note in self.model.notes if NO_ENGINE not in note), *said)

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Every tensor, one entry for each distinct memory."""
        return theory(self.model, self.cache, self.tensor_parallel, at)

    def totals(self, at: At[Count]) -> Totals[Count]:
        """The sums of `tensors`, with one multiplication for each reach however many tensors have it: sweeps are long."""
        slopes = self.slopes(at.encoder_len)
        one = at.seq_len * 0 + (slopes.fixed + slopes.state)
        for reach, slope in slopes.by_reach.items():
            one += kept_tokens(reach, at.seq_len) * slope
        payload = one * at.batch_size
        return Totals(payload=payload, allocated=payload, bookkeeping=0, state=payload * 0 + at.batch_size * slopes.state)

    def bytes_per_token(self, seq_len: Count, payload: Count | None = None) -> Count:
        """What the next token of one sequence adds, rounded up where entries stand for several tokens."""
        slopes = self.slopes(0)
        grown = seq_len * 0
        for reach, slope in slopes.by_reach.items():
            grown += (kept_tokens(reach, seq_len + slopes.period) - kept_tokens(reach, seq_len)) * slope
        return grown if slopes.period == 1 else -(-grown // slopes.period)

    def slopes(self, encoder_len: int) -> Slopes:
        """What one more entry costs, read off the tensors once for each encoder length."""
        if encoder_len not in self._slopes:
            self._slopes[encoder_len] = self._measured_slopes(encoder_len)
        return self._slopes[encoder_len]

    def _measured_slopes(self, encoder_len: int) -> Slopes:
        """At a length where every reach keeps something: each tensor is linear in what it keeps."""
        length = growth_period(self.model)
        at = At(length, 1, encoder_len)
        by_reach: dict[Reach, int] = {}
        fixed = state = 0
        for memories, layers in self.model.collapsed().items():
            for memory in memories:
                found = memory_tensors(memory, layers, self.model, self.cache, self.tensor_parallel, at)
                size = sum(piece.payload for piece in found) * len(layers)
                match memory:
                    case Softmax() | Latent() | Index():
                        slope = size // kept_tokens(memory.reach, length)
                        by_reach[memory.reach] = by_reach.get(memory.reach, 0) + slope
                    case Recurrent():
                        state += size
                    case Cross() | Shared():
                        fixed += size
                    case _:
                        assert_never(memory)
        return Slopes(by_reach=by_reach, fixed=fixed, state=state, period=length)
