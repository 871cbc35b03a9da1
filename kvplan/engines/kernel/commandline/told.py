"""What an engine's own parser made of a command line."""

from typing import Any

from msgspec import Struct, field


class Told(Struct):
    """Model, options by their `dest` (memory-relevant ones), words that the release does not have, and what was seen.

    `refused` are sentences for what the server's parser would refuse; `lines` says where each option was typed.
    """

    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def put(self, dest: str, value: Any, line: int = 0) -> None:
        """An option; None is no value."""
        self.lines[dest] = line
        if value is None:
            self.options.pop(dest, None)
        else:
            self.options[dest] = value

    def behind(self) -> "Told":
        """What a program in front of the server was told: words that the server does not have are its own."""
        self.notes += [f"read by the program in front of the server: {name}" for name in (*self.unknown, *self.gone)]
        self.unknown, self.gone = [], []
        return self

    def miss(self, name: str, *, gone: bool) -> None:
        """A word that the release does not have; `gone`: other releases do, and none is named."""
        into = self.gone if gone else self.unknown
        if name not in into:
            into.append(name)
