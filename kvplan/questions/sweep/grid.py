"""The sweep: a grid of estimates, evaluated with numpy by the formulas of the single estimate.

Rows are models x engines x cache dtypes x tensor parallelism x lengths x batch sizes, the last fastest.
Blocks are small enough for every intermediate array to stay in the processor's cache: an engine evaluates
its formulas along the token axis, and the outer product with the batch sizes goes straight into the result
columns.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from kvplan.domain.allocation import COLUMNS, NotPredicted
from kvplan.domain.media.asked import NO_MEDIA, Media
from kvplan.domain.model import Model
from kvplan.domain.pieces import Run, here
from kvplan.domain.workload import Workload
from kvplan.engines import make_engine
from kvplan.engines.kernel.engine import Engine, Prepared, footprint
from kvplan.engines.kernel.retention import growth_period
from kvplan.engines.kernel.tensors import At
from kvplan.errors import OptionError, Refused
from kvplan.limits import SIZE_BYTES
from kvplan.questions.media import asked_with, used_by
from kvplan.units import MAX_COUNT

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


IntArray = NDArray[np.int64]
#: One block of consecutive rows: texts and numbers that all rows share, and int64 arrays.
Block = dict[str, str | int | IntArray]

#: The columns that are arrays; with the labels they are the columns of `kvplan estimate -f csv`.
AXES: Final = ("batch_size", "seq_len")
RESULTS: Final = ("payload_bytes", "allocated_bytes", "bookkeeping_bytes", "bytes_per_token", "state_bytes")
LARGEST_DICT: Final = 10**6  # rows
BLOCK_CELLS: Final = 2**16
FEW_COLUMNS: Final = 8  # batch sizes
BLOCK_TOKENS: Final = 2**14


class Combination(Struct, frozen=True, kw_only=True):
    """One model in one engine at one cache dtype; all cells of the lengths x batch sizes share it."""

    prepared: Prepared
    more: int  # tokens of media in each sequence, beside the text that an axis says
    encoder_len: int
    labels: Mapping[str, str | int]  # model, engine, engine_version, kv_dtype, tensor_parallel, encoder_len, evidence
    has_state: bool
    notes: tuple[str, ...] = ()


class Tile(Struct, frozen=True):
    """A block of consecutive rows that is not computed yet: every length with every batch size."""

    combination: Combination
    seq_lens: IntArray
    batch_sizes: IntArray
    encoder_len: int

    def factors(self) -> dict[str, tuple[IntArray | int, IntArray]]:
        """The columns, each as two factors whose product has the block's shape, or as a number that all cells share."""
        c, tokens, batches = self.combination, self.seq_lens[:, None], self.batch_sizes[None, :]
        ones = np.ones_like(batches)
        linear = c.prepared.linear_in_batch
        totals = c.prepared.totals(At(tokens, ones[:, :1] if linear else batches, self.encoder_len))
        known = totals.payload if linear and not self.encoder_len else None
        factor = batches if linear else ones
        return {
            "batch_size": (np.ones_like(tokens), batches),
            "seq_len": (tokens, ones),
            "payload_bytes": (totals.payload, factor),
            "allocated_bytes": (totals.allocated, factor),
            "bookkeeping_bytes": (c.prepared.bookkeeping(At(tokens, batches)), ones),
            "bytes_per_token": (c.prepared.bytes_per_token(tokens, known), ones),
            "state_bytes": (totals.state, factor) if c.has_state else (0, ones),
        }


def _block(tile: Tile) -> Block:
    """The rows of a tile."""
    shape = (len(tile.seq_lens), len(tile.batch_sizes))
    block: Block = dict(tile.combination.labels)
    arrays: dict[int, IntArray] = {}
    for name, (value, factor) in tile.factors().items():
        if isinstance(value, int):
            block[name] = value
            continue
        if id(value) not in arrays:  # payload and allocated are one array where nothing is padded
            arrays[id(value)] = np.multiply(value, factor, out=np.empty(shape, np.int64)).reshape(-1)
        block[name] = arrays[id(value)]
    return {**block, "total_bytes": block["allocated_bytes"]}


