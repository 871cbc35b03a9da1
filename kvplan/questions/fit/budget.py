"""What one device has left for a cache: its memory, and every line that is taken before, each with its origin. Pure.

The engine's ledger where its lines are known, else its weights and one assumed line. `fit`, `reserve`, `receipt` and
committees start from here; what a budget then holds is asked of `kvplan.questions.fit.room`.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, Literal

from msgspec.structs import replace

from kvplan.architectures.describe import describe
from kvplan.architectures.weights import stored_weights
from kvplan.domain.budget import (
    Budget,
    given_memory,
    given_reserve,
    gpu_memory,
    not_lent,
    share_of_weights,
    shares,
    unused,
    unused_words,
)
from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Ledger, Line, total
from kvplan.domain.machine import Machine
from kvplan.domain.workload import Workload
from kvplan.engines import ABOUTS, about, make_engine, option_names
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Prepared
from kvplan.errors import OptionError, Refused, printable, shown
from kvplan.questions.fit.question import Question
from kvplan.questions.fit.room import Room
from kvplan.units import MAX_COUNT, ceil_div, human_bytes

#: Lines that are loaded with the model.
LOADED: Final = frozenset({"weights", "LoRA slots", "drafter"})
_CONTRADICTION: Final = 0.1
Side = Literal["bytes", "low", "high"]
SIDES: Final[tuple[Side, ...]] = ("bytes", "low", "high")


def budget_of(q: Question) -> Budget:
    """One device's budget, each line with its origin: the engine's ledger where its lines are known.

    Of a server it is that of the requests at once that are asked of one replica, else of the engine's default.
    """
    return Budgets(q).first


class Budgets:
    """The budgets of one question, each worked out once: by how many requests at once its server is told to run, or by the
    requests that it holds and their length, for an engine that keeps nothing for them before.
    """

    def __init__(self, q: Question) -> None:
        self.question = q
        self._known: dict[tuple[int, int], Budget] = {}

    @cached_property
    def _plain(self) -> Budget:
        """The budget without a ledger: it is the same for every number of requests."""
        return _plain_budget(self.question)

    @cached_property
    def _started(self) -> Prepared | None:
        return prepared_of(self.question, self._plain)

    @cached_property
    def by_requests(self) -> bool:
        """Whether lines depend on the requests that are held, and on their length."""
        return self._started is not None and self._started.by_requests and self.question.reserve_bytes is None

    @cached_property
    def first(self) -> Budget:
        """As the question has it."""
        return self._made(self._started, self.question.each or 1, self.question.context or 1)

    def at(self, sequences: int, context: int = 0) -> Budget:
        """The budget of a server that is told so many, or of so many requests; the first one's where no line depends on it."""
        q = self.question
        told = about(q.engine).roles.get("sequences", "")
        if not self.by_requests and (not told or told in q.options or self.first.ledger is None):
            return self.first
        if not self.by_requests and sequences in {0, q.each}:
            return self.first
        key = (sequences or 1, (context or q.context or 1) if self.by_requests else 0)
        if key not in self._known:
            prepared = self._started if self.by_requests else prepared_of(q, self._plain, sequences)
            self._known[key] = self._made(prepared, *key)
        return self._known[key]

    def _made(self, prepared: Prepared | None, sequences: int, context: int) -> Budget:
        q = self.question
        if prepared is None:
            return self._plain
        tensors = describe(q.model, getattr(prepared.engine.options, "draft", None))
        workload = Workload(
            batch_size=min(sequences, MAX_COUNT), seq_len=min(max(context, 1), MAX_COUNT), encoder_len=q.encoder_len
        )
        found = prepared.ledger_of(self._machine, tensors, workload)
        if found is None:
            return self._plain
        found = _overridden(q, found)
        if prepared.by_requests:
            return _of_ledger(q, _within(found, self._plain), "", self._plain.unused)
        return _of_ledger(q, found, prepared.too_little_free(found, self._machine))

    @cached_property
    def _machine(self) -> Machine:
        q = self.question
        return Machine(gpu=q.gpu, given=q.given_bytes, learned=q.learned, free=q.free)

    def left(self, side: Side = "bytes") -> Callable[[int, int], int]:
        """What is left for the cache, at its best value or at an end of its band, by the requests and their length."""

        def amount(sequences: int, context: int) -> int:
            line = self.at(sequences, context).cache
            return line.low if side == "low" else line.high if side == "high" else line.bytes

        return amount


def _within(found: Ledger, plain: Budget) -> Ledger:
    """The ledger of an engine that is told no share of the card, within the share that whoever asks gives it."""
    if plain.unused.bytes == 0:
        return found
    best, low, high = (int(getattr(found.total, side) * plain.utilization) for side in SIDES)
    return replace(found, requested=replace(found.requested, bytes=best, low=low, high=high))


