"""What one layer asks vLLM's block pool for: the bytes of a page, and the pages that a request may hold.

A spec stands for one of vLLM's `KVCacheSpec` classes (`vllm/v1/kv_cache_interface.py`): one block of one layer is a
*page*. Equal specs may share a group. Lengths may be ints or int64 arrays, so that a sweep and a single estimate share the
formulas; the blocks of a request follow `max_memory_usage_bytes` of each class.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.pool import Share
from kvplan.engines.kernel.tensors import Count, at_most, whole_blocks
from kvplan.units import ceil_div

Kind = Literal["full", "sliding", "chunked", "state", "cross"]


class Scheduling(Struct, frozen=True, kw_only=True):
    """What bounds a request's blocks beside its length."""

    in_flight_tokens: int  # tokens scheduled and not settled, at most
    batch_tokens: int  # max_num_batched_tokens
    max_num_seqs: int = 256  # requests that run at once
    context_parallel: int = 1  # decode_context_parallel_size


class Page(Struct, frozen=True, kw_only=True):
    """What every spec has. `content` says what the bytes are made of (heads, widths, dtype): layers whose content differs are
    different specs even when their pages are equally large.
    """

    kind: ClassVar[Kind]

    content: tuple[object, ...]
    block_size: int  # tokens
    alignment: int = 1  # bytes: the page is rounded up to it
    stride_alignment: int = 1  # bytes: where a block may begin in the pool
    padded_to: int = 0  # bytes: the page is enlarged to it

    @property
    def content_bytes(self) -> int:
        """One page without padding."""
        raise NotImplementedError

    @property
    def page_bytes(self) -> int:
        """One page as it is allocated."""
        return max(ceil_div(self.content_bytes, self.alignment) * self.alignment, self.padded_to)

    def blocks(self, tokens: Count, scheduling: Scheduling) -> Count:
        """Blocks of one layer that a request of `tokens` tokens may hold at once."""
        raise NotImplementedError

    def share(self, scheduling: Scheduling) -> Share:
        """The same as `blocks`, as a value of its own."""
        raise NotImplementedError

    def held_bytes(self, tokens: int, scheduling: Scheduling) -> int:
        """Bytes of the tokens (or states) that a request may hold, without the rounding to blocks."""
        raise NotImplementedError

    def with_block_size(self, block_size: int) -> Self:
        """The same layer with blocks of `block_size` tokens."""
        return replace(self, block_size=block_size)

    def padded(self, page_bytes: int) -> Self:
        """The same layer with its page enlarged."""
        return replace(self, padded_to=page_bytes)

    def like(self, other: Page) -> bool:
        """Whether two specs may share a group with pages of different sizes: same blocks, same reach.

        Source: `v1/kv_cache_interface.py:UniformTypeKVCacheSpecs.is_uniform_type`.
        """
        return self.kind == other.kind and self.block_size == other.block_size


class Rows(Page, frozen=True, kw_only=True):
    """Entries of tokens: `entry_bytes` is one entry of all heads, K and V together; an entry stands for `tokens_per_entry`
    tokens. `latent` (MLA) is a page that cannot be padded.
    """

    entry_bytes: int
    tokens_per_entry: int = 1
    latent: bool = False

    @property
    def content_bytes(self) -> int:
        """One page without padding."""
        return self.block_size * self.entry_bytes // self.tokens_per_entry


class FullSpec(Rows, frozen=True, kw_only=True):
    """Attention to every earlier token: `FullAttentionSpec`, `MLAAttentionSpec`."""

    kind: ClassVar[Kind] = "full"

    def blocks(self, tokens: Count, scheduling: Scheduling) -> Count:
        """Of the tokens on one device of decode context parallelism."""
        return whole_blocks(whole_blocks(tokens, scheduling.context_parallel), self.block_size)

    def share(self, scheduling: Scheduling) -> Share:
        """The same as `blocks`."""
        return Share(block_tokens=self.block_size * scheduling.context_parallel)

    def held_bytes(self, tokens: int, scheduling: Scheduling) -> int:
        """Every full entry."""
        return ceil_div(tokens, scheduling.context_parallel) // self.tokens_per_entry * self.entry_bytes


class SlidingSpec(Rows, frozen=True, kw_only=True):
    """A window of `reach` tokens: `SlidingWindowSpec`. `lookahead` tokens are kept beside it for drafting modules."""

    kind: ClassVar[Kind] = "sliding"

    reach: int  # tokens
    lookahead: int = 0  # tokens

    def blocks(self, tokens: Count, scheduling: Scheduling) -> Count:
        """A window need not begin at a block boundary, hence one block more; tokens in flight are held beside it.

        >>> one = Scheduling(in_flight_tokens=16384, batch_tokens=8192)
        >>> SlidingSpec(content=(), block_size=16, entry_bytes=4096, reach=1024).blocks(131072, one)
        1089
        """
        held = self.reach - 1 + self.lookahead + scheduling.in_flight_tokens
        return whole_blocks(at_most(tokens, held), self.block_size) + 1

    def share(self, scheduling: Scheduling) -> Share:
        """The same as `blocks`."""
        held = self.reach - 1 + self.lookahead + scheduling.in_flight_tokens
        return Share(block_tokens=self.block_size, most_tokens=held, more=1)

    def held_bytes(self, tokens: int, scheduling: Scheduling) -> int:
        """The window, and what is in flight."""
        return at_most(tokens, self.reach - 1 + self.lookahead + scheduling.in_flight_tokens) * self.entry_bytes

    def like(self, other: Page) -> bool:
        """Windows of one size."""
        return isinstance(other, SlidingSpec) and self.block_size == other.block_size and self.reach == other.reach


