"""A config.json seen safely: typed reads that name file, key and value when they fail, and remember what was read."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NoReturn, overload

from kvplan.domain.model import Fact
from kvplan.errors import ConfigError, shown, written

MAX_INTEGER: Final = 2**31


class Absent(Enum):
    """What a read does when no key is there and its caller named no default: it refuses."""

    REFUSED = "refused"


class Config:
    """One object of a config.json, at `path` inside `source`.

    Reads take several key names; the first that is present and not null counts. Without a `default` a key is
    required; a `default` of None makes it optional. Sections share one record of what was read, so `explain` can show
    it and a test can see what stayed unread.
    """

    __slots__ = ("_facts", "_read", "data", "path", "source")

    def __init__(self, data: Mapping[str, Any], source: str = "config.json", path: str = "") -> None:
        self.data = data
        self.source = source
        self.path = path
        self._facts: dict[str, Fact] = {}
        self._read: set[str] = set()

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What was read, in order of reading."""
        return tuple(self._facts.values())

    @property
    def read_keys(self) -> frozenset[str]:
        """Every key that a read looked at, with its path, whether present or not."""
        return frozenset(self._read)

    def _name(self, key: str) -> str:
        return f"{self.path}{key}"

    def has(self, key: str) -> bool:
        """Whether the key is there and not null (this counts as reading it)."""
        self._read.add(self._name(key))
        return self.data.get(key) is not None

    def note(self, key: str, value: object, origin: str) -> None:
        """Record where a number came from."""
        self._facts.setdefault(self._name(key), Fact(self._name(key), written(value), origin))

    def refuse(self, key: str, problem: str, *, hint: str = "") -> NoReturn:
        """Raise the one-sentence error for `key`.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.source}: `{self._name(key)}` {problem}", hint=hint or "check that key of the config")

    def _find(self, keys: tuple[str, ...], default: object) -> tuple[str, Any] | None:
        self._read.update(map(self._name, keys))
        for key in keys:
            if self.data.get(key) is not None:
                self.note(key, self.data[key], "config")
                return key, self.data[key]
        if default is Absent.REFUSED:
            others = f" (or {', '.join(f'`{k}`' for k in keys[1:])})" if len(keys) > 1 else ""
            self.refuse(keys[0], f"is missing{others}", hint="the model's real config.json has it")
        if default is not None:
            self.note(keys[0], default, "class default")
        return None

    @overload
    def integer(self, *keys: str, minimum: int = 1, maximum: int = MAX_INTEGER) -> int: ...
    @overload
    def integer(self, *keys: str, default: int, minimum: int = 1, maximum: int = MAX_INTEGER) -> int: ...
    @overload
    def integer(self, *keys: str, default: int | None, minimum: int = 1, maximum: int = MAX_INTEGER) -> int | None: ...
    def integer(
        self, *keys: str, default: int | Absent | None = Absent.REFUSED, minimum: int = 1, maximum: int = MAX_INTEGER
    ) -> int | None:
        """A whole number in `minimum`..`maximum`; `default` (which may be None) when no key is there.

        Raises:
            ConfigError: missing without a default, or not such a number (true, 1.5, "8", NaN, 10**400 …).
        """
        found = self._find(keys, default)
        if found is not None:
            return self.checked(found[0], found[1], minimum, maximum)
        return None if default is Absent.REFUSED else default

    def checked(self, key: str, value: Any, minimum: int = 1, maximum: int = MAX_INTEGER) -> int:
        """`value` if it is a whole number in range."""
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            self.refuse(key, f"must be a whole number from {minimum} to {maximum:,}, got {shown(value)}")
        return value

    def flag(self, *keys: str, default: bool = False) -> bool:
        """True or false.

        Raises:
            ConfigError: anything else.
        """
        found = self._find(keys, default)
        if found is None:
            return default
        if not isinstance(found[1], bool):
            self.refuse(found[0], f"must be true or false, got {shown(found[1])}")
        return found[1]

    @overload
    def text(self, *keys: str) -> str: ...
    @overload
    def text(self, *keys: str, default: str) -> str: ...
    @overload
    def text(self, *keys: str, default: str | None) -> str | None: ...
    def text(self, *keys: str, default: str | Absent | None = Absent.REFUSED) -> str | None:
        """A string of at most 4,096 characters.

        Raises:
            ConfigError: anything else.
        """
        found = self._find(keys, default)
        if found is None:
            return None if default is Absent.REFUSED else default
        if not isinstance(found[1], str) or len(found[1]) > 4096:
            self.refuse(found[0], f"must be a short text, got {shown(found[1])}")
        return found[1]

    def items(self, *keys: str, length: int | None = None, maximum: int = 10_000) -> list[Any] | None:
        """A list, or None when no key is there; of exactly `length` entries if that is given.

        Raises:
            ConfigError: not a list, or of another length.
        """
        found = self._find(keys, None)
        if found is None:
            return None
        key, value = found
        if not isinstance(value, list) or len(value) > maximum:
            self.refuse(key, f"must be a list of at most {maximum:,} entries, got {shown(value)}")
        if length is not None and len(value) != length:
            self.refuse(key, f"has {len(value)} entries for {length} layers")
        return value

    def integers(self, *keys: str, length: int | None = None, minimum: int = 0, maximum: int = MAX_INTEGER) -> list[int] | None:
        """A list of whole numbers, or None when no key is there."""
        values = self.items(*keys, length=length)
        if values is None:
            return None
        return [self.checked(f"{keys[0]}[{i}]", v, minimum, maximum) for i, v in enumerate(values)]

    def texts(self, *keys: str, length: int | None = None, allowed: frozenset[str] | None = None) -> list[str] | None:
        """A list of strings (all in `allowed`, if given), or None when no key is there."""
        values = self.items(*keys, length=length)
        if values is None:
            return None
        for i, value in enumerate(values):
            if not isinstance(value, str) or (allowed is not None and value not in allowed):
                known = f" (known: {', '.join(sorted(allowed))})" if allowed else ""
                self.refuse(f"{keys[0]}[{i}]", f"is not a known layer type: {shown(value)}{known}")
        return values

    def section(self, key: str, *, required: bool = False) -> "Config":
        """The object under `key`; an empty one when it is absent and not required.

        Raises:
            ConfigError: it is not an object, or required and missing.
        """
        self._read.add(self._name(key))
        value = self.data.get(key)
        if value is None and not required:
            value = {}
        if not isinstance(value, Mapping):
            self.refuse(key, f"must be an object, got {shown(value)}" if value is not None else "is missing")
        return self._inside(value, f"{self._name(key)}.")

    def sections(self, key: str, *, length: int) -> "list[Config]":
        """The objects of a list, one a layer.

        Raises:
            ConfigError: missing, of another length, or an entry is not an object.
        """
        values = self.items(key, length=length)
        if values is None:
            self.refuse(key, "is missing", hint="the model's real config.json has it")
        for i, value in enumerate(values):
            if not isinstance(value, Mapping):
                self.refuse(f"{key}[{i}]", f"must be an object, got {shown(value)}")
        return [self._inside(value, f"{self._name(key)}[{i}].") for i, value in enumerate(values)]

    def replaced(self, data: Mapping[str, Any]) -> "Config":
        """This section with other contents, and the same record of what was read."""
        return self._inside(data, self.path)

    def _inside(self, data: Mapping[str, Any], path: str) -> "Config":
        inner = Config(data, self.source, path)
        inner._facts, inner._read = self._facts, self._read
        return inner
