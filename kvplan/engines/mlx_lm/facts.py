"""What only mlx-lm can say of an allocation: its cache objects, and the most that they take while a prompt is read."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from kvplan.engines.mlx_lm.layers import Arrays, Chunked, Compressing, Context, Entry, Growing, Member, Moment, Rotating, Storage


class CacheFacts(Struct, frozen=True, kw_only=True):
    """Equal caches together: the class that the library makes, how many, and rows of one array (0: a state, which has none)."""

    cache: str
    count: int
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class MlxLmFacts(Struct, frozen=True, kw_only=True):
    """`entries` of the prompt cache; `state_bytes` are of states, `kv_bytes` of everything else; `peak_bytes` is the most that
    the arrays take between two calls, prompt included."""

    entries: int
    kv_bytes: int
    state_bytes: int
    peak_bytes: int
    caches: tuple[CacheFacts, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        return found | {"caches": [cache.to_dict() for cache in self.caches]}


def cache_facts(entries: Iterable[Entry], storage: Storage, at: Moment[int]) -> tuple[CacheFacts, ...]:
    """The library's cache objects, equal ones together, in the order of the prompt cache."""
    counts: dict[tuple[str, int], int] = {}
    for entry in entries:
        for member in entry.members:
            key = _named(member, storage if not entry.listed else None, at)
            counts[key] = counts.get(key, 0) + 1
    return tuple(CacheFacts(cache=name, rows=rows, count=count) for (name, rows), count in counts.items())


_PLAIN: Mapping[type[Member], str] = {Arrays: "ArraysCache", Context: "ArraysCache", Compressing: "LayerCache"}


def _named(member: Member, storage: Storage | None, at: Moment[int]) -> tuple[str, int]:
    """A cache's class (a batch's where there are several sequences) and the rows of its arrays."""
    batch = "Batch" if at.sequences > 1 else ""
    match member:
        case Growing():
            packed = storage is not None and storage.bits is not None and at.calls.tokens >= storage.start
            return ("QuantizedKVCache" if packed else f"{batch}KVCache"), at.growing
        case Rotating():
            return f"{batch}RotatingKVCache({member.window})", at.rotating(member)
        case Chunked():
            return f"ChunkedKVCache({member.size})", at.chunked(member)
        case _:
            return _PLAIN[type(member)], 0
