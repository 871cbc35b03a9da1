"""What a server reserves of a memory budget."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from kvplan.domain.ledger import Line
from kvplan.domain.media.use import Use
from kvplan.domain.tiers import Tiers


class Share(Struct, frozen=True, kw_only=True):
    """Blocks that one request takes of one group of layers: of its tokens, `most_tokens` at most (None: of all), and `more`."""

    block_tokens: int
    most_tokens: int | None = None
    more: int = 0

    @property
    def grows(self) -> bool:
        """Whether its tokens count at all."""
        return self.most_tokens != 0

    def blocks(self, tokens: int) -> int:
        """The most that a request of `tokens` tokens holds.

        >>> Share(block_tokens=16, most_tokens=100, more=1).blocks(50)
        5
        """
        held = tokens if self.most_tokens is None else min(tokens, self.most_tokens)
        return -(-held // self.block_tokens) + self.more


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
    tiers: Tiers | None = None  # what lies below the device, where that was asked
    budget: tuple[Line, ...] = ()  # where `budget_bytes` comes from, if that was worked out
    media: Use | None = None  # images, video and audio of a request, where they were asked about

    def __hash__(self) -> int:
        return hash(
            (self.model, self.engine, self.engine_version, self.budget_bytes, self.num_blocks, self.block_bytes, self.refused)
        )

    def __repr__(self) -> str:
        said = f"refused: {self.refused}" if self.refused else f"{self.num_blocks:,} blocks, {self.num_tokens:,} tokens"
        return f"<Pool {self.model} · {self.engine} {self.engine_version}: {said}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/formats.md), every bytes value an exact int."""
        return {
            "model": self.model,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "budget_bytes": self.budget_bytes,
            "block_bytes": self.block_bytes,
            "num_blocks": self.num_blocks,
            "null_blocks": self.null_blocks,
            "allocated_bytes": self.allocated_bytes,
            "num_tokens": self.num_tokens,
            "max_model_len": self.max_model_len,
            "concurrency": self.concurrency,
            "refused": self.refused,
            "estimated_max_model_len": self.estimated_max_model_len,
            "budget": [line.to_dict() for line in self.budget],
            "lines": list(self.log),
            "groups": [dict(group) for group in self.groups],
            **({"tiers": self.tiers.to_dict()} if self.tiers is not None else {}),
            **({"media": self.media.to_dict()} if self.media is not None else {}),
        }

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
