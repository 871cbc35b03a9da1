"""Every byte of one llama.cpp process on each of its devices and on the host: weights, caches, buffers, the driver's context.

Weights, caches, states and the output buffer are exact where the file's tensors are known (`placement`); compute buffers are a
point or a band (`placement.compute`); what a driver takes for a process is a band by platform.

Source: llama.cpp 0c1e57098; the driver's part from what public logs print as free beside the card's total
(`tests/golden/llama_cpp_gpu_logs.jsonl`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from kvplan.domain.ledger import Basis, Line, band, exact, total
from kvplan.domain.spread import Card, Place
from kvplan.domain.unified import Shared
from kvplan.engines.llama_cpp.placement.compute import Band
from kvplan.engines.llama_cpp.placement.devices import CUDA, HOST, METAL, ROCM, SYCL, Backend, Device
from kvplan.engines.llama_cpp.placement.place import Part, Placed
from kvplan.units import MIB

WEIGHTS: Final = "weights"
CACHE: Final = "cache"
STATE: Final = "state"
COMPUTE: Final = "compute"
OUTPUT: Final = "output buffer"
CONTEXT: Final = "driver"
DRAFTER: Final = "drafter"
MTP: Final = "MTP context"
PROJECTOR: Final = "projector"
ADAPTER: Final = "LoRA adapter"
PROMPTS: Final = "prompt cache"
CHECKPOINTS: Final = "checkpoints"
#: What a server fills in host memory as it serves: in none of the engine's own sums.
FILLED: Final = frozenset({PROMPTS, CHECKPOINTS})
POOL: Final = "Pool"
#: Vendor -> the backend that people run there, and MiB that a process's context takes: usual, least, most.
_BACKENDS: Final[dict[str, tuple[Backend, tuple[int, int, int]]]] = {
    "nvidia": (CUDA, (400, 250, 650)),
    "amd": (ROCM, (300, 100, 600)),
    "intel": (SYCL, (300, 100, 600)),
    "apple": (METAL, (0, 0, 100)),
}
_UNKNOWN: Final = (CUDA, (400, 0, 650))
_FREE: Final = "free memory that public logs print beside the total"


class Side(Struct, frozen=True, kw_only=True):
    """What is loaded beside the model: one line a device and, last, the host's."""

    name: str
    bytes: tuple[tuple[int, int], ...]  # least and most
    source: str


def backend_of(card: Card) -> Backend:
    """The backend of a card."""
    return _BACKENDS.get(card.vendor, _UNKNOWN)[0]


def driver(card: Card) -> Line:
    """What the process's context takes of a card."""
    best, low, high = (amount * MIB for amount in _BACKENDS.get(card.vendor, _UNKNOWN)[1])
    return band(CONTEXT, best, low, high, _FREE, "assumed")


def devices_of(cards: Sequence[Card]) -> tuple[Device, ...]:
    """The cards as llama.cpp sees them when it loads a model: its own context is no longer free."""
    found, numbers = [], dict[str, int]()
    for card in cards:
        backend = backend_of(card)
        number = numbers[backend.name] = numbers.get(backend.name, -1) + 1
        free = card.room.bytes
        found.append(
            Device(
                name=f"{backend.name}{number}",
                backend=backend,
                total_bytes=max(card.memory.bytes, free),
                free_bytes=max(0, free - driver(card).bytes),
                integrated=card.unified,
                maps_files=not card.unified or backend == METAL,
            )
        )
    return tuple(found)


def lines_of(part: Part, compute: Band, card: Card | None, sides: Sequence[Side], index: int, weights: Line) -> tuple[Line, ...]:
    """The lines of one device, or of the host.

    Args:
        part: what lies there.
        compute: its compute buffer.
        card: the device's; None: the host.
        sides: what is loaded beside the model.
        index: which device, -1 for the host.
        weights: where their bytes come from.
    """
    found = []
    if part.model_bytes:
        words = (
            ", ".join(f"{name} {size / MIB:,.2f} MiB" for name, size in part.model.items()) if card is None else weights.source
        )
        found.append(exact(WEIGHTS, part.model_bytes, words, weights.basis))
    if part.kv_bytes:
        found.append(exact(CACHE, part.kv_bytes, "src/llama-kv-cache.cpp"))
    if part.state_bytes:
        found.append(exact(STATE, part.state_bytes, "src/llama-memory-recurrent.cpp"))
    for side in sides:
        low, high = side.bytes[index]
        if high:
            found.append(band(side.name, (low + high) // 2, low, high, side.source, "rule" if low == high else "derived"))
    if part.output_bytes:
        found.append(exact(OUTPUT, HOST.alloc("f32", 1, part.output_bytes), "src/llama-context.cpp: output_reserve"))
    if compute.high:
        basis: Basis = "rule" if compute.exact else "derived"
        found.append(band(COMPUTE, compute.best, compute.low, compute.high, "src/llama-context.cpp: sched_reserve", basis))
    if card is not None:
        found.append(driver(card))
    return tuple(found)


def buffers_of(placed: Placed) -> str:
    """What the log prints of the weights, for people."""
    words = [f"{name} {size / MIB:.2f} MiB" for part in placed.parts for name, size in part.model.items()]
    return ", ".join(words)


def pool_of(places: Sequence[Place], shared: Shared, file_bytes: int | None) -> Place:
    """Everything together against the memory that the processor and the device share.

    `file_bytes`: of a file that is mapped on both sides, whose pages are there once; None where weights are copied.
    """
    names = dict.fromkeys(line.name for place in places for line in place.lines)
    lines = [total(name, (line for place in places for line in place.lines if line.name == name)) for name in names]
    if file_bytes is not None:
        once = exact(WEIGHTS, file_bytes, "the file's pages, which are there once")
        lines = [once if line.name == WEIGHTS and line.bytes > file_bytes else line for line in lines]
    return Place(device=POOL, card="CPU and GPU together", layers="", blocks=0, lines=tuple(lines), room=shared.room)
