"""What each member of a committee takes of a card, as a function of its users."""

from fractions import Fraction
from typing import Any, Final

from kvplan.architectures.describe import describe
from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.budget import share_of_weights
from kvplan.domain.ledger import Ledger, Line, total
from kvplan.domain.machine import Machine
from kvplan.domain.model import Model
from kvplan.domain.plan import Member, Plan
from kvplan.domain.pool import Pool
from kvplan.domain.workload import Workload
from kvplan.engines import ABOUTS, PREDICTED, engine_name, make_engine, option_names, predicted, share_of
from kvplan.engines.kernel.engine import Engine, Prepared, Served, footprint
from kvplan.engines.kernel.search import largest
from kvplan.engines.kernel.tensors import At
from kvplan.errors import OptionError, Refused, SpecError, nearest
from kvplan.questions.committee.dealt import Dealt, is_dealt, split_option
from kvplan.questions.committee.placing import Item
from kvplan.questions.committee.shares import of_total
from kvplan.questions.fit.budget import LOADED, assumed_reserve, contradicts, machine_options
from kvplan.units import MAX_COUNT, ceil_div

#: Lines of a ledger that a process takes of the card beside the fraction that it is given.
_CAPTURED: Final = "CUDA graphs, captured"
_ESTIMATED: Final = "CUDA graphs, estimated"
_OUTSIDE: Final = frozenset({"context", _CAPTURED})
#: More memory than any card has: a server's block size does not depend on it.
_AMPLE: Final = 2**50


