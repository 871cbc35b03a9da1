"""What only TensorRT-LLM can say of an allocation: its manager, its blocks and its slots."""

from typing import Any

from msgspec import Struct, to_builtins


class TrtllmFacts(Struct, frozen=True, kw_only=True):
    """Blocks and slots of the rank that has most. `pools` is one entry for each window: tokens (-1: every one), blocks of one
    request, bytes of a block.
    """

    backend: str
    manager: str
    tokens_per_block: int
    bytes_per_token: int
    pools: tuple[tuple[int, int, int], ...]
    state_slot_bytes: int
    state_slots: int
    dtype: str
    state_dtype: str
    cross_bytes_per_token: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = to_builtins(self)
        return found
