"""A trace's columns as `Traffic`: units, bounds, and the line of what is wrong."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct
from pyarrow import compute

from kvplan import limits
from kvplan.domain.media.asked import NO_MEDIA, Media
from kvplan.domain.traffic import SECOND, Traffic
from kvplan.errors import OptionError, TraceError, printable, shown
from kvplan.files import expanded
from kvplan.loading.trace.columns import UNITS, Chosen, Unit, chosen, listed
from kvplan.loading.trace.media import TraceMedia, read_media
from kvplan.loading.trace.tables import HERE, PART, Source, is_parquet, line_of, read_table

_HASH_TOKENS: Final = 512  # Mooncake's
#: As a route: each file of a folder is a replica.
PARTITION: Final = "partition"
_EPOCH: Final = 10**11  # seconds of the year 5138: a larger number of seconds is none
_FEWEST: Final = 8  # arrivals from which a unit can be seen
_WHOLE: Final = 100  # a clock in milliseconds that ticks more coarsely than this


class Read(Struct, frozen=True, kw_only=True, eq=False):
    """A trace as it was understood. `route` is the number of the replica of each request, where a column or a folder says it.

    `media` lie beside the tokens of the prompts.
    """

    traffic: Traffic
    columns: dict[str, str]
    unit: str
    notes: tuple[str, ...] = ()
    route: np.ndarray[Any, Any] | None = None
    routes: tuple[str, ...] = ()
    media: TraceMedia | None = None


def read_trace(
    source: Source,
    *,
    columns: str | None = None,
    rate: float | None = None,
    route: str | None = None,
    hash_tokens: int | None = None,
    media: Media = NO_MEDIA,
) -> Read:
    """Read a trace.

    Args:
        columns: what the columns hold where their names do not say it: `arrival=ts:ms,prompt=in,output=out,hashes=ids`.
        rate: requests a second, evenly apart, in place of arrival times.
        route: a column whose values are the replicas; `partition`: each file of a folder is one.
        hash_tokens: tokens that one hash stands for.
        media: of every request, or what one image or video is like where a column says how many or how long.

    Raises:
        TraceError: a file that cannot be read as one, with the line.
        OptionError: a column that is not there.
    """
    found: list[Chosen] = []

    def wanted(names: list[str]) -> list[str]:
        if not found:
            try:
                found.append(chosen(names, columns, timed=rate is None))
            except TraceError as problem:
                raise problem.at(_header(source), TraceError) from problem
        if route is not None and route not in names and (route != PARTITION or not folder):
            raise OptionError(f"«route»: the trace has no column `{printable(route, 60)}`, it has {listed(names)}")
        own = [name for role, name in found[0].names.items() if role != "arrival" or rate is None]
        return list(dict.fromkeys([*own, *([route] if route in names else [])]))

    folder = isinstance(source, str | Path) and Path(source).is_dir()
    table = read_table(source, wanted)
    name, roles = called(source), found[0]
    if not table.num_rows:
        raise TraceError(f"`{name}` holds no requests", hint="a line is one request")
    at = _Where(name, roles, table, expanded(source) if isinstance(source, str | Path) else None)
    notes: list[str] = []
    prompt = at.tokens("prompt", 0)
    output = at.tokens("output", 0)
    if not output.all():
        number = int((output == 0).sum())
        notes.append(f"{number:,} requests without output are given one token: a server's shortest answer")
        output = np.maximum(output, 1)
    hashes, offsets, each = at.hashes(prompt, hash_tokens)
    beside = read_media(at, media, notes)
    arrival, unit = _arrivals(at, rate, notes, hashed=hashes is not None)
    routed, values = at.route(PART if route == PARTITION and folder and route not in table.column_names else route)
    traffic = Traffic(arrival_us=arrival, prompt=prompt, output=output, offsets=offsets, hashes=hashes, hash_tokens=each)
    if PART in table.column_names:
        order = np.argsort(arrival, kind="stable")
        traffic, routed = traffic.part(order), None if routed is None else routed[order]
        beside = None if beside is None else beside.part(order)
    return Read(
        traffic=traffic,
        columns={role: column for role, column in roles.names.items() if role != "arrival" or rate is None},
        unit=unit,
        notes=tuple(notes),
        route=routed,
        routes=values,
        media=beside,
    )


def called(source: Source) -> str:
    """A trace's name."""
    return Path(source).name if isinstance(source, str | Path) else HERE


