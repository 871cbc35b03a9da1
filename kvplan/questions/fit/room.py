"""The inverse question: the largest workload under a byte limit. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.mix import Mix
from kvplan.domain.model import Model
from kvplan.domain.pool import Pool
from kvplan.domain.tiers import TierAsk, Tiers
from kvplan.domain.workload import Workload
from kvplan.engines import about, make_engine, option_names
from kvplan.engines.kernel.about import Role
from kvplan.engines.kernel.engine import Engine, Prepared, Served, footprint
from kvplan.engines.kernel.search import largest
from kvplan.engines.kernel.tensors import At
from kvplan.errors import OptionError, Refused
from kvplan.units import MAX_COUNT

T = TypeVar("T")
#: Requests at once of a server that is not told how many.
_UNTOLD: Final = 0
#: The most requests at once that a server is told in a search.
MOST_TOLD: Final = 2**20
#: Starts after which a search goes by halves.
_FEW: Final = 8


def largest_batch(
    engine: Engine,
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

    from kvplan.questions.estimate import predict

    def held(batch_size: int) -> Allocation | NotPredicted:
        return predict(engine, model, Workload(batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len))

    first = held(1)
    if isinstance(first, NotPredicted):
        return first

    def fits(batch_size: int) -> bool:
        answer = held(batch_size)
        return isinstance(answer, Allocation) and size(answer) <= limit_bytes

    found = largest(fits)
    if found == MAX_COUNT:
        raise OptionError(
            f"the cache of {model.name} does not grow with the batch, so no batch is the largest",
            hint="validate one batch with -b N",
        )
    return found


class Room:
    """What one device's cache budget holds, asked through the engine alone.

    A server answers through its pool: a workload fits when the pool starts with that context as its limit and its usable
    blocks hold the requests. The others allocate what a request needs, and that must not exceed the budget. Bytes are asked
    of the totals: an `Allocation` is made for what is shown.
    """

    def __init__(
        self,
        model: Model,
        engine: str,
        options: Mapping[str, Any],
        budget_bytes: int | Callable[[int, int], int],
        *,
        encoder_len: int = 0,
        maker: str | None = None,
        together: int = 1,
        by_requests: bool = False,
    ) -> None:
        """`budget_bytes` may be a function of the requests at once that the server is told and of their length, `maker` is the
        device's. `by_requests`: the budget shrinks with the requests, also where the engine is told nothing of them.
        """
        self.model = model
        self._maker = maker
        self._budget = budget_bytes if callable(budget_bytes) else lambda _, __: budget_bytes
        self._spec = engine
        self._options = dict(options)
        self._encoder_len = encoder_len
        self._by_requests = by_requests
        self._together = together  # caches whose requests the engine is told as one number
        self._limit = self._told("context")
        self._sequences = self._told("sequences")
        self._started: dict[tuple[int, int], Prepared | Refused] = {}  # by requests and context, where the engine is told
        self._pools: dict[tuple[int, int], Pool | Refused] = {}

    def of_size(self, budget_bytes: int) -> "Room":
        """The same engine with another budget."""
        more: dict[str, Any] = {"encoder_len": self._encoder_len, "maker": self._maker, "together": self._together}
        other = Room(self.model, self._spec, self._options, budget_bytes, **more)
        other._started = self._started
        return other

    def told(self, sequences: int) -> "Room":
        """The same engine, told to run so many requests at once."""
        if not self._sequences:
            return self
        options = {**self._options, self._sequences: sequences * self._together}
        more: dict[str, Any] = {"encoder_len": self._encoder_len, "maker": self._maker, "together": self._together}
        return Room(self.model, self._spec, options, self._budget, **more)

    def _told(self, role: Role) -> str:
        """The engine's option for `role`, where nobody has given it: the answer decides it."""
        name = about(self._spec).roles.get(role, "")
        return name if name in option_names(self._spec) and name not in self._options else ""

    def _key(self, batch_size: int, context: int) -> tuple[int, int]:
        return (batch_size if self._sequences else 0, context if self._limit else 0)

    def _made(self, batch_size: int, context: int) -> Prepared:
        """The engine as it would be started for so many requests of up to `context` tokens.

        Raises:
            Refused: it would not start.
        """
        return self._kept(self._started, self._key(batch_size, context), lambda: self._start(batch_size, context))

    def _at(self, batch_size: int, context: int) -> tuple[Prepared, int, Pool | None]:
        """The engine as it would be started for requests of up to `context` tokens, the bytes that they may take, its pool.

        Raises:
            Refused: it would not start.
        """
        prepared = self._made(batch_size, context)
        if not isinstance(prepared, Served):
            return prepared, self._budget(batch_size, context), None
        key = self._key(batch_size, context)
        pool = self._kept(self._pools, key, lambda: prepared.pool(max(0, self._budget(batch_size, context))))
        return prepared, pool.usable_bytes, pool

    def _kept(self, known: "dict[tuple[int, int], T | Refused]", key: tuple[int, int], made: Callable[[], T]) -> T:
        if key not in known:
            try:
                known[key] = made()
            except Refused as problem:
                known[key] = problem
        found = known[key]
        if isinstance(found, Refused):
            raise found
        return found

    def _start(self, batch_size: int, context: int) -> Prepared:
        more = {self._limit: context} if self._limit else {}
        if self._sequences and batch_size not in {_UNTOLD, MAX_COUNT}:  # a model without a cache has no most
            more[self._sequences] = batch_size * self._together
        return make_engine(self._spec, self._options | more).on(self.model)

    def prepared(self, batch_size: int, context: int) -> Prepared:
        """The engine on the model, for that many requests of up to `context` tokens.

        Raises:
            Refused: it would not start.
        """
        return self._at(batch_size, context)[0]

    def evidence(self, batch_size: int, context: int) -> str:
        """What stands behind the bytes of what is started for such requests; empty where nothing is."""
        try:
            return self._at(batch_size, context)[0].evidence(self._maker)
        except Refused:
            return ""

    def pool(self, batch_size: int, context: int) -> Pool | None:
        """What a server reserves of the budget, or None for an engine that reserves nothing."""
        try:
            return self._at(batch_size, context)[2]
        except Refused:
            return None

    def tiers(self, batch_size: int, context: int, ask: TierAsk, caches: int) -> Tiers | None:
        """What lies below the device of a server that is started for such requests; None where nothing is."""
        try:
            prepared, _, pool = self._at(batch_size, context)
        except Refused:
            return None
        from kvplan.questions.tiers import tiers_of

        return tiers_of(prepared, ask, pool, caches=caches)

    def refusal(self, batch_size: int, context: int) -> str:
        """Why the engine takes no such workload, whatever the memory; empty where it does."""
        try:
            self._at(batch_size, context)[0].check(At(context, batch_size, self._encoder_len))
        except Refused as problem:
            return problem.reason
        return ""

    def footprint(self, batch_size: int, context: int) -> Allocation | NotPredicted:
        """The cache of `batch_size` requests of `context` tokens."""
        workload = Workload(batch_size=batch_size, seq_len=context, encoder_len=self._encoder_len)
        try:
            return footprint(self._at(batch_size, context)[0], workload, self._maker)
        except Refused as problem:
            return NotPredicted(reason=problem.reason, see=problem.see, model=self.model.name, engine=self._spec)

    def bytes(self, batch_size: int, context: int) -> int | None:
        """What `batch_size` requests of `context` tokens take at most; None when the engine takes no such workload."""
        at = At(context, batch_size, self._encoder_len)
        try:
            prepared = self._made(batch_size, context)
            if not self._linear(prepared):
                self._at(batch_size, context)  # several pools may have no room for so many, whatever their bytes
            prepared.check(at)
            return prepared.most_bytes(at)
        except Refused:
            return None

    def fits(self, batch_size: int, context: int) -> bool:
        """Whether that many requests of that length are held at once."""
        size = self.bytes(batch_size, context)
        return size is not None and self._holds(At(context, batch_size, self._encoder_len), batch_size, context, size)

    def _holds(self, at: At[int], batch_size: int, context: int, size: int) -> bool:
        """Whether what is started for `context` holds a workload of so many bytes; several pools are asked themselves."""
        prepared, limit, pool = self._at(batch_size, context)
        if pool is not None and isinstance(prepared, Served) and not prepared.one_pool:
            return prepared.holds(pool, at)
        return size <= limit

    def most_requests(self, context: int) -> int:
        """The most requests of `context` tokens; 0 when not even one fits, MAX_COUNT when the cache does not grow."""
        at = At(context, 1, self._encoder_len)
        try:
            prepared = self._made(_UNTOLD, context)
            prepared.check(at)
            if self._linear(prepared) and prepared.most_bytes(at) == prepared.totals(at).allocated:
                return self._settled(context, lambda started, limit: _held(started, context, self._encoder_len, limit))
        except Refused:
            return 0
        near = self._expected(context) if self._by_requests else 0
        return largest(lambda batch_size: self.fits(batch_size, context), near=near)

    def _expected(self, context: int) -> int:
        """About how many requests fit where each takes as much of the device as the next; 0: nobody knows."""
        left = []
        for batch_size in (1, 2):
            size = self.bytes(batch_size, context)
            if size is None:
                return 0
            left.append(self._budget(batch_size, context) - size)
        each = left[0] - left[1]
        return min(1 + left[0] // each, MAX_COUNT) if each > 0 and left[0] > 0 else 0

    def _linear(self, prepared: Prepared) -> bool:
        """Whether bytes of one request say what many take, once it is started."""
        return prepared.linear_in_batch and prepared.one_pool and not self._by_requests

    def _settled(self, context: int, holds: Callable[[Prepared, int], int]) -> int:
        """The most requests that a server holds which is told to run as many.

        What it holds (`holds` of the server and its bytes) hardly depends on what it is told, so that the answer for one
        number is nearly the next one's, and the search ends after two or three starts.
        """
        if not self._sequences:
            return min(holds(*self._at(_UNTOLD, context)[:2]), MAX_COUNT)
        enough, guess, starts = 0, 1, 0  # what a server takes for many may leave nothing, where one would fit
        too_many: int | None = None
        while guess > enough:
            starts += 1
            try:
                found = holds(*self._at(guess, context)[:2])
            except Refused:
                found = 0
            if found == guess or found >= MAX_COUNT:
                return found
            if found > guess:
                enough, guess = guess, found
            else:
                too_many, guess = guess, max(found, enough)
            if too_many is not None:
                if too_many - enough <= 1:
                    return enough
                guess = min(max(guess, enough + 1), too_many - 1)
                if starts > _FEW:  # each answer is little less than what was told: halve what is left
                    guess = (enough + too_many) // 2
        return enough

    def most_told(self, context: int) -> int:
        """The most requests at once that the server can be told, and still starts for requests of `context` tokens.

        0 when it starts with no number, MOST_TOLD when none is too large.
        """
        return largest(lambda sequences: self._starts(sequences, context), ceiling=MOST_TOLD // self._together)

    def _starts(self, sequences: int, context: int) -> bool:
        pool = self.pool(sequences, context)
        return pool is not None and not pool.refused

    def not_started(self, sequences: int, context: int) -> str:
        """What the engine says instead of starting, told so many requests at once; empty where it starts."""
        pool = self.pool(sequences, context)
        return self.refusal(sequences, context) if pool is None else pool.refused

    def most_on_average(self, context: int, average: int) -> int:
        """The most requests of `average` tokens in a server that is started for `context`; MAX_COUNT when none limits."""

        if self._linear(self._at(_UNTOLD, context)[0]):
            return self._settled(context, lambda started, limit: _held(started, average, self._encoder_len, limit))

        def fits(batch_size: int) -> bool:
            prepared = self._at(batch_size, context)[0]
            at = At(average, batch_size, self._encoder_len)
            return self._holds(at, batch_size, context, prepared.totals(at).allocated)

        return largest(fits)

    def most_of(self, context: int, mix: Mix) -> int:
        """The most requests of a mix in a server that is started for `context`; MAX_COUNT when none limits.

        Where several pools are asked, a request of the mix counts as one of its average length: windows and states then take
        no less than they would.
        """
        if not self._linear(self._at(_UNTOLD, context)[0]):
            return self.most_on_average(context, mix.average)

        def holds(started: Prepared, limit: int) -> int:
            sizes = (started.totals(At(part.tokens, 1, self._encoder_len)).allocated for part in mix.parts)
            found = mix.most(limit, tuple(sizes))
            return MAX_COUNT if found is None else min(found, MAX_COUNT)

        return self._settled(context, holds)

    def longest_context(self, batch_size: int, ceiling: int, near: int = 0) -> int:
        """The longest context, at most `ceiling` tokens, of `batch_size` requests; 0 when one token does not fit.

        `near` is where it is expected.
        """
        if self._by_requests and not near and ceiling < MAX_COUNT:
            near = ceiling  # asked first: often all of it fits
        return largest(lambda context: self.fits(batch_size, context), ceiling=ceiling, near=near)


def _held(started: Prepared, tokens: int, encoder_len: int, limit: int) -> int:
    """Requests of `tokens` tokens that `limit` bytes hold, of an engine whose bytes are linear in them."""
    one = started.totals(At(tokens, 1, encoder_len)).allocated
    if one > limit:
        return 0
    return min(limit // one, MAX_COUNT) if one else MAX_COUNT
