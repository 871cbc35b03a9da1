"""A trace's file as columns, by pyarrow: CSV, JSON lines, Parquet, a folder of Parquet files; what is wrong, with its line."""

import os
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from kvplan import limits
from kvplan.errors import TraceError, printable
from kvplan.files import expanded, open_regular

#: The columns that are wanted of those that there are.
Wanted = Callable[[list[str]], list[str]]
_BLOCK: Final = 2 * limits.TRACE_LINE_BYTES
_A_TRACE: Final = "a trace: CSV, JSON lines, Parquet, or a folder of Parquet files"


#: A file or folder, or columns: a mapping of names to values, a table of pyarrow's, a frame of pandas'.
Source = str | Path | Mapping[str, Any] | Any


def read_table(source: Source, wanted: Wanted) -> Any:
    """The wanted columns of a trace.

    Raises:
        TraceError: no such file, too large, or not in one of the forms; the line is named.
    """
    if not isinstance(source, str | Path):
        return _columns(source, wanted)
    path = expanded(source, TraceError)
    if path.is_dir():
        return _folder(path, wanted)
    descriptor = open_regular(path, TraceError, _A_TRACE)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limits.TRACE_FILE_BYTES:
            raise TraceError(
                f"`{path.name}` is {size:,} bytes, more than a trace may have ({limits.TRACE_FILE_BYTES:,})",
                hint="cut it into Parquet partitions in a folder",
            )
        start = file.read(4096)
        if not start.strip():
            raise TraceError(f"`{path.name}` is empty", hint=f"give {_A_TRACE}")
        file.seek(0)
        if start.startswith(b"PAR1"):
            return _parquet(path, wanted)
        _bounded_lines(path.name, file)
        file.seek(0)
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return _json(path, file, wanted)
        return _csv(path, file, wanted)


def _columns(source: Any, wanted: Wanted) -> Any:
    """Columns that are in memory."""
    try:
        table = source if isinstance(source, pa.Table) else pa.table(source)
    except (pa.ArrowException, TypeError, ValueError, KeyError) as problem:
        raise TraceError(f"that is no trace: {_first(problem)}", hint=f"give {_A_TRACE}, or columns") from problem
    return _not_too_many(HERE, table.select(wanted(table.column_names)))


#: How a trace is called that is no file.
HERE: Final = "the trace"


def _bounded_lines(name: str, file: Any) -> None:
    """Refuse a line that is too long before anything is made of it."""
    line, held = 1, 0
    decoder = getincrementaldecoder("utf-8")()
    while chunk := file.read(limits.TRACE_LINE_BYTES):
        newlines = chunk.count(b"\n")
        if b"\0" in chunk:
            at = line + chunk[: chunk.index(b"\0")].count(b"\n")
            raise TraceError(f"`{name}`, line {at}: a NUL byte, so this is no text", hint=f"give {_A_TRACE}")
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as problem:
            at = line + chunk[: max(0, problem.start)].count(b"\n")
            raise TraceError(f"`{name}`, line {at}: no text in UTF-8", hint=f"give {_A_TRACE}") from problem
        first = chunk.find(b"\n") if newlines else len(chunk)
        if held + first > limits.TRACE_LINE_BYTES:
            raise TraceError(
                f"`{name}`, line {line}: longer than {limits.TRACE_LINE_BYTES:,} bytes", hint="a line is one request"
            )
        held = len(chunk) - chunk.rfind(b"\n") - 1 if newlines else held + len(chunk)
        line += newlines


def _parquet(path: Path, wanted: Wanted) -> Any:
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows > limits.TRACE_REQUESTS:
            raise _too_many(path.name, file.metadata.num_rows)
        columns = wanted(file.schema_arrow.names)
        return file.read(columns=columns)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise TraceError(
            f"`{path.name}` is no Parquet file that can be read: {_first(problem)}", hint="write it again"
        ) from problem


def _folder(path: Path, wanted: Wanted) -> Any:
    names = sorted(name for name in os.listdir(path) if name.endswith((".parquet", ".pq")))
    if not names:
        raise TraceError(f"`{path.name}` holds no Parquet files", hint="give a folder of NAME.parquet, or one file")
    tables = [_parquet(path / name, wanted) for name in names[: limits.REPLICAS + 1]]
    if len(tables) > limits.REPLICAS or sum(table.num_rows for table in tables) > limits.TRACE_REQUESTS:
        raise _too_many(path.name, sum(table.num_rows for table in tables))
    try:
        return pa.concat_tables(
            [table.append_column(PART, pa.array([i] * table.num_rows, pa.int32())) for i, table in enumerate(tables)]
        )
    except pa.ArrowException as problem:
        raise TraceError(f"the partitions of `{path.name}` differ in their columns: {_first(problem)}") from problem


