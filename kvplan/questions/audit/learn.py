"""What only a machine knows, from recorded starts, and several of them as one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from kvplan.domain.machine import Learned
from kvplan.engines import ABOUTS
from kvplan.engines.kernel.cases import Record
from kvplan.units import GIB

_KEYS = {"non_torch": "non_torch_gib", "graphs": "cudagraph_actual_gib", "estimate": "cudagraph_estimate_gib"}
_BYTES = ("total", "non_torch", "graphs", "estimate", "context")


def learned_from(record: Record) -> Iterator[Learned]:
    """What a recorded start printed of its machine; nothing for other records."""
    expected = record.expected
    snapshot = expected.get("init_snapshot_gib")
    snapshot = snapshot if isinstance(snapshot, Mapping) else {}
    values: dict[str, Any] = {name: _bytes(expected.get(key)) for name, key in _KEYS.items()}
    values["total"] = _bytes(snapshot.get("total"))
    free = _bytes(snapshot.get("free"))
    if values["total"] is not None and free is not None:
        values["context"] = max(0, values["total"] - free)
    if values["non_torch"] is None and values["total"] is None:
        return
    known = ABOUTS.get(record.case.engine)
    split = record.case.options.get(known.roles.get("tensor_parallel", ""), 1) if known else 1
    yield Learned(source=record.case.id, tensor_parallel=split if isinstance(split, int) else 1, **values)


def _bytes(value: object) -> int | None:
    return int(value * GIB) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def combined(found: Sequence[Learned]) -> Learned | None:
    """One machine file of several starts: the median of each line, over the starts that split their model alike.

    Starts with another number of processes than the first tell the total only. None where there are none.
    """
    if not found:
        return None
    split = found[0].tensor_parallel
    alike = [one for one in found if one.tensor_parallel == split]
    values: dict[str, Any] = {
        name: _median(getattr(one, name) for one in (found if name == "total" else alike)) for name in _BYTES
    }
    source = found[0].source if len(found) == 1 else f"{len(found)} starts, the first {found[0].source}"
    return Learned(source=source[:200], tensor_parallel=split, **values)


def _median(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return int(median(known)) if known else None
