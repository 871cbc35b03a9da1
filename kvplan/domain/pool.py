"""What a server reserves of a memory budget."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from kvplan.domain.ledger import Line


class Pool(Struct, frozen=True, kw_only=True):
    """What a server reserves from a memory budget.

    `num_blocks` blocks of `block_bytes`; `num_tokens` as the engine prints it; `concurrency` of
    requests of `max_model_len` tokens; `refused` carries the engine's own reason instead.
    `null_blocks` of the blocks never hold a request. `beside_bytes` are pools of another kind beside the blocks: windows'
    and states', where a server keeps them apart.
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
    beside_bytes: int = 0
    model: str = ""
    engine_version: str = ""
    estimated_max_model_len: int | None = None  # the longest request that would fit, where the engine says so
    log: tuple[str, ...] = ()  # the lines that the engine prints
    budget: tuple[Line, ...] = ()  # where `budget_bytes` comes from, if that was worked out

    @property
    def allocated_bytes(self) -> int:
        """What the blocks take, and what lies beside them."""
        return self.num_blocks * self.block_bytes + self.beside_bytes

    @property
    def details(self) -> dict[str, Any]:
        """What the engine prints, and what it was told."""
        return {
            "model": self.model,
            "engine_version": self.engine_version,
            "lines": list(self.log),
            "estimated_max_model_len": self.estimated_max_model_len,
            "allocated_bytes": self.allocated_bytes,
            "budget": [line.to_dict() for line in self.budget],
        }

    @property
    def usable_bytes(self) -> int:
        """What requests can hold at once; 0 when the engine refuses to start."""
        return 0 if self.refused else max(0, self.num_blocks - self.null_blocks) * self.block_bytes + self.beside_bytes
