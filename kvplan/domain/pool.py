"""What a server reserves of a memory budget."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field


class Pool(Struct, frozen=True, kw_only=True):
    """What a server reserves from a memory budget.

    `num_blocks` blocks of `block_bytes`; `num_tokens` as the engine prints it; `concurrency` of
    requests of `max_model_len` tokens; `refused` carries the engine's own reason instead.
    `null_blocks` of the blocks never hold a request.
    """

    engine: str
    budget_bytes: int
    num_blocks: int
    block_bytes: int
    num_tokens: int
    max_model_len: int
    concurrency: float
    groups: tuple[Mapping[str, Any], ...] = ()
    refused: str = ""
    null_blocks: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def usable_bytes(self) -> int:
        """What requests can hold at once; 0 when the engine refuses to start."""
        return 0 if self.refused else max(0, self.num_blocks - self.null_blocks) * self.block_bytes