def prepared_of(q: Question, plain: Budget, sequences: int | None = None) -> Prepared | None:
    """The engine as the question would start it, where it can be."""
    options = told_options(q, plain)
    limit = about(q.engine).roles.get("context", "")
    told = about(q.engine).roles.get("sequences", "")
    most = sequences or q.each
    if most and most < MAX_COUNT and told in option_names(q.engine):  # a model without a cache has no most
        options.setdefault(told, most * q.inside)
    share = about(q.engine).roles.get("utilization", "")
    if q.context is not None and limit in option_names(q.engine):
        options.setdefault(limit, q.context)
    if q.utilization is not None and share in option_names(q.engine):
        options[share] = q.utilization
    try:
        return make_engine(q.engine, options).on(q.model)
    except Refused:
        return None


def _overridden(q: Question, found: Ledger) -> Ledger:
    """The ledger with the lines that whoever asks knows better."""
    lines = list(found.lines)
    if found.line("weights") is None:  # an engine that cannot count them
        lines.insert(0, _share(q, found))
    if q.weights_given or q.weights.basis == "given":
        given = _share(q, found)
        lines = [given if line.name == "weights" else line for line in lines]
    elif q.weights.basis == "measured":  # a checkpoint is at hand: where its size contradicts the config, the file is right
        measured = _share(q, found)
        lines = [measured if line.name == "weights" and contradicts(line, measured) else line for line in lines]
    if q.reserve_bytes is not None:
        lines = [line for line in lines if line.name in LOADED] + [given_reserve(q.reserve_bytes)]
    return replace(found, lines=tuple(lines))


def _share(q: Question, found: Ledger) -> Line:
    """One device's part of weights that were told as a whole: with data ranks, in the proportion of what the config counts."""
    line, counted = found.line("weights"), stored_weights(q.model) if q.ranks > 1 else None
    if q.ranks == 1 or line is None:
        return share_of_weights(q.weights, q.devices)
    if counted is None:
        return line
    size = ceil_div(line.bytes * q.weights.bytes, counted.bytes)
    return replace(q.weights, bytes=size, low=size, high=size, source=f"{q.weights.source}; a data rank's part of it")


def contradicts(line: Line, measured: Line) -> bool:
    """Whether weights were told that are of another format than the config's, beyond what layouts and rounding explain."""
    return abs(line.bytes - measured.bytes) > _CONTRADICTION * max(line.bytes, measured.bytes)


def _of_ledger(q: Question, found: Ledger, refused: str, unused: Line | None = None) -> Budget:
    """A budget whose every line is the engine's own; `unused`: what is left alone of the card, in the words of who says so."""
    memory = replace(found.total, name=f"GPU memory ({q.gpu.id})")
    name = q.engine.partition("@")[0]
    if found.told is not None:
        if q.learned.cache == found.told.bytes:
            found = replace(found, told=replace(found.told, basis=q.learned.basis, source=q.learned.source))
        left = total("left", (found.total, found.taken.negative(), found.available.negative()))
        refused = refused or _too_much(found, left)
        left = replace(left, name=unused_words(name, left.bytes / max(1, found.total.bytes)), source="what is left")
    else:
        left = Line(
            name=unused_words(name, 1 - found.requested.bytes / max(1, found.total.bytes)),
            bytes=found.total.bytes - found.requested.bytes,
            basis=found.requested.basis,
            source=found.requested.source,
        )
    if unused is not None:
        left = replace(unused, bytes=left.bytes, low=left.bytes, high=left.bytes)
    loaded = total("weights", (line for line in found.lines if line.name in LOADED))
    rest = total("activations and runtime", (line for line in found.lines if line.name not in LOADED))
    share = found.requested.bytes / max(1, found.total.bytes)
    return Budget(
        memory=memory, utilization=round(share, 4), unused=left, weights=loaded, reserve=rest, ledger=found, refused=refused
    )


def _too_much(found: Ledger, left: Line) -> str:
    """Why a cache of so many bytes, as it was told, does not lie on the card beside the rest; empty where it does."""
    if left.bytes >= 0:
        return ""
    return (
        f"{human_bytes(found.available.bytes)} for the cache as told, beside {human_bytes(found.taken.bytes)} of the rest: "
        f"{human_bytes(-left.bytes)} more than the card has"
    )


def _plain_budget(q: Question) -> Budget:
    """A budget with one assumed line for all that is neither weights nor cache."""
    name = q.engine.partition("@")[0]
    memory = gpu_memory(q.gpu) if q.memory_bytes is None else given_memory(q.gpu.id, q.memory_bytes)
    share, left = _left_alone(q, name, memory)
    reserve = assumed_reserve(name) if q.reserve_bytes is None else given_reserve(q.reserve_bytes)
    # nobody knows which part the data ranks share: each is taken to hold all of it
    weights = share_of_weights(q.weights, q.devices if q.inside == q.ranks else q.tensor_parallel * q.pipeline)
    known = q.learned.context
    if known is None or q.reserve_bytes is not None:
        return Budget(memory=memory, utilization=share, unused=left, weights=weights, reserve=reserve)
    context = Line(name="context", bytes=known, basis=q.learned.basis, source=q.learned.source)
    rest = max(0, reserve.bytes - known)  # what is assumed has a context in it
    reserve = replace(reserve, bytes=rest, low=rest, high=rest, source=f"{reserve.source}, less the context")
    return Budget(memory=memory, utilization=share, unused=left, weights=weights, reserve=reserve, context=context)