class Sweep:
    """A grid of estimates; nothing is evaluated until it is asked for.

    `len()` is the number of rows. `batches()` walks over them in blocks, `columns()` gives one combination's
    arrays, `to_frame()` a pandas DataFrame; `write_csv` and `write_parquet` stream, whatever the size.
    Combinations that an engine cannot predict have no rows: `notes` names each with the reason.
    """

    def __init__(
        self,
        *,
        models: Iterable[Model],
        seq_lens: Iterable[int],
        batch_sizes: Iterable[int] = (1,),
        kv_dtypes: Iterable[str] = ("auto",),
        engines: Iterable[str] = ("ideal",),
        tensor_parallels: Iterable[int] = (1,),
        encoder_len: int = 0,
        options: Mapping[str, Any] | None = None,
        media: Media = NO_MEDIA,
        files: Mapping[str, Mapping[str, Any]] | None = None,
        run: Run = here,
    ) -> None:
        self._run = run
        self.media = media
        self.seq_lens = _axis(seq_lens, "seq_lens")
        self.batch_sizes = _axis(batch_sizes, "batch_sizes")
        self.encoder_len = encoder_len
        largest = Workload(
            seq_len=int(self.seq_lens.max(initial=0)), batch_size=int(self.batch_sizes.max(initial=0)), encoder_len=encoder_len
        )
        combinations: list[Combination] = []
        notes: list[str] = []
        dtypes, specs, devices = tuple(kv_dtypes), tuple(engines), tuple(tensor_parallels)
        for model in models:
            for spec in specs:
                for dtype in dtypes:
                    for tp in devices:
                        engine = make_engine(spec, _engine_options(options or {}, dtype, tp))
                        found = _combination(model, engine, largest, media, (files or {}).get(model.name))
                        if isinstance(found, NotPredicted):
                            notes.append(f"{model.name} in {spec}, kv_dtype {dtype}: not predicted: {found.reason}")
                        else:
                            combinations.append(found)
        self.combinations = tuple(combinations)
        self.notes = (*notes, *_notes(combinations))

    @property
    def cells(self) -> int:
        """Rows of one combination: lengths x batch sizes."""
        return len(self.seq_lens) * len(self.batch_sizes)

    def __len__(self) -> int:
        return len(self.combinations) * self.cells

    def __repr__(self) -> str:
        shape = f"{len(self.combinations)} combinations x {len(self.seq_lens)} lengths x {len(self.batch_sizes)} batch sizes"
        return f"<kvplan.Sweep: {len(self):,} rows = {shape}>"

    def to_dict(self) -> dict[str, Any]:
        """The grid by columns, the names of the CSV, every bytes value an exact int; `to_frame` and the writers hold more.

        Raises:
            OptionError: there are more than a million rows.
        """
        if len(self) > LARGEST_DICT:
            raise OptionError(
                f"{len(self):,} rows are too many for a dict", hint="use `to_frame`, `write_csv` or `write_parquet`"
            )
        found: dict[str, list[str | int]] = {name: [] for name in COLUMNS}
        for block in self.batches():
            rows = len(block["seq_len"])  # type: ignore[arg-type]
            for name, column in found.items():
                value = block[name]
                column.extend(value.tolist() if isinstance(value, np.ndarray) else [value] * rows)
        return {"columns": found, "notes": list(self.notes)}

    def columns(self, combination: Combination) -> dict[str, IntArray]:
        """One combination's axes and results as flat int64 arrays of `cells` entries; total and allocated are one array."""
        shape = (len(self.seq_lens), len(self.batch_sizes))
        whole = {name: np.empty(shape, np.int64) for name in (*AXES, *RESULTS)}
        for tokens in self._runs(combination.prepared):
            for name, (value, factor) in self._tile(combination, tokens, slice(None)).factors().items():
                _outer(value, factor, whole[name][tokens])
        flat = {name: array.reshape(-1) for name, array in whole.items()}
        return {**flat, "total_bytes": flat["allocated_bytes"]}

    def batches(self) -> Iterator[Block]:
        """All rows in order, in blocks of at most 65,536: what all rows share is a plain value, the rest are arrays."""
        yield from self._run(_block, self._tiles())

    def _runs(self, prepared: Prepared) -> Iterator[slice]:
        """Lengths whose intermediate arrays fit the processor's cache, for all batch sizes together."""
        height = BLOCK_TOKENS if prepared.linear_in_batch else max(1, BLOCK_CELLS // len(self.batch_sizes))
        for row in range(0, len(self.seq_lens), height):
            yield slice(row, row + height)

    def _tiles(self) -> Iterator[Tile]:
        """The whole grid in blocks, in row order."""
        width = max(1, min(len(self.batch_sizes), BLOCK_CELLS))
        height = max(1, BLOCK_CELLS // width) if width == len(self.batch_sizes) else 1
        for combination in self.combinations:
            for row in range(0, len(self.seq_lens), height):
                for column in range(0, len(self.batch_sizes), width):
                    yield self._tile(combination, slice(row, row + height), slice(column, column + width))

    def _tile(self, c: Combination, rows: slice, columns: slice) -> Tile:
        return Tile(c, self.seq_lens[rows] + c.more, self.batch_sizes[columns], c.encoder_len)

    def thinned(self, most: int) -> "Sweep":
        """The same grid with at most `most` of its lengths, the first and the last among them, evenly chosen by their place."""
        if len(self.seq_lens) <= most:
            return self
        fewer = copy(self)
        fewer.seq_lens = self.seq_lens[np.unique(np.linspace(0, len(self.seq_lens) - 1, most).round().astype(np.int64))]
        return fewer

    def to_frame(self) -> "pd.DataFrame":
        """Every row as a pandas DataFrame with the columns of the CSV; texts are categories, numbers int64."""
        import pandas as pd

        from kvplan.domain.allocation import COLUMNS

        frames = [self.columns(c) for c in self.combinations]
        data: dict[str, Any] = {}
        for name in COLUMNS:
            if frames and name in frames[0]:
                data[name] = np.concatenate([f[name] for f in frames]) if len(frames) > 1 else frames[0][name]
                continue
            labels = [c.labels[name] for c in self.combinations]
            if name in {"tensor_parallel", "encoder_len"} or not labels:
                data[name] = np.repeat(np.array(labels, np.int64), self.cells)
                continue
            kinds = list(dict.fromkeys(labels))
            codes = np.repeat(np.array([kinds.index(x) for x in labels], np.int32), self.cells)
            data[name] = pd.Categorical.from_codes(codes, categories=pd.Index(kinds))
        return pd.DataFrame(data, columns=pd.Index(COLUMNS), copy=False)

    def write_csv(self, path: "str | Path | BinaryIO", progress: Callable[[int], None] | None = None) -> None:
        """Stream every row as CSV; `progress` is told the number of rows after each block."""
        from kvplan.questions.sweep.columnar import write_csv

        write_csv(self.batches(), path, progress)

    def write_parquet(self, path: "str | Path | BinaryIO", progress: Callable[[int], None] | None = None) -> None:
        """Stream every row as Parquet: texts as dictionaries, numbers as int64."""
        from kvplan.questions.sweep.columnar import write_parquet

        write_parquet(self.batches(), path, progress)


def _outer(value: "IntArray | int", factor: IntArray, out: IntArray) -> None:
    """`out[...] = value * factor`; with few columns one pass for each beats numpy's short inner loops three times."""
    if isinstance(value, int) or value.shape[1] != 1 or not 1 < out.shape[1] <= FEW_COLUMNS or len(factor) != 1:
        np.multiply(value, factor, out=out)
        return
    for column in range(out.shape[1]):
        np.multiply(value[:, 0], factor[0, column], out=out[:, column])


def _axis(values: Iterable[int], name: str) -> IntArray:
    """An axis as int64; each value is checked as a workload's."""
    listed = [value if type(value) in {int, bool} else _plain(value) for value in values]
    for value in listed:
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            Workload(**{name[:-1]: value})  # refuses, in the words of a single estimate
    if not listed:
        raise OptionError(f"{name} is empty", hint="give at least one value")
    return np.array(listed, np.int64)


def _plain(value: Any) -> Any:
    """numpy's integers as Python's; anything else unchanged."""
    return int(value) if isinstance(value, np.integer) else value


def _engine_options(options: Mapping[str, Any], kv_dtype: str, tensor_parallel: int) -> dict[str, Any]:
    shared: dict[str, Any] = {} if kv_dtype == "auto" else {"kv_dtype": kv_dtype}
    return {**options, **shared, **({} if tensor_parallel == 1 else {"tensor_parallel": tensor_parallel})}


def _combination(
    model: Model, engine: Engine, text: Workload, media: Media, files: Mapping[str, Any] | None
) -> Combination | NotPredicted:
    """Labels from the largest cell, which also shows whether all cells fit.

    Raises:
        OptionError: they do not, or a text-only model is given media.
    """
    largest: Workload = text
    said: tuple[str, ...] = ()
    try:
        if media:
            use = used_by(engine, model, media, files)
            largest, said = asked_with(model, text, use), (f"in each sequence {use.words}, beside its text",)
        prepared = engine.on(model)
        answer = footprint(prepared, largest)
    except Refused as problem:
        return NotPredicted(reason=problem.reason, see=problem.see)
    longest = largest.seq_len + growth_period(prepared.read)
    totals = prepared.totals(At(longest, largest.batch_size, largest.encoder_len))
    sizes = (totals.payload, totals.allocated, totals.bookkeeping, totals.state, longest * max(largest.batch_size, 1))
    if max(sizes) >= SIZE_BYTES:
        raise OptionError(
            f"the sweep's largest cell ({largest.seq_len:,} tokens x {largest.batch_size:,} sequences of {model.name}) "
            "does not fit 64-bit integers",
            hint="sweep smaller values; `kvplan estimate` has no such limit",
        )
    labels: dict[str, str | int] = {
        "model": model.name,
        "engine": answer.engine,
        "engine_version": answer.engine_version,
        "kv_dtype": answer.kv_dtype,
        "tensor_parallel": answer.tensor_parallel,
        "encoder_len": largest.encoder_len,
        "evidence": answer.evidence,
    }
    return Combination(
        prepared=prepared,
        more=largest.seq_len - text.seq_len,
        encoder_len=largest.encoder_len,
        labels=labels,
        has_state=answer.state_bytes > 0,
        notes=(*said, *answer.notes),
    )


def _notes(combinations: Sequence[Combination]) -> list[str]:
    """What is said of the grid, each once; what is not said of every model, with its model's name."""
    said: dict[str, dict[str, None]] = {}  # note -> models
    for one in combinations:
        for note in one.notes:
            said.setdefault(note, {})[str(one.labels["model"])] = None
    models = {str(one.labels["model"]) for one in combinations}
    return [note if len(of) == len(models) else f"{', '.join(of)}: {note}" for note, of in said.items()]
