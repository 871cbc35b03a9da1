"""Rows of batched caches for prompts of different lengths: the scheduler of `BatchGenerator`, step by step.

`mlx_lm.server` and `batch_generate` prefill up to `prompt_concurrency` prompts together, each round at most
`prefill_step_size` tokens of each, padded to the longest. A prompt that is down to its last token moves to the batch that
generates, whose rows are padded to the longest again. All sequences of a batch have the same rows, so the rows follow the
longest; how many steps are taken depends on when each prompt was done.

Source: mlx_lm/generate.py:BatchGenerator, PromptProcessingBatch, GenerationBatch; models/cache.py:BatchKVCache,
BatchRotatingKVCache; 0.32.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from kvplan.engines.mlx_lm.growth import STEP
from kvplan.errors import OptionError

#: Rounds that are followed: a generated token is one, and so is a chunk of prompts.
MAX_ROUNDS: Final = 100_000


@dataclass(slots=True)
class _Growing:
    """A `BatchKVCache`: rows, the rows in use, and each sequence's padding on the left."""

    rows: int = 0
    used: int = 0
    padding: list[int] = field(default_factory=list)

    def feed(self, tokens: int, lengths: Sequence[int]) -> None:
        if self.used + tokens > self.rows:
            self.rows = (self.used if self.used % STEP else self.rows) + -(-tokens // STEP) * STEP
        self.used += tokens
        self.padding = [had + tokens - length for had, length in zip(self.padding, lengths, strict=True)]

    def filtered(self, keep: Sequence[int]) -> _Growing:
        """Only those sequences, without the padding that all of them have."""
        if not keep:
            return _Growing()
        padding = [self.padding[i] for i in keep]
        spare = max(min(padding), 0)
        return _Growing(max(self.rows - spare, 0), self.used - spare, [p - spare for p in padding])

    def extend(self, other: _Growing) -> None:
        used = max(self.used, other.used)
        self.padding = [p + used - c.used for c in (self, other) for p in c.padding]
        self.rows, self.used = max(self.rows, other.rows), used


@dataclass(slots=True)
class _Rotating:
    """A `BatchRotatingKVCache`: rows, where the next token goes, tokens seen, and whether it has gone round."""

    window: int
    rows: int = 0
    at: int = 0
    seen: int = 0
    rotated: bool = False

    def feed(self, tokens: int) -> None:
        if tokens == 1:
            self._one()
        elif self.rows == 0:
            self.rows = self.at = tokens
            self.seen += tokens
        else:
            self._order()
            self.rows = self.at = min(self.at, max(self.window - 1, 0)) + tokens
            self.seen += tokens

    def _one(self) -> None:
        if self.rows == 0 or (self.seen >= self.rows and self.rows < self.window):
            self.rows += min(STEP, self.window - self.seen)
            self.at = self.seen
        if self.rows > self.window:
            self.rows = self.at = self.window
        if self.at == self.window:
            self.rotated, self.at = True, 0
        self.seen += 1
        self.at += 1

    def _order(self) -> None:
        if self.rotated:
            self.at, self.rotated = self.rows, False

    def extend(self, other: _Rotating) -> None:
        if self.rotated != other.rotated or self.at != other.at:
            self._order()
            other._order()
        self.rows, self.at = max(self.rows, other.rows), max(self.at, other.at)
        self.seen = max(self.seen, other.seen)


@dataclass(slots=True)
class _Batch:
    """Sequences that run together: the prompt tokens each still has, the tokens each has generated, and their caches."""

    windows: tuple[int, ...]
    left: list[int] = field(default_factory=list)
    generated: list[int] = field(default_factory=list)
    growing: _Growing = field(default_factory=_Growing)
    rotating: list[_Rotating] = field(default_factory=list)

    @classmethod
    def of(cls, windows: tuple[int, ...], prompts: Sequence[int]) -> _Batch:
        return cls(windows, list(prompts), [0] * len(prompts), _Growing(padding=[0] * len(prompts)), _fresh(windows))

    def feed(self, lengths: Sequence[int]) -> None:
        """One call: so many tokens of each sequence, padded on the right to the most, then rolled to the left."""
        most = max(lengths)
        self.growing.feed(most, lengths)
        for cache in self.rotating:
            cache.feed(most)

    def filtered(self, keep: Sequence[int]) -> _Batch:
        rotating = [_Rotating(c.window, c.rows, c.at, c.seen, c.rotated) for c in self.rotating] if keep else []
        left, generated = [self.left[i] for i in keep], [self.generated[i] for i in keep]
        return _Batch(self.windows, left, generated, self.growing.filtered(keep), rotating)

    def extend(self, other: _Batch) -> None:
        if not self.left:
            self.growing, self.rotating = other.growing, other.rotating
        elif other.left:
            self.growing.extend(other.growing)
            for mine, theirs in zip(self.rotating, other.rotating, strict=True):
                mine.extend(theirs)
        self.left += other.left
        self.generated += other.generated


def _fresh(windows: tuple[int, ...]) -> list[_Rotating]:
    return [_Rotating(window) for window in windows]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the caches of the generating batch: of a growing one, of a rotating one by its window; and its sequences."""

    sequences: int
    growing: int
    rotating: dict[int, int]


def batched_rows(
    prompts: Sequence[int],
    generated: int,
    windows: Sequence[int],
    *,
    chunk: int = 2048,
    prompt_concurrency: int = 8,
    decode_concurrency: int = 32,
    max_tokens: int | None = None,
) -> Rows:
    """The caches once each of `prompts` (tokens, in the order of arrival) has generated at least `generated` tokens.

    A sequence that has generated `max_tokens` leaves the batch, and the padding that all others share leaves with it.

    Raises:
        OptionError: more than `MAX_ROUNDS` rounds would have to be followed.
    """
    kinds = tuple(dict.fromkeys(windows))
    waiting, running = list(prompts), max(decode_concurrency, prompt_concurrency)
    prefill, decode = _Batch(kinds), _Batch(kinds)
    if generated + sum(-(-p // chunk) for p in prompts) > MAX_ROUNDS or len(prompts) > running:
        raise OptionError(
            f"{len(prompts)} prompts and {generated:,} tokens each are more than is followed step by step",
            hint=f"at most {running} sequences (decode_concurrency) and {MAX_ROUNDS:,} rounds",
        )
    while waiting or prefill.left or min(decode.generated, default=0) < generated:
        if decode.left:
            decode.feed([1] * len(decode.left))
            decode.generated = [n + 1 for n in decode.generated]
            if max_tokens is not None and max(decode.generated) >= max_tokens:
                decode = decode.filtered([i for i, n in enumerate(decode.generated) if n < max_tokens])
        if len(decode.left) >= running:
            continue
        taken = max(min(prompt_concurrency - len(prefill.left), running - len(decode.left), len(waiting)), 0)
        if taken:
            prefill.extend(_Batch.of(kinds, waiting[:taken]))
            del waiting[:taken]
        _move(prefill, decode)
        _prefill(prefill, chunk)
    rotating = {cache.window: cache.rows for cache in decode.rotating}
    return Rows(len(decode.left), decode.growing.rows, rotating)


def _move(prefill: _Batch, decode: _Batch) -> None:
    """Sequences that are down to one token leave the prompts and take their first step."""
    done = [i for i, left in enumerate(prefill.left) if left == 1]
    if not done:
        return
    moved, stay = prefill.filtered(done), prefill.filtered([i for i in range(len(prefill.left)) if i not in done])
    moved.feed([1] * len(done))
    decode.extend(moved)
    prefill.left, prefill.generated, prefill.growing, prefill.rotating = stay.left, stay.generated, stay.growing, stay.rotating


def _prefill(prefill: _Batch, chunk: int) -> None:
    """One round: at most a chunk of each prompt, its last token kept back."""
    if not prefill.left:
        return
    lengths = [min(left - 1, chunk) for left in prefill.left]
    prefill.feed(lengths)
    prefill.left = [left - length for left, length in zip(prefill.left, lengths, strict=True)]
