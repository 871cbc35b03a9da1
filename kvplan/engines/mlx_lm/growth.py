"""How many rows a cache array has: a function of the tokens it has seen and of how they came.

A prompt comes in chunks of `prefill_step_size` tokens, its last token alone, then one token a step. Every cache class of
mlx-lm grows by what one call brings, so the rows of an array depend on the chunks. The functions here are those calls
in closed form: a token count is an `int` or an int64 array.

Source: mlx_lm/generate.py:generate_step and BatchGenerator; mlx_lm/models/cache.py; llama4.py:LlamaModel; 0.32.2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Generic

import msgspec

from kvplan.engines.kernel.tensors import Count, at_least, at_most, whole_blocks

#: Rows that a cache array is lengthened by: `KVCache.step`, the same in every class.
STEP: Final = 256


class Calls(msgspec.Struct, Generic[Count], frozen=True, kw_only=True):
    """How the tokens of one sequence came: `prefilled` of them in chunks of `chunk`, the others one at a time.

    `prefilled` is the prompt without its last token, which takes the same path as a generated one.
    """

    tokens: Count
    prefilled: Count
    chunk: int

    @classmethod
    def of(cls, tokens: Count, prompt: Count, chunk: int) -> Calls[Count]:
        """The calls for `tokens` of which `prompt` (at most all of them) were given, the rest generated."""
        return cls(tokens=tokens, prefilled=at_least(prompt - 1, 0), chunk=chunk)

    @property
    def together(self) -> Count:
        """Prefilled tokens that came in calls of two or more: a last chunk of one token counts as a decode step."""
        if self.chunk == 1:
            return self.prefilled * 0
        together: Count = self.prefilled - (self.prefilled % self.chunk == 1) * 1
        return together


def growing_rows(calls: Calls[Count]) -> Count:
    """Rows of a `KVCache`: whole steps while chunks are whole steps, else what cutting and lengthening leave.

    >>> growing_rows(Calls.of(301, 300, 2048)), growing_rows(Calls.of(700, 700, 300))
    (512, 812)
    """
    if calls.chunk % STEP == 0:
        return whole_blocks(calls.tokens, STEP) * STEP
    first = _rows_after_chunks(calls.prefilled, calls.chunk)
    return first + whole_blocks(at_least(calls.tokens - first, 0), STEP) * STEP


def rotating_rows(calls: Calls[Count], window: int, keep: int = 0) -> Count:
    """Rows of a `RotatingKVCache` of `window`, whose first `keep` are never cut away.

    A chunk is stored as it is, beside at most window - 1 earlier tokens, so during the prompt the array may be longer than
    the window by almost a chunk. A single token cuts it to the window, or adds a step of 256 to what is shorter.

    >>> rotating_rows(Calls.of(301, 300, 2048), 4096), rotating_rows(Calls.of(5000, 5000, 2048), 4096)
    (555, 4096)
    >>> rotating_rows(Calls(tokens=4096, prefilled=4096, chunk=2048), 512)
    2559
    """
    start = calls.together
    before = (start - 1) // calls.chunk * calls.chunk
    chunked = at_most(before, max(window - 1, keep)) + (start - before)
    stepped = at_most(start + whole_blocks(calls.tokens - start, STEP) * STEP, window)
    if keep > window:
        stepped = stepped + (at_most(chunked, keep) - window) * (start > window)
    return chunked + (stepped - chunked) * (calls.tokens > start)


def chunked_rows(calls: Calls[Count], size: int) -> Count:
    """Rows of a `ChunkedKVCache` of `size`: cut to the chunk before a call, lengthened by whole steps in it.

    >>> chunked_rows(Calls.of(20_000, 20_000, 2048), 8192), chunked_rows(Calls.of(8192, 8192, 2048), 8192)
    (8448, 8192)
    """
    valid, rows = _chunked_prefill(calls.prefilled, calls.chunk, size)
    singles = calls.tokens - calls.prefilled
    seen = valid + singles  # as long as nothing is cut
    grown = rows + whole_blocks(at_least(seen - rows, 0), STEP) * STEP
    # a call cuts when it finds more than `size` tokens: never for the token that makes it size + 1
    cut = (singles > 0) & (seen > size + 1)
    return grown + (size + STEP - grown) * cut


def _chunked_prefill(tokens: Count, chunk: int, size: int) -> tuple[Count, Count]:
    """Tokens and rows that a `ChunkedKVCache` holds after `tokens` came in chunks."""
    before = at_least((tokens - 1) // chunk * chunk, 0)
    last = tokens - before
    cut = (before > size) * 1
    valid = tokens * (1 - cut) + (size + last) * cut
    rows = _rows_after_chunks(tokens, chunk) * (1 - cut) + (size + whole_blocks(last, STEP) * STEP) * cut
    return valid, rows


def _rows_after_chunks(tokens: Count, chunk: int) -> Count:
    """Rows of a `KVCache` after `tokens` came in chunks of `chunk`, the last one shorter."""
    if chunk % STEP == 0:
        return whole_blocks(tokens, STEP) * STEP
    full, rest = tokens // chunk, tokens % chunk
    offset = full * chunk
    spare = _spare_rows(full, chunk)
    grows: Count = (rest > spare) * 1
    kept = spare * (1 - grows * ((offset % STEP != 0) * 1))
    rows: Count = offset + kept + grows * whole_blocks(rest, STEP) * STEP
    return rows


def _spare_rows(chunks: Count, chunk: int) -> Count:
    """Rows beyond the tokens after so many whole chunks: they repeat, because cuts and steps do."""
    head, cycle = _spare_table(chunk)
    if isinstance(chunks, int):
        return head[chunks] if chunks < len(head) else cycle[(chunks - len(head)) % len(cycle)]
    total = chunks * 0
    for position, spare in enumerate(head):
        if spare:
            total = total + spare * (chunks == position)
    later = chunks >= len(head)
    phase = (chunks - len(head)) % len(cycle)
    for position, spare in enumerate(cycle):
        if spare:
            total = total + spare * (later & (phase == position))
    return total


@lru_cache(maxsize=64)
def _spare_table(chunk: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Spare rows after 0, 1, 2 … whole chunks: a head, then a cycle. `KVCache.update_and_fetch`, call by call."""
    grown = -(-chunk // STEP) * STEP
    seen: dict[tuple[int, int], int] = {}
    spares: list[int] = []
    spare, phase = 0, 0
    while (spare, phase) not in seen:
        seen[spare, phase] = len(spares)
        spares.append(spare)
        if chunk > spare:  # lengthen, after cutting what is not a whole step
            spare = (spare if phase == 0 else 0) + grown
        spare -= chunk
        phase = (phase + chunk) % STEP
    start = seen[spare, phase]
    return tuple(spares[:start]), tuple(spares[start:])
