"""What `kvplan committee` shows: the verdict, who takes what, how to start them, and what would make it fit."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.tables import Column, Table
from kvplan.engines import ABOUTS, engine_name
from kvplan.questions.committee.dealt import cached, weighed
from kvplan.questions.committee.result import Committee, Part
from kvplan.report.blocks import Block, Fix, Fixes, Notes, Rows, Section, Steps, Verdict, View
from kvplan.units import human_bytes

#: The columns of the CSV: one row a member.
CSV_COLUMNS = (
    "plan", "gpu", "plan_fits", "name", "model", "engine", "engine_version", "kv_dtype", "context", "users", "weights_bytes",
    "weights_basis", "reserve_bytes", "reserve_basis", "cache_bytes", "slack_bytes", "bytes", "fits", "start", "meaning", "flag",
    "evidence", "gpus", "cards", "environment",
)  # fmt: skip


#: Variables before a program: `VLLM_KV_CACHE_LAYOUT=HND vllm serve …`.
_VARIABLES: Final = re.compile(r"^([A-Z][A-Z0-9_]*=\S+ )+")


def _is_command(part: Part) -> bool:
    """Whether its flag is a command line, before which its environment can stand."""
    known = ABOUTS.get(engine_name(part.member.engine))
    if not known or not known.program:
        return False
    return part.flag.startswith(known.program) or _VARIABLES.sub("", part.flag).startswith(known.program)


class CommitteeAnswer(Struct, frozen=True):
    """What several models take of a card or node."""

    key: ClassVar[str] = "committee"
    committee: Committee

    def dicts(self) -> dict[str, Any]:
        """One object for all."""
        return self.committee.to_dict()

    def rows(self) -> Rows:
        """One row a member."""
        return CSV_COLUMNS, _csv_rows(self.committee)

    def blocks(self, view: View) -> list[Block]:
        """The verdict, who takes what, how to start them or what would make it fit."""
        c = self.committee
        blocks: list[Block] = [Verdict(verdict(c), yes=c.fits), parts_table(c)]
        if c.fits:
            blocks.append(Steps(tuple(_start(c))))
        if c.changes:
            blocks.append(Fixes([Fix(x.change, x.result, x.command) for x in c.changes]))
        return [Section(blocks=[*blocks, Notes(tuple(_notes(c)))])]


def verdict(committee: Committee) -> str:
    """The answer in one line."""
    plan, count = committee.plan, len(committee.parts)
    members = f"{count} member{'s' if count > 1 else ''}"
    one = "" if count > 1 else "s"
    taken = f"{human_bytes(committee.total_bytes)} of {human_bytes(committee.memory_bytes)}"
    if committee.fits:
        return f"FITS on {plan.hardware}: {members} take{one} {taken}{_growth(committee)}"
    if committee.missing_bytes:
        missing = human_bytes(-committee.free_bytes if committee.free_bytes < 0 else committee.missing_bytes)
        where = "too much" if committee.free_bytes < 0 else "too much for one card, however they are placed"
        return f"DOES NOT FIT on {plan.hardware}: {members} need{one} {taken}: {missing} {where}"
    short = [part for part in committee.parts if not part.fits]
    return f"DOES NOT FIT on {plan.hardware}: {'; '.join(_shortage(part) for part in short)}"


def _growth(committee: Committee) -> str:
    if committee.solved:
        return "; no plan of these proportions serves more" if committee.exact else ""
    if committee.scale is None:
        return ""
    room = f"; the plan has room for {float(committee.scale):.4g}x its users"
    return room if committee.scale > 1 else "; it has no room for more users"


def _shortage(part: Part) -> str:
    if part.slack_bytes < 0:
        return f"{part.member.name} needs {human_bytes(-part.slack_bytes)} more than its share"
    wanted = f" of {part.wanted:,}" if part.wanted else ""
    return f"{part.member.name} holds {part.users:,}{wanted} requests in its part"


def parts_table(committee: Committee) -> Table:
    """One row a member: what its part of each of its cards is made of, all in one unit; then what is left."""
    node = committee.plan.gpus > 1
    names = ("weights", "reserve", "cache", "slack", "part")
    columns = (
        Column(title="member", key="name", kind="name"),
        Column(title="engine", key="engine", kind="name", drop=2),
        *((Column(title="cards", key="cards", kind="name"),) if node else ()),
        Column(title="users", key="users", kind="count"),
        Column(title="context", key="context", kind="count"),
        *(Column(title=name, key=name, kind="bytes", drop=int(name == "slack")) for name in names),
    )
    rows: list[tuple[Any, ...]] = []
    for p in committee.parts:
        if p.spread is not None and len(p.cards) > 1:
            rows += _dealt_rows(p)
            continue
        on = (card_words(p.cards),) if node else ()
        at = (p.users, p.member.context) if p.allocation else (None, None)
        figures = (p.weights.bytes, p.reserve.bytes, p.cache_bytes, p.slack_bytes, p.bytes)
        rows.append((p.member.name, p.member.engine, *on, *at, *figures))
    blank = (None,) * (len(columns) - 2)
    if committee.plan.reserve.bytes:
        rows.append(("kept free", *blank, committee.plan.reserve.bytes))
    alike: dict[int, list[int]] = {}
    for card in committee.cards:
        alike.setdefault(card.free_bytes, []).append(card.index)
    for free, cards in alike.items():
        words = "left" if free >= 0 else "missing"
        on = (card_words(tuple(cards)),) if node else ()
        rows.append((words, None, *on, *blank[len(on) + 1 :], free))
    total = ("card", *blank, committee.plan.memory.bytes)
    title = committee.plan.hardware + (" · figures of each card" if node else "")
    return Table(title=title, columns=columns, rows=tuple(rows), total=total, one_unit=True)


def _dealt_rows(part: Part) -> Iterator[tuple[Any, ...]]:
    """One row a card of a member whose layers are dealt out."""
    spread = part.spread
    for position, card in enumerate(part.cards):
        place = spread.devices[position] if spread is not None and position < len(spread.devices) else None
        first = position == 0
        named = (part.member.name, part.member.engine) if first else (None, None)
        at = (part.users, part.member.context) if first and part.allocation else (None, None)
        weights, cache = (0, 0) if place is None else (weighed(place).bytes, cached(place).bytes)
        need = part.by_card[position]
        yield (*named, str(card), *at, weights, need - weights - cache, cache, part.on(card) - need, part.on(card))


def card_words(cards: tuple[int, ...]) -> str:
    """Cards as people write them.

    >>> card_words((0, 1, 2, 5))
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for card in cards:
        if runs and card == runs[-1][-1] + 1:
            runs[-1].append(card)
        else:
            runs.append([card])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _start(committee: Committee) -> Iterator[str | tuple[str, str]]:
    """How to start them, in an order that works."""
    parts = {part.member.name: part for part in committee.parts}
    for number, name in enumerate(committee.order, 1):
        part = parts[name]
        share = f" ({part.meaning})" if part.meaning else ""
        alone = part.environment + (" " if _is_command(part) else "; ") if part.environment else ""
        words = f"start {number}: {name}{share}"
        yield (words, alone + part.flag) if part.flag else f"{words}: {alone}as it is"
        yield from (f"         {needed}" for needed in part.needs)


