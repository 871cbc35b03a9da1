"""`mlx_lm.server`'s prompt cache: the caches of finished requests, kept beside the running ones.

Source: mlx_lm/models/cache.py:LRUPromptCache; mlx_lm/server.py; mlx_lm/generate.py:BatchGenerator; 0.32.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from kvplan.domain.tiers import Tier, TierAsk
from kvplan.engines.mlx_lm.batches import Rows
from kvplan.engines.mlx_lm.growth import Calls
from kvplan.engines.mlx_lm.layers import Arrays, Chunked, Compressing, Moment, Rotating, pieces
from kvplan.errors import Refused
from kvplan.units import MAX_COUNT

if TYPE_CHECKING:
    from kvplan.engines.mlx_lm.engine import MlxLmOn

ENTRIES: Final = 10  # --prompt-cache-size where nobody says


def entry_bytes(on: MlxLmOn, prompt: int, generated: int, *, batched: bool) -> int:
    """Bytes of one finished request's caches.

    Args:
        on: the library on a model.
        prompt: tokens that were given.
        generated: tokens that followed.
        batched: the server's default; one request at a time leaves arrays as they have grown.

    Raises:
        Refused: in the library's words.
    """
    tokens = prompt + generated
    members = [member for entry in on.reading.entries for member in entry.members]
    rows = None
    if batched:
        if any(isinstance(member, Compressing) for member in members):
            raise Refused("<class 'mlx_lm.models.deepseek_v41.LayerCache'> does not yet support batching with history")
        if any(isinstance(member, Chunked) for member in members):
            raise Refused("ChunkedKVCache does not yet support batching with history")
        windows = {member.window: min(tokens, member.window) for member in members if isinstance(member, Rotating)}
        rows = Rows(1, tokens, windows)
    elif on.unquantised is not None and on.unquantised.at(tokens, on.storage.start):
        raise Refused(on.unquantised.reason)
    calls = Calls.of(tokens, prompt, on.engine.options.prefill_step_size)
    at = Moment(calls=calls, sequences=1, batched=rows)
    return sum(piece.padded * piece.count for piece in pieces(on.reading.entries, on.storage, at))


def entries(size: int, limit_bytes: int | None, entry: int) -> int:
    """Entries of equal size that stay: at most `size` (`--prompt-cache-size`), and what `--prompt-cache-bytes` allows."""
    return size if limit_bytes is None or not entry else min(size, limit_bytes // entry)


def trimmed(on: MlxLmOn, tokens: int) -> bool:
    """Whether an entry of so many tokens can be cut back to a shorter prefix: then a longer one takes its place.

    Windows that are full cannot, and neither can states: a conversation leaves one entry a turn.
    """
    members = [member for entry in on.reading.entries for member in entry.members]
    return not any(
        isinstance(member, Arrays | Compressing) or (isinstance(member, Rotating) and tokens >= member.window)
        for member in members
    )


def tiers(on: MlxLmOn, ask: TierAsk) -> Iterator[Tier]:
    """The server's prompt cache, in the memory that the GPU uses too."""
    options, batched = on.engine.options, on.linear_in_batch
    asked = ask.host_bytes is not None
    if not asked and (ask.disk_bytes is not None or options.prompt_cache_bytes is None):
        return
    budget = min(ask.host_bytes if ask.host_bytes is not None else options.prompt_cache_bytes or 0, MAX_COUNT)
    title = "prompt cache"
    try:
        entry = entry_bytes(on, ask.tokens, 0, batched=batched)
    except Refused as problem:
        yield Tier(tier="prompt-cache", title=title, place="host", budget_bytes=budget, refused=problem.reason)
        return
    count = budget // max(entry, 1) if asked else entries(options.prompt_cache_size, budget, entry)
    yield Tier(
        tier="prompt-cache",
        title=title,
        place="host",
        budget_bytes=budget,
        used_bytes=count * entry,
        tokens=count * ask.tokens,
        sessions=count,
        session_bytes=entry,
        returned_tokens=ask.tokens,
        evidence=on.evidence(),
        flags=f"--prompt-cache-size {max(count, 1)} --prompt-cache-bytes {budget}" if asked else "",
        notes=tuple(_notes(on, ask, entry, budget)),
    )


def _notes(on: MlxLmOn, ask: TierAsk, entry: int, budget: int) -> Iterator[str]:
    if ask.host_bytes is not None:
        kept = min(ENTRIES, budget // max(entry, 1))
        yield f"--prompt-cache-size is {ENTRIES} entries where nobody says: {kept} sessions, {kept * entry:,} bytes"
    else:
        yield f"--prompt-cache-size is {on.engine.options.prompt_cache_size} entries, of any length"
    if not trimmed(on, ask.tokens):
        yield "an entry cannot be cut back (full windows, states): a conversation leaves one entry a turn, not one in all"
    yield "the limit is looked at when a request of a batch comes in, and running batches count in it"
    yield "it is the memory that weights and running requests use too"
