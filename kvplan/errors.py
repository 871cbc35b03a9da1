"""Every error that a user may meet.

    KvplanError
    ├── InputError            exit 2   something the user gave must change
    │   ├── ConfigError                a config.json (file, key, value)
    │   ├── SpecError                  a YAML model description (file, line)
    │   ├── GgufError                  a GGUF header
    │   ├── TraceError                 a trace of requests (file, line)
    │   ├── UnknownModel               no such file, catalogue name or hub repository
    │   ├── UnknownArchitecture        a `model_type` that no family claims
    │   └── OptionError                a command-line value or engine option
    ├── Refused               exit 2   kvplan cannot tell, and says why
    ├── EnvironmentMissing    exit 3   torch, the hub or a device is not there
    ├── DoesNotFit            exit 1   the workload needs more memory than there is
    └── Mismatch              exit 1   a prediction and a measurement differ

Exit 0 is yes, 1 is "the answer is no", 70 is a bug in kvplan.

Messages name a parameter as Python does, between guillemets: `«weights_dtype»`, or with what to give for it,
`«weights 16GB»`, `«gpu NAME»`, and `«set kv_bits=8»` for an engine's own option. From Python they read `weights_dtype`,
`weights='16GB'` and `kv_bits=8`; the command line puts its flags there (`kvplan.cli.options.flag`), so that the same
sentence serves both.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final, TypeVar

from kvplan import limits

_PARAMETER: Final = "«([a-z][a-z0-9_]*)(?: ([^«»]*))?»"
_LONG: Final = f"a number of more than {limits.DIGITS} digits"
_DECIMAL: Final = r"-?[0-9]{19,}"
#: Texts that look like values of other kinds.
_OTHER: Final = r"-?[0-9]+(?:\.[0-9]*)?|true|false|null|none"
#: (name of a parameter, what to give for it or "") -> how that is written.
Spelling = Callable[[str, str], str]
E = TypeVar("E", bound="KvplanError")


def printable(text: object, most: int = 400) -> str:
    """Text for a terminal or a page: one line, bounded, and no character that could steer the terminal.

    >>> printable("a\\x1b[31mb")
    'a\\ufffd[31mb'
    """
    shown = str(text)[: most + 1].replace("\n", " ")
    if len(shown) > most:
        shown = shown[: most - 1] + "…"
    return shown if shown.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in shown)


def shown(value: object) -> str:
    """Any value in a few printable words, for a message: long numbers and deep lists are not spelled out.

    A text that would read as something else stands in quotes.

    >>> shown([1]), shown(10**30), shown("x"), shown("8"), shown(8)
    ('a list of 1', 'a number of more than 18 digits', '`x`', "`'8'`", '`8`')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}"
    if isinstance(value, int) and abs(value) >= 10**limits.DIGITS:
        return _LONG
    if isinstance(value, str):
        if len(value) > limits.DIGITS and re.fullmatch(_DECIMAL, value[:10_000]):
            return _LONG
        if not value or re.fullmatch(_OTHER, value[:40], re.IGNORECASE):
            return f"`'{printable(value, 40)}'`"
    return f"`{printable(value, 40)}`"


def written(value: object, most: int = 80) -> str:
    """A value as Python writes it, cut at `most` characters; in words where it cannot be written.

    >>> written([1, 2]), written(10**5000)
    ('[1, 2]', 'a number of more than 18 digits')
    """
    try:
        return str(value)[:most]
    except (ValueError, RecursionError):  # more than 4,300 digits; lists in lists in lists
        return shown(value)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that looks most like `name`, if one is close enough."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name[:80], list(known), n=1, cutoff=cutoff)), None)


def keyword(name: str, value: str) -> str:
    """A parameter as Python writes it.

    >>> keyword("weights", "16GB"), keyword("gpu", "NAME"), keyword("context", ""), keyword("set", "kv_bits=8")
    ("weights='16GB'", 'gpu=NAME', 'context', 'kv_bits=8')
    """
    if not value:
        return name
    if name == "set":  # an option of the engine: an argument of its own in Python
        return value
    bare = value.isdecimal() or (value.isupper() and not any(map(str.isdigit, value)))  # a number, or a word that stands for one
    return f"{name}={value}" if bare else f"{name}={value!r}"


def _spelled(text: str, spelling: Spelling) -> str:
    return re.sub(_PARAMETER, lambda found: spelling(found[1], found[2] or ""), text)


class KvplanError(Exception):
    """Base class. The message is one sentence; `hint` is the next thing to type or read."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        self._written = (printable(message, limits.MESSAGE), printable(hint, limits.HINT))
        super().__init__(_spelled(self._written[0], keyword))
        self.hint = _spelled(self._written[1], keyword)

    def render(self, spelling: Spelling = keyword) -> str:
        """The text shown on stderr, parameters written as `spelling` says."""
        message, hint = (_spelled(part, spelling) for part in self._written)
        return f"error: {message}" + (f"\n\nhint: {hint}" if hint else "")

    def at(self, where: str, kind: type[E]) -> E:
        """The same problem, met at a place in a file, as an error of that file's `kind`."""
        message, hint = self._written
        return kind(f"{where}: {message}", hint=hint)


class InputError(KvplanError):
    """The command or a file must change."""

    exit_code = 2


class ConfigError(InputError):
    """A config.json holds something that cannot be read as that model."""


class SpecError(InputError):
    """A YAML model description is not well formed or not consistent."""


class GgufError(InputError):
    """A GGUF header cannot be read."""


class TraceError(InputError):
    """A trace of requests cannot be read."""


class UnknownModel(InputError):
    """No file, catalogue name or hub repository answers to that name."""


class UnknownArchitecture(InputError):
    """No family claims this `model_type`; kvplan does not guess unasked."""

    def __init__(self, model_type: str, known: Iterable[str], source: str) -> None:
        names = sorted(known)
        near = nearest(model_type, names)
        ask = f"did you mean `{near}`? otherwise " if near else ""
        super().__init__(
            f"{source}: no architecture for model_type `{model_type[:80]}` ({len(names)} known)",
            hint=f"{ask}use `«infer»` to read it by shape (the result is marked inferred), "
            "or describe its layers in YAML (see docs/guides/specs.md)",
        )


class OptionError(InputError):
    """A command-line value or an engine option is wrong; `option` is its name, where one is at fault."""

    def __init__(self, message: str, *, hint: str = "", option: str = "") -> None:
        super().__init__(message, hint=hint)
        self.option = option


class Refused(KvplanError):
    """kvplan cannot tell how much that is, and says why; tables show it as the value `NotPredicted`."""

    exit_code = 2

    def __init__(self, reason: str, see: str = "") -> None:
        super().__init__(reason, hint=see)

    @property
    def reason(self) -> str:
        """Why, in one sentence."""
        return str(self)

    @property
    def see(self) -> str:
        """Where to look, or what to do."""
        return self.hint


class NoStart(Refused):
    """What the engine itself says instead of starting: kvplan can tell, and the answer is no."""


class EnvironmentMissing(KvplanError):
    """Something outside kvplan is missing; the message says what to install or start."""

    exit_code = 3


class Mismatch(KvplanError):
    """A prediction and a measurement differ."""

    exit_code = 1


class DoesNotFit(KvplanError):
    """The workload needs more memory than there is, or than the limit allows."""

    exit_code = 1
