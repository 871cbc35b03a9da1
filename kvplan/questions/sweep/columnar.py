"""CSV and Parquet of any length, block by block: texts and repeated values once, numbers through pyarrow."""

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from kvplan.domain.allocation import COLUMNS
from kvplan.domain.tables import safe_cell
from kvplan.limits import PYARROW_SPACE_BYTES, need_space

Progress = Callable[[int], None] | None
_ROW_GROUP: Final = 2**20  # rows of one Parquet row group
_CSV_ROWS: Final = 2**14  # rows rendered at a time
_AHEAD: Final = 4  # parts rendered before their turn to be written


def write_csv(blocks: Iterable[Mapping[str, Any]], target: str | Path | BinaryIO, progress: Progress = None) -> None:
    """Write blocks of rows; the text is what Python's csv module would write, at many times the speed.

    Two threads render (pyarrow works outside the interpreter lock) while this one evaluates and writes.
    """
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    need_space("pyarrow", PYARROW_SPACE_BYTES)
    waiting: deque[tuple[int, Future[memoryview]]] = deque()

    def write_first() -> None:
        rows, text = waiting.popleft()
        file.write(text.result())
        if progress is not None:
            progress(rows)

    with _opened(target) as file, ThreadPoolExecutor(2, "csv") as pool:
        file.write((",".join(COLUMNS) + "\n").encode())
        for part in _parts(blocks):
            waiting.append((_rows(part), pool.submit(_csv_rows, part)))
            if len(waiting) > _AHEAD:
                write_first()
        while waiting:
            write_first()


def _parts(blocks: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Blocks in parts small enough for the processor's cache; columns that are one array stay one."""
    for block in blocks:
        for start in range(0, _rows(block), _CSV_ROWS):
            slices = {id(v): v[start : start + _CSV_ROWS] for v in block.values() if not isinstance(v, str | int)}
            yield {name: slices.get(id(value), value) for name, value in block.items()}


def _csv_rows(block: Mapping[str, Any]) -> memoryview:
    """The block's rows as UTF-8. Columns that all rows share become one text between the others."""
    import pyarrow as pa
    from pyarrow import compute

    pieces: list[Any] = []
    texts: dict[int, Any] = {}  # columns that are one array (total and allocated bytes) are rendered once
    constant = ""
    for position, name in enumerate(COLUMNS):
        value = block[name]
        constant += "," if position else ""
        if isinstance(value, str | int):
            constant += _cell(value)
            continue
        if id(value) not in texts:
            texts[id(value)] = compute.cast(_int64(value), pa.string())
        pieces += [_text(constant), texts[id(value)]]
        constant = ""
    joined = compute.binary_join_element_wise(*pieces, _text(constant + "\n"), _text(""))
    _, offsets, data = joined.buffers()
    ends = memoryview(offsets).cast("i")
    return memoryview(data)[ends[joined.offset] : ends[joined.offset + len(joined)]]


def _int64(array: Any) -> Any:
    """An int64 array as pyarrow's, without a copy."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), len(array), [None, pa.py_buffer(array)])


def _text(text: str) -> Any:
    """A text as a pyarrow scalar; `pyarrow.scalar` (and `pyarrow.array`) would import pandas for it."""
    import pyarrow as pa

    data = text.encode()
    ends = memoryview((0).to_bytes(4, sys.byteorder) + len(data).to_bytes(4, sys.byteorder))
    return pa.StringArray.from_buffers(1, pa.py_buffer(ends), pa.py_buffer(data))[0]


def _cell(value: str | int) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([safe_cell(value)])
    return out.getvalue()


def write_parquet(blocks: Iterable[Mapping[str, Any]], target: str | Path | BinaryIO, progress: Progress = None) -> None:
    """Write blocks of rows as Parquet: texts as dictionaries, numbers as int64, compressed."""
    need_space("pyarrow", PYARROW_SPACE_BYTES)
    import pyarrow as pa
    from pyarrow import parquet

    text = pa.dictionary(pa.int32(), pa.string())
    words = {"model", "engine", "engine_version", "kv_dtype", "evidence"}
    schema = pa.schema([(name, text if name in words else pa.int64()) for name in COLUMNS])

    def column(value: Any, rows: int) -> Any:
        if isinstance(value, str):
            return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), [safe_cell(value)])
        return pa.repeat(pa.scalar(value, pa.int64()), rows) if isinstance(value, int) else _int64(value)

    with _opened(target) as file, parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(blocks):
            batches = [
                pa.RecordBatch.from_arrays([column(block[name], _rows(block)) for name in COLUMNS], schema=schema)
                for block in group
            ]
            writer.write_table(pa.Table.from_batches(batches).unify_dictionaries())
            if progress is not None:
                progress(sum(map(_rows, group)))


def _groups(blocks: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    group: list[Mapping[str, Any]] = []
    held = 0
    for block in blocks:
        group.append(block)
        held += _rows(block)
        if held >= _ROW_GROUP:
            yield group
            group, held = [], 0
    if group:
        yield group


def _rows(block: Mapping[str, Any]) -> int:
    return len(block["seq_len"])


@contextmanager
def _opened(target: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """A file to write, or the open one that was given, which stays open."""
    if isinstance(target, str | Path):
        with Path(target).open("wb") as file:
            yield file
    else:
        yield target
