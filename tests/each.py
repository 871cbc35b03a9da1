"""One test of many records: `@each("case", CASES)` where `pytest.mark.parametrize` would make an item of every record.

An item costs about 15 ms beside what it checks (it is collected by every worker, and reported three times), and the suite has
thousands of records. All of them are checked, whatever fails before; one message names every record that fails, and why.
`pytest --row TEXT` takes only the records whose id contains the text.
"""

import inspect
import itertools
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

SHOWN = 20  # failures with their reason; of more there is the number
WIDTH = 500  # characters of one reason
#: What `--row` asks for (conftest.py).
ONLY: str | None = None

Rows = Iterable[Any] | Callable[[], Iterable[Any]]
Ids = Iterable[str] | Callable[[Any], str] | None
Named = tuple[str, dict[str, Any]]


def each(names: str | tuple[str, ...], rows: Rows, ids: Ids = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Loop over `rows` within one test, and gather all that fails.

    Args:
        names: Arguments of the test, as for `parametrize`; what is left are fixtures, which all rows share.
        rows: Values, or a function that reads them when the test runs (not when it is collected).
        ids: What a failure is called: texts, or a function of a value.

    Twice on one test is every row of the one with every row of the other.
    """
    keys = tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else tuple(names)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        base, inner = getattr(test, "_each", (test, ()))
        loops = ((keys, rows, ids), *inner)
        taken = {key for loop in loops for key in loop[0]}

        @wraps(test, updated=())
        def run(**fixtures: Any) -> None:
            __tracebackhide__ = True
            _run(base, [row for row in _product(loops) if ONLY is None or ONLY in row[0]], fixtures)

        signature = inspect.signature(base)
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[parameter for name, parameter in signature.parameters.items() if name not in taken]
        )
        run.pytestmark = list(getattr(test, "pytestmark", ()))  # type: ignore[attr-defined]
        run._each = base, loops  # type: ignore[attr-defined]
        return run

    return decorate


def _product(loops: Sequence[tuple[tuple[str, ...], Rows, Ids]]) -> Iterable[Named]:
    for parts in itertools.product(*(list(_named(*loop)) for loop in loops)):
        yield "-".join(part[0] for part in parts), {key: value for part in parts for key, value in part[1].items()}


def _named(keys: tuple[str, ...], rows: Rows, ids: Ids) -> Iterable[Named]:
    values = list(rows() if callable(rows) else rows)
    called = list(ids) if ids is not None and not callable(ids) else None
    assert called is None or len(called) == len(values), f"{len(called or ())} ids of {len(values)} rows"
    for number, row in enumerate(values):
        name = None
        if isinstance(row, type(pytest.param())):
            assert not row.marks, "marks of a row have no meaning here: skip within the test"
            name, row = row.id, row.values if len(keys) > 1 else row.values[0]
        parts = tuple(row) if len(keys) > 1 else (row,)
        assert len(parts) == len(keys), f"row {number} has {len(parts)} values for {', '.join(keys)}"
        if called is not None:
            name = str(called[number])
        elif name is None:
            name = "-".join(_text(part, key, number, ids) for key, part in zip(keys, parts, strict=True))
        yield name, dict(zip(keys, parts, strict=True))


def _text(value: Any, key: str, number: int, ids: Ids) -> str:
    said = ids(value) if callable(ids) else None
    if said is not None:
        return str(said)
    short = isinstance(value, str | int | float | bool | None)
    return str(value)[:60] if short else getattr(value, "__name__", f"{key}{number}")


def _run(test: Callable[..., None], rows: Sequence[Named], fixtures: dict[str, Any]) -> None:
    __tracebackhide__ = True
    if not rows and ONLY is not None:
        pytest.skip(f"no record here is called {ONLY}")
    assert rows, "there is no record"
    failed: list[tuple[str, BaseException]] = []
    skipped: dict[str, list[str]] = {}
    for name, values in rows:
        law = getattr(test, "hypothesis", None)
        if law is not None:  # a record's examples are its own, as hypothesis does for an item
            law.inner_test._hypothesis_internal_add_digest = f"{test.__qualname__}[{name}]".encode()
        try:
            test(**values, **fixtures)
        except pytest.skip.Exception as skip:
            skipped.setdefault(str(skip), []).append(name)
        except (Exception, pytest.fail.Exception) as error:
            failed.append((name, error))
    if failed:
        lines = [f"  {name}: {_reason(error)}" for name, error in failed[:SHOWN]]
        more = [f"  and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
        message = "\n".join([f"{len(failed)} of {len(rows)} records fail:", *lines, *more])
        raise AssertionError(message) from failed[0][1]  # whose traceback is shown whole
    if skipped:
        reasons = "; ".join(f"{reason} ({len(names)} of {len(rows)} records)" for reason, names in skipped.items())
        raise pytest.skip.Exception(reasons, _use_item_location=True)


def _reason(error: BaseException) -> str:
    """The first lines of what an assertion says, and where it stands in the tests."""
    said = [line.strip() for part in (str(error), *getattr(error, "__notes__", ())) for line in part.splitlines() if line.strip()]
    text = " | ".join(said[:6])
    frames = traceback.extract_tb(error.__traceback__)
    here = [frame for frame in frames if "/tests/" in frame.filename and Path(frame.filename) != Path(__file__)] or list(frames)
    short = text if len(text) <= WIDTH else text[:WIDTH] + " …"
    return f"{type(error).__name__}: {short} ({Path(here[-1].filename).name}:{here[-1].lineno})"
