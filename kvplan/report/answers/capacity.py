"""What `kvplan fit` shows of several contexts: models and GPUs beneath each other, contexts beside each other."""

from collections.abc import Iterator
from typing import Any, ClassVar

from msgspec import Struct

from kvplan.domain.tables import Cell as Shown
from kvplan.domain.tables import Column, Table, printed
from kvplan.questions.fit.capacity import COLUMNS, CapacityTable, Cell
from kvplan.report.blocks import Block, Rows, View
from kvplan.units import short_count

_MOST_REASONS = 6
_NOTHING = "-"
_GAP = 2  # characters between two columns


class CapacityAnswer(Struct, frozen=True):
    """A table of capacities."""

    key: ClassVar[str] = "capacity"
    capacity: CapacityTable

    @property
    def beside(self) -> dict[str, Any]:
        """What the JSON holds beside the cells."""
        return {"notes": list(self.capacity.notes)}

    def dicts(self) -> list[dict[str, Any]]:
        """One object a cell."""
        return [cell.to_dict() for cell in self.capacity.cells]

    def rows(self) -> Rows:
        """One row a cell."""
        return COLUMNS, (cell.to_dict() for cell in self.capacity.cells)

    def blocks(self, view: View) -> Iterator[Block]:
        """One table."""
        yield capacity_table(self.capacity, view.width)


def capacity_table(found: CapacityTable, width: int) -> Table:
    """Requests held at once: a row a model and its GPUs, a column a context; without the ends of ranges where it is narrow."""
    table = _table(found, whole=True)
    return table if _width(table) <= width else _table(found, whole=False)


def _width(table: Table) -> int:
    """Characters of its longest line."""
    shown = printed(table)
    return sum(max(map(len, column)) + _GAP for column in zip(shown.headers, *shown.rows, strict=True))


def _table(found: CapacityTable, *, whole: bool) -> Table:
    heads = list(dict.fromkeys(_column(cell) for cell in found.cells))
    lines: dict[tuple[str, str, int], dict[tuple[int, str], Cell]] = {}
    for cell in found.cells:
        lines.setdefault((cell.model, cell.gpu, cell.gpus), {})[_column(cell)] = cell
    columns = [Column(title="model", key="model", kind="name", once=True), Column(title="gpu", key="gpu", kind="name")]
    columns += [
        Column(title="mix" if mix else short_count(context), key=f"{mix or context}", kind="count") for context, mix in heads
    ]
    rows: list[tuple[Shown, ...]] = []
    for (model, gpu, gpus), row in lines.items():
        where = f"{gpu}:{gpus}" if gpus > 1 else gpu
        rows.append((model, where, *(_text(row[head], whole=whole) for head in heads)))
    return Table(title=_title(found), columns=tuple(columns), rows=tuple(rows), notes=tuple(_notes(found, whole=whole)))


def _column(cell: Cell) -> tuple[int, str]:
    return (cell.context, cell.mix)


def _title(found: CapacityTable) -> str:
    engines = dict.fromkeys(f"{cell.engine} {cell.engine_version}".strip() for cell in found.cells)
    return f"requests at once, by tokens of each · {', '.join(engines)}"


def _text(cell: Cell, *, whole: bool) -> Shown:
    """A number, from how many (to how many) where it hangs on what the engine leaves, or nothing."""
    if cell.verdict in {"not predicted", "not known"}:
        return _NOTHING
    if cell.requests is None:
        return "any" if cell.fits else 0
    if cell.requests_low != cell.requests_high:
        return f"{cell.requests_low:,}-{cell.requests_high:,}" if whole else f"{cell.requests_low:,}+"
    return cell.requests


def _notes(found: CapacityTable, *, whole: bool) -> Iterator[str]:
    mixes = {cell.mix for cell in found.cells if cell.mix}
    yield from (f"mix: {mix}; the server is started for the longest" for mix in sorted(mixes))
    if any(cell.requests_low != cell.requests_high for cell in found.cells):
        said = "12-14: fewest to most" if whole else "12+: this many at least (-f csv has the best value and the most)"
        yield f"{said}, over what the server may leave for its cache; `kvplan fit` for one context has every line"
    if any(cell.requests is None and cell.fits for cell in found.cells):
        yield "any: the cache does not grow with the requests"
    reasons: dict[str, list[str]] = {}
    for cell in found.cells:
        if cell.verdict in {"not predicted", "not known"}:
            reasons.setdefault(cell.reason, []).append(cell.model)
    for reason, models in list(reasons.items())[:_MOST_REASONS]:
        yield f"-: {', '.join(dict.fromkeys(models))}: {reason}"
    if len(reasons) > _MOST_REASONS:
        yield f"{len(reasons) - _MOST_REASONS} more reasons; --format csv has them"
    yield from found.notes
