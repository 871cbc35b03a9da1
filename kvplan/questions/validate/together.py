"""The caches of a whole committee on one device at the same time, each against its prediction.

A member that is split over cards has a cache for each. On a CPU those of all cards are allocated together; on a GPU of a node
those of the card with its number. A machine that has not the plan's card (a CPU, above all) gets the same plan with every
context divided by one factor, and if that is not enough every number of users by another; the report says which. Shapes keep
their heads and layers, so each tensor is still a prediction that can be wrong.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import Allocation
from kvplan.errors import DoesNotFit, InputError
from kvplan.questions.committee.demand import Demand
from kvplan.questions.committee.result import Committee, Part
from kvplan.questions.validate.allocate import Watch, allocated, unwatched
from kvplan.questions.validate.compare import BufferCheck, Check, compare
from kvplan.questions.validate.devices import Device
from kvplan.questions.validate.parts import parts_of
from kvplan.questions.validate.session import spendable_bytes
from kvplan.questions.validate.tensors import tensor_plan
from kvplan.units import GIB, ceil_div, human_bytes

#: The host's memory belongs to everything that runs there: without --limit no more is taken of it.
_CPU_LIMIT: Final = GIB
_SHORTEST: Final = 256  # tokens


class MemberCheck(Struct, frozen=True, kw_only=True):
    """One member's tensors for one card of the plan, as they were found on the device."""

    name: str
    card: int
    allocation: Allocation
    real_bytes: int
    tensors: int
    buffers: tuple[BufferCheck, ...]

    @property
    def predicted_bytes(self) -> int:
        """What the engine was predicted to allocate."""
        return self.allocation.allocated_bytes

    @property
    def passed(self) -> bool:
        """Whether every buffer has the predicted bytes."""
        return self.real_bytes == self.predicted_bytes and all(buffer.difference is None for buffer in self.buffers)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        a = self.allocation
        return {
            "name": self.name,
            "card": self.card,
            "model": a.model.name,
            "engine": a.engine,
            "kv_dtype": a.kv_dtype,
            "batch_size": a.workload.batch_size,
            "seq_len": a.workload.seq_len,
            "tensors": self.tensors,
            "predicted_bytes": self.predicted_bytes,
            "real_bytes": self.real_bytes,
            "equal": self.passed,
            "buffers": [buffer.to_dict() for buffer in self.buffers],
        }


