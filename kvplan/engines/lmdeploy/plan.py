"""A block of LMDeploy's pool and a slot of its states, on one rank: plain values.

Source: lmdeploy 0.18.0 `pytorch/engine/cache_engine/{layout,plan,state}.py`.
"""

from __future__ import annotations

from math import prod
from typing import Final

from msgspec import Struct

from kvplan.domain.dtypes import item_bytes
from kvplan.units import ceil_div

_ALIGNMENT: Final = 256  # bytes
INDEX_SCALE: Final = 4  # bytes of an indexer's fp32 scale


def _item(dtype: str) -> int:
    return 1 if dtype == "uint8" else item_bytes(dtype)  # packed elements and their scales


class BlockTensor(Struct, frozen=True, kw_only=True):
    """One tensor of a kernel block, in each of `layers`; `contiguous` ones are not rounded up."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layers: tuple[int, ...]
    contiguous: bool = False

    @property
    def raw_bytes(self) -> int:
        """Bytes of its elements in one layer."""
        return prod(self.shape) * _item(self.dtype)

    @property
    def bytes(self) -> int:
        """Bytes that it takes in one layer."""
        return self.raw_bytes if self.contiguous else ceil_div(self.raw_bytes, _ALIGNMENT) * _ALIGNMENT


class StateTensor(Struct, frozen=True, kw_only=True):
    """One tensor of a state slot, all of its `layers` in it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layers: tuple[int, ...]

    @property
    def raw_bytes(self) -> int:
        """Bytes of one layer's elements in a slot."""
        return prod(self.shape) * _item(self.dtype)

    @property
    def bytes(self) -> int:
        """Bytes that all layers take in a slot."""
        return ceil_div(len(self.layers) * self.raw_bytes, _ALIGNMENT) * _ALIGNMENT


class Plan(Struct, frozen=True, kw_only=True):
    """A block and a slot of one rank, and what the engine resolves beside them."""

    block_size: int  # tokens
    kernel_block_size: int  # tokens
    tensors: tuple[BlockTensor, ...]
    states: tuple[StateTensor, ...]
    dtype: str
    kv_dtype: str  # in words
    num_layers: int  # with keys and values
    kv_heads_total: int  # of all ranks, copies included
    k_head_dim: int
    v_head_dim: int
    window_size: int
    vocab_size: int
    use_flash_mla: bool = False
    sparse: bool = False
    own_blocks: bool = False  # the architecture sets the block size itself

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        kernel = sum(tensor.bytes * len(tensor.layers) for tensor in self.tensors)
        return kernel * (self.block_size // self.kernel_block_size)

    @property
    def state_slot_bytes(self) -> int:
        """Bytes of one slot of states."""
        return sum(state.bytes for state in self.states)
