"""The largest count that fits."""

from collections.abc import Callable

from kvplan.units import MAX_COUNT


def largest(fits: Callable[[int], bool], *, ceiling: int = MAX_COUNT, near: int = 0) -> int:
    """The largest count from 1 to `ceiling` that fits, found by doubling and then bisection; 0 when 1 does not.

    The answer n always has `fits(n)` and not `fits(n + 1)`, unless n is the ceiling.

    Args:
        near: where it is expected: the search then begins there, by steps that double.

    >>> largest(lambda n: n * 7 <= 100), largest(lambda n: n * 7 <= 100, near=20)
    (14, 14)
    """
    below, above = _around(fits, min(near, ceiling), ceiling) if near > 0 and ceiling > 0 else _doubled(fits, ceiling)
    while above - below > 1:
        middle = (below + above) // 2
        if fits(middle):
            below = middle
        else:
            above = middle
    return below


def _doubled(fits: Callable[[int], bool], ceiling: int) -> tuple[int, int]:
    """A count that fits, or 0, and one that does not or is beyond the ceiling."""
    below, above = 0, 1
    while above <= ceiling and fits(above):
        below, above = above, above * 2
    return below, min(above, ceiling + 1)


def _around(fits: Callable[[int], bool], near: int, ceiling: int) -> tuple[int, int]:
    """The same, from a guess outward."""
    step = 1
    if fits(near):
        below, above = near, near + 1
        while above <= ceiling and fits(above):
            step *= 2
            below, above = above, above + step
        return below, min(above, ceiling + 1)
    below, above = near - 1, near
    while below > 0 and not fits(below):
        step *= 2
        below, above = max(0, below - step), below
    return below, above
