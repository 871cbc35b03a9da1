"""What is shown of a model over several devices: the verdict, a table by device, other storage of the cache, what to change."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

from msgspec import Struct

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.ledger import total
from kvplan.domain.tables import Cell, Column, Table
from kvplan.questions.placement.answer import Laid
from kvplan.report.answers.engine_words import engine_words
from kvplan.report.blocks import Block, Command, Fix, Fixes, Notes, Rows, Section, Verdict, View, not_predicted_dict
from kvplan.units import human_bytes

CSV_COLUMNS: Final = (
    "model", "engine", "engine_version", "kv_dtype", "context", "requests", "fits", "longest", "device", "card", "layers",
    "blocks", "line", "bytes", "low", "high", "basis", "not_predicted",
)  # fmt: skip
#: Lines with a column of their own; what else there is stands together.
_OWN: Final = ("weights", "cache", "state", "compute", "driver")
_TITLES: Final = {"compute": "buffers"}
_SMALL: Final = "output buffer"


class LaidAnswer(Struct, frozen=True):
    """Answers over several devices."""

    key: ClassVar[str] = "laid"
    laid: Sequence[Laid | NotPredicted]
    verdicts: bool = True

    def dicts(self) -> list[dict[str, Any]]:
        """One object a model."""
        return [not_predicted_dict(each) if isinstance(each, NotPredicted) else each.to_dict() for each in self.laid]

    def rows(self) -> Rows:
        """One row a line of a device."""
        return CSV_COLUMNS, (row for each in self.laid for row in _csv_rows(each))

    def blocks(self, view: View) -> Iterator[Block]:
        """The verdict, the devices, the cache's types, what to type, what would help."""
        for each in self.laid:
            if isinstance(each, NotPredicted):
                yield each
                continue
            blocks: list[Block] = [Verdict(verdict(each), yes=each.fits)] if self.verdicts else []
            blocks.append(device_table(each))
            if len(each.rows) > 1:
                blocks.append(cache_table(each))
            if each.fits or not self.verdicts:
                blocks.append(Command(each.spread.command, each.needs))
            if each.changes:
                blocks.append(Fixes([Fix(x.change, f"{x.result} (price: {x.price})", x.command) for x in each.changes]))
            notes = tuple(_notes(each))
            blocks += [Notes(notes)] if notes else []
            yield Section(blocks=blocks, apart=True)


def verdict(each: Laid) -> str:
    """The answer in one line."""
    cards = _cards(each)
    what = f"{each.requests:,} x {each.context:,} tokens"
    layers = f"{each.spread.offloaded} layers on the cards" if each.spread.devices else "no card takes part"
    if each.fits and not each.given:
        limit = "the model's own limit" if each.longest >= each.ceiling else "more do not fit"
        if each.perhaps > each.longest:
            limit = f"up to {each.perhaps:,} where the system leaves more"
        return f"FITS on {cards}: {what}, {layers}; {limit}"
    if each.fits:
        more = [f"up to {each.longest:,} tokens"] if each.longest > each.context else []
        more += [f"{each.at_once:,} such requests at once"] if each.at_once > each.requests else []
        return f"FITS on {cards}: {what}, {layers}" + (f"; {' or '.join(more)}" if more else "")
    if each.may_fit and each.given:
        which = "buffers" if each.spread.pool is None else "buffers and what the system keeps"
        return f"MAY NOT FIT on {cards}: {what}, {layers}: it does only where {which} are at the low ends of their bands"
    tightest = each.spread.tightest
    short = f": {tightest[0]} is {human_bytes(max(0, -tightest[1]))} short" if tightest is not None else ""
    return f"DOES NOT FIT on {cards}: {what}, {layers}{short}"


def _cards(each: Laid) -> str:
    names = [place.card for place in each.spread.devices]
    if not names:
        return "the processor"
    words = []
    for name in dict.fromkeys(names):
        number = names.count(name)
        words.append(f"{number} x {name}" if number > 1 else name)
    return " + ".join(words)


