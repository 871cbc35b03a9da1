"""What fits over several devices: the longest context, the most of the model on the cards, and changes with their price. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.spread import Spread
from kvplan.engines.kernel.search import largest
from kvplan.engines.kernel.spreading import Spreading
from kvplan.errors import Refused

#: A context that the whole model should have before parts of it leave the cards, tokens.
_LEAST: Final = 4096
#: Sequences of one process that are looked for at most.
_SEQUENCES: Final = 1024
#: A better split is worth a word from this share more tokens on.
_BETTER: Final = 0.02


class CacheRow(Struct, frozen=True, kw_only=True):
    """One storage of the cache: what it takes at the context of the answer, and the longest context with it."""

    change: str
    cache_bytes: int
    longest: int
    decisive: bool = False


class Change(Struct, frozen=True, kw_only=True):
    """A change that makes it fit: what, what then holds, its price, and the command."""

    change: str
    result: str
    price: str
    command: str


class Laid(Struct, frozen=True, kw_only=True):
    """The answer on one set of cards.

    Attributes:
        spread: what lies where, at `context` tokens of `requests` requests.
        fits: whether it does, come what may; `may_fit`: where buffers are at the lower ends of their bands.
        asked: whether the context was given (`context`), or is the longest (`longest`).
        longest: tokens of each request that fit with this command line; 0: none.
        perhaps: as many where all bands are at the ends that leave most; 0 where that was not asked.
        whole: whether all layers lie on cards.
        at_once: requests of this context that fit at once; 0 where that was not asked.
        own: what the engine itself would run with, and the tokens that it leaves each request.
        overruled: whether the command tells the engine not to choose that.
    """

    model: str
    engine: str
    engine_version: str
    kv_dtype: str
    spread: Spread
    context: int
    requests: int
    fits: bool
    may_fit: bool
    given: bool
    longest: int
    ceiling: int
    whole: bool
    perhaps: int = 0
    at_once: int = 0
    own: str = ""
    own_context: int = 0
    overruled: bool = False
    own_why: str = ""
    rows: tuple[CacheRow, ...] = ()
    changes: tuple[Change, ...] = ()
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash((self.model, self.engine, self.spread))

    def __repr__(self) -> str:
        return f"<Laid {self.model} · {self.engine} · {'fits' if self.fits else 'does not fit'}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "model": self.model,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "kv_dtype": self.kv_dtype,
            "fits": self.fits,
            "may_fit": self.may_fit,
            "context": self.context,
            "requests": self.requests,
            "longest": self.longest,
            "perhaps": self.perhaps or self.longest,
            "at_once": self.at_once or None,
            "spread": self.spread.to_dict(),
            "own": self.own,
            "own_context": self.own_context,
            "cache_types": [{"change": row.change, "cache_bytes": row.cache_bytes, "longest": row.longest} for row in self.rows],
            "changes": [
                {"change": each.change, "result": each.result, "price": each.price, "command": each.command}
                for each in self.changes
            ],
            "needs": list(self.needs),
            "notes": list(self.notes),
        }


def answer(
    spreading: Spreading,
    engine: str,
    version: str,
    kv_dtype: str,
    *,
    context: int | None,
    requests: int | None,
    brief: bool = False,
) -> Laid | NotPredicted:
    """What fits.

    Args:
        spreading: the model over its cards.
        engine, version, kv_dtype: whose rules, for the reader.
        context: tokens of a request; None: the longest is found.
        requests: at once; None: one, and of a context that is given as many as fit are counted, too.
        brief: without other storage of the cache and without changes.
    """
    try:
        return _answered(spreading, engine, version, kv_dtype, context, requests, brief=brief)
    except Refused as problem:
        return NotPredicted(reason=problem.reason, see=problem.see, model=spreading.model.name, engine=engine)


def started(
    spreading: Spreading, engine: str, version: str, kv_dtype: str, *, context: int, requests: int, typed: bool
) -> Laid | NotPredicted:
    """What a server runs with: as its command line says where that fits, else what the engine then chooses by itself.

    Args:
        spreading, engine, version, kv_dtype, requests: as for `answer`.
        context: tokens of a request, typed or the most that the model has.
        typed: whether somebody said so; an engine shortens what nobody said.
    """
    asked = answer(spreading, engine, version, kv_dtype, context=context, requests=requests, brief=True)
    if isinstance(asked, NotPredicted) or asked.fits:
        return asked
    try:
        words, tokens, chosen = spreading.own_choice(context if typed else None, requests)
    except Refused:
        return asked
    if chosen is spreading and tokens == context:
        return asked
    found = answer(chosen, engine, version, kv_dtype, context=tokens, requests=requests, brief=True)
    if isinstance(found, NotPredicted) or (found.fits, found.may_fit) <= (asked.fits, asked.may_fit):
        return asked
    return replace(found, notes=(f"not all of it fits on the cards, and {engine} then chooses by itself: {words}", *found.notes))


def _answered(
    spreading: Spreading, engine: str, version: str, kv_dtype: str, context: int | None, asked: int | None, *, brief: bool
) -> Laid:
    requests = asked or 1
    ceiling = spreading.ceiling or 2**20
    longest = longest_context(spreading, requests, ceiling)
    at = context if context is not None else longest or min(_LEAST, ceiling)
    kept = spreading.kept(at, requests)
    spread = kept.at(at, requests)
    counts = asked is None and context is not None and spread.fits
    shared = spread.pool is not None and not brief
    whole = not spread.host.blocks and "output" not in spread.host.layers
    notes = list(spread.notes)
    own_words, own_context = "", 0
    if not brief:
        own_words, own_context = _own(spreading, context, requests)
    return Laid(
        model=spreading.model.name,
        engine=engine,
        engine_version=version,
        kv_dtype=kv_dtype,
        spread=spread,
        context=at,
        requests=requests,
        fits=spread.fits and (context is not None or longest > 0),
        may_fit=spread.may_fit,
        given=context is not None,
        longest=longest,
        perhaps=longest_context(spreading, requests, ceiling, perhaps=True) if shared else 0,
        at_once=most_requests(spreading, at) if counts else 0,
        ceiling=ceiling,
        whole=whole,
        own=own_words,
        own_context=own_context,
        own_why=spreading.own_why,
        overruled=kept is not spreading,
        rows=() if brief else tuple(_rows(spreading, at, requests, ceiling)),
        changes=() if brief else tuple(_changes(spreading, spread, at, requests, longest, ceiling)),
        needs=spreading.needs(at, requests),
        notes=tuple(notes),
    )


def longest_context(spreading: Spreading, requests: int, ceiling: int, *, perhaps: bool = False) -> int:
    """The longest context of each request with which everything fits, or perhaps does; 0: none."""

    def fits(tokens: int) -> bool:
        try:
            spread = spreading.at(tokens, requests)
            return spread.may_fit if perhaps else spread.fits
        except Refused:
            return False

    steps = max(1, ceiling // 256)
    if fits(ceiling):
        return ceiling
    found = largest(lambda step: fits(step * 256), ceiling=steps) * 256
    return found if found else (1 if fits(1) else 0)


def most_requests(spreading: Spreading, context: int) -> int:
    """The most requests of a context that fit at once."""

    def fits(requests: int) -> bool:
        try:
            return spreading.at(context, requests).fits
        except Refused:
            return False

    return largest(fits, ceiling=_SEQUENCES)


def _own(spreading: Spreading, context: int | None, requests: int) -> tuple[str, int]:
    """What the engine's own choice is; nothing where it cannot be told."""
    try:
        words, tokens, _ = spreading.own_choice(context, requests)
    except Refused:
        return "", 0
    return words, tokens