def _header(source: Source) -> str:
    """Where a trace names its columns."""
    path = expanded(source) if isinstance(source, str | Path) else None
    lines = path is not None and path.is_file() and not is_parquet(path)
    return f"`{called(source)}`" + (", line 1" if lines else "")


class _Where:
    """A table, and the words for its places."""

    def __init__(self, name: str, roles: Chosen, table: Any, path: Path | None) -> None:
        self.name, self.roles, self.table, self.path = name, roles, table, path

    def bad(self, row: int, what: str, hint: str = "") -> TraceError:
        """An error at a row, counted from 0."""
        place = f"row {row + 1:,}"
        if self.path is not None and self.path.is_file() and not is_parquet(self.path):
            place = f"line {line_of(self.path, row):,}"
        return TraceError(f"`{self.name}`, {place}: {what}", hint=hint)

    def whole(self, name: str) -> Any:
        """A column as one array; pyarrow's own parts of one need not fit together (lists of nulls before lists of numbers)."""
        try:
            return self.table.column(name).combine_chunks()
        except pa.ArrowException as problem:
            raise TraceError(
                f"`{self.name}`: `{printable(name, 40)}` is not of one kind in all rows", hint="write every row alike"
            ) from problem

    def column(self, name: str) -> Any:
        """A column as one array without nulls."""
        if name not in self.table.column_names:
            raise self.bad(0, f"no `{printable(name, 40)}`")
        values = self.whole(name)
        if values.null_count:
            row = int(np.flatnonzero(np.asarray(values.is_null()))[0])
            raise self.bad(row, f"`{printable(name, 40)}` is missing", "a file that was cut off ends so: take its last line away")
        return values

    def numbers(self, name: str) -> np.ndarray[Any, Any]:
        """A column of numbers."""
        values = self.column(name)
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            return np.asarray(values)
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            for row, text in enumerate(values.to_pylist()):
                if not _is_number(text):
                    raise self.bad(row, f"`{printable(name, 40)}` is {shown(text)}, not a number")
            return np.array([float(text) for text in values.to_pylist()])
        raise self.bad(0, f"`{printable(name, 40)}` is no number", "«columns» names the columns")

    def tokens(self, role: Any, least: int) -> np.ndarray[Any, Any]:
        """A column of counts of tokens."""
        name = self.roles.names[role]
        values = self.numbers(name)
        with np.errstate(invalid="ignore"):
            wrong = ~((values >= least) & (values <= limits.TRACE_TOKENS) & (values == np.floor(values)))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            said = shown(values[row].item())
            raise self.bad(
                row, f"`{printable(name, 40)}` is {said}, not a number of tokens from {least} to {limits.TRACE_TOKENS:,}"
            )
        return values.astype(np.int64)

    def route(self, name: str | None) -> tuple[np.ndarray[Any, Any] | None, tuple[str, ...]]:
        """The replica of each request, by the value of a column, in the order in which they first appear."""
        if name is None:
            return None, ()
        encoded = self.column(name).dictionary_encode()
        values = encoded.dictionary.to_pylist()
        if len(values) > limits.REPLICAS:
            raise OptionError(
                f"«route»: `{printable(name, 40)}` has {len(values):,} values, more than replicas may be ({limits.REPLICAS:,})"
            )
        return np.asarray(encoded.indices).astype(np.int64), tuple(printable(value, 40) for value in values)

    def hashes(
        self, prompt: np.ndarray[Any, Any], told: int | None
    ) -> tuple[np.ndarray[Any, Any] | None, np.ndarray[Any, Any] | None, int]:
        """Hashes of all requests one after the other, where each request's begin, and the tokens of one."""
        name = self.roles.get("hashes")
        if name is None:
            return None, None, 0
        values = self.whole(name)
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            values = compute.split_pattern_regex(compute.utf8_trim(compute.fill_null(values, ""), "[](){} \t\"'"), r"[\s,;]+")
        if pa.types.is_null(values.type):
            return None, None, 0
        if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
            raise self.bad(0, f"`{printable(name, 40)}` is no list of hashes")
        counts = np.asarray(compute.fill_null(compute.list_value_length(values), 0)).astype(np.int64)
        flat = values.flatten()
        if len(flat) > limits.TRACE_HASHES:
            raise TraceError(f"`{self.name}`: {len(flat):,} hashes, more than kvplan follows ({limits.TRACE_HASHES:,})")
        if pa.types.is_string(flat.type) or pa.types.is_large_string(flat.type):
            empty = np.asarray(compute.equal(flat, ""))
            if empty.any():  # the split of an empty text
                owner = np.repeat(np.arange(len(counts)), counts)
                counts = counts - np.bincount(owner[empty], minlength=len(counts))
                flat = flat.filter(pa.array(~empty))
        if flat.null_count or not (
            pa.types.is_integer(flat.type) or pa.types.is_string(flat.type) or pa.types.is_large_string(flat.type)
        ):
            row = int(np.flatnonzero(np.cumsum(counts) > _first_null(flat))[0]) if flat.null_count else 0
            raise self.bad(row, f"`{printable(name, 40)}` holds something that is no hash")
        coded = _coded(flat)
        offsets = np.concatenate(([0], np.cumsum(counts)))
        if not len(coded):
            return None, None, 0
        each = told if told is not None else self._tokens_of_a_hash(prompt, counts)
        over = counts > -(-prompt // each)
        if over.any():
            row = int(np.flatnonzero(over)[0])
            raise self.bad(
                row,
                f"{counts[row]} hashes of {each} tokens are more than a prompt of {prompt[row]:,} has",
                "«hash_tokens N» says how many tokens one stands for",
            )
        return coded, offsets, each

    @staticmethod
    def _tokens_of_a_hash(prompt: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> int:
        """What one hash stands for: Mooncake's 512, unless the lengths say another power of two."""
        some = counts > 0
        least = int((-(-prompt[some] // counts[some])).max(initial=1))
        if least <= _HASH_TOKENS:
            several = counts > 1
            most = int(((prompt[several] - 1) // (counts[several] - 1)).min(initial=_HASH_TOKENS))
            if most >= _HASH_TOKENS:
                return _HASH_TOKENS
        return 1 << (least - 1).bit_length()


def _coded(values: Any) -> np.ndarray[Any, Any]:
    """Hashes as numbers: whole numbers as they are, texts by their order."""
    try:
        return np.asarray(values.cast(pa.int64()))
    except pa.ArrowException:
        return np.asarray(values.dictionary_encode().indices).astype(np.int64)


def _first_null(values: Any) -> int:
    return int(np.flatnonzero(np.asarray(values.is_null()))[0])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return len(text) < 64


def _arrivals(at: _Where, rate: float | None, notes: list[str], *, hashed: bool) -> tuple[np.ndarray[Any, Any], str]:
    """Microseconds since the first arrival, and the unit that they were read in.

    Raises:
        TraceError: no times, times that are none, or that go back.
    """
    count = at.table.num_rows
    if rate is not None:
        if not 0 < rate <= 10**6 or count / rate > limits.TRACE_SECONDS:
            raise OptionError(f"«rate» must be above 0 and at most 1,000,000 requests a second, got {shown(rate)}")
        return (np.arange(count) * (SECOND / rate)).astype(np.int64), f"{rate:g} requests a second"
    name = at.roles.names["arrival"]
    values = at.column(name)
    unit = at.roles.unit
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _dates(at, name, values)
    if pa.types.is_timestamp(values.type):
        times = np.asarray(values.cast(pa.timestamp("ns"), safe=False).cast(pa.int64()))
        return _checked(at, name, times, 1, count), "dates"
    numbers = at.numbers(name)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(numbers) & (numbers >= 0) & (numbers < 2.0**63))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise at.bad(row, f"`{printable(name, 40)}` is {shown(numbers[row].item())}, not a time")
    unit = unit or _unit(numbers, hashed=hashed)
    if unit == "ms" and not at.roles.unit:
        notes.append(
            f"`{printable(name, 40)}` is read as milliseconds; `--columns arrival={printable(name, 40)}:s` says otherwise"
        )
    if np.issubdtype(numbers.dtype, np.integer):
        return _checked(at, name, numbers.astype(np.int64), UNITS[unit], count), unit
    start = float(numbers[0])
    most = limits.TRACE_SECONDS * SECOND + SECOND  # what is beyond is refused below
    scaled = np.round(np.clip((numbers - start) * (UNITS[unit] / 1000), -most, most)).astype(np.int64) * 1000
    return _checked(at, name, scaled, 1, count), unit


def _checked(at: _Where, name: str, times: np.ndarray[Any, Any], scale: int, count: int) -> np.ndarray[Any, Any]:
    """Nanoseconds (times `scale`) as microseconds since the first; a folder's partitions are each in order."""
    back = np.diff(times) < 0
    if PART in at.table.column_names:
        back &= np.diff(np.asarray(at.table.column(PART).combine_chunks())) == 0
    if back.any():
        row = int(np.flatnonzero(back)[0]) + 1
        raise at.bad(
            row,
            f"`{printable(name, 40)}` goes back: requests must be in the order of their arrival",
            f"sort by {printable(name, 40)}",
        )
    since = times - times.min()
    if since.max() > limits.TRACE_SECONDS * 10**9 // scale:
        row = int(np.flatnonzero(since > limits.TRACE_SECONDS * 10**9 // scale)[0])
        raise at.bad(
            row, f"`{printable(name, 40)}` is more than three years after the first", "«columns arrival=NAME:ms» says the unit"
        )
    found: np.ndarray[Any, Any] = since * scale // 1000
    return found


def _dates(at: _Where, name: str, values: Any) -> Any:
    """Texts as dates."""
    if all(_is_number(text) for text in values[:_FEWEST].to_pylist()):
        return values
    try:
        return values.cast(pa.timestamp("ns"))
    except pa.ArrowException:
        pass
    for row, text in enumerate(values.to_pylist()):
        try:
            pa.scalar(text).cast(pa.timestamp("ns"))
        except pa.ArrowException:
            raise at.bad(
                row, f"`{printable(name, 40)}` is {shown(text)}, neither a number nor a date", "2026-11-28 07:35:00.5"
            ) from None
    return values


def _unit(values: np.ndarray[Any, Any], *, hashed: bool) -> Unit:
    """What numbers say of their unit: seconds, unless they are too large, or whole numbers that only milliseconds are.

    A trace with hashes and whole numbers is Mooncake's, whose `timestamp` is milliseconds.
    """
    largest = float(values.max())
    if largest >= _EPOCH:
        return "ms" if largest < _EPOCH * 1000 else "us" if largest < _EPOCH * 10**6 else "ns"
    if not np.issubdtype(values.dtype, np.integer) or len(values) < 2:
        return "s"
    coarse = len(values) >= _FEWEST and largest >= _WHOLE and not (values % _WHOLE).any()
    return "ms" if hashed or coarse else "s"
