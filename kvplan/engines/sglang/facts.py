"""What only SGLang can say of an allocation: what its flags became, and what a token and a request cost its pools."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, to_builtins


class SglangFacts(Struct, frozen=True, kw_only=True):
    """`cell_bytes` is what the budget is divided by to get tokens; bytes are of one device."""

    page_size: int  # tokens
    cell_bytes: int | float
    mem_fraction_static: float
    chunked_prefill_size: int  # tokens; below 1: off
    context_length: int
    max_running_requests: int | None
    attention_backends: tuple[str, str]  # of prefill and decode
    sliding_rows: int | None  # rows of the sliding pool that one request holds at most
    swa_full_tokens_ratio: float | None  # None where there is one pool
    state_slots_per_request: int | None  # None for models without states
    state_slot_bytes: int | None
    req_to_token_row_bytes: int
    draft_layers: int  # layers of a drafter that are charged to the budget

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = to_builtins(self)
        return found | {"attention_backends": list(self.attention_backends)}
