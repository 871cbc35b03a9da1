"""What lies below the device, as a table: one row a tier, what to type for each, and the traps."""

from collections.abc import Iterator
from typing import Any, Final

from kvplan.domain.tables import Cell, Column, Table
from kvplan.domain.tiers import Tier, Tiers
from kvplan.report.blocks import Block, Notes, Steps
from kvplan.units import short_count

#: The columns of a row in the CSV, beside those of the answer that it belongs to.
CSV_COLUMNS: Final = (
    "tier", "place", "budget_bytes", "used_bytes", "tokens", "sessions", "sessions_high", "session_tokens", "session_bytes",
    "resident_sessions", "returned", "per_rank", "ranks", "shared", "beside_bytes", "evidence", "refused", "flags",
)  # fmt: skip
_KEPT: Final = {"split": "its part", "once": "one copy", "copied": "a copy"}


def blocks(found: Tiers) -> Iterator[Block]:
    """The table, what to type, and what to know."""
    if _served(found):
        yield table(found)
    typed = [(row.tier, row.flags) for row in _served(found) if row.flags]
    if typed:
        yield Steps([("to type, beside the server's command"), *(f"  {name}: {flags}" for name, flags in typed)])
    notes = tuple(_notes(found))
    if notes:
        yield Notes(notes)


def table(found: Tiers) -> Table:
    """One row a tier; `->` is the one of a place that keeps most."""
    ask, rows = found.ask, _served(found)
    best = [row for place in ("host", "disk") if (row := found.best(place)) is not None]
    several = any(row.ranks > 1 for row in rows)
    beside = any(row.beside_bytes for row in rows)
    columns = (
        Column(title="", key="mark", kind="mark"),
        Column(title="tier", key="tier", kind="name"),
        Column(title="budget", key="budget_bytes", kind="bytes"),
        Column(title="used", key="used_bytes", kind="bytes", drop=2),
        *([Column(title="beside", key="beside_bytes", kind="bytes")] if beside else []),
        Column(title="tokens", key="tokens", kind="count"),
        Column(title="sessions", key="sessions", kind="count"),
        *([Column(title="come back", key="returned", kind="name")] if ask.sessions else []),
        *([Column(title="each rank", key="per_rank", kind="bytes", drop=3)] if several else []),
        *([Column(title="holds", key="shared", kind="name")] if several else []),
        Column(title="evidence", key="evidence", drop=1, instead="", quiet=True),
    )
    marked = len(rows) > 2
    cells = tuple(_cells(row, found, "->" if marked and row in best else "", several=several, beside=beside) for row in rows)
    return Table(title=f"below the GPU, sessions of {short_count(ask.tokens)} tokens", columns=columns, rows=cells)


def _cells(row: Tier, found: Tiers, mark: str, *, several: bool, beside: bool) -> tuple[Cell, ...]:
    ask = found.ask
    most = row.sessions_high
    sessions: Cell = row.sessions if most is None or most == row.sessions else f"{row.sessions:,}-{most:,}"
    return (
        mark,
        row.tier,
        row.budget_bytes,
        row.used_bytes,
        *([row.beside_bytes] if beside else []),
        row.tokens,
        sessions,
        *([f"{row.returned(ask.tokens, ask.sessions):.0%}"] if ask.sessions else []),
        *([row.per_rank_bytes] if several else []),
        *([_KEPT[row.kept] if row.ranks > 1 else ""] if several else []),
        row.evidence,
    )


def _served(found: Tiers) -> list[Tier]:
    return [row for row in found.rows if not row.refused]


def _notes(found: Tiers) -> Iterator[str]:
    yield from found.notes
    refusals: dict[str, list[str]] = {}
    for row in found.rows:
        if row.refused:
            refusals.setdefault(row.refused, []).append(row.tier)
    for words, tiers in refusals.items():
        yield f"{', '.join(tiers)} {'is' if len(tiers) == 1 else 'are'} refused: {words}"
    said: set[str] = set()
    for row in _served(found):
        for note in row.notes:
            if note not in said:
                said.add(note)
                yield f"{row.tier}: {note}"


def csv_rows(found: Tiers | None) -> Iterator[dict[str, Any]]:
    """One mapping a tier."""
    if found is not None:
        for row in found.rows:
            yield {key: value for key, value in row.to_dict(found.ask).items() if key in CSV_COLUMNS}