def _notes(committee: Committee) -> Iterator[str]:
    for part in committee.parts:
        weights = f"weights {part.weights.basis} ({part.weights.source})"
        yield f"{part.member.name}: {weights}, reserve {part.reserve.basis}, cache {_basis(part)}"
    for part in committee.parts:
        pool = part.pool
        if pool is not None and not pool.refused:
            held = f"{pool.num_tokens:,} tokens in {pool.num_blocks:,} blocks, {pool.concurrency:.2f} requests of the longest"
            yield f"{part.member.name}: " + (f"its log will say: {'; '.join(pool.log)}" if pool.log else held)
    for part in committee.parts:
        if part.spread is not None:
            spread = part.spread
            on = [(card, place.layers) for card, place in zip(part.cards, spread.devices, strict=False) if place.layers]
            layers = "; ".join(f"card {card}: layers {numbers}" for card, numbers in on)
            yield f"{part.member.name}: {layers or 'no layer on a card'}; host memory {human_bytes(spread.host.needed.high)}"
            yield from (f"{part.member.name}: {note}" for note in spread.notes)
            yield from _narrow(committee, part)
    memory = committee.plan.memory
    yield f"card: {memory.basis} ({memory.source})"
    yield from committee.notes


def _narrow(committee: Committee, part: Part) -> Iterator[str]:
    """Cards that have less left than the engine keeps free when it starts: it then moves layers away."""
    left = {card.index: card.free_bytes for card in committee.cards}
    for card, place in zip(part.cards, part.spread.devices if part.spread is not None else (), strict=False):
        kept = 0 if place.room is None or not place.blocks else committee.plan.memory.bytes - place.room.bytes
        if 0 <= left[card] < kept:
            sizes = f"{human_bytes(left[card])} of card {card} stay free, and it keeps {human_bytes(kept)}"
            yield f"{part.member.name}: {sizes}: started after the others it leaves layers to the CPU"


def _basis(part: Part) -> str:
    return part.allocation.evidence if part.allocation else "given"


def _csv_rows(committee: Committee) -> Iterator[dict[str, Any]]:
    for part in committee.parts:
        yield {
            **part.to_dict(),
            "plan": committee.plan.source,
            "gpu": committee.plan.gpu.id,
            "plan_fits": committee.fits,
            "weights_bytes": part.weights.bytes,
            "weights_basis": part.weights.basis,
            "reserve_bytes": part.reserve.bytes,
            "reserve_basis": part.reserve.basis,
            "start": committee.order.index(part.member.name) + 1,
            "gpus": committee.plan.gpus,
            "cards": " ".join(map(str, part.cards)),
        }
