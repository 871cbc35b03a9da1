"""How far the users of a committee can grow together, and the best split of a card among them. Pure."""

from fractions import Fraction

from kvplan.demands import Demand
from kvplan.fitting import largest


def scaled_up(amount: Fraction) -> int:
    """The whole number at or above."""
    return -(-amount.numerator // amount.denominator)


def largest_scale(demands: tuple[Demand, ...], room_bytes: int) -> Fraction | None:
    """The largest factor by which every member's users can be multiplied (and rounded up) so that all parts fit.

    A member with a share keeps it, and its users must fit in it. None when no member has users, or growth costs nothing.
    """
    growing = [d for d in demands if d.member.users is not None and d.engine is not None]
    if not growing:
        return None
    best = Fraction(0)
    for demand in growing:
        base = demand.member.users or 1
        steps = largest(lambda n, base=base: _fits_at(demands, Fraction(n, base), room_bytes), ceiling=2**40)  # type: ignore[misc]
        if steps == 2**40:
            return None
        best = max(best, Fraction(steps, base))
    return best


def _fits_at(demands: tuple[Demand, ...], factor: Fraction, room_bytes: int) -> bool:
    total = 0
    for demand in demands:
        users = 0 if demand.member.users is None else scaled_up(demand.member.users * factor)
        part = demand.part_bytes(users)
        if demand.kept_bytes + demand.cache_bytes(users) > part:
            return False
        total += part
        if total > room_bytes:
            return False
    return True


def split(demands: tuple[Demand, ...], room_bytes: int) -> tuple[int | None, ...]:
    """The users of each member in the best split of the card; None for members whose part is fixed.

    Best means: first the largest factor that all members reach together (the smallest users / plan's users is as large as
    it can be), then the first member's users, then the second's, and so on, all in whole requests and whole blocks.
    Parts grow with users and do not depend on each other, so taking them in that order is exact.
    """
    factor = largest_scale(demands, room_bytes)
    factor = Fraction(1) if factor is None else factor
    free = [d.member.users is not None and d.engine is not None for d in demands]
    chosen = [scaled_up((d.member.users or 0) * factor) if own else 0 for d, own in zip(demands, free, strict=True)]
    for i, demand in enumerate(demands):
        if not free[i]:
            continue
        others = sum(d.part_bytes(chosen[j]) for j, d in enumerate(demands) if j != i)
        chosen[i] = max(chosen[i], _most(demand, room_bytes - others))
    return tuple(n if own else None for n, own in zip(chosen, free, strict=True))


def _most(demand: Demand, limit_bytes: int) -> int:
    """The most users whose part is at most `limit_bytes`."""

    def fits(users: int) -> bool:
        part = demand.part_bytes(users)
        return part <= limit_bytes and demand.kept_bytes + demand.cache_bytes(users) <= part

    found = largest(fits, ceiling=2**40)
    return 0 if found == 2**40 else found
