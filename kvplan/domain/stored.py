"""A tensor of a GGUF file: its name, type, extents and place. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct


class StoredTensor(Struct, frozen=True, kw_only=True):
    """One tensor.

    Attributes:
        name: as in the file (`blk.3.ffn_down.weight`).
        type: ggml's name in lower case.
        dims: extents, the row first.
        bytes: of its data.
        offset: bytes from the start of the data section.
        part: of a file in several parts, which one.
    """

    name: str
    type: str
    dims: tuple[int, ...]
    bytes: int
    offset: int = 0
    part: int = 0

    @property
    def block(self) -> int | None:
        """The number of its block, or None.

        >>> StoredTensor(name="blk.12.attn_k.weight", type="f16", dims=(1,), bytes=2).block
        12
        """
        return _parts(self.name)[0]

    @property
    def kind(self) -> str:
        """Its name without a block number and without `.weight` or `.bias`.

        >>> StoredTensor(name="output.weight", type="f16", dims=(1,), bytes=2).kind
        'output'
        """
        return _parts(self.name)[1]


@lru_cache(maxsize=65_536)
def _parts(name: str) -> tuple[int | None, str]:
    """The number of a tensor's block, and its name without it."""
    first, _, rest = name.partition(".")
    number, _, inner = rest.partition(".")
    block = int(number) if first == "blk" and number.isascii() and number.isdecimal() and len(number) < 7 else None
    return block, (name if block is None else inner).removesuffix(".weight").removesuffix(".bias")


class SideFile(Struct, frozen=True, kw_only=True):
    """A GGUF file that is loaded beside a model: a projector, an adapter.

    Attributes:
        name: without its folder.
        typed: as it was named, for a command line.
        keys, tensors: of its header.
    """

    name: str
    typed: str
    keys: Mapping[str, Any]
    tensors: tuple[StoredTensor, ...]

    def __repr__(self) -> str:
        return f"<SideFile {self.name} · {len(self.tensors):,} tensors>"

    @property
    def bytes(self) -> int:
        """All its tensors."""
        return sum(tensor.bytes for tensor in self.tensors)
