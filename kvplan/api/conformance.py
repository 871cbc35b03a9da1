"""`kvplan conformance`: the recorded cases as a file for any calculator, and its answers judged."""

import json
import lzma
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from kvplan import architectures
from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import Case, read_cases
from kvplan.errors import InputError, KvplanError
from kvplan.files import expanded, open_regular
from kvplan.gguf.memories import model_from_keys
from kvplan.limits import AUDIT_CASES, AUDIT_LINE_BYTES
from kvplan.questions.audit.conformance import Item, Score, answer_of, header, item_of, score
from kvplan.report.answers.models import layout_words
from kvplan.report.notebook import displayed

displayed(Score, "kvplan.report.answers.conformance:ScoreAnswer", several=False)

#: The cases that every installation carries, made by tools/make_conformance.py.
SHIPPED: Final = "conformance.jsonl.xz"
_BESIDE: Final = frozenset({"vision", "audio"})  # not kinds of memory


def conformance_cases(recorded: Iterable[str | Path] = ()) -> tuple[Item, ...]:
    """The questions: those that kvplan carries, or of files of recorded cases.

    Args:
        recorded: files as `kvplan audit` takes them.

    Raises:
        InputError: a file is missing or holds no case with a total.
    """
    paths = [Path(path) for path in recorded]
    if not paths:
        return tuple(_shipped())
    items = [item for path in paths for item in _of_file(path)]
    if not items:
        raise InputError("the files hold no recorded total", hint="one case a line, as docs/reference/audit.md describes")
    return tuple(items)


def conformance(answers: str | Path | Mapping[str, int | None], *, recorded: Iterable[str | Path] = ()) -> Score:
    """Judge a calculator's answers: right and wrong, by engine and kind of memory.

    Args:
        answers: a JSON-lines file of `{"id": …, "bytes": …}`, or the same as a mapping.
        recorded: the cases that it answers, where they are not those that kvplan carries.

    Raises:
        InputError: a file is missing, or a line is no answer.

    >>> found = conformance({"paper/none": 1})
    >>> found.strangers, found.right
    (1, False)
    """
    given = dict(_answers(Path(answers))) if isinstance(answers, str | Path) else answers
    return score(conformance_cases(recorded), given)


def lines(items: tuple[Item, ...]) -> Iterator[str]:
    """The file, line by line: what it is, then the questions."""
    for row in (header(items), *(item.to_dict() for item in items)):
        yield json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    """The same with the largest number for an infinite one, which JSON has no word for (`time_step_limit` of Mamba's configs)."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return math.copysign(sys.float_info.max, value) if not math.isnan(value) else None
    return value


def _shipped() -> Iterator[Item]:
    raw = lzma.decompress(files("kvplan.questions.audit").joinpath(SHIPPED).read_bytes())
    for line in raw.splitlines()[1:]:
        yield msgspec.json.decode(line, type=Item)


def _of_file(path: Path) -> Iterator[Item]:
    for number, record in enumerate(read_cases(path)):
        if number == AUDIT_CASES:
            break
        item = item_of(record, _kind(record.case))
        if item is not None:
            yield item


def _kind(case: Case) -> str:
    """The kind of memory in the words of `kvplan models`; of a model that is not read, `other`."""
    try:
        words = [word for word in layout_words(_model(case)) if word not in _BESIDE]
    except (KvplanError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return "other"
    return " ".join(words) or "none"


def _model(case: Case) -> Model:
    if "general.architecture" in case.config:
        return model_from_keys(case.config, source=case.id, name=case.model)
    return architectures.read(case.config, source=case.id, name=case.model)


def _answers(path: Path) -> Iterator[tuple[str, int | None]]:
    """The answers of a file; a bad line ends it, because nobody would see one that is left out."""
    with os.fdopen(open_regular(expanded(path), InputError, "answers, one JSON object a line"), "rb") as file:
        number, seen = 0, set()
        while line := file.readline(AUDIT_LINE_BYTES + 1):
            number += 1
            where = f"{path.name}:{number}"
            if len(line) > AUDIT_LINE_BYTES or number > AUDIT_CASES:
                raise InputError(f"{where}: more than an answer can hold", hint="one short JSON object a line")
            if not line.strip():
                continue
            try:
                found = answer_of(_parsed(line), where)
            except (ValueError, RecursionError) as problem:
                raise InputError(f"{where}: not JSON", hint="one JSON object a line") from problem
            if found[0] in seen:
                raise InputError(f"{where}: a second answer to `{found[0][:80]}`", hint="answer each case once")
            seen.add(found[0])
            yield found
    if not seen:
        raise InputError(f"`{path.name}` holds no answer", hint='one line a case: {"id": …, "bytes": …}')


def _parsed(line: bytes) -> Any:
    return json.loads(line)
