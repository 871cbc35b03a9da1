"""The largest count that fits."""

from collections.abc import Callable

from kvplan.units import MAX_COUNT


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