def assumed_reserve(engine: str) -> Line:
    """What an engine needs beside weights and cache, unless told otherwise."""
    found = ABOUTS[engine].reserve if engine in ABOUTS else About(name="").reserve
    return Line(name="activations and runtime", bytes=found.bytes, basis="assumed", source=found.reason)


def _left_alone(q: Question, engine: str, memory: Line) -> tuple[float, Line]:
    """The utilization: what was asked, the engine's own default, or all of it."""
    if _measures_itself(engine):
        share = _own_share(q, engine)
        return share, unused(memory, 1.0, "assumed", f"{engine} takes {share:g} of what the weights leave", engine)
    if q.utilization is not None:
        return q.utilization, unused(memory, q.utilization, "given", "--utilization", engine)
    option = about(engine).roles.get("utilization", "")
    if option in q.options:
        given = utilization_from(q.options[option])
        return given, unused(memory, given, "given", f"--set {option}", engine)
    if q.gpu.vendor == "apple" or (shares(q.gpu) and not option):
        kept = not_lent(q.gpu, memory)
        return 1 - kept.bytes / memory.bytes, kept
    own = make_engine(q.engine, _machine(q, memory.bytes)).utilization(q.model) if option else None
    if own is not None:
        return own, unused(memory, own, "assumed", f"{engine}'s default utilization {own:g}", engine)
    return 1.0, unused(memory, 1.0, "assumed", f"{engine} takes what it needs", engine)


def _measures_itself(engine: str) -> bool:
    """Whether the engine's share is of what is free once the weights are loaded: its pool then takes it."""
    known = about(engine)
    return known.share.meaning == "of free after loading" and "utilization" in known.roles


def _own_share(q: Question, engine: str) -> float:
    """The share that such an engine is told, or takes."""
    option = about(engine).roles["utilization"]
    if q.utilization is not None:
        return q.utilization
    return utilization_from(q.options.get(option, make_engine(q.engine, {}).utilization(q.model)))


def utilization_from(value: Any) -> float:
    """A share between 0 and 1 from text or a number.

    Raises:
        OptionError: it is not one.
    """
    try:
        share = float(value)
    except (TypeError, ValueError, OverflowError):
        share = 0.0
    if not 0 < share <= 1:
        said = f"`{printable(value.strip(), 40)}`" if isinstance(value, str) else shown(value)
        raise OptionError(f"«utilization»: expected a share above 0 and at most 1, got {said}", hint="0.9 is nine tenths")
    return share


def room_of(budgets: Budgets, side: Side = "bytes") -> Room:
    """The cache budget, at its best value or at an end of its band, as the engine sees it."""
    q = budgets.question
    told = told_options(q, budgets.first)
    return Room(
        q.model,
        q.engine,
        told,
        budgets.left(side),
        encoder_len=q.encoder_len,
        maker=q.gpu.vendor,
        together=q.inside,
        by_requests=budgets.by_requests,
    )


def told_options(q: Question, budget: Budget) -> dict[str, Any]:
    """The engine's options; an engine whose options describe the machine is told which it is.

    Raises:
        OptionError: the engine does not split a model.
    """
    return _machine(q, budget.memory.bytes)


def _machine(q: Question, memory_bytes: int) -> dict[str, Any]:
    told = machine_options(q.engine, q.gpu, memory_bytes, q.options)
    if q.tensor_parallel > 1:
        if "tensor_parallel" not in option_names(q.engine):
            raise OptionError(
                f"engine {q.engine} does not split a model over devices here",
                hint="use one GPU, or an engine with tensor parallelism (`kvplan engines`)",
            )
        told["tensor_parallel"] = q.tensor_parallel
    if q.utilization is not None and _measures_itself(q.engine):
        told[about(q.engine).roles["utilization"]] = q.utilization
    cache = about(q.engine).roles.get("cache", "")
    if q.learned.cache is not None and cache and cache not in q.options and _taken_over(q):
        told[cache] = q.learned.cache
    return {**q.options, **told}


def _taken_over(q: Question) -> bool:
    """Whether an earlier start's cache is taken over: as much is free as then."""
    return not q.free or min(q.free) >= q.learned.baseline


def machine_options(engine: str, gpu: Gpu, memory_bytes: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine looks up on the machine, for those whose options say it, where nobody has said otherwise."""
    roles = about(engine).roles
    machine: dict[str, Any] = {
        roles.get("memory", ""): memory_bytes,
        roles.get("device_name", ""): gpu.driver_name or gpu.id,
        roles.get("compute_capability", ""): gpu.capability,
    }
    return {key: value for key, value in machine.items() if key and value and key not in given}
