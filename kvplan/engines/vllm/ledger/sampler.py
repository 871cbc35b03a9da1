"""Logits and what the runner's sampler makes of them, and the V2 runner's dummy batch.

Source: `v1/worker/gpu/sample/` (V2), `v1/sample/` (V1).
"""

from typing import Final

from kvplan.domain.caching_allocator import fresh_block, round_size
from kvplan.engines.vllm.ledger import releases
from kvplan.engines.vllm.ledger.settings import Batch, Card, Settings
from kvplan.engines.vllm.ledger.shape import Shape
from kvplan.units import ceil_div

#: torch's sort keeps values and indices and doubles its buffers: measured on two starts of 0.15 and 0.16.
SORT_BYTES_PER_LOGIT: Final = 38
_V1_BLOCK: Final = 1024  # logits of one partial maximum in the V2 sampler


def dummy_batch(rows: int) -> int:
    """The V2 runner's index vectors: `expanded_idx_mapping`, positions, and two bounds.

    Source: `v1/worker/gpu/input_batch.py:make_dummy`.
    """
    return 3 * round_size(4 * rows) + round_size(4 * (rows + 1))


def sampler_bytes(shape: Shape, settings: Settings, batch: Batch, card: Card, item: int, sort: bool = True) -> int:
    """Hidden states, logits and what the runner's sampler makes of them.

    `sort` False: flashinfer serves in releases that would sort (starts of 0.10.1 on A100 leave room for nothing more).

    Source: `v1/worker/gpu/sample/` (V2), `v1/sample/sampler.py`, `v1/sample/ops/topk_topp_triton.py` (V1).
    """
    rows, vocab = batch.sampled, shape.vocab
    padded = ceil_div(vocab, 64) * 64
    hidden = batch.tokens * shape.hidden * item
    if batch.v2:
        copies = 2 if shape.softcapped else 1
        partial = ceil_div(vocab, _V1_BLOCK)
        return (
            round_size(hidden) + round_size(rows * shape.hidden * item) + copies * fresh_block(rows * padded * item)
            + round_size(rows * partial * 8) + round_size(rows * partial * 4)
            + round_size(4 * rows)  # `logits_indices` of the first batch
        )  # fmt: skip
    both = round_size(hidden) + 2 * round_size(rows * shape.hidden * item)
    if sort and releases.SORTED_SAMPLER.at(settings.release):
        return both + SORT_BYTES_PER_LOGIT * rows * vocab
    logits = fresh_block(rows * padded * item) + 3 * fresh_block(rows * vocab * 4)
    top_k = round_size(min(card.multiprocessors, rows) * vocab * 4) if not releases.SORTED_SAMPLER.at(settings.release) else 0
    small = 6 * round_size(4 * rows) + 3 * round_size(8 * rows) + 4 * 512
    return both + logits + top_k + small