class Together(Struct, frozen=True, kw_only=True):
    """What one device said of all members at once.

    Contexts were divided by `divisor` and users by `users_divisor` (rounded up); both 1 is the plan as it is.
    """

    committee: Committee
    device: str
    device_name: str
    torch_version: str
    divisor: int
    users_divisor: int
    members: tuple[MemberCheck, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every member and every exact figure of the device is equal."""
        return all(member.passed for member in self.members) and all(check.passed for check in self.checks)

    def on_card(self, member: MemberCheck) -> str:
        """Which card a member's figures are of, where the plan has several."""
        return f", card {member.card}" if self.committee.plan.gpus > 1 else ""

    def failure(self) -> str:
        """The first difference in one sentence; empty when there is none."""
        for member in self.members:
            sentence = next((b.sentence() for b in member.buffers if b.difference), "")
            if not member.passed:
                said = sentence or f"predicted {member.predicted_bytes:,} bytes, real {member.real_bytes:,}"
                return f"{member.name}{self.on_card(member)}: {said}"
        failed = next((check for check in self.checks if not check.passed), None)
        return f"{failed.name}: predicted {failed.predicted:,}, real {failed.real:,}" if failed else ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int."""
        return {
            "plan": self.committee.plan.source,
            "gpu": self.committee.plan.gpu.id,
            "device": self.device,
            "device_name": self.device_name,
            "torch_version": self.torch_version,
            "divisor": self.divisor,
            "users_divisor": self.users_divisor,
            "equal": self.passed,
            "members": [member.to_dict() for member in self.members],
            "checks": [check.to_dict() for check in self.checks],
        }


def validate_together(
    committee: Committee, device: Device, *, limit_bytes: int | None = None, watch: Watch = unwatched
) -> Together:
    """Allocate the cache of every member at once, measure, free, compare.

    Args:
        limit_bytes: take at most this much; a CPU takes at most 1 GiB unless told otherwise.
        watch: called with the bytes touched, as they are.

    Raises:
        DoesNotFit: even scaled down there is not enough memory.
        InputError: no member has a predicted cache.
    """
    ceiling = spendable_bytes(device)
    ceiling = min(ceiling, limit_bytes if limit_bytes is not None else _CPU_LIMIT if device.kind == "cpu" else ceiling)
    divisor, users_divisor, scaled = scaled_down(committee, device, ceiling)
    device.settle()
    before = device.snapshot()
    members: list[MemberCheck] = []
    sizes: list[int] = []
    with ExitStack() as held:
        for name, card, allocation in scaled:
            planned = tensor_plan(allocation)
            real = held.enter_context(allocated(planned, device, limit_bytes=ceiling, watch=watch))
            sizes += [tensor.predicted_bytes for tensor in planned]
            members.append(
                MemberCheck(
                    name=name,
                    card=card,
                    allocation=allocation,
                    real_bytes=sum(tensor.storage_bytes for tensor in real),
                    tensors=len(real),
                    buffers=compare(allocation, planned, real),
                )
            )
        device.synchronize()
        after = device.snapshot()
    freed = device.snapshot()
    return Together(
        committee=committee,
        device=device.name,
        device_name=device.description,
        torch_version=str(device.torch.__version__),
        divisor=divisor,
        users_divisor=users_divisor,
        members=tuple(members),
        checks=(*device.checks(before, after, sizes), *device.freed_checks(before, freed)),
    )


def cards_on(committee: Committee, device: Device) -> tuple[int, ...]:
    """The plan's cards that this device stands for: all of them, or on one GPU of a node the card of its number.

    Raises:
        InputError: the plan has no such card.
    """
    gpus = committee.plan.gpus
    if gpus == 1 or device.index is None:
        return tuple(range(gpus))
    if device.index >= gpus:
        raise InputError(
            f"{device.name} stands for card {device.index}, and the plan has {gpus}", hint=f"use a device below {gpus}"
        )
    return (device.index,)


def scaled_down(committee: Committee, device: Device, ceiling_bytes: int) -> tuple[int, int, list[tuple[str, int, Allocation]]]:
    """The caches of the plan, or of the largest smaller one that takes at most `ceiling_bytes`.

    Contexts are halved together as long as the longest keeps 256 tokens; then users are halved, and contexts again.

    Returns:
        What contexts and users were divided by, and each member's name, card and allocation there.

    Raises:
        DoesNotFit: not even one user each fits.
        InputError: no member has a predicted cache.
    """
    here = cards_on(committee, device)
    parts = [p for p in committee.parts if p.allocation is not None and p.users and not set(here).isdisjoint(p.cards)]
    if not parts:
        where = "" if len(here) == committee.plan.gpus else f" on card {here[0]}"
        raise InputError(f"no member of this plan has a cache to allocate{where}", hint="members with a model and users have one")
    longest, most = max(part.member.context for part in parts), max(part.users for part in parts)
    needed = 0
    for users_divisor in _powers(most):
        for divisor in _powers(max(1, longest // _SHORTEST)):
            smaller = [(part, _smaller(part, committee, divisor, users_divisor)) for part in parts]
            found = [
                (part.member.name, card, a)
                for part, whole in smaller
                for card, a in _by_card(part, committee, whole)
                if card in here
            ]
            needed = device.needed_bytes([tensor.predicted_bytes for *_, a in found for tensor in tensor_plan(a)])
            if needed <= ceiling_bytes:
                return divisor, users_divisor, found
    raise DoesNotFit(
        f"even scaled down the caches need {human_bytes(needed)}, and {device.name} may give {human_bytes(ceiling_bytes)}",
        hint="give «limit SIZE», or a device with more memory",
    )


def _by_card(part: Part, committee: Committee, whole: Allocation) -> Iterator[tuple[int, Allocation]]:
    """A member's cache on each of its cards: the same on all, or what layers were dealt out to each."""
    if part.spread is None:
        yield from ((card, whole) for card in part.cards)
        return
    member = replace(part.member, context=whole.workload.seq_len)
    dealt = Demand(member, committee.plan).dealt
    held = parts_of(whole, dealt.at(whole.workload.batch_size)) if dealt is not None else ()
    names = [place.device for place in part.spread.devices]
    for each in held:
        if each.place.card:
            yield part.cards[names.index(each.place.device)], each.allocation


def _powers(top: int) -> Iterator[int]:
    """1, 2, 4 … up to the first that reaches `top`."""
    power = 1
    yield power
    while power < top:
        power *= 2
        yield power


def _smaller(part: Part, committee: Committee, divisor: int, users_divisor: int) -> Allocation:
    """A member's cache with its context and users divided."""
    member = replace(part.member, context=max(1, part.member.context // divisor))
    found = Demand(member, committee.plan).footprint(ceil_div(part.users, users_divisor))
    if not isinstance(found, Allocation):
        raise InputError(f"{part.member.name}: its cache at a smaller scale is not predicted", hint="validate on the plan's card")
    return found
