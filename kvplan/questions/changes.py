"""What could be changed so that more fits, the mildest first: the same choices for one question and for a plan's member."""

from collections.abc import Iterator
from typing import Final

from kvplan.architectures.weights import nominal_bytes, weights_at
from kvplan.domain.budget import gpu_memory
from kvplan.domain.dtypes import DType, lookup
from kvplan.domain.gpus import Gpu, gpus
from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.engines import about
from kvplan.errors import OptionError

#: Cards that a model may be split over.
SPLITS: Final = (2, 4, 8, 16)


def dtypes_of(engine: str) -> tuple[DType, ...]:
    """The cache dtypes that an engine has a flag for, the widest first."""
    rows = [lookup(name) for name in about(engine).cache_dtypes]
    return tuple(sorted(rows, key=lambda row: -row.row_bytes(1, 128)))


def narrower_dtypes(engine: str) -> tuple[DType, ...]:
    """Of those, the ones below 16 bits."""
    return tuple(row for row in dtypes_of(engine) if row.block_bytes < 2 * row.block)


def lighter_weights(model: Model | None, weights: Line, engine: str, card: Gpu) -> Iterator[tuple[str, Line]]:
    """(format, weights) of the engine's quantisations that make weights lighter on a card, where the parameters are known."""
    if model is None or weights.basis not in {"derived", "rule"}:
        return
    known = about(engine)
    for dtype in known.weight_formats:
        if 0 < card.capability < known.weight_cards.get(dtype, 0):
            continue
        found = _weights_at(model, dtype)
        if found is not None and found.bytes < weights.bytes:
            yield dtype, found


def _weights_at(model: Model, dtype: str) -> Line | None:
    found = weights_at(model, dtype)
    if found is not None:
        return Line(name="weights", bytes=found.bytes, basis="rule", source=found.source)
    if model.parameters is None:
        return None
    size = nominal_bytes(model.parameters, dtype)
    return Line(name="weights", bytes=size, basis="derived", source=f"{model.parameters:,} parameters, all of them in {dtype}")


def larger_gpus(card: Gpu, memory_bytes: int) -> tuple[Gpu, ...]:
    """The vendor's cards with more memory: those of the same kind first, and of these the smallest."""
    found = []
    for other in gpus():
        try:
            size = gpu_memory(other).bytes
        except OptionError:  # sold in several sizes
            continue
        if other.vendor == card.vendor and other.id != card.id and size > memory_bytes:
            found.append((_kind(other) != _kind(card), size, other.id, other))
    return tuple(other for *_, other in sorted(found, key=lambda entry: entry[:3]))


def _kind(card: Gpu) -> str:
    """What people would put in the place of a card: another for a desk, for a slot, or of a board whose cards are linked."""
    if card.memory_kind != "discrete":
        return card.memory_kind
    if card.id.startswith("rtx-"):
        return "desk"
    first = card.interconnect.partition(",")[0]
    return "slot" if first.startswith("PCIe") or "bridge" in first else "board"
