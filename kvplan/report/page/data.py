"""A page's values as the JSON that its script reads: exact, and as small as repetition allows.

A number of the grid that grows with the sequences is written once, as what one sequence adds; texts and lines of budgets that
recur are written once and named by their place. Numbers that JavaScript's own cannot hold are texts; the script reads all of
them as BigInt.
"""

import json
from collections.abc import Sequence
from shlex import quote
from typing import Any, Final

from kvplan.domain.ledger import Line
from kvplan.domain.words import layer_list
from kvplan.engines import about
from kvplan.errors import printable
from kvplan.questions.page import Cache, CacheCell, Page, Start
from kvplan.report.answers.engine_words import engine_words

_EXACT: Final = 2**53  # JavaScript's numbers are exact up to here
_MOST_TEXT: Final = 600
_DEALT: Final = "All layers on one GPU; without --table, kvplan fit also lays them out over several and the host's memory."


def data(page: Page) -> dict[str, Any]:
    """Everything that the script reads."""
    once = _Once()
    found = {
        "models": [{"name": once.text(one.name), "typed": once.typed(one.source)} for one in page.models],
        "engines": [
            {"name": once.text(spec), "words": once.text(engine_words(spec)), "typed": once.typed(spec), "more": once.text(more)}
            for spec, more in zip(page.engines, page.engine_flags, strict=True)
        ],
        "dtypes": [{"name": once.text(name), "typed": once.typed(name)} for name in page.kv_dtypes],
        "lengths": list(page.seq_lens),
        "batches": list(page.batch_sizes),
        "cards": [{"name": once.text(name), "typed": once.typed(name)} for name in page.cards],
        "fitted": once.text(page.weights_flag),
        "caches": [_cache(one, page.batch_sizes, once) for one in page.caches],
        "starts": [[_start(start, once) for start in one.starts] for one in page.starts],
    }
    lines = once.lines
    return {**found, "lines": lines, "texts": once.texts}


def embedded(page: Page) -> str:
    """The same as text that may stand in an element of a page: nothing in it ends the element or begins a comment."""
    text = json.dumps(data(page), separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class _Once:
    """Texts and lines, each kept once; what stands for it is its place."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._lines: dict[Line, int] = {}

    @property
    def texts(self) -> list[str]:
        return list(self._texts)

    @property
    def lines(self) -> list[list[Any]]:
        return [
            [self.text(x.name), exact(x.bytes), exact(x.low), exact(x.high), self.text(x.basis), self.text(x.source)]
            for x in self._lines
        ]

    def text(self, words: str) -> int:
        return self._texts.setdefault(printable(words, _MOST_TEXT), len(self._texts))

    def typed(self, word: str) -> int:
        """A word of a command, quoted where a shell needs it."""
        return self.text(quote(printable(word, _MOST_TEXT)))

    def line(self, line: Line) -> int:
        return self._lines.setdefault(line, len(self._lines))


def exact(amount: int) -> int | str:
    """A number as JSON that loses nothing in JavaScript.

    >>> exact(2**53), exact(2**53 + 1)
    (9007199254740992, '9007199254740993')
    """
    return amount if -_EXACT <= amount <= _EXACT else str(amount)


def _cache(cache: Cache, batches: Sequence[int], once: _Once) -> dict[str, Any]:
    told = {"version": once.text(cache.engine_version), "stored": once.text(cache.stored), "evidence": once.text(cache.evidence)}
    if cache.refused:
        return {**told, "no": once.text(cache.refused), "see": once.text(cache.see)}
    cells = [cell for row in cache.cells for cell in row if not cell.refused]
    kinds = list(dict.fromkeys((x.kind, x.layers) for cell in cells for x in cell.kept))
    parts = list(dict.fromkeys((x.name, x.cause) for cell in cells if cell.beyond for x in cell.beyond.parts))
    return {
        **told,
        "kinds": [[once.text(kind), len(layers), once.text(layer_list(layers))] for kind, layers in kinds],
        "parts": [[once.text(name), once.text(cause)] for name, cause in parts],
        "rows": [_row(row, batches, kinds, parts, once) for row in cache.cells],
    }


def _row(row: Sequence[CacheCell], batches: Sequence[int], kinds: Sequence[Any], parts: Sequence[Any], once: _Once) -> Any:
    """One length, all numbers of sequences: the totals, then each kind of layer, then each part of what is beyond need."""
    refused = [once.text(cell.refused) if cell.refused else None for cell in row]

    def over(values: Sequence[int | None]) -> Any:
        return _over(values, batches)

    def of(cell: CacheCell, key: tuple[str, tuple[int, ...]]) -> int | None:
        return next((x.bytes for x in cell.kept if (x.kind, x.layers) == key), None)

    def part(cell: CacheCell, key: tuple[str, str]) -> int | None:
        if cell.beyond is None:
            return None
        return next((x.bytes for x in cell.beyond.parts if (x.name, x.cause) == key), 0)

    found: dict[str, Any] = {
        "total": over([None if c.refused else c.total_bytes for c in row]),
        "payload": over([None if c.refused else c.payload_bytes for c in row]),
        "beside": over([None if c.refused else c.bookkeeping_bytes for c in row]),
        "token": over([None if c.refused else c.bytes_per_token for c in row]),
        "need": over([None if c.refused or c.beyond is None else c.beyond.ideal_bytes for c in row]),
        "kinds": [over([of(cell, key) for cell in row]) for key in kinds],
        "parts": [over([part(cell, key) for cell in row]) for key in parts],
        "notes": _same([[once.text(note) for note in cell.notes] for cell in row]),
    }
    return {**found, "no": refused} if any(x is not None for x in refused) else found


def _over(values: Sequence[int | None], batches: Sequence[int]) -> Any:
    """Values over the numbers of sequences: `n` where each sequence adds n, `{"=": n}` where none does, else all of them."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) == len(values) and values[0] is not None:
        first = values[0] // batches[0]
        if all(value == first * n for value, n in zip(values, batches, strict=True)):
            return exact(first)
        if len(set(values)) == 1:
            return {"=": exact(values[0])}
    return [None if value is None else exact(value) for value in values]


def _same(values: Sequence[list[int]]) -> Any:
    """Notes over the numbers of sequences: one list where they are alike, else `{"each": lists}`."""
    return values[0] if all(value == values[0] for value in values) else {"each": list(values)}


def _start(start: Start, once: _Once) -> dict[str, Any]:
    cell = start.cell
    found: dict[str, Any] = {"is": once.text(cell.verdict)}
    if cell.reason:
        found["why"] = once.text(cell.reason)
    if cell.requests is not None:
        found |= {"best": exact(cell.requests), "low": exact(cell.requests_low or 0), "high": exact(cell.requests_high or 0)}
    if about(cell.engine).spread and (cell.gpus > 1 or not cell.fits):  # `fit` then says where layers may lie instead
        found |= {"table": True, "dealt": once.text(_DEALT)}
    if cell.gpus > 1:
        copies = cell.gpus // cell.tensor_parallel
        each = "one" if cell.tensor_parallel == 1 else f"{cell.tensor_parallel:,}"
        found["split"] = once.text(
            f"{cell.gpus:,} GPUs hold {copies:,} {'copy' if copies == 1 else 'copies'} of the model, {each} to a copy; "
            "the requests are of all together, the memory is one GPU's"
        )
    if start.left is not None:
        found |= {"lines": [once.line(line) for line in start.lines], "left": once.line(start.left)}
        if start.beside:
            found["beside"] = [once.line(line) for line in start.beside]
    return found
