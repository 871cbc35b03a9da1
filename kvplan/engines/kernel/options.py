"""An engine's options: from text or Python values to one typed Struct whose fields are the engine's own names."""

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, Final, NamedTuple, Union, get_args, get_origin

from msgspec import NODEFAULT, Struct, UnsetType, ValidationError, convert
from msgspec.structs import FieldInfo, fields

from kvplan.engines.kernel.about import SHARED, About
from kvplan.errors import OptionError, nearest, shown
from kvplan.units import parse_count

_BOOLS: Final = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
#: No number that an option takes is as large.
_MOST: Final = 2**63
_NOTHING: Final = frozenset({"none", "null"})


class Described(NamedTuple):
    """One option for people: its name, its type in words, and its default (None where it has none)."""

    name: str
    type: str
    default: Any


def described(options_type: type[Struct]) -> tuple[Described, ...]:
    """Every option of an engine."""
    return tuple(
        Described(item.name, type_words(item.type), None if item.default is NODEFAULT else item.default)
        for item in fields_of(options_type).values()
    )


def type_words(annotation: Any) -> str:
    """A type as a person would write it.

    >>> type_words(int | None)
    'int | None'
    """
    return " | ".join("None" if kind is type(None) else getattr(kind, "__name__", str(kind)) for kind in _kinds(annotation))


@cache
def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)


def own_options(about: About, options_type: type[Struct], values: Mapping[str, Any]) -> Any:
    """An engine's options from values by its own names or kvplan's shared words (`kv_dtype`, `tensor_parallel`).

    Raises:
        OptionError: an unknown option, a bad value, or one option given twice under two names.
    """
    own: dict[str, Any] = {}
    given: dict[str, str] = {}
    for word, said in values.items():
        value = said
        if word == "offline":
            if not _BOOLS.get(str(said).lower(), True):
                continue
            name, value = _offline(about)
        else:
            name = next((about.roles[role] for role in SHARED if role == word and role in about.roles), word)
        if name in own:
            raise given_twice(about.name, given[name], word)
        own[name], given[name] = value, word
    return build_options(options_type, own, engine=about.name)


def _offline(about: About) -> tuple[str, str]:
    if about.offline is None:
        raise OptionError(
            f"engine {about.name} has no other defaults offline than as a server", hint="leave out `offline`", option="offline"
        )
    return about.offline


def given_twice(engine: str, first: str, second: str) -> OptionError:
    """The error about one option under two names, to be raised."""
    return OptionError(
        f"engine {engine}: one option is given twice, as `{first}` and as `{second}`", hint="give one of them", option=second
    )


def build_options(options_type: type[Struct], values: Mapping[str, Any], *, engine: str) -> Any:
    """An engine's options from names and values (text from `--set`, or Python values).

    Raises:
        OptionError: an unknown option (the message names the nearest) or a value of the wrong type.
    """
    known = fields_of(options_type) if values else {}
    built: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown_option(engine, name, options_type.__struct_fields__)
        built[name] = _typed(known[name], value, engine)
    return options_type(**built)


@cache
def fields_of(options_type: type[Struct]) -> Mapping[str, FieldInfo]:
    """Options by name, in order; msgspec evaluates every annotation anew each time that it is asked."""
    return {item.name: item for item in fields(options_type)}


def unknown_option(engine: str, name: str, known: tuple[str, ...]) -> OptionError:
    """The error about an option that an engine does not have, to be raised."""
    near = nearest(name, known)
    return OptionError(
        f"engine {engine} has no option `{name[:60]}`",
        hint=f"did you mean `{near}`?" if near else f"its options: {', '.join(known)}",
        option=name,
    )


def _typed(item: FieldInfo, value: Any, engine: str) -> Any:
    """`value` as the field asks; a text is read as people write such values."""
    kinds = _kinds(item.type)
    if isinstance(value, Struct):  # a model
        if isinstance(value, kinds):
            return value
        raise _wrong(item, value, engine)
    if isinstance(value, int) and abs(value) >= _MOST:  # no option means it, and it could not be printed
        raise _wrong(item, value, engine)
    try:
        return convert(_read(value, kinds, f"{engine} option {item.name}"), item.type)
    except (ValidationError, TypeError) as problem:
        raise _wrong(item, value, engine) from problem
    except OptionError as problem:
        raise OptionError(str(problem), hint=problem.hint, option=item.name) from problem


def _wrong(item: FieldInfo, value: Any, engine: str) -> OptionError:
    return OptionError(
        f"engine {engine}, option {item.name}: expected {type_words(item.type)}, got {shown(value)}", option=item.name
    )


def _read(value: Any, kinds: tuple[Any, ...], what: str) -> Any:
    if isinstance(value, UnsetType):
        return None
    if isinstance(value, str):
        text = value.strip().lower()
        if type(None) in kinds and text in _NOTHING:
            return None
        if bool in kinds and text in _BOOLS:
            return _BOOLS[text]
        if int in kinds and str not in kinds:
            sign, digits = (-1, value.strip()[1:]) if text.startswith("-") else (1, value)
            return sign * parse_count(digits, what=what, minimum=0)
        if float in kinds and str not in kinds:
            try:
                return float(text)
            except ValueError:
                return value
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds and int not in kinds:
        return float(value) if abs(value) < 2**1000 else value
    return value.__index__() if hasattr(value, "__index__") and not isinstance(value, int) else value
