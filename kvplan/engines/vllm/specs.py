"""What one layer asks vLLM's block pool for: the bytes of a page, and the pages that a request may hold.

A `Spec` stands for vLLM's `KVCacheSpec` classes (`vllm/v1/kv_cache_interface.py`): one block of one layer is a *page*.
Lengths may be ints or int64 arrays, so that a sweep and a single estimate share the formulas.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from kvplan.engines.kernel.tensors import Count, at_most, whole_blocks
from kvplan.units import ceil_div

Kind = Literal["full", "sliding", "chunked", "state", "cross"]


class Spec(Struct, frozen=True, kw_only=True):
    """One layer's cache as vLLM describes it; equal specs may share a group.

    `entry_bytes` is one stored entry of all heads, K and V together (0 for states); an entry stands for
    `tokens_per_entry` tokens. `state_bytes` is one state of one sequence, whatever the block size.
    `content` says what the bytes are made of (heads, widths, dtype): layers whose content differs are different specs
    even when their pages are equally large.
    """

    kind: Kind
    content: tuple[object, ...]
    block_size: int  # tokens
    entry_bytes: int = 0
    tokens_per_entry: int = 1
    state_bytes: int = 0
    latent: bool = False  # MLA: its page cannot be padded
    reach: int = 0  # tokens: the window or the chunk
    lookahead: int = 0  # tokens that a window keeps beside its own, for drafting modules
    alignment: int = 1  # bytes: the page is rounded up to it
    stride_alignment: int = 1  # bytes: where a block may begin in the pool
    padded_to: int = 0  # bytes: the page is enlarged to it
    states: int = 1  # blocks of states that a request holds
    every_block: bool = False  # and one beside them for each block of tokens (mamba_cache_mode "all")

    @property
    def content_bytes(self) -> int:
        """One page without padding."""
        return self.state_bytes if self.kind == "state" else self.block_size * self.entry_bytes // self.tokens_per_entry

    @property
    def page_bytes(self) -> int:
        """One page as it is allocated."""
        return max(ceil_div(self.content_bytes, self.alignment) * self.alignment, self.padded_to)

    def with_block_size(self, block_size: int) -> Spec:
        """The same layer with blocks of `block_size` tokens."""
        return replace(self, block_size=block_size)

    def padded(self, page_bytes: int) -> Spec:
        """The same layer with its page enlarged."""
        return replace(self, padded_to=page_bytes)

    def without_reach(self) -> Spec:
        """The layer as `disable_hybrid_kv_cache_manager` holds it: as if it saw everything."""
        return replace(self, kind="full", reach=0, lookahead=0) if self.kind in {"sliding", "chunked"} else self


class Scheduling(Struct, frozen=True, kw_only=True):
    """What bounds a request's blocks beside its length."""

    in_flight_tokens: int  # tokens scheduled and not settled, at most
    batch_tokens: int  # max_num_batched_tokens
    context_parallel: int = 1  # decode_context_parallel_size


def request_blocks(spec: Spec, tokens: Count, scheduling: Scheduling) -> Count:
    """Blocks of one layer that a request of `tokens` tokens may hold at once.

    A sliding window need not begin at a block boundary, hence one block more; tokens that are in flight are held
    beside the window. A state is copied at block boundaries where prefixes are cached.

    Source: `max_memory_usage_bytes` of each class in `v1/kv_cache_interface.py`.

    >>> one = Scheduling(in_flight_tokens=16384, batch_tokens=8192)
    >>> request_blocks(Spec(kind="sliding", content=(), block_size=16, entry_bytes=4096, reach=1024), 131072, one)
    1089
    """
    match spec.kind:
        case "full":
            return whole_blocks(whole_blocks(tokens, scheduling.context_parallel), spec.block_size)
        case "sliding":
            held = spec.reach - 1 + spec.lookahead + scheduling.in_flight_tokens
            return whole_blocks(at_most(tokens, held), spec.block_size) + 1
        case "chunked":
            return whole_blocks(at_most(tokens, spec.reach + scheduling.in_flight_tokens), spec.block_size)
        case "state":
            return (whole_blocks(tokens, spec.block_size) if spec.every_block else tokens * 0) + spec.states
        case "cross":
            return tokens * 0 + ceil_div(scheduling.batch_tokens, spec.block_size)


def same_kind(a: Spec, b: Spec) -> bool:
    """Whether two specs may share a group with pages of different sizes: same blocks, same reach.

    Source: `v1/kv_cache_interface.py:UniformTypeKVCacheSpecs.is_uniform_type`.
    """
    if (a.kind, a.block_size, a.reach) != (b.kind, b.block_size, b.reach):
        return False
    return a.kind != "state" or (a.page_bytes, a.states) == (b.page_bytes, b.states)


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
