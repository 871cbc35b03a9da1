"""What only LMDeploy can say of an allocation: its block, its slot of states, and what it resolves beside them."""

from typing import Any

from msgspec import Struct, to_builtins


class LmdeployFacts(Struct, frozen=True, kw_only=True):
    """Blocks and slots of one rank. `runtime_bytes` are set aside for a pass of prefill, by the vocabulary."""

    backend: str
    block_size: int  # tokens
    kernel_block_size: int  # tokens
    block_bytes: int
    request_blocks: int  # of one request
    kv_bytes: int
    state_slot_bytes: int
    num_state_caches: int
    state_bytes: int
    runtime_bytes: int
    vocab_size: int  # 0: not known
    dtype: str
    window_size: int  # tokens; -1: none

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = to_builtins(self)
        return found
