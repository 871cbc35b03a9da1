"""Chunks of blocks in host memory: what is there, what a transfer holds on to, and what goes first.

Source: `v1/kv_offload/cpu/manager.py:CPUOffloadingManager`, `cpu/policies/lru.py:LRUCachePolicy`, the policy where nobody says.
"""

from collections.abc import Collection, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from kvplan.engines.kernel.releases import Quirk, quirk

_LRU: Final = "vllm/v1/kv_offload/cpu/policies/lru.py"

BY_REQUEST: Final[Quirk[bool]] = quirk(
    ((0,), False, f"{_LRU}:insert, 0.32.0"),
    ((0, 33), True, f"{_LRU}:on_request_access, 0.33.0"),
    says="chunks in host memory that a running request stored or read age by its first one, its last tokens first",
)

#: What a chunk holds: the tokens of the prefix that ends in it, the group, the prefix's name.
Key = tuple[int, int, int]
#: Its age, the oldest first: a count, and within one request the place in the prompt.
_Rank = tuple[int, int]

_WRITTEN_TO: Final = -1
_FEW: Final = 64


class Access:
    """What one request stored or read: its use of it counts when it ends."""

    __slots__ = ("rank", "seen")

    def __init__(self) -> None:
        self.seen: set[Key] = set()
        self.rank: int | None = None


class HostTier:
    """`chunks` chunks; each holds what one key names, or nothing."""

    def __init__(self, chunks: int, release: tuple[int, ...]) -> None:
        self.chunks = chunks
        self.stored = self.loaded = self.evicted = 0  # chunks, since the start
        self.most = 0  # the most chunks that held something
        self._references: dict[Key, int] = {}  # transfers that read it
        self._ranks: dict[Key, _Rank] = {}
        self._idle: set[Key] = set()  # held by no transfer
        self._heap: list[tuple[_Rank, Key]] = []  # idle ones and some that no longer are
        self._clock = 0
        self._by_request = BY_REQUEST.at(release)

    @property
    def resident(self) -> int:
        """Chunks that hold something."""
        return len(self._references)

    def ready(self, key: Key) -> bool | None:
        """Whether it can be read now; None: it is not here."""
        references = self._references.get(key)
        return None if references is None else references != _WRITTEN_TO

    def store(self, keys: Sequence[Key], access: Access) -> list[Key] | None:
        """Make room for those that are not here; None where there is none.

        The least recently used go, none of them one of `keys`.
        """
        new = [key for key in keys if key not in self._references]
        self._saw([key for key in keys if key not in self._references or self.ready(key)], access)
        if not new:
            return []
        missing = len(new) - (self.chunks - len(self._references))
        if missing > 0 and not self._evict(missing, set(keys)):
            return None
        for key in new:
            self._references[key] = _WRITTEN_TO
            self._ranks[key] = (self._rank_of(access), -key[0]) if self._by_request else (self._tick(), 0)
        self.stored += len(new)
        self.most = max(self.most, len(self._references))
        return new

    def was_stored(self, keys: Iterable[Key]) -> None:
        """They can be read now."""
        for key in keys:
            self._references[key] = 0
            self._rest(key)

    def load(self, keys: Collection[Key], access: Access) -> None:
        """Hold on to what is read."""
        for key in keys:
            self._idle.discard(key)
            self._references[key] += 1
        self._saw(keys, access)
        self.loaded += len(keys)

    def was_loaded(self, keys: Iterable[Key]) -> None:
        """Let go of it."""
        for key in keys:
            self._references[key] -= 1
            if self._references[key] == 0:
                self._rest(key)

    def ended(self, access: Access) -> None:
        """A request ended: what it used is the most recent now, the head of its prompt last."""
        used = [key for key in sorted(access.seen, reverse=True) if key in self._references]
        for key in used:
            self._ranks[key] = (self._tick(), 0)
        self._aged([key for key in used if key in self._idle])

    def _saw(self, keys: Iterable[Key], access: Access) -> None:
        new = [key for key in keys if key not in access.seen]
        access.seen.update(new)
        if not new or not self._by_request:
            return
        count, moved = self._rank_of(access), []
        for key in new:
            if key in self._references and self._ranks[key] < (count, -key[0]):
                self._ranks[key] = count, -key[0]
                if key in self._idle:
                    moved.append(key)
        self._aged(moved)

    def _rank_of(self, access: Access) -> int:
        if access.rank is None:
            access.rank = self._tick()
        return access.rank

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _rest(self, key: Key) -> None:
        self._idle.add(key)
        heappush(self._heap, (self._ranks[key], key))
        if len(self._heap) > max(_FEW, 2 * len(self._idle)):
            self._again()

    def _aged(self, moved: Sequence[Key]) -> None:
        if len(moved) + len(self._heap) > max(_FEW, 2 * len(self._idle)):
            self._again()
            return
        for key in moved:
            heappush(self._heap, (self._ranks[key], key))

    def _again(self) -> None:
        self._heap = [(self._ranks[key], key) for key in self._idle]
        heapify(self._heap)

    def _evict(self, number: int, kept: set[Key]) -> bool:
        """Drop the oldest that no transfer holds and that are not `kept`; False: too few, and nothing is dropped."""
        if number > len(self._idle):
            return False
        chosen: dict[Key, _Rank] = {}
        passed: list[tuple[_Rank, Key]] = []
        while self._heap and len(chosen) < number:
            rank, key = heappop(self._heap)
            if key not in self._idle or self._ranks[key] != rank or key in chosen:
                continue
            if key in kept:
                passed.append((rank, key))
            else:
                chosen[key] = rank
        if len(chosen) < number:
            passed += [(rank, key) for key, rank in chosen.items()]
            chosen.clear()
        for entry in passed:
            heappush(self._heap, entry)
        for key in chosen:
            self._idle.remove(key)
            del self._references[key], self._ranks[key]
        self.evicted += len(chosen)
        return bool(chosen)
