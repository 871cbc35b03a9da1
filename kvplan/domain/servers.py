"""Servers as an input starts them: what their engines' own parsers read."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

#: Cards of a process: how many, which, or "all"; None where nothing says.
Cards = int | str | tuple[int | str, ...] | None


class Server(Struct, frozen=True, kw_only=True):
    """One server as its engine's own parser reads it.

    `options` are by their `dest`, memory-relevant ones; `unknown` are words that the named release does not have, `gone` words
    that only older ones have where none is named. `line` and `lines` say where it and its options stand; `pod`, that its cards
    are a pod's own, whatever their numbers.
    """

    engine: str
    model: str | None
    version: str = ""
    options: Mapping[str, Any] = {}
    gpus: Cards = None
    env: Mapping[str, str] = {}
    unknown: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    place: str = ""
    file: str = ""
    line: int = 0
    lines: Mapping[str, int] = {}
    alternative: str = ""
    program: str = ""
    pod: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What was read; what nothing says is left out, but the model."""
        found: dict[str, Any] = {
            "engine": self.engine,
            "version": self.version,
            "model": self.model,
            "options": dict(self.options),
            "gpus": list(self.gpus) if isinstance(self.gpus, tuple) else self.gpus,
            "env": dict(self.env),
            "unknown": list(self.unknown),
            "gone": list(self.gone),
        }
        return {key: value for key, value in found.items() if key in {"model", "options"} or value not in (None, "", [], {})}


class Servers(Struct, frozen=True, kw_only=True):
    """The servers of one input, in its order, and services that take cards and are none that kvplan knows.

    `variables` and `beside` (the `.env` of a compose file) are those that it was read with.
    """

    name: str
    servers: tuple[Server, ...]
    others: tuple[str, ...] = ()
    text: str = ""
    variables: Mapping[str, str] | None = None
    beside: Mapping[str, str] | None = None
