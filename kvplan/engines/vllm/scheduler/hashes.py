"""Names of prefixes: two have one name if, and only if, they are the same tokens; the engine uses SHA-256."""

from collections.abc import Hashable, Sequence

#: A name: of a prefix, or with a group's number of what a block of that group holds.
Name = int
Key = tuple[int, int]


class Names:
    """Gives names; equal stretches of tokens after equal prefixes share one."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, Hashable], int] = {}

    def after(self, prefix: Name, stretch: Hashable) -> Name:
        """The name of a prefix and the tokens behind it; the empty prefix is 0."""
        return self._known.setdefault((prefix, stretch), len(self._known) + 1)


class Tokens:
    """A request's tokens as they become known, and a name for each whole unit of them.

    A prompt is made of segments `(name, length)`, each the first `length` tokens of what that name stands for; equal
    names are equal tokens. Output is told by its place.
    """

    def __init__(self, names: Names, unit: int, segments: Sequence[tuple[Hashable, int]], output: Hashable) -> None:
        self._names, self._unit, self._output = names, unit, output
        self._segments = [(name, length, 0) for name, length in segments if length]
        self.prompt = sum(length for _, length in segments)
        self.known = self.prompt
        self.units: list[Name] = []
        self._open: list[tuple[Hashable, int, int]] = []  # stretches behind the last whole unit: (name, first, one past the last)
        for name, length, first in self._segments:
            self._add(name, first, first + length)

    def extend(self) -> None:
        """One more token of output."""
        first = self.known - self.prompt
        self.known += 1
        self._add(self._output, first, first + 1)

    def _add(self, name: Hashable, first: int, last: int) -> None:
        filled = sum(b - a for _, a, b in self._open)
        while first < last:
            taken = min(last - first, self._unit - filled)
            if self._open and self._open[-1][0] == name and self._open[-1][2] == first:
                self._open[-1] = (name, self._open[-1][1], first + taken)
            else:
                self._open.append((name, first, first + taken))
            first, filled = first + taken, filled + taken
            if filled == self._unit:
                self.units.append(self._names.after(self.units[-1] if self.units else 0, tuple(self._open)))
                self._open, filled = [], 0
