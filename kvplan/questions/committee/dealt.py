"""A member whose layers are dealt out: what its process takes of each of its cards, by the engine's own places."""

from kvplan.domain.ledger import Line, total
from kvplan.domain.plan import Member, Plan
from kvplan.domain.spread import Place, Spread
from kvplan.engines import ABOUTS, about, deals_out, engine_name, located
from kvplan.engines.kernel.engine import Engine
from kvplan.questions.placement.making import card_of, spread_over

#: Lines of a device that are its caches and states.
CACHED = frozenset({"cache", "state"})


def is_dealt(member: Member) -> bool:
    """Whether a member is asked about by device: it names several cards, or its options say where things lie."""
    if member.model is None or member.cache_bytes is not None or not member.dealt_over:
        return False
    if engine_name(member.engine) not in ABOUTS or not deals_out(member.engine):
        return False
    if len(member.cards) > 1:
        return True
    return bool(member.options) and bool(set(located(about(member.engine).spread).PLACING) & set(member.options))


def split_option(member: Member) -> dict[str, str]:
    """Equal shares, where nobody says others: what is free when it starts depends on who started before."""
    shares = about(member.engine).roles.get("shares", "")
    if len(member.cards) < 2 or not is_dealt(member) or not shares or shares in member.options:
        return {}
    return {shares: ",".join("1" for _ in member.cards)}


class Dealt:
    """One member over its cards; every answer is kept."""

    def __init__(self, member: Member, plan: Plan, engine: Engine) -> None:
        """`engine` has the member's options.

        Raises:
            Refused: the engine does not run the model so.
        """
        self.member = member
        given = plan.memory.bytes if plan.memory.basis == "given" else None
        cards = [card_of(plan.gpu, given) for _ in range(member.dealt_over)]
        dtype = member.weights_dtype or None
        assert member.model is not None  # noqa: S101 - `is_dealt`
        self._spreading = spread_over(member.model, engine, cards, member.weights, dtype)
        self._spreads: dict[int, Spread] = {}

    def at(self, users: int) -> Spread:
        """Everything, device by device.

        Raises:
            Refused: the engine does not start so.
        """
        if users not in self._spreads:
            self._spreads[users] = self._spreading.at(self.member.context, max(users, 1))
        return self._spreads[users]

    def by_card(self, users: int) -> tuple[int, ...]:
        """Bytes of each card, come what may; without users, of all but the cache. One that the engine leaves out has none."""
        held = self.at(users).devices
        sizes = [self._need(place) - (0 if users else cached(place).high) for place in held]
        return (*sizes, *(0 for _ in range(self.member.dealt_over - len(held))))

    def _need(self, place: Place) -> int:
        """What one card needs: all of its lines, or weights and cache beside the reserve that the plan says."""
        if self.member.reserve is None or not place.needed.bytes:
            return place.needed.high
        return weighed(place).high + cached(place).high + self.member.reserve.bytes


def weighed(place: Place) -> Line:
    """The weights on a device."""
    return total("weights", (line for line in place.lines if line.name == "weights"))


def cached(place: Place) -> Line:
    """The caches and states of a device."""
    return total("cache", (line for line in place.lines if line.name in CACHED))
