"""How far the users of a committee can grow together, and the best split of the cards among them. Pure."""

from collections.abc import Sequence
from fractions import Fraction

from kvplan.engines.kernel.search import largest
from kvplan.questions.committee.demand import Demand
from kvplan.questions.committee.placing import Node


def scaled_up(amount: Fraction) -> int:
    """The whole number at or above."""
    return -(-amount.numerator // amount.denominator)


def largest_scale(demands: tuple[Demand, ...], node: Node) -> Fraction | None:
    """The largest factor by which every member's users can be multiplied (and rounded up) so that all parts fit.

    A member with a share keeps it, and its users must fit in it. None when no member has users, or growth costs nothing.
    """
    growing = [d for d in demands if d.member.users is not None and d.engine is not None]
    if not growing:
        return None
    best = Fraction(0)
    for demand in growing:
        base = demand.member.users or 1
        steps = largest(lambda n, base=base: fit_together(demands, _scaled(demands, Fraction(n, base)), node), ceiling=2**40)  # type: ignore[misc]
        if steps == 2**40:
            return None
        best = max(best, Fraction(steps, base))
    return best


def _scaled(demands: tuple[Demand, ...], factor: Fraction) -> list[int]:
    return [0 if d.member.users is None else scaled_up(d.member.users * factor) for d in demands]


def fit_together(demands: tuple[Demand, ...], users: Sequence[int], node: Node) -> bool:
    """Whether every part holds its member, and some placement holds all parts."""
    for demand, n in zip(demands, users, strict=True):
        part = demand.part_bytes(n)
        if part > node.room_bytes or demand.kept_bytes(n) + demand.cache_bytes(n) > part:
            return False
    return node.holds([d.item(n) for d, n in zip(demands, users, strict=True)])


def split(demands: tuple[Demand, ...], node: Node) -> tuple[int | None, ...]:
    """The users of each member in the best split of the cards; None for members whose part is fixed.

    Best means: first the largest factor that all members reach together (the smallest users / plan's users is as large as
    it can be), then the first member's users, then the second's, and so on, all in whole requests and whole blocks.
    Parts grow with users, so whatever a split allows, it allows with fewer users too: taking them in that order is exact.
    """
    factor = largest_scale(demands, node)
    factor = Fraction(1) if factor is None else factor
    free = [d.member.users is not None and d.engine is not None for d in demands]
    chosen = [n if own else 0 for n, own in zip(_scaled(demands, factor), free, strict=True)]
    for i in range(len(demands)):
        if free[i]:
            chosen[i] = max(chosen[i], _most(demands, chosen, i, node))
    return tuple(n if own else None for n, own in zip(chosen, free, strict=True))


def _most(demands: tuple[Demand, ...], chosen: list[int], which: int, node: Node) -> int:
    """The most users of one member beside what the others were given."""
    found = largest(lambda users: fit_together(demands, [*chosen[:which], users, *chosen[which + 1 :]], node), ceiling=2**40)
    return 0 if found == 2**40 else found
