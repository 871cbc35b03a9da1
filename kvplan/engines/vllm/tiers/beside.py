"""Stores of their own beside vLLM, which count bytes and not tokens: Mooncake's.

Source (read, not run): vllm 0.33.0 `distributed/mooncake_store.py` (`global_segment_size` of each rank).
"""

from __future__ import annotations

from collections.abc import Iterator

from kvplan.domain.tiers import Tier, TierAsk
from kvplan.engines.vllm.engine import VllmOn
from kvplan.engines.vllm.tiers import native
from kvplan.engines.vllm.tiers.words import kept, transfer, world


def tiers(on: VllmOn, ask: TierAsk) -> Iterator[Tier]:
    """Mooncake Store: a segment of every rank; how its bytes become tokens is the most that they could hold."""
    if ask.host_bytes is None:
        return
    ranks = world(on)
    each, size = ask.host_bytes // ranks, max(on.plan.block_bytes)
    need = max(native.request_chunks(on.plan, 1, ask.tokens), 1)
    count = each // size if size else 0
    yield Tier(
        tier="mooncake",
        title="Mooncake Store",
        place="host",
        budget_bytes=each * ranks,
        used_bytes=count * size * ranks,
        tokens=count * ask.tokens // need,
        sessions=count // need,
        session_bytes=need * size * ranks,
        returned_tokens=ask.tokens // on.plan.block_size * on.plan.block_size,
        ranks=ranks,
        kept=kept(on),
        flags=f"global_segment_size {each} in its JSON (each rank), {transfer('MooncakeStoreConnector')}",
        notes=('it counts bytes, not tokens: tokens are the most that they hold; "GB" in its config is 2**30',),
    )