def _rows(spreading: Spreading, at: int, requests: int, ceiling: int) -> Iterator[CacheRow]:
    for number, move in enumerate(spreading.cache_types()):
        try:
            other = spreading.changed(**move.options) if number else spreading
            spread = other.at(at, requests)
            longest = longest_context(other, requests, ceiling)
        except Refused:
            continue
        size = spread.sum_of("cache").bytes + spread.sum_of("state").bytes
        yield CacheRow(change=move.change, cache_bytes=size, longest=longest, decisive=not number)


def _changes(spreading: Spreading, spread: Spread, at: int, requests: int, longest: int, ceiling: int) -> Iterator[Change]:
    """Changes that make the context fit, or the one longer that was found."""
    if not spread.fits:
        yield from _lent(spreading, at, requests)
        for move in spreading.moves():
            yield from _tried(spreading, spread, move.change, dict(move.options), at, requests)
        for words, option, least, most in spreading.fewer():
            count = _least_change(spreading, option, least, most, at, requests)
            if count is not None:
                yield from _tried(spreading, spread, words.replace("{}", str(count)), {option: count}, at, requests)
        if 0 < longest < at:
            words, price = f"a context of {longest:,} tokens", f"{at - longest:,} tokens less"
            command = spreading.kept(longest, requests).at(longest, requests).command
            yield Change(change=words, result="fits", price=price, command=command)
    best, found = longest, None
    for move in spreading.splits(max(at, 1), requests):
        try:
            other = spreading.changed(**move.options)
            tokens = longest_context(other, requests, ceiling)
        except Refused:
            continue
        if tokens > best * (1 + _BETTER):
            best, found = tokens, (move, other)
    if found is not None:
        move, other = found
        result = f"{best:,} tokens instead of {longest:,}" if longest else f"{best:,} tokens"
        yield Change(
            change=move.change, result=result, price="none", command=other.kept(best, requests).at(best, requests).command
        )


