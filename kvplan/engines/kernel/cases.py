"""Recorded cases, read from JSON lines that strangers wrote: bounded, streamed, one clear reason for each bad line."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import Struct, field

from kvplan.domain.described import Described
from kvplan.domain.media.processor import Processor
from kvplan.domain.model import Layer, Model, Softmax
from kvplan.errors import InputError
from kvplan.files import expanded, open_regular
from kvplan.limits import AUDIT_LINE_BYTES, DIGITS, LAYERS
from kvplan.units import MAX_COUNT

#: A looped model has several entries a layer.
_MAX_ENTRIES: Final = 8 * LAYERS

#: KV heads, and elements of one, of a model that a record tells by its dimensions.
_WIDEST: Final = 2**20

_TOO_LONG: Final = 10**DIGITS
_OWN: Final = frozenset({"id", "engine", "engine_version", "model", "config", "workload", "options", "how", "source", "expected"})


class Read(Protocol):
    """What makes a model of a hub config: handed to an engine's auditor, which knows no front ends."""

    def __call__(self, config: Mapping[str, Any], name: str = "", /) -> Model:
        """The model; `name` is what errors call it."""
        ...

    def described(self, config: Mapping[str, Any]) -> Described:
        """The model's tensors, and its config with class defaults."""
        ...

    def processor(self, family: str, config: Mapping[str, Any], files: Mapping[str, Any]) -> Processor | None:
        """The rules of a family's own preprocessing; None where no row is of that name."""
        ...


class Covered(Struct, frozen=True, kw_only=True):
    """What a recorded case holds, as evidence is judged: the model as the engine reads it, the release, how elements are stored,
    and the maker of the device (empty: the engine's code ran on a CPU).
    """

    model: Model
    stored: str
    release: tuple[int, ...]
    maker: str = ""


class InvalidCase(ValueError):
    """A record that cannot be read; the message is one clear reason."""


class Case(Struct, frozen=True, kw_only=True):
    """What was asked of an engine, without what it answered.

    `config` holds hub keys (llama.cpp: GGUF keys); `more` every other key of the record (`hf_config`, `arch` …).
    """

    id: str
    engine: str
    engine_version: str = ""
    model: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    workload: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    how: str = ""
    source: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    def count(self, name: str, *, default: int | None = None, minimum: int = 0) -> int:
        """A whole number of the workload.

        Raises:
            InvalidCase: missing without a default, or not a whole number from `minimum` to 2**53.
        """
        return whole(self.workload.get(name, default), f"workload.{name}", minimum)

    def option(self, name: str, *, default: int | None = None, minimum: int = 0) -> int:
        """A whole number of the options; see `count`."""
        value = self.options.get(name)
        return whole(default if value is None else value, f"options.{name}", minimum)