#: The number of the partition that a row came from, in a folder's table.
PART: Final = "\0partition"


def _csv(path: Path, file: Any, wanted: Wanted) -> Any:
    from pyarrow import csv

    first = file.readline().decode("utf-8", "replace")
    header: list[str] = next(iter(_fields(first)), [])
    file.seek(0)
    bad: list[Any] = []

    def note(row: Any) -> str:
        if not bad:
            bad.append(row)
        return "skip"

    names = [name.strip() for name in header]
    if len(set(names)) != len(names):
        raise TraceError(f"`{path.name}`, line 1: two columns of one name", hint="name every column differently")
    columns = wanted(names)
    try:
        table = csv.read_csv(
            file,
            read_options=csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=names, skip_rows=1),
            parse_options=csv.ParseOptions(invalid_row_handler=note, ignore_empty_lines=True),
            convert_options=csv.ConvertOptions(include_columns=columns, strings_can_be_null=True),
        )
    except (pa.ArrowException, ValueError) as problem:
        raise TraceError(f"`{path.name}` is no CSV that can be read: {_first(problem)}", hint=f"give {_A_TRACE}") from problem
    if bad:
        line = _line_of_fields(path, len(names))
        raise TraceError(
            f"`{path.name}`, line {line}: {bad[0].actual_columns} fields, where the header has {bad[0].expected_columns}",
            hint="a file that was cut off ends so: take its last line away",
        )
    return _not_too_many(path.name, table)


def is_parquet(path: Path) -> bool:
    """Whether a file says so in its first bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def line_of(path: Path, row: int) -> int:
    """The line of a row, counted from 0; empty lines are none, and the first of a CSV is its header."""
    with path.open("rb") as file:
        left = row + 1
        for at, line in enumerate(file, 1):
            if not line.strip():
                continue
            if left == row + 1 and not line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{") and at == 1:
                continue
            left -= 1
            if not left:
                return at
    return 1


def _fields(text: str) -> Any:
    import csv

    try:
        yield from csv.reader([text])
    except csv.Error:
        return


def _line_of_fields(path: Path, fields: int) -> int:
    """The first line that has not so many fields."""
    import csv

    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        for row in reader:
            if row and len(row) != fields:
                return reader.line_num
    return 1


def _json(path: Path, file: Any, wanted: Wanted) -> Any:
    from pyarrow import json

    first = file.readline()
    try:
        keys = list(msgspec.json.decode(first, type=dict[str, Any]))
    except (msgspec.DecodeError, RecursionError) as problem:
        raise TraceError(f"`{path.name}`, line 1: no JSON object", hint=f"give {_A_TRACE}") from problem
    columns = wanted(keys)
    file.seek(0)
    try:
        table = json.read_json(
            file,
            read_options=json.ReadOptions(use_threads=False, block_size=_BLOCK),
            parse_options=json.ParseOptions(newlines_in_values=False),
        )
    except (pa.ArrowException, ValueError) as problem:
        raise _bad_json(path, columns, problem) from problem
    return _not_too_many(path.name, table.select([name for name in columns if name in table.column_names]))


def _bad_json(path: Path, columns: list[str], problem: Exception) -> TraceError:
    """Which line it is that cannot be read."""
    kinds: dict[str, type] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, RecursionError):
                end = "; a file that was cut off ends so" if not line.endswith(b"\n") else ""
                return TraceError(f"`{path.name}`, line {number}: no JSON object{end}", hint="take that line away")
            for name in columns:
                value = row.get(name)
                kind = float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
                if value is not None and kinds.setdefault(name, kind) is not kind:
                    return TraceError(f"`{path.name}`, line {number}: `{printable(name, 40)}` is of another kind than before")
    return TraceError(f"`{path.name}` is no file of JSON lines that can be read: {_first(problem)}", hint=f"give {_A_TRACE}")


def _not_too_many(name: str, table: Any) -> Any:
    if table.num_rows > limits.TRACE_REQUESTS:
        raise _too_many(name, table.num_rows)
    return table


def _too_many(name: str, rows: int) -> TraceError:
    return TraceError(f"`{name}`: {rows:,} requests, more than kvplan replays ({limits.TRACE_REQUESTS:,})", hint="replay a part")


def _first(problem: Exception) -> str:
    return printable(str(problem).partition("\n")[0], 160)
