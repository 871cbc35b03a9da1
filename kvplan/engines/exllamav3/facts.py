"""What only ExLlamaV3 can say of an allocation: pages, slots of states, and what it asks of host memory."""

from typing import Any

from msgspec import Struct, to_builtins


class ExLlamaV3Facts(Struct, frozen=True, kw_only=True):
    """The cache as it is allocated when the model loads; bytes of one card, a drafter's apart.

    `checkpoint_bytes` are what one stored checkpoint of one sequence's states takes in host memory, `page_tier` the second
    tier of pages there (None: it is off).
    """

    cache_size: int  # tokens
    max_batch_size: int  # jobs
    max_history: int  # tokens of the longest draft
    num_pages: int
    page_bytes: int  # of 256 tokens, all layers
    kv_bytes: int
    state_bytes: int
    draft_bytes: int
    num_kv_layers: int
    num_state_layers: int
    host_state_bytes: int
    checkpoint_bytes: int
    page_tier: "TierFacts | None" = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = to_builtins(self)
        return found


class TierFacts(Struct, frozen=True, kw_only=True):
    """Pages in pinned host memory: slots of one page over all layers."""

    slot_size: int  # bytes
    max_slots: int
    tokens: int