def device_table(each: Laid) -> Table:
    """One row a device: what lies there, and what is left."""
    places = each.spread.limited
    named = [name for name in _OWN if any(line.name == name for place in places for line in place.lines)]
    others = any(line.name not in {*_OWN, _SMALL} for place in places for line in place.lines)
    rows: list[tuple[Cell, ...]] = []
    for place in places:
        by_name = {name: total(name, (line for line in place.lines if line.name == name)) for name in named}
        rest = sum(line.bytes for line in place.lines if line.name not in {*_OWN, _SMALL})
        left = place.left
        rows.append(
            (
                place.device,
                place.card or "memory of the machine",
                place.layers or ("" if place is each.spread.pool else "none"),
                *(by_name[name].bytes or None for name in named),
                *([rest or None] if others else []),
                place.needed.bytes,
                None if left is None else left.low,
                None if left is None or left.low == left.high else left.high,
            )
        )
    columns = (
        Column(title="device", key="device", kind="name"),
        Column(title="card", key="card", kind="name", drop=3),
        Column(title="layers", key="layers", room=14),
        *(
            Column(title={"compute": "buffers"}.get(name, name), key=name, kind="bytes", drop=1 if name == "driver" else 0)
            for name in named
        ),
        *([Column(title="beside", key="beside", kind="bytes")] if others else []),
        Column(title="needed", key="needed", kind="bytes", drop=2),
        Column(title="left", key="left_low", kind="bytes"),
        Column(title="to", key="left_high", kind="bytes", drop=4),
    )
    engine = engine_words(each.engine, each.engine_version)
    title = " · ".join([each.model, engine, each.kv_dtype, f"{each.requests:,} x {each.context:,} tokens"])
    return Table(title=title, columns=columns, rows=tuple(rows), one_unit=True)


def cache_table(each: Laid) -> Table:
    """What each type of the cache takes here, and the longest context with it."""
    rows = [(row.change, row.cache_bytes, row.longest or None) for row in each.rows]
    columns = (
        Column(title="cache type", key="type", kind="name"),
        Column(title=f"cache at {each.context:,} tokens", key="bytes", kind="bytes"),
        Column(title="longest context", key="longest", kind="count"),
    )
    marked = tuple(i for i, row in enumerate(each.rows) if row.decisive)
    return Table(title="the cache in other types", columns=columns, rows=tuple(rows), one_unit=True, marked=marked)


def _notes(each: Laid) -> Iterator[str]:
    if each.spread.pool is not None and each.spread.pool.room is not None:
        yield each.spread.pool.room.source
    yield from each.notes
    for place in each.spread.places:
        for line in place.lines:
            if line.name not in {*_OWN, _SMALL}:
                size = human_bytes(line.bytes) if line.exact else f"{human_bytes(line.low)} to {human_bytes(line.high)}"
                size = size if line.low else f"up to {human_bytes(line.high)}"
                yield f"{place.device}: {line.name} {size} ({line.source})"
    if not each.own:
        return
    words = f"left to itself, {engine_words(each.engine, each.engine_version)} would run with {each.own}"
    if each.longest and each.own_context < each.longest and not each.given:
        words += f": {each.longest - each.own_context:,} tokens less, {each.own_why}"
    elif each.fits and each.overruled:
        words += f", {each.own_why}; of what is left here a screen or another program may hold some (--free says what is free)"
    yield words


def _csv_rows(each: Laid | NotPredicted) -> Iterator[dict[str, Any]]:
    if isinstance(each, NotPredicted):
        yield {"model": each.model, "engine": each.engine, "not_predicted": each.reason}
        return
    shared = {
        "model": each.model, "engine": each.engine, "engine_version": each.engine_version, "kv_dtype": each.kv_dtype,
        "context": each.context, "requests": each.requests, "fits": each.fits, "longest": each.longest,
    }  # fmt: skip
    for place in each.spread.limited:
        where = {"device": place.device, "card": place.card, "layers": place.layers, "blocks": place.blocks}
        for line in (*place.lines, place.needed, *([place.left] if place.left is not None else [])):
            ends = {"line": line.name, "bytes": line.bytes, "low": line.low, "high": line.high, "basis": line.basis}
            yield {**shared, **where, **ends}
