"""What only vLLM can say of an allocation: blocks, groups, and where the bytes beyond the theory go."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, to_builtins


class GroupFacts(Struct, frozen=True, kw_only=True):
    """One group of caches on a stage: its page, and the blocks of one request."""

    kind: str
    caches: int
    layers: tuple[int, ...]
    drafter_caches: int
    block_size: int  # tokens
    page_bytes: int  # of one cache
    content_bytes: int  # of that page, without padding
    group_bytes: int  # of a block, all of the group's caches
    request_blocks: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = to_builtins(self)
        return found | {"layers": list(self.layers)}


class VllmFacts(Struct, frozen=True, kw_only=True):
    """`block_bytes` is a block of all layers; `waste` splits what is taken beyond `ideal_bytes` by its cause."""

    block_size: int  # tokens
    mamba_block_size: int | None  # tokens
    block_bytes: int
    max_model_len: int  # tokens
    max_num_batched_tokens: int
    max_in_flight_tokens: int
    request_blocks: int
    bytes_one_request_at_max_model_len: int
    cache_groups: tuple[GroupFacts, ...]
    ideal_bytes: int
    waste: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        return found | {"cache_groups": [group.to_dict() for group in self.cache_groups], "waste": dict(self.waste)}