class ChunkedSpec(Rows, frozen=True, kw_only=True):
    """Attention within chunks of `reach` tokens: `ChunkedLocalAttentionSpec`."""

    kind: ClassVar[Kind] = "chunked"

    reach: int  # tokens

    def blocks(self, tokens: Count, scheduling: Scheduling) -> Count:
        """A chunk, and what is in flight."""
        return whole_blocks(at_most(tokens, self.reach + scheduling.in_flight_tokens), self.block_size)

    def share(self, scheduling: Scheduling) -> Share:
        """The same as `blocks`."""
        return Share(block_tokens=self.block_size, most_tokens=self.reach + scheduling.in_flight_tokens)

    def held_bytes(self, tokens: int, scheduling: Scheduling) -> int:
        """A chunk, and what is in flight."""
        return at_most(tokens, self.reach + scheduling.in_flight_tokens) * self.entry_bytes

    def like(self, other: Page) -> bool:
        """Chunks of one size."""
        return isinstance(other, ChunkedSpec) and self.block_size == other.block_size and self.reach == other.reach


class StateSpec(Page, frozen=True, kw_only=True):
    """A state of one sequence, whatever the block size: `MambaSpec`. A request holds `states` blocks of it, and with
    `every_block` (mamba_cache_mode "all") one beside them for each block of tokens.
    """

    kind: ClassVar[Kind] = "state"

    state_bytes: int
    states: int = 1
    every_block: bool = False

    @property
    def content_bytes(self) -> int:
        """One page without padding."""
        return self.state_bytes

    def blocks(self, tokens: Count, scheduling: Scheduling) -> Count:
        """A state is copied at block boundaries where prefixes are cached."""
        return (whole_blocks(tokens, self.block_size) if self.every_block else tokens * 0) + self.states

    def share(self, scheduling: Scheduling) -> Share:
        """The same as `blocks`."""
        return Share(block_tokens=self.block_size, most_tokens=None if self.every_block else 0, more=self.states)

    def held_bytes(self, tokens: int, scheduling: Scheduling) -> int:
        """The states."""
        return (self.states + (ceil_div(tokens, self.block_size) if self.every_block else 0)) * self.state_bytes

    def like(self, other: Page) -> bool:
        """States as large and as many."""
        if not isinstance(other, StateSpec) or self.block_size != other.block_size:
            return False
        return (self.page_bytes, self.states) == (other.page_bytes, other.states)


class CrossSpec(Rows, frozen=True, kw_only=True):
    """Keys and values of encoder output: `CrossAttentionSpec`."""

    kind: ClassVar[Kind] = "cross"

    def blocks(self, tokens: Count, scheduling: Scheduling) -> Count:
        """As many as a batch has tokens."""
        return tokens * 0 + ceil_div(scheduling.batch_tokens, self.block_size)

    def share(self, scheduling: Scheduling) -> Share:
        """The same as `blocks`."""
        return Share(block_tokens=self.block_size, most_tokens=0, more=ceil_div(scheduling.batch_tokens, self.block_size))

    def held_bytes(self, tokens: int, scheduling: Scheduling) -> int:
        """As many as a batch has tokens."""
        return scheduling.batch_tokens * self.entry_bytes


Spec = FullSpec | SlidingSpec | ChunkedSpec | StateSpec | CrossSpec


def without_reach(spec: Spec, block_size: int | None = None) -> Spec:
    """The layer as `disable_hybrid_kv_cache_manager` holds it: as if it saw everything, in blocks of `block_size` tokens."""
    if not isinstance(spec, SlidingSpec | ChunkedSpec):
        return spec
    whole = FullSpec(**{name: getattr(spec, name) for name in FullSpec.__struct_fields__})
    return whole if block_size is None else whole.with_block_size(block_size)


class Held(Struct, frozen=True, kw_only=True):
    """One cache of one layer of the model (or of a drafter: `draft`), in the order in which vLLM registers them.

    `layer` is the index in the model (a drafter's caches count on from the model's layers), `memory` the index among
    the layer's memories; -1 is a cache that the model does not speak of (a compressor's running state).
    """

    layer: int
    memory: int
    name: str
    spec: Spec
    draft: bool = False
