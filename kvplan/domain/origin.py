"""Where a model was read: the raw config, for what engines do by model type or key. No part of a model's equality.

Only an engine's `models.py` (and llama.cpp's converter) looks here, and only through `Settings`: a key has a type and a
range, and what does not keep to them is refused with its file and path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from msgspec import Struct

from kvplan.errors import ConfigError, shown

_MOST: Final = 2**40


class Settings(Struct, frozen=True, eq=False):
    """Typed reads of one section of a config; an absent or null key is its default."""

    data: Mapping[str, Any]
    source: str = "config.json"
    path: str = ""  # of this section in the file, with its dot

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Say what is wrong with `key`.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.source}: `{self.path}{key[:60]}` {problem}", hint="check the model's config.json")

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.data.get(key) is not None

    def text(self, key: str, default: str = "", most: int = 200) -> str:
        """A short text."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > most:
            self.refuse(key, f"must be a short text, got {shown(value)}")
        return value

    def whole(self, key: str, default: int = 0, least: int = 0, most: int = _MOST) -> int:
        """A whole number from `least` to `most`."""
        value = self.data.get(key)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.refuse(key, f"must be a whole number from {least:,} to {most:,}, got {shown(value)}")
        return value

    def number(self, key: str, default: float = 0.0) -> float:
        """A number, of at most 18 digits."""
        value = self.data.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**18:
            self.refuse(key, f"must be a number, got {shown(value)}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """true or false; 0 and 1 will do."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool) and value not in (0, 1):
            self.refuse(key, f"must be true or false, got {shown(value)}")
        return bool(value)

    def names(self, key: str) -> tuple[str, ...]:
        """A list of short texts; one text will do."""
        value = self.data.get(key)
        if value is None:
            return ()
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list | tuple) or not all(isinstance(entry, str) and len(entry) <= 200 for entry in listed):
            self.refuse(key, f"must be a list of short texts, got {shown(value)}")
        return tuple(listed)

    def items(self, key: str, most: int = 100_000) -> tuple[Any, ...]:
        """A list of anything."""
        value = self.data.get(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or len(value) > most:
            self.refuse(key, f"must be a list, got {shown(value)}")
        return tuple(value)

    def section(self, key: str) -> Settings:
        """An object within this one; an absent one is empty."""
        value = self.data.get(key)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            self.refuse(key, f"must be an object, got {shown(value)}")
        return Settings(value, self.source, f"{self.path}{key[:60]}.")


class Origin(Struct, frozen=True, kw_only=True, eq=False):
    """The config as the file said it, and the section of it that describes the text decoder, whose model type is `text_type`.

    `store` is what the local install in which the file lies says of it beside: parameters, family, further files.
    """

    config: Mapping[str, Any]
    text_config: Mapping[str, Any]
    text_type: str
    source: str = "config.json"
    store: Mapping[str, Any] = {}

    @property
    def outer(self) -> Settings:
        """The whole config."""
        return Settings(self.config, self.source)

    @property
    def text(self) -> Settings:
        """The text decoder's section, or the whole config where there is none."""
        return Settings(self.text_config, self.source)


#: Of a model that was described by hand: no key says anything.
NO_SETTINGS: Final = Settings({})
