"""What only the machine knows: memory outside torch (CUDA modules, NCCL, handles) and what is gone before the snapshot."""

from typing import Final

from msgspec import Struct

from kvplan.domain.ledger import Line, band, exact
from kvplan.engines.vllm.ledger.settings import Batch, Card, Settings
from kvplan.engines.vllm.ledger.shape import Shape
from kvplan.units import GIB

NON_TORCH: Final = "non-torch"
CONTEXT: Final = "context"
BUFFERS: Final = "runner buffers"


class Measured(Struct, frozen=True):
    """One platform's figure, bytes: best, smallest and largest recorded.

    `cards` are words of the card's name; `since` and `until` the releases (exclusive end).
    """

    cards: tuple[str, ...]
    since: tuple[int, ...]
    until: tuple[int, ...]
    tensor_parallel: int
    pipelined: bool
    best: int
    low: int
    high: int
    source: str


def _gib(amount: float) -> int:
    return int(amount * GIB)


#: R7 and "Other cards" of the memory rules: (free drop - torch's growth) since the snapshot.
NON_TORCH_ROWS: Final = (
    Measured(("h200",), (0, 22), (0, 33), 1, False, 241_172_480, 241_172_480, 241_172_480,
             "24 starts on H200, torch 2.11+cu130, vLLM 0.26"),
    Measured(("h100",), (0, 18), (0, 33), 1, False, _gib(0.25), _gib(0.235), _gib(0.465), "starts of 0.18 and 0.19 on H100"),
    Measured(("h100",), (0, 15), (0, 18), 1, False, _gib(0.13), _gib(0.125), _gib(0.135), "starts of 0.15 to 0.17 on H100"),
    Measured(("h100",), (0, 18), (0, 33), 2, False, _gib(2.07), _gib(2.055), _gib(2.115), "starts of 0.19 on H100"),
    Measured(("h100",), (0, 18), (0, 33), 4, False, _gib(2.13), _gib(2.125), _gib(2.215), "starts of 0.19 on H100"),
    Measured(("h100",), (0, 18), (0, 33), 1, True, _gib(0.07), _gib(0.065), _gib(0.075), "starts of 0.19 on H100, pp 2 and 4"),
)  # fmt: skip
#: Best, smallest and largest, GiB, where no row serves: what starts on other cards print or leave (A100 and RTX 3090 at
#: tensor parallel 2 and 4: 0 to 0.25, but 1.1 across nodes; four cards of 185 GB 0.95).
_ANYWHERE: Final = {1: (0.24, 0.02, 0.465), 2: (0.2, 0.0, 2.115), 4: (0.2, 0.0, 2.215)}
_ANYWHERE_HOPPER: Final = {1: (0.25, 0.05, 0.465), 2: (2.07, 0.3, 2.115), 4: (2.13, 0.95, 2.215)}
_ANYWHERE_LATER: Final = {1: (0.24, 0.02, 0.465), 2: (0.95, 0.2, 2.115), 4: (0.95, 0.2, 2.215)}
_WIDER: Final = (1.0, 0.0, 3.0)  # no size above 4 was recorded
#: Two starts of 0.10.2 print 0.02; one of 0.11 leaves a quarter of a GiB.
_BEFORE_15: Final = (0.02, 0.015, 0.3)

#: Bytes gone of the free memory before the snapshot, GiB: CUDA context and driver, and NCCL, which is initialised first.
_CONTEXT_ROWS: Final = {1: (0.51, 0.51, 0.515), 2: (1.53, 1.53, 2.01), 4: (1.55, 1.55, 2.07)}
_CONTEXT_PIPELINED: Final = (1.45, 1.43, 1.48)
_H200_CONTEXT: Final = 552_402_944


def non_torch(card: Card, settings: Settings, ranks: int) -> Line:
    """Memory outside torch since the snapshot: measured where the platform was recorded, else a band.

    `ranks` are the processes of one stage that talk to each other: no start with data ranks was recorded, so one is taken
    for as many of tensor parallelism.
    """
    tp, pipelined = ranks, settings.pipeline_parallel_size > 1
    name = card.name.lower().replace("-", " ")
    if not settings.release >= (0, 15) and tp == 1:
        best, low, high = _BEFORE_15
        return band(NON_TORCH, _gib(best), _gib(low), _gib(high), "starts of 0.10.2 and 0.11")
    for row in NON_TORCH_ROWS:
        if (
            any(word in name for word in row.cards)
            and row.since <= settings.release[:2] < row.until
            and row.tensor_parallel == tp == settings.tensor_parallel_size
            and row.pipelined == pipelined
        ):
            return band(NON_TORCH, row.best, row.low, row.high, row.source)
    later = card.compute_capability >= 100
    table = _ANYWHERE_HOPPER if card.hopper else _ANYWHERE_LATER if later else _ANYWHERE
    best, low, high = table.get(tp, _WIDER)
    how = "tensor parallel" if ranks == settings.tensor_parallel_size else "so many processes, of tensor parallel"
    source = f"smallest to largest recorded at {how} {tp} on any card"
    return band(NON_TORCH, _gib(best), _gib(low), _gib(high), source, "assumed")


def context(card: Card, settings: Settings, ranks: int) -> Line:
    """What driver, CUDA context and NCCL hold before the snapshot: it decides the free-memory check only."""
    tp = ranks
    if settings.pipeline_parallel_size > 1 and tp == 1:
        best, low, high = _CONTEXT_PIPELINED
    elif "h200" in card.name.lower() and tp == 1:
        return exact(CONTEXT, _H200_CONTEXT, "24 starts on H200", "measured")
    else:
        best, low, high = _CONTEXT_ROWS.get(tp, (1.6, 1.5, 2.5))
    if not card.hopper:
        low, high = min(low, 0.2), max(high, 1.1)
    return band(CONTEXT, _gib(best), _gib(low), _gib(high), "starts of 0.19 on H100: total less free at the snapshot")


def runner_buffers(batch: Batch, shape: Shape) -> Line:
    """Buffers of the runner outside every bracket: penalty counters, bit masks, block tables; 0.28 and later count them.

    Source: `v1/worker/gpu/sample/penalties.py`; the rest measured on H200 (74 to 205 MB).
    """
    counters = batch.seqs * shape.vocab * 4 + batch.seqs * (-(-shape.vocab // 32)) * 4 if batch.v2 else 0
    return band(
        BUFFERS, counters + 140 * 10**6, counters + 74 * 10**6, counters + 205 * 10**6,
        "v1/worker/gpu/sample/penalties.py; starts on H200",
    )  # fmt: skip