class Demand:
    """What one member takes of each of its cards as a function of its users; every answer is kept.

    Monotone in the users, so that the largest number under a limit is found by bisection.
    """

    def __init__(self, member: Member, plan: Plan, *, like: "Demand | None" = None) -> None:
        """`like` is a member that differs in nothing that the engine sees: what it has found out holds here too."""
        self.member = member
        self._plan = plan
        self.total_bytes = plan.memory.bytes
        self._maker = plan.gpu.vendor
        self.weights = share_of_weights(member.weights, member.devices)
        self.reserve = member.reserve or assumed_reserve(engine_name(member.engine))
        self._caches: dict[int, int] = {} if like is None else like._caches
        self._pool: Pool | None = None if like is None else like._pool
        self._reserves: dict[int, Line] = {}  # by users, of an engine that keeps nothing for them before
        self._machine: Machine | None = None
        self.outside_bytes = 0  # what its process takes beside what its fraction counts
        self.ledger: Ledger | None = None if like is None else like.ledger
        if like is not None:
            self.engine: Prepared | None = like.engine
        else:
            self.engine = None if member.model is None or member.cache_bytes is not None else self._prepared(member.model, plan)
            if self.engine is not None and member.model is not None:
                self.ledger = self._ledger(self.engine, member.model, plan, member.users)
        self.dealt: Dealt | None = like.dealt if like is not None else self._dealt()
        if self.ledger is not None:
            self._by_ledger(self.ledger)
        self.aside_bytes = 0  # what its server keeps free itself, a part of its reserve
        if isinstance(self.engine, Served) and member.reserve is None:
            self._set_aside(self.engine)
        if like is not None:
            return
        if isinstance(self.engine, Served):
            found = self.engine.pool(_AMPLE)
            self._pool = found if found.block_bytes else None

    def _set_aside(self, server: Served) -> None:
        self.aside_bytes = server.aside_bytes(At(self.member.context, self.member.users or 1, self.member.encoder_len))
        if self.aside_bytes:
            own = Line(name="set aside", bytes=self.aside_bytes, basis="derived", source=f"{server.engine.name} keeps it free")
            self.reserve = total("activations and runtime", [self.reserve, own])

    @staticmethod
    def seen(member: Member) -> tuple[Any, ...]:
        """What the engine sees of a member: equal for members whose caches are alike."""
        options = tuple(sorted((key, repr(value)) for key, value in member.options.items()))
        return (
            member.engine,
            member.model,
            member.cache_bytes,
            member.context,
            member.users,
            member.tensor_parallel,
            member.encoder_len,
            (member.weights, member.reserve, len(member.cards)) if is_dealt(member) else None,
            options,
        )

    def _dealt(self) -> Dealt | None:
        """Its places, of a member whose layers are dealt out."""
        if self.engine is None or not is_dealt(self.member):
            return None
        try:
            found = Dealt(self.member, self._plan, self.engine.engine)
            found.at(1)
        except Refused as problem:
            where = self.member.where("options")
            raise SpecError(f"{where}: {self.member.name} is not predicted: {problem.reason}", hint=problem.see) from problem
        return found

    def _ledger(self, prepared: Prepared, model: Model, plan: Plan, users: int | None) -> Ledger | None:
        """Every line of its process, where the engine's are known: of one that is told to run its users at once."""
        if users and "sequences" in ABOUTS[engine_name(self.member.engine)].roles:
            try:
                prepared = _engine(self.member, plan, users).on(model)
            except Refused:
                return None
        tensors = describe(model, getattr(prepared.engine.options, "draft", None))
        given = plan.memory.bytes if plan.memory.basis == "given" else None
        machine = self._machine = self._machine or Machine(gpu=plan.gpu, given=given, learned=plan.learned)
        workload = Workload(batch_size=users or 1, seq_len=self.member.context, encoder_len=self.member.encoder_len)
        return prepared.ledger_of(machine, tensors, workload)

    def most_of_share(self) -> int:
        """The most users that its share holds, of a server that is told to run as many."""
        most = self.most_users(self.part_bytes(0))
        if self.engine is None or self.member.model is None or self.member.users is not None or self.ledger is None:
            return most
        if self.engine.by_requests:
            return most
        for _ in range(4):  # what it holds hardly depends on what it is told
            found = self._ledger(self.engine, self.member.model, self._plan, most)
            if found is None:
                return most
            self.ledger = found
            self._by_ledger(found)
            again = self.most_users(self.part_bytes(0))
            if again == most:
                break
            most = again
        return most

    def _by_ledger(self, found: Ledger) -> None:
        """Weights and reserve as the ledger has them, where nobody gave others.

        A context, and graphs that are captured after the cache, stand outside what a fraction of the card counts.
        """
        self.total_bytes = found.total.bytes  # what the engine's fraction is of
        parts = [line for line in found.lines if line.name in LOADED]
        loaded = parts[0] if len(parts) == 1 else total("weights", parts)
        if self.weights.basis != "given" and not contradicts(loaded, self.weights):
            self.weights = loaded
        if self.member.reserve is None:
            kept = any(line.name == _ESTIMATED for line in found.lines)  # then captures have their place in the fraction
            outside = [line for line in found.beside if line.name in _OUTSIDE and not (kept and line.name == _CAPTURED)]
            self.outside_bytes = sum(line.bytes for line in outside)
            rest = [line for line in found.lines if line.name not in LOADED]
            self.reserve = total("activations and runtime", [*rest, *outside])

    def _prepared(self, model: Model, plan: Plan) -> Prepared:
        """The engine on the member's model; what it refuses is said with the plan's line."""
        member = self.member
        try:
            prepared = _engine(member, plan).on(model)
            prepared.check(At(member.context, 1, member.encoder_len))
        except OptionError as problem:
            raise _at_option(member, problem) from problem
        except Refused as problem:
            key = "tensor_parallel" if "tensor_parallel" in problem.reason and "tensor_parallel" in member.lines else "model"
            raise SpecError(
                f"{member.where(key)}: {member.name} is not predicted: {problem.reason}", hint=problem.see
            ) from problem
        return prepared

    def reserve_for(self, users: int) -> Line:
        """What it takes beside weights and cache with that many users."""
        prepared, model, users = self.engine, self.member.model, max(users, 1)
        if prepared is None or model is None or not prepared.by_requests or self.member.reserve is not None:
            return self.reserve
        if users not in self._reserves:
            found = self._ledger(prepared, model, self._plan, users)
            self._reserves[users] = self.reserve if found is None else _beside_weights(found)
        return self._reserves[users]

    def kept_bytes(self, users: int) -> int:
        """What it takes of a card before its cache; of the fullest where its layers are dealt out."""
        if self.dealt is not None:
            return max(self.dealt.by_card(0))
        return self.weights.bytes + self.reserve_for(users).bytes

    def footprint(self, users: int) -> Allocation | NotPredicted | None:
        """One card's cache of that many users, or None for a member whose cache was given."""
        if self.engine is None:
            return None
        workload = Workload(batch_size=users, seq_len=self.member.context, encoder_len=self.member.encoder_len)
        try:
            return footprint(self.engine, workload, self._maker)
        except Refused as problem:
            return NotPredicted(reason=problem.reason, see=problem.see)

    def cache_bytes(self, users: int) -> int:
        """Bytes of one card's cache in whole blocks, the blocks that no request gets included."""
        if self.dealt is not None:
            return self._dealt_bytes(users) - self.kept_bytes(users)
        if self.engine is None:
            return self.member.cache_bytes or 0
        if users not in self._caches:
            size = self._total(users) if users else 0
            needed = self._needed(users) if size else None
            if needed is not None:
                size = needed
            elif self._pool is not None:
                size = (ceil_div(size, self._pool.block_bytes) + self._pool.null_blocks) * self._pool.block_bytes
            self._caches[users] = size
        return self._caches[users]

    def _total(self, users: int) -> int:
        if self.engine is None:
            return 0
        at = At(self.member.context, users, self.member.encoder_len)
        try:
            self.engine.check(at)
            return self.engine.most_bytes(at)
        except Refused:
            return 0

    def _needed(self, users: int) -> int | None:
        """What several pools take that hold that many users; None where the blocks of one say it."""
        if not isinstance(self.engine, Served):
            return None
        return self.engine.needed(At(self.member.context, users, self.member.encoder_len))

    def _dealt_bytes(self, users: int) -> int:
        """What the fullest card needs; more than any has where so many do not start."""
        try:
            return max(self.dealt.by_card(users)) if self.dealt is not None else 0
        except Refused:
            return _AMPLE

    def part_bytes(self, users: int) -> int:
        """What the engine takes of each of its cards when it is told to hold that many users."""
        needed = self.kept_bytes(users) + self.cache_bytes(users)
        if self.member.share is not None:
            return int(self.total_bytes * Fraction(str(self.member.share))) + self.outside_bytes
        if share_of(self.member.engine).meaning != "of total":
            return needed
        return of_total(needed - self.outside_bytes, self.total_bytes)[1] + self.outside_bytes

    def item(self, users: int) -> Item:
        """Its part with that many users, as something to be placed on cards."""
        if self.dealt is not None:
            return self._dealt_item(users)
        return Item(bytes=self.part_bytes(users), devices=self.member.devices, pinned=self.member.cards)

    def _dealt_item(self, users: int) -> Item:
        part, pinned = self.part_bytes(users), self.member.cards
        if part >= _AMPLE or self.member.share is not None or len(pinned) < 2 or self.dealt is None:
            return Item(bytes=part, devices=self.member.dealt_over, pinned=pinned)
        return Item(bytes=part, devices=len(pinned), pinned=pinned, by_card=self.dealt.by_card(users))

    def most_users(self, limit_bytes: int) -> int:
        """The most users whose weights, reserve and cache take at most `limit_bytes`."""
        if self.engine is None or self.kept_bytes(0) + self.cache_bytes(0) > limit_bytes:
            return 0
        found = largest(lambda users: self.kept_bytes(users) + self.cache_bytes(users) <= limit_bytes)
        return 0 if found == MAX_COUNT else found


