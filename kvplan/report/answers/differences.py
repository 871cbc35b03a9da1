"""One model in several engines: what each allocates, what of it nobody reads, and why it differs from the first. Pure."""

from typing import Final

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.model import Chunk, Compressed, Index, Model, Recurrent, Window
from kvplan.domain.tables import Cell, Column, Table
from kvplan.questions.compare import Comparison
from kvplan.units import human_bytes

#: Parts of a difference that are smaller than this share of it are left out; so is a whole one below this share of the cache.
_SMALL: Final = 0.1
_NOTHING: Final = 0.0005
_MOST: Final = 2  # parts that are named


def engines_table(c: Comparison, title: str, notes: tuple[str, ...]) -> Table:
    """One row an engine; it fits 80 columns."""
    several_dtypes = len({row.kv_dtype for row in c.rows}) > 1
    base = c.rows[c.baseline].answer if c.baseline is not None else None
    columns = [
        Column(title="engine", key="engine", kind="name"),
        *([Column(title="kv dtype", key="kv_dtype", kind="name")] if several_dtypes else []),
        Column(title="bytes", key="total_bytes", kind="count"),
        Column(title="ratio", key="relative", kind="ratio"),
        Column(title="waste", key="waste", kind="count"),
        Column(title="why", key="why"),
    ]
    rows: list[tuple[Cell, ...]] = []
    for row in c.rows:
        dtype: list[Cell] = [row.kv_dtype] if several_dtypes else []
        if isinstance(row.answer, Allocation):
            why = reason(row.answer, base) if isinstance(base, Allocation) else ""
            rows.append((row.engine, *dtype, row.answer.total_bytes, row.relative, wasted(row.answer, base), why))
        else:
            rows.append((row.engine, *dtype, "not predicted", None, None, ""))
    more = "waste is the share of an engine's bytes that the model does not need"
    return Table(title=title, columns=tuple(columns), rows=tuple(rows), notes=(*notes, more))


def is_of_engines(c: Comparison) -> bool:
    """Whether the rows are engines of one model, one dtype asked of each."""
    names = [row.engine for row in c.rows]
    return not c.savings and len({row.model.name for row in c.rows}) == 1 and 1 < len(names) == len(set(names))


def wasted(found: Allocation, base: Allocation | NotPredicted | None) -> str:
    """The share of what is allocated that the model does not need: padding, and what is kept beyond the baseline's payload."""
    total, needed = found.allocated_bytes, found.payload_bytes
    if isinstance(base, Allocation) and _width(found) == _width(base):
        needed = min(needed, base.payload_bytes)
    return f"{100 * (total - needed) / total:.1f}%" if total else ""


def reason(found: Allocation, base: Allocation) -> str:
    """Where an engine's bytes differ from the baseline's: the kinds of layers, the largest first."""
    if found is base:
        return ""
    more = found.total_bytes - base.total_bytes
    if _width(found) != _width(base):
        return f"{found.kv_dtype} elements"
    if abs(more) <= base.total_bytes * _NOTHING:
        return "whole blocks" if more else "the same"
    parts = sorted(_parts(found, base).items(), key=lambda part: -abs(part[1]))
    large = [(name, size) for name, size in parts if abs(size) > _SMALL * abs(more)][:_MOST]
    return ", ".join(f"{name} {'+' if size > 0 else '-'}{human_bytes(abs(size))}" for name, size in large)


def _width(found: Allocation) -> float:
    return lookup(found.kv_dtype).row_bytes(1, 128) / 128


def _parts(found: Allocation, base: Allocation) -> dict[str, int]:
    """The difference by what layers remember, and what belongs to no layer."""
    parts: dict[str, int] = {}
    for own, other in zip(found.layers, base.layers, strict=False):
        word = _word(base.model, own.index)
        parts[word] = parts.get(word, 0) + own.bytes - other.bytes
    rest = found.total_bytes - base.total_bytes - sum(parts.values())
    return parts | ({"beside layers": rest} if rest else {})


def _word(model: Model, index: int) -> str:
    memories = model.layers[index].memories
    reaches = {type(getattr(memory, "reach", None)) for memory in memories}
    if any(isinstance(memory, Recurrent) for memory in memories):
        return "states"
    if any(isinstance(memory, Index) for memory in memories):
        return "index keys"
    if reaches & {Window, Chunk}:
        return "windows"
    return "compressed" if Compressed in reaches else "full layers"
