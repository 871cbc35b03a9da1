"""The inverse question: the largest workload under a byte limit. Pure."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines import engine_class, make_engine
from kvplan.errors import OptionError
from kvplan.units import MAX_COUNT

if TYPE_CHECKING:
    from kvplan.engines.kernel.engine import Engine


def largest(fits: Callable[[int], bool], *, ceiling: int = MAX_COUNT) -> int:
    """The largest count from 1 to `ceiling` that fits, found by doubling and then bisection; 0 when 1 does not.

    The answer n always has `fits(n)` and not `fits(n + 1)`, unless n is the ceiling.

    >>> largest(lambda n: n * 7 <= 100)
    14
    """
    below, above = 0, 1
    while above <= ceiling and fits(above):
        below, above = above, above * 2
    above = min(above, ceiling + 1)
    while above - below > 1:
        middle = (below + above) // 2
        if fits(middle):
            below = middle
        else:
            above = middle
    return below


def largest_batch(
    engine: "Engine",
    model: Model,
    seq_len: int,
    limit_bytes: int,
    *,
    encoder_len: int = 0,
    size: Callable[[Allocation], int] = lambda allocation: allocation.total_bytes,
) -> int | NotPredicted:
    """The most sequences of `seq_len` tokens whose cache takes at most `limit_bytes`; 0 when not even one fits.

    Args:
        size: bytes of an allocation, as they count against the limit.

    Raises:
        OptionError: the cache does not grow with the batch, so no batch is the largest.
    """

    def footprint(batch_size: int) -> Allocation | NotPredicted:
        return engine.footprint(model, Workload(batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len))

    first = footprint(1)
    if isinstance(first, NotPredicted):
        return first

    def fits(batch_size: int) -> bool:
        answer = footprint(batch_size)
        return isinstance(answer, Allocation) and size(answer) <= limit_bytes

    found = largest(fits)
    if found == MAX_COUNT:
        raise OptionError(
            f"the cache of {model.name} does not grow with the batch, so no batch is the largest",
            hint="validate one batch with -b N",
        )
    return found


def option_names(engine: str) -> frozenset[str]:
    """The options of an engine (`NAME` or `NAME@VERSION`), kvplan's shared names included."""
    cls = engine_class(engine.partition("@")[0])
    return frozenset((*cls.Options.__struct_fields__, *cls.aliases))


class Room:
    """What one device's cache budget holds, asked through the engine alone.

    An engine that reserves a pool (a server) answers through it: a workload fits when the pool starts with that
    `max_model_len` and its usable blocks hold the requests. The others allocate what a request needs, and that must not
    exceed the budget.
    """

    def __init__(self, model: Model, engine: str, options: Mapping[str, Any], budget_bytes: int, *, encoder_len: int = 0) -> None:
        self.model = model
        self.budget_bytes = budget_bytes
        self._spec = engine
        self._options = dict(options)
        self._encoder_len = encoder_len
        self._limited = "max_model_len" in option_names(engine) and "max_model_len" not in options
        self._engines: dict[int, tuple[Engine, int]] = {}

    def engine(self, context: int) -> "Engine":
        """The engine as it would be started for requests of up to `context` tokens."""
        return self._at(context)[0]

    def pool(self, context: int) -> Pool | None:
        """What a server reserves of the budget, or None for an engine that reserves nothing."""
        answer = self.engine(context).reserve(self.model, max(0, self.budget_bytes))
        return answer if isinstance(answer, Pool) else None

    def _at(self, context: int) -> "tuple[Engine, int]":
        """The engine and the bytes that requests may take."""
        key = context if self._limited else 0
        if key not in self._engines:
            more = {"max_model_len": context} if self._limited else {}
            engine = make_engine(self._spec, self._options | more)
            answer = engine.reserve(self.model, max(0, self.budget_bytes))
            limit = answer.usable_bytes if isinstance(answer, Pool) else self.budget_bytes
            self._engines[key] = engine, limit
        return self._engines[key]

    def footprint(self, batch_size: int, context: int) -> Allocation | NotPredicted:
        """The cache of `batch_size` requests of `context` tokens."""
        workload = Workload(batch_size=batch_size, seq_len=context, encoder_len=self._encoder_len)
        return self.engine(context).footprint(self.model, workload)

    def fits(self, batch_size: int, context: int) -> bool:
        """Whether that many requests of that length are held at once."""
        answer = self.footprint(batch_size, context)
        return isinstance(answer, Allocation) and answer.total_bytes <= self._at(context)[1]

    def most_requests(self, context: int) -> int:
        """The most requests of `context` tokens; 0 when not even one fits, MAX_COUNT when the cache does not grow."""
        engine, limit = self._at(context)
        if engine.linear_in_batch:
            one = self.footprint(1, context)
            if isinstance(one, NotPredicted) or one.total_bytes > limit:
                return 0
            return min(limit // one.total_bytes, MAX_COUNT) if one.total_bytes else MAX_COUNT
        return largest(lambda batch_size: self.fits(batch_size, context))

    def most_on_average(self, context: int, average: int) -> int:
        """The most requests of `average` tokens in a server that is started for `context`; MAX_COUNT when none limits."""
        engine, limit = self._at(context)

        def fits(batch_size: int) -> bool:
            workload = Workload(batch_size=batch_size, seq_len=average, encoder_len=self._encoder_len)
            answer = engine.footprint(self.model, workload)
            return isinstance(answer, Allocation) and answer.total_bytes <= limit

        return largest(fits)

    def longest_context(self, batch_size: int, ceiling: int) -> int:
        """The longest context, at most `ceiling` tokens, of `batch_size` requests; 0 when one token does not fit."""
        return largest(lambda context: self.fits(batch_size, context), ceiling=ceiling)
