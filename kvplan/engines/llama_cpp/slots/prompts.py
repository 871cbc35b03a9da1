"""Prompts that slots and the prompt cache hold, and the prompt cache (`server_prompt_cache`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from msgspec import Struct

_KEPT: Final = np.float32(0.25)  # less of an entry than this is not gone on from


class Prompt(Struct, frozen=True):
    """Tokens: the first `shared` are those that `names` stand for, `each` a name; the others are a request's own."""

    names: tuple[int, ...]
    each: int
    shared: int
    tokens: int

    def common(self, other: Prompt) -> int:
        """Tokens from the start on that are the same."""
        alike = 0
        for one, two in zip(self.names, other.names, strict=False):
            if one != two:
                break
            alike += 1
        return min(alike * self.each, self.shared, other.shared, self.tokens, other.tokens)

    def first(self, tokens: int) -> Prompt:
        """The first tokens."""
        return Prompt(self.names, self.each, min(self.shared, tokens), tokens)


EMPTY: Final = Prompt((), 0, 0, 0)


def share(part: int, whole: int) -> np.float32:
    """A share as the server has it."""
    return np.float32(part) / np.float32(whole)


class PromptCache:
    """Prompts in host memory, the oldest first. `limit` in bytes, -1: none; `most`: tokens."""

    def __init__(self, limit: int, most: int, state_bytes: Callable[[int], int]) -> None:
        self.limit, self.most, self._state_bytes = max(limit, 0), most, state_bytes
        self.entries: list[tuple[Prompt, int]] = []

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size in self.entries)

    def save(self, prompt: Prompt) -> bool:
        """A slot's prompt (`alloc`); what it contains goes, then the oldest, until there is room. Whether it was saved."""
        if not prompt.tokens or any(entry.common(prompt) == prompt.tokens for entry, _ in self.entries):
            return False
        size = self._state_bytes(prompt.tokens)
        if self.limit and size > self.limit:
            return False
        self.entries = [entry for entry in self.entries if entry[0].common(prompt) != entry[0].tokens]
        while self.limit and self.entries and self.size + size > self.limit:
            del self.entries[0]
        self.entries.append((prompt, size))
        return True

    def best(self, held: Prompt, wanted: Prompt) -> int | None:
        """The entry that holds more of what is wanted than the slot does, and loses less of itself (`load`)."""
        alike = held.common(wanted)
        kept = share(alike, held.tokens) if held.tokens else np.float32(-1)
        similar, found = share(alike, wanted.tokens), None
        for place, (entry, _) in enumerate(self.entries):
            alike = entry.common(wanted)
            keeps, is_similar = share(alike, entry.tokens), share(alike, wanted.tokens)
            if keeps >= _KEPT and kept < keeps and similar < is_similar:
                kept, similar, found = keeps, is_similar, place
        return found

    def update(self) -> None:
        """The oldest go until the limits hold: bytes, and tokens as long as those of the limit in bytes are fewer."""
        while self.limit and self.entries and self.size > self.limit:
            del self.entries[0]
        tokens = sum(entry.tokens for entry, _ in self.entries)
        each = max(np.float32(1), np.float32(self.size) / np.float32(max(1, tokens)))
        most = max(self.most, int(np.float32(self.limit) / each)) if self.limit else self.most
        while self.entries and tokens > most:
            tokens -= self.entries[0][0].tokens
            del self.entries[0]
