"""When a committee does not fit: single changes to its plan that make it fit, each tried before it is offered.

A change is a changed `Plan` value and the words that ask for it (`MEMBER.KEY=VALUE`); the plan's file is read once.
"""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.budget import gpu_memory, kept_free
from kvplan.domain.plan import Member, Plan
from kvplan.engines import deals_out, option_names, with_dtype
from kvplan.errors import KvplanError
from kvplan.questions.changes import SPLITS, larger_gpus, lighter_weights, narrower_dtypes
from kvplan.questions.commands import committee_command
from kvplan.questions.committee.result import Committee, Part
from kvplan.questions.fit.question import Fix
from kvplan.units import human_bytes, short_count

_SHORTEST = 1024  # tokens
_MOST_SPLIT = 8  # cards
#: Asks about a changed plan; raises KvplanError where it cannot be.
Ask = Callable[[Plan], Committee]


class Change(Struct, frozen=True, kw_only=True):
    """A change in words, as it is typed, and the plan that it makes."""

    words: str
    typed: Mapping[str, str]
    plan: Plan


def changes(answer: Committee, given: Mapping[str, str], scale: Fraction, ask: Ask) -> Iterator[Fix]:
    """The cheapest change of each kind that makes the plan fit, the least painful kind first.

    Fewer users for all, one narrower cache, one shorter context, one member's weights quantised, one member split over
    cards that are there, a larger card, more cards.

    Args:
        given: what already replaces the plan's values, for the command line.
        scale: the factor of all users.
        ask: answers a changed plan.
    """
    source = answer.plan.source
    if answer.scale:
        typed = committee_command(source, given, answer.scale)
        yield Fix(change=f"{answer.scale} of the plan's users", result="fits", command=typed)
    for kind in (_caches, _contexts, _weights, _splits, _cards, _more_cards):
        for change in kind(answer):
            found = _fitting(ask, change.plan)
            if found is not None:
                spare = f"fits, with {human_bytes(found.free_bytes)} to spare"
                yield Fix(change=change.words, result=spare, command=committee_command(source, {**given, **change.typed}, scale))
                break


def _fitting(ask: Ask, plan: Plan) -> Committee | None:
    """The changed plan's answer, if it fits."""
    try:
        answer = ask(plan)
    except KvplanError:
        return None
    return answer if answer.fits else None


def _of_member(answer: Committee, member: Member, changed: Member, key: str, value: str, words: str) -> Change:
    members = tuple(changed if other.name == member.name else other for other in answer.plan.members)
    return Change(words=words, typed={f"{member.name}.{key}": value}, plan=replace(answer.plan, members=members))


def _by_size(answer: Committee) -> Iterator[Part]:
    """The members with a predicted cache, the largest cache first."""
    yield from sorted((p for p in answer.parts if p.allocation is not None), key=lambda p: -p.cache_bytes)


def _caches(answer: Committee) -> Iterator[Change]:
    """One member's cache in a narrower type, the widest of them first."""
    for row_number in range(12):
        for part in _by_size(answer):
            member, narrower = part.member, narrower_dtypes(part.member.engine)
            if row_number < len(narrower):
                name = narrower[row_number].name
                changed = replace(member, options=with_dtype(member.engine, member.options, name))
                yield _of_member(answer, member, changed, "kv_dtype", name, f"{member.name}: its cache in {name}")


def _contexts(answer: Committee) -> Iterator[Change]:
    """One member's context halved until it fits."""
    for step in range(1, 12):
        for part in _by_size(answer):
            member, context = part.member, part.member.context >> step
            if context >= _SHORTEST:
                words = f"{member.name}: a context of {context:,} tokens"
                yield _of_member(answer, member, replace(member, context=context), "context", short_count(context), words)


def _weights(answer: Committee) -> Iterator[Change]:
    """One member's weights quantised, where its parameters are known; the mildest dtype over all members first."""
    found = [
        (dtype, -part.weights.bytes, part.member, line)
        for part in answer.parts
        for dtype, line in lighter_weights(part.member.model, part.member.weights, part.member.engine, answer.plan.gpu)
    ]
    order = {dtype: i for i, dtype in enumerate(dict.fromkeys(entry[0] for entry in found))}
    for dtype, _, member, line in sorted(found, key=lambda entry: (order[entry[0]], entry[1])):
        words = f"{member.name}: weights in {dtype}"
        yield _of_member(answer, member, replace(member, weights=line), "weights_dtype", dtype, words)


def _splits(answer: Committee) -> Iterator[Change]:
    """One member over more of the cards that are there."""
    for number in (n for n in SPLITS if n <= _MOST_SPLIT):
        for part in _by_size(answer):
            member = part.member
            fewer = member.tensor_parallel < number <= answer.plan.gpus // member.stages
            if fewer and not member.cards and _divides(member):
                yield _split(answer, member, number)
            elif number <= answer.plan.gpus and not member.cards and member.dealt_over and deals_out(member.engine):
                cards = tuple(range(number))
                words = f"{member.name}: its layers dealt out to {number} cards"
                yield _of_member(answer, member, replace(member, cards=cards), "cards", str(list(cards)), words)


def _split(answer: Committee, member: Member, number: int) -> Change:
    changed = replace(member, tensor_parallel=number)
    return _of_member(answer, member, changed, "tensor_parallel", str(number), f"{member.name}: split over {number} cards")


def _divides(member: Member) -> bool:
    return "tensor_parallel" in option_names(member.engine)


def _cards(answer: Committee) -> Iterator[Change]:
    """The vendor's cards with more memory, the smallest first; a plan that says its memory keeps it."""
    if answer.plan.memory.basis == "given":
        return
    for card in larger_gpus(answer.plan.gpu, answer.plan.memory.bytes):
        memory = gpu_memory(card)
        kept = kept_free(card, memory) if answer.plan.reserve.basis == "assumed" else answer.plan.reserve
        found = replace(answer.plan, gpu=card, memory=memory, reserve=kept)
        yield Change(words=f"a larger card ({found.hardware})", typed={"gpu": found.typed}, plan=found)


def _more_cards(answer: Committee) -> Iterator[Change]:
    """More cards of the same kind, the largest member split over them where that is needed."""
    if answer.plan.gpu.memory_kind != "discrete":
        return
    for number in (n for n in SPLITS if answer.plan.gpus < n <= _MOST_SPLIT):
        found = replace(answer.plan, gpus=number)
        more = Change(words=f"more cards ({found.hardware})", typed={"gpu": found.typed}, plan=found)
        yield more
        for part in _by_size(answer):
            member = part.member
            if _divides(member) and member.devices == member.tensor_parallel < number and not member.cards:
                split = _split(replace(answer, plan=found), member, number)
                words = f"{more.words}, {member.name} split over them"
                yield Change(words=words, typed={**more.typed, **split.typed}, plan=split.plan)
