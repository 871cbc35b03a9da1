"""What a page shows, as values. A setting is a model, an engine, a cache dtype, a length, a number of sequences, and a card."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from kvplan.domain.beyond import Beyond
from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.questions.explain import Explanation
from kvplan.questions.fit.capacity import Cell


class Shown(Struct, frozen=True, kw_only=True):
    """A model: as it was typed, as it was read, and what is kept of a token and why."""

    source: str  # for commands
    model: Model
    why: Explanation

    @property
    def name(self) -> str:
        """As every report calls it."""
        return self.model.name


class Kept(Struct, frozen=True, kw_only=True):
    """Layers of one kind together."""

    kind: str
    layers: tuple[int, ...]  # indices; none: what belongs to no layer
    bytes: int


class CacheCell(Struct, frozen=True, kw_only=True):
    """What `kvplan estimate` says of one length and number of sequences; `refused` where the engine takes no such workload."""

    total_bytes: int = 0
    payload_bytes: int = 0
    bookkeeping_bytes: int = 0
    bytes_per_token: int = 0
    kept: tuple[Kept, ...] = ()
    beyond: Beyond | None = None  # None: there is no theory at that cache dtype
    notes: tuple[str, ...] = ()
    refused: str = ""
    see: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, the names of `kvplan estimate`."""
        if self.refused:
            return {"not_predicted": self.refused, "see": self.see}
        parts = {} if self.beyond is None else {"ideal_bytes": self.beyond.ideal_bytes}
        return {
            "total_bytes": self.total_bytes,
            "payload_bytes": self.payload_bytes,
            "bookkeeping_bytes": self.bookkeeping_bytes,
            "bytes_per_token": self.bytes_per_token,
            "groups": [{"kind": x.kind, "layers": list(x.layers), "bytes": x.bytes} for x in self.kept],
            **parts,
            "beyond_ideal": {part.name: part.bytes for part in self.beyond.parts} if self.beyond is not None else {},
            "notes": list(self.notes),
        }


class Cache(Struct, frozen=True, kw_only=True):
    """One model in one engine at one cache dtype; `cells` are lengths x numbers of sequences, in the page's order."""

    model: int  # of the page's models
    engine: str  # as asked: `vllm@0.30`
    kv_dtype: str  # as asked: `auto`
    engine_version: str = ""
    stored: str = ""  # the dtype that it comes to
    evidence: str = ""
    cells: tuple[tuple[CacheCell, ...], ...] = ()
    refused: str = ""  # why there are none
    see: str = ""


class Start(Struct, frozen=True, kw_only=True):
    """What `kvplan fit` says of one length on one card: the requests, and where a device's memory goes."""

    cell: Cell
    lines: tuple[Line, ...] = ()  # in order, those that are taken with negative bytes
    left: Line | None = None  # for the cache
    beside: tuple[Line, ...] = ()  # what the process takes outside that sum

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            **self.cell.to_dict(),
            "budget": [line.to_dict() for line in self.lines],
            "left": None if self.left is None else self.left.to_dict(),
            "beside": [line.to_dict() for line in self.beside],
        }


class Starts(Struct, frozen=True, kw_only=True):
    """One model in one engine at one cache dtype on one card, over the page's lengths."""

    model: int
    engine: str
    kv_dtype: str
    card: str
    starts: tuple[Start, ...]


class Page(Struct, frozen=True, kw_only=True):
    """All that one page shows.

    Attributes:
        models: in the order given.
        engines, kv_dtypes, seq_lens, batch_sizes, cards: the settings that a reader chooses between, as commands take them.
        engine_flags: what else is typed for each engine; `weights_flag` for the weights.
        caches: one a model, engine and cache dtype, in that order.
        starts: one a model, engine, cache dtype and card, in that order.
    """

    models: tuple[Shown, ...]
    engines: tuple[str, ...]
    kv_dtypes: tuple[str, ...]
    seq_lens: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    cards: tuple[str, ...]
    caches: tuple[Cache, ...]
    starts: tuple[Starts, ...]
    engine_flags: tuple[str, ...]
    weights_flag: str = ""
    version: str = ""  # of kvplan

    def __hash__(self) -> int:
        return hash((tuple(one.name for one in self.models), self.engines, self.kv_dtypes, self.seq_lens, self.cards))

    def __repr__(self) -> str:
        settings = len(self.caches) * len(self.seq_lens) * len(self.batch_sizes)
        return f"<Page of {', '.join(one.name for one in self.models)}: {settings:,} settings, {len(self.cards)} cards>"

    def cache(self, model: int, engine: str, kv_dtype: str) -> Cache:
        """The cache of one model in one engine at one dtype, as they were asked for."""
        index = (model * len(self.engines) + self.engines.index(engine)) * len(self.kv_dtypes)
        return self.caches[index + self.kv_dtypes.index(kv_dtype)]

    def start(self, model: int, engine: str, kv_dtype: str, card: str) -> Starts:
        """The same on a card."""
        index = (model * len(self.engines) + self.engines.index(engine)) * len(self.kv_dtypes) + self.kv_dtypes.index(kv_dtype)
        return self.starts[index * len(self.cards) + self.cards.index(card)]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, every bytes value an exact int; one entry a cell."""
        return {
            "models": [one.name for one in self.models],
            "engines": list(self.engines),
            "kv_dtypes": list(self.kv_dtypes),
            "seq_lens": list(self.seq_lens),
            "batch_sizes": list(self.batch_sizes),
            "cards": list(self.cards),
            "caches": list(self.rows()),
            "starts": [self._start_dict(one, start) for one in self.starts for start in one.starts],
        }

    def rows(self) -> Any:
        """One mapping a cell of the grid of caches: the setting, then what is kept there."""
        for cache in self.caches:
            for i, seq_len in enumerate(self.seq_lens):
                for j, batch_size in enumerate(self.batch_sizes):
                    yield {**self._asked(cache), "batch_size": batch_size, "seq_len": seq_len, **self._cell(cache, i, j)}

    def _asked(self, cache: Cache) -> Mapping[str, Any]:
        return {
            "model": self.models[cache.model].name,
            "engine": cache.engine,
            "engine_version": cache.engine_version,
            "kv_dtype": cache.kv_dtype,
            "stored": cache.stored,
            "evidence": cache.evidence,
        }

    @staticmethod
    def _cell(cache: Cache, i: int, j: int) -> Mapping[str, Any]:
        return {"not_predicted": cache.refused, "see": cache.see} if cache.refused else cache.cells[i][j].to_dict()

    @staticmethod
    def _start_dict(one: Starts, start: Start) -> Mapping[str, Any]:
        return {**start.to_dict(), "kv_dtype": one.kv_dtype}
