"""The pool of blocks: free ones in the order of their reuse, references, and what each is known by.

Source: `block_pool.py:BlockPool`, `kv_cache_utils.py:FreeKVCacheBlockQueue`.
"""

from collections import OrderedDict
from collections.abc import Iterable

from kvplan.engines.vllm.scheduler.hashes import Key

#: Stands where a row needs no block: never free, never counted.
NULL = 0


class Blocks:
    """`number` blocks, the null block among them."""

    def __init__(self, number: int, *, caching: bool) -> None:
        self.number, self.caching = number, caching
        self.references = [0] * number
        self.key: list[Key | None] = [None] * number
        self.key_tokens = [0] * number
        self._other_keys: dict[int, set[Key]] = {}
        self._known: dict[Key, dict[int, None]] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, number))

    @property
    def free(self) -> int:
        """Blocks that can be taken."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Blocks that are held by somebody."""
        return self.number - 1 - len(self._free)

    def is_free(self, block: int) -> bool:
        """Whether nobody holds it."""
        return block != NULL and self.references[block] == 0

    def take(self, number: int) -> list[int]:
        """The next `number` blocks; what they were known by is forgotten."""
        taken = []
        for _ in range(number):
            block, _ = self._free.popitem(last=False)
            self.forget(block)
            self.references[block] = 1
            taken.append(block)
        return taken

    def hold(self, blocks: Iterable[int]) -> None:
        """One more reference to each."""
        for block in blocks:
            if block != NULL:
                if self.references[block] == 0:
                    del self._free[block]
                self.references[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One reference less to each, in order. Unknown ones are taken next, known ones last."""
        first = []
        for block in blocks:
            if block == NULL:
                continue
            self.references[block] -= 1
            if self.references[block] == 0:
                if self.caching and self.key[block] is not None:
                    self._free[block] = None
                else:
                    first.append(block)
        for block in reversed(first):
            self._free[block] = None
            self._free.move_to_end(block, last=False)

    def known(self, name: int, groups: Iterable[int]) -> list[int] | None:
        """The block of each group that holds that prefix's end; None if one of them has none."""
        found = []
        for group in groups:
            holders = self._known.get((name, group))
            if not holders:
                return None
            found.append(next(iter(holders)))
        return found

    def enter(self, block: int, key: Key, tokens: int) -> None:
        """Make a block known by one more key: the prefix of `tokens` ends in it."""
        holders = self._known.setdefault(key, {})
        if block in holders:
            return
        if self.key[block] is None:
            self.key[block], self.key_tokens[block] = key, tokens
        else:
            self._other_keys.setdefault(block, set()).add(key)
        holders[block] = None

    def forget(self, block: int) -> list[Key]:
        """Take all keys from a block; they are returned, the first one first."""
        first = self.key[block]
        if first is None:
            return []
        keys = [first, *self._other_keys.pop(block, ())]
        self.key[block], self.key_tokens[block] = None, 0
        for key in keys:
            holders = self._known[key]
            del holders[block]
            if not holders:
                del self._known[key]
        return keys

    def move_keys(self, source: int, target: int) -> None:
        """Make `target` known by what `source` was."""
        tokens = self.key_tokens[source]
        for key in self.forget(source):
            self.enter(target, key, tokens)

    def enter_full(self, block: int, key: Key, tokens: int) -> None:
        """Enter a whole block; what it was known by with fewer tokens is forgotten."""
        if self.key[block] is not None:
            self.forget(block)
        self.enter(block, key, tokens)

    def enter_part(self, block: int, key: Key, tokens: int, *, alone: bool = False) -> None:
        """Enter a prefix that ends inside a block; `alone`: the block holds nothing else now."""
        holds = self.key[block] is not None
        if alone or (holds and block not in self._known.get(key, {}) and self.key_tokens[block] < tokens):
            self.forget(block)
        self.enter(block, key, tokens)
