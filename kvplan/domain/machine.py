"""What stands behind a ledger's totals: a card, what is known of it, and what other processes leave. Plain values."""

from typing import Final

from msgspec import Struct

from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Basis


class Learned(Struct, frozen=True, kw_only=True):
    """What only a machine knows, read from a log or a machine file: bytes on one device, None where nobody said.

    Attributes:
        total: what the driver calls the device's total.
        non_torch: memory outside torch since the snapshot.
        graphs: CUDA graphs as captured; `estimate` as estimated before.
        context: what is gone of the free memory before the snapshot.
        source: where it was read; `basis`: by whom.
        tensor_parallel: processes that shared the model then; the lines outside torch hold for that number only.
        cache: what an earlier start of the same server found for its cache, where the server takes it over: while at least
            `baseline` bytes are free.
    """

    total: int | None = None
    non_torch: int | None = None
    graphs: int | None = None
    estimate: int | None = None
    context: int | None = None
    source: str = "your log"
    basis: Basis = "your log"
    tensor_parallel: int | None = None
    cache: int | None = None
    baseline: int = 0


NOTHING: Final = Learned()


class Machine(Struct, frozen=True, kw_only=True):
    """One device of a kind.

    Attributes:
        gpu: the card.
        given: total bytes that whoever asks gave (`--memory`).
        learned: what a machine file says.
        free: bytes that other tenants leave, one value or one a rank; empty: all of it.
    """

    gpu: Gpu
    given: int | None = None
    learned: Learned = NOTHING
    free: tuple[int, ...] = ()