def _beside_weights(found: Ledger) -> Line:
    """Everything of a process that is not loaded with the model."""
    return total("activations and runtime", [line for line in found.lines if line.name not in LOADED])


def member_options(member: Member, plan: Plan) -> dict[str, Any]:
    """The options that the member's engine gets: its own, how its model is split, and what the machine is."""
    machine = machine_options(member.engine, plan.gpu, plan.memory.bytes, member.options)
    split = {"tensor_parallel": member.tensor_parallel} if member.tensor_parallel > 1 else {}
    return {**split_option(member), **member.options, **machine, **split}


def _engine(member: Member, plan: Plan, sequences: int | None = None) -> Engine:
    """The member's engine, told to run so many requests at once; complaints about its name and options get the plan's line."""
    if not member.engine:
        raise SpecError(f"{member.where('')}: {member.name} needs `engine`", hint=f"one of {', '.join(PREDICTED)}")
    try:
        known_of = predicted(member.engine)
    except OptionError as problem:
        given = f"; {member.engine} can stand here with `cache: SIZE`" if engine_name(member.engine) in ABOUTS else ""
        raise SpecError(f"{member.where('engine')}: {problem}", hint=problem.hint + given) from problem
    known = option_names(member.engine)
    if member.tensor_parallel > 1 and "tensor_parallel" not in known:
        raise SpecError(
            f"{member.where('tensor_parallel')}: engine {member.engine} does not split a model over cards here",
            hint="give it one card, or an engine with tensor parallelism (`kvplan engines`)",
        )
    for key in member.options:
        if key in {"tensor_parallel", known_of.roles.get("tensor_parallel")}:
            raise SpecError(
                f"{member.where('options')}: how many cards split {member.name} is not one of its `options`",
                hint=f"write `tensor_parallel: {member.options[key]}` beside them",
            )
        if key not in known:
            near = nearest(key, known)
            raise SpecError(
                f"{member.where('options')}: engine {member.engine} has no option `{key[:60]}`",
                hint=f"did you mean `{near}`?" if near else "see `kvplan engines`",
            )
    options = member_options(member, plan)
    if "context" in known_of.roles:
        options.setdefault(known_of.roles["context"], member.context)
    if sequences is not None:
        options.setdefault(known_of.roles["sequences"], sequences)
    try:
        return make_engine(member.engine, options)
    except OptionError as problem:
        raise _at_option(member, problem) from problem


def _at_option(member: Member, problem: OptionError) -> SpecError:
    """An engine's complaint, with the line of the option that it is about."""
    roles = {own: role for role, own in ABOUTS[engine_name(member.engine)].roles.items()}
    word = roles.get(problem.option, problem.option)
    key = word if word in member.lines else "options"
    return SpecError(f"{member.where(key)}: {problem}", hint=problem.hint)