def _lent(spreading: Spreading, at: int, requests: int) -> Iterator[Change]:
    """More of a shared pool for the GPU, where that makes it fit."""
    found = spreading.lent_more()
    if found is None:
        return
    setting, other = found
    try:
        spread = other.kept(at, requests).at(at, requests)
    except Refused:
        return
    if spread.fits and spread.pool is not None and spread.pool.left is not None:
        left = f"fits, {spread.pool.left.low / 2**30:.2f} GiB of the pool to spare"
        yield Change(change=f"more of it lent to the GPU: {setting}", result=left, price="until the next start", command=setting)


def _least_change(spreading: Spreading, option: str, least: int, most: int, at: int, requests: int) -> int | None:
    """The value nearest to `least` with which it fits; None where even `most` does not."""

    def fits(steps: int) -> bool:
        value = least + steps if most >= least else least - steps
        try:
            return spreading.changed(**{option: value}).at(at, requests).fits
        except Refused:
            return False

    span = abs(most - least)
    if not fits(span):
        return None
    low, high = -1, span  # the first that does not fit, and one that does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return least + high if most >= least else least - high


def _tried(spreading: Spreading, before: Spread, words: str, options: dict[str, Any], at: int, requests: int) -> Iterator[Change]:
    """A change, where it fits: with what it costs, and all that is typed for it."""
    try:
        other = spreading.changed(**options).kept(at, requests)
        spread = other.at(at, requests)
    except Refused:
        return
    if not spread.fits:
        return
    left = min((place.left.low for place in spread.devices if place.left is not None), default=0)
    packs = any("cache_type" in option for option in options)
    price = "; ".join(note for note in spread.notes if note not in before.notes) or (
        "precision of the cache" if packs else "none"
    )
    more = [needed for needed in other.needs(at, requests) if needed not in spreading.needs(at, requests)]
    command = "; ".join([spread.command, *more])
    yield Change(change=words, result=f"fits, {left / 2**30:.2f} GiB to spare", price=price, command=command)
