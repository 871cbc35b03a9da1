"""The inverse question: the largest workload under a byte limit. Pure."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvplan.allocation import Allocation, NotPredicted
from kvplan.errors import OptionError
from kvplan.model import Model
from kvplan.units import MAX_COUNT
from kvplan.workload import Workload

if TYPE_CHECKING:
    from kvplan.engines.base import Engine


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