def whole(value: object, what: str, minimum: int = 0) -> int:
    """`value` if it is a whole number from `minimum` to 2**53.

    Raises:
        InvalidCase: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= MAX_COUNT:
        shown = "missing" if value is None else "a huge number" if isinstance(value, int) else f"`{str(value)[:40]}`"
        raise InvalidCase(f"`{what}` must be a whole number of at least {minimum}, got {shown}")
    return value


def spelled_out(runs: object, name: str) -> list[Any]:
    """`[[value, how many], …]` as one value an entry; a bare value stands for one.

    Raises:
        InvalidCase: it is no such list, or names more entries than models have.
    """
    if not isinstance(runs, list):
        raise InvalidCase(f"`expected.{name}` must be a list of [value, how many]")
    spelled: list[Any] = []
    for run in runs:
        each, times = run if isinstance(run, list) and len(run) == 2 else (run, 1)
        if whole(times, f"expected.{name}", 1) + len(spelled) > _MAX_ENTRIES:
            raise InvalidCase(f"`expected.{name}` names more than {_MAX_ENTRIES:,} entries")
        spelled += [each] * times
    return spelled


def of_budgets(expected: Mapping[str, Any], whole_case: Collection[str], entries: str, each: Collection[str]) -> dict[str, Any]:
    """Facts of a case, and those of its list of `entries`, one a budget, as `entries[i].name`; words of a refusal count as true.

    Raises:
        InvalidCase: the entries are no list of objects.
    """
    found = {name: _plain(name, expected[name]) for name in whole_case if name in expected}
    rows = expected.get(entries, [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise InvalidCase(f"`expected.{entries}` must be a list of objects")
    for i, row in enumerate(rows):
        for name in each:
            if name in row and isinstance(row[name], Mapping):
                found |= {f"{entries}[{i}].{name}.{key}": value for key, value in row[name].items()}
            elif name in row:
                found[f"{entries}[{i}].{name}"] = _plain(name, row[name])
    return found


def _plain(name: str, value: Any) -> Any:
    return True if name == "off" and isinstance(value, str) else value


class Record(Struct, frozen=True, kw_only=True):
    """A case and what the engine answered; or, when it cannot be read, `invalid` with the reason."""

    case: Case
    expected: Mapping[str, Any] = field(default_factory=dict)
    invalid: str = ""


def record_from(data: object, *, where: str) -> Record:
    """One parsed line as a record; `where` names it when it has no id of its own."""
    if not isinstance(data, Mapping):
        return Record(case=Case(id=where, engine=""), invalid="not a JSON object")
    data = {key: value for key, value in data.items() if value is not None or key not in _OWN}  # null: not said
    name, engine = data.get("id"), data.get("engine")
    case = Case(id=name if isinstance(name, str) and name else where, engine=engine if isinstance(engine, str) else "")
    if not case.engine:
        return Record(case=case, invalid="`engine` is missing" if engine is None else "`engine` must be a text")
    for key in ("config", "workload", "options", "expected"):
        if not isinstance(data.get(key, {}), Mapping):
            return Record(case=case, invalid=f"`{key}` must be an object")
    if not data.get("expected"):
        return Record(case=case, invalid="`expected` is missing or empty: there is nothing to compare")
    unwritable = _unwritable(data["expected"])
    if unwritable:
        return Record(case=case, invalid=unwritable)
    for key in ("engine_version", "model", "how", "source"):
        if not isinstance(data.get(key, ""), str):
            return Record(case=case, invalid=f"`{key}` must be a text")
    case = Case(
        id=case.id,
        engine=case.engine,
        engine_version=data.get("engine_version", ""),
        model=data.get("model", ""),
        config=data.get("config", {}),
        workload=data.get("workload", {}),
        options=data.get("options", {}),
        how=data.get("how", ""),
        source=data.get("source", ""),
        more={key: value for key, value in data.items() if key not in _OWN},
    )
    return Record(case=case, expected=data["expected"])


def read_cases(path: Path, *, progress: Callable[[int], None] | None = None) -> Iterator[Record]:
    """Every non-empty line of a JSON-lines file as a record, one line in memory at a time.

    Raises:
        InputError: the file is missing, not a regular file or holds no case.
    """
    descriptor = open_regular(expanded(path), InputError, "a file of recorded cases, one JSON object a line")
    with os.fdopen(descriptor, "rb") as file:
        seen, number = False, 0
        while line := file.readline(AUDIT_LINE_BYTES + 1):
            number += 1
            size = len(line)
            where = f"{path.name}:{number}"
            if size > AUDIT_LINE_BYTES:
                size += _skip_line(file)
                seen = True
                reason = f"the line is longer than {AUDIT_LINE_BYTES:,} bytes"
                yield Record(case=Case(id=where, engine=""), invalid=reason)
            elif line.strip():
                seen = True
                yield _parsed(line, where)
            if progress is not None:
                progress(size)
    if not seen:
        raise InputError(f"`{path}` holds no case", hint="one JSON object a line, as docs/reference/audit.md describes")


def _skip_line(file: Any) -> int:
    """Read past the rest of a line that is too long; the bytes skipped."""
    skipped = 0
    while chunk := file.readline(AUDIT_LINE_BYTES):
        skipped += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return skipped


def _parsed(line: bytes, where: str) -> Record:
    try:
        data = json.loads(line)
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    except json.JSONDecodeError as problem:
        reason = f"not valid JSON: {problem.msg.lower()} at column {problem.colno}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:  # a number of more than 4,300 digits
        reason = "holds a number that is too long to read"
    else:
        try:
            return record_from(data, where=where)
        except RecursionError:
            reason = "nested too deeply"
    return Record(case=Case(id=where, engine=""), invalid=reason)


def _unwritable(value: object) -> str:
    """Why a recorded fact cannot be compared and written back, if so: JSON, CSV and tables hold no NaN and no long number."""
    if isinstance(value, str):
        return ""
    if isinstance(value, int):
        return f"`expected` holds a number of more than {DIGITS} digits" if abs(value) >= _TOO_LONG else ""
    if isinstance(value, float):
        return "`expected` holds a number that is none (NaN or Infinity)" if not isfinite(value) else ""
    parts = value if isinstance(value, list) else value.values() if isinstance(value, Mapping) else ()
    for part in parts:
        if type(part) is str or (type(part) is int and -_TOO_LONG < part < _TOO_LONG):
            continue  # nearly all: a million of them in a large file
        why = _unwritable(part)
        if why:
            return why
    return ""


def of_equal_layers(name: str, layers: object, kv_heads: object, head_dim: object) -> Model:
    """A model by its dimensions, for records whose model type no family knows: every layer keeps all keys and values.

    Raises:
        InvalidCase: a dimension is missing, or larger than any model's.
    """
    number, heads = whole(layers, "config.num_hidden_layers", 1), whole(kv_heads, "config.num_key_value_heads", 1)
    width = whole(head_dim, "config.head_dim", 1)
    if max(heads, width) > _WIDEST or number > LAYERS:
        raise InvalidCase("the config's dimensions are out of range")
    memory = Softmax(kv_heads=heads, key_dim=width, value_dim=width)
    equal = tuple(Layer(index=index, memories=(memory,)) for index in range(number))
    return Model(name=name or "model", model_type="explicit", layers=equal)
