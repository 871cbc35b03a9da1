"""What people pass: models, counts and sizes in every form that is plain, each with one meaning; and refusals as errors."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from os import PathLike
from typing import Any, ParamSpec, SupportsIndex, TypeVar

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload, with_longest
from kvplan.errors import OptionError, Refused, shown, written
from kvplan.limits import SIZE_BYTES
from kvplan.loading import HasConfig
from kvplan.loading.catalogue import expanded
from kvplan.units import parse_count, parse_counts, parse_size

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


#: Anything that `kvplan.load` takes.
Source = str | PathLike[str] | Mapping[str, Any] | Model | HasConfig
#: A whole number of any library's (numpy's, torch's), or as it is typed: `"32k"`.
Count = SupportsIndex | str
#: One count, several, or a range as it is typed: `"1k:1M:x2"`.
Counts = Count | Iterable[Count]
#: One name, several, or several with commas between.
Names = str | Iterable[str]


def count(value: Count, what: str, minimum: int = 1) -> int:
    """A count of tokens, sequences or devices.

    Raises:
        OptionError: not a whole number from `minimum` to 2**53.

    >>> count("32k", "seq_len"), count(8192, "seq_len")
    (32768, 8192)
    """
    whole = _whole(value)
    return parse_count(written(value, 400) if whole is None else written(whole, 400), what=what, minimum=minimum)


def counts(given: Counts, what: str) -> tuple[int, ...]:
    """One count, several, or the command line's spelling of them.

    Raises:
        OptionError: one is not a count.
    """
    if isinstance(given, str):
        return parse_counts(given, what=what)
    if _whole(given) is not None or not isinstance(given, Iterable):
        return (count(given, what),)  # type: ignore[arg-type]
    return tuple(count(value, what) for value in given)


def size(value: Count, what: str, minimum: int = 1) -> int:
    """Bytes: a text with its unit, or a whole number.

    Raises:
        OptionError: no size, or one that cannot be.
    """
    whole = _whole(value)
    if whole is None and not minimum and written(value, 400).strip() == "0":  # nothing is nothing in every unit
        return 0
    amount = parse_size(written(value, 400), what=what) if whole is None else whole
    if not minimum <= amount <= SIZE_BYTES:
        raise OptionError(f"{what}: {shown(amount)} bytes cannot be", hint="sizes are above 0 and at most 2**60 bytes")
    return amount


def _whole(value: Any) -> int | None:
    """The whole number that a value is, whoever's type it has; a truth value is none."""
    if isinstance(value, bool | str) or not hasattr(value, "__index__"):
        return None
    try:
        return int(value.__index__())
    except TypeError:  # an array of several
        return None


def names(given: Names, what: str) -> tuple[str, ...]:
    """One name, several, or several with commas between, each once.

    Raises:
        OptionError: an empty part.
    """
    parts = [part.strip() for part in given.split(",")] if isinstance(given, str) else list(given)
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise OptionError(f"{what}: names are needed, got {shown(given)}", hint="one name, or a list of names")
    return tuple(dict.fromkeys(parts))


def sources(given: Source | Iterable[Source]) -> list[Source]:
    """One model or several; a pattern (`"cla-paper/*"`) is every name of the catalogue that matches it.

    Raises:
        UnknownModel: none matches.
    """
    one = isinstance(given, str | PathLike | Mapping | Model) or hasattr(given, "to_dict")
    several: list[Source] = [given] if one else list(given)  # type: ignore[list-item, arg-type]
    return expanded(several)


def workload(seq_len: Count, batch_size: Count, encoder_len: Count, *models: Model) -> Workload:
    """What the models are asked to hold; `max` is the length that they are made for.

    Raises:
        OptionError: a count that is not one.
    """
    return Workload(
        seq_len=count(with_longest(seq_len, models, "seq_len") if isinstance(seq_len, str) else seq_len, "seq_len", 0),
        batch_size=count(batch_size, "batch_size", 0),
        encoder_len=count(encoder_len, "encoder_len", 0),
    )


def options(given: Mapping[str, Any], *, kv_dtype: str = "auto", tensor_parallel: Count | None = None) -> dict[str, Any]:
    """An engine's options, and kvplan's own words for two of them where they say something."""
    from kvplan.loading import load

    found = dict(given)
    if kv_dtype != "auto":
        found["kv_dtype"] = kv_dtype
    if tensor_parallel is not None and count(tensor_parallel, "tensor_parallel") != 1:
        found["tensor_parallel"] = count(tensor_parallel, "tensor_parallel")
    if isinstance(found.get("draft"), str | PathLike | Mapping):  # a drafter is named as any model is
        found["draft"] = load(found["draft"])
    return found


def checked(function: Callable[P, T], check: Callable[[T], R], name: str) -> Callable[P, R]:
    """`function`, whose answer goes through `check`, which raises what is no answer: `fit` is `try_fit` checked.

    Both take the same, and are described once.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        return check(function(*args, **kwargs))

    called.__name__ = called.__qualname__ = name
    return called


def answered(found: T | NotPredicted) -> T:
    """The answer.

    Raises:
        Refused: there is none; the reason is its text.
    """
    if isinstance(found, NotPredicted):
        raise Refused(found.reason, found.see)
    return found
