"""What images, video and audio of a request are: a table beside an answer, and what would make them cheaper."""

from collections.abc import Iterator

from kvplan.domain.media.use import Use
from kvplan.domain.tables import Cell, Column, Table, without
from kvplan.report.blocks import Fix
from kvplan.units import human_bytes


def media_table(use: Use, cache_bytes: int | None = None) -> Table:
    """One row for each thing that they take."""
    c = use.cost
    rows: list[tuple[Cell, ...]] = [("tokens in the sequence", c.tokens, None, _parts(use))]
    if cache_bytes:  # keys that a model keeps whatever is asked add nothing
        rows.append(("their part of the cache", None, cache_bytes, "of all requests"))
    if c.cross:
        rows.append(("keys of each cross-attention layer", c.cross, None, "beside the sequence"))
    if c.positions is not None:
        tiles = f"{c.tiles:,} tile{'s' if c.tiles != 1 else ''}" if c.tiles is not None else ""
        rows.append(("positions in the tower", c.positions, None, tiles))
    rows += [(held.name, held.count, held.bytes, held.note) for held in use.held]
    columns = (
        Column(title="what", key="what"),
        Column(title="number", key="count", kind="count"),
        Column(title="bytes", key="bytes", kind="bytes"),
        Column(title="", key="note", quiet=True),
    )
    notes = [*use.notes]
    if use.own is not None:
        notes.insert(0, f"the model's own processor (transformers) makes {use.own.tokens:,} tokens of that")
    if c.characters:
        notes.append(f"plain text of {c.characters:,} characters comes along, which is not in these tokens")
    notes.append(f"by {use.source}")
    table = Table(title=f"{use.media} · {use.engine}", columns=columns, rows=tuple(rows), notes=tuple(notes))
    return table if any(row[2] is not None for row in rows) else without(table, "bytes")


def steps_table(use: Use) -> Table:
    """From pixels or samples to tokens, with this model's numbers."""
    columns = (Column(title="step", key="what"), Column(title="result", key="result"))
    rows = tuple((step.what, step.result) for step in use.cost.steps)
    of = " (the first of each kind)" if len(use.media.images) > 1 else ""
    return Table(title=f"from {use.media} to {use.tokens:,} tokens{of}", columns=columns, rows=rows, notes=(f"by {use.source}",))


def _parts(use: Use) -> str:
    c = use.cost
    return f"{c.placeholders:,} placeholders, {c.marks:,} marks" if c.marks else ""


def savings(use: Use) -> Iterator[Fix]:
    """What would make them cheaper."""
    held = next(iter(use.held), None)
    for saving in use.savings:
        rows = ""
        if saving.rows is not None and held is not None:
            rows = f"{saving.rows:,} rows instead of {held.count:,} ({human_bytes(held.bytes * saving.rows // held.count)})"
        if saving.tokens is not None:
            beside = f", an encoder cache of {rows}" if rows else ""
            yield Fix("fewer tokens", f"{saving.tokens:,} instead of {use.tokens:,} a request{beside}", saving.flag)
        elif rows:
            yield Fix("a smaller encoder cache", rows, saving.flag)
