"""A process's device memory, line by line: each with a best value, a band, and what stands behind it. Pure.

A line whose `low` and `high` equal its `bytes` is exact. Bands add up as intervals: the sum's low is the sum of lows.
"""

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import force_setattr

Basis = Literal["given", "your log", "rule", "measured", "derived", "assumed"]

#: From the surest to the least sure: a sum is as sure as its least sure line.
BASES: Final[tuple[Basis, ...]] = ("given", "your log", "rule", "measured", "derived", "assumed")
_SAME: Final = -(2**70)  # `low` and `high` of a line that is written without a band


class Line(Struct, frozen=True, kw_only=True):
    """One entry of a ledger: bytes on one device.

    Attributes:
        name: what the memory is for; one word or a few, the same for every engine that has it.
        bytes: the best value, which an audit compares; negative where the line gives memory back.
        low, high: the band that holds the truth; both equal `bytes` where the line is exact.
        basis: `rule` (follows from the engine's source), `measured` (by a driver, or on a platform that `source` names),
            `your log` (read from a log or a machine file), `given` (by whoever asks), `derived` (arithmetic on such
            facts), `assumed` (a guess, said so).
        source: file and function of the engine, or where it was measured.
    """

    name: str
    bytes: int
    basis: Basis
    source: str
    low: int = _SAME
    high: int = _SAME

    def __post_init__(self) -> None:
        if self.low == _SAME:
            force_setattr(self, "low", self.bytes)
        if self.high == _SAME:
            force_setattr(self, "high", self.bytes)
        if not self.low <= self.bytes <= self.high:
            raise ValueError(f"ledger line `{self.name}`: {self.bytes} is outside {self.low} to {self.high}")

    @property
    def exact(self) -> bool:
        """Whether the line is a point rather than a band.

        >>> exact("weights", 10, "model_loader").exact
        True
        """
        return self.low == self.high

    def negative(self) -> "Line":
        """The same line with its bytes taken away: its band turns round."""
        return Line(name=self.name, bytes=-self.bytes, low=-self.high, high=-self.low, basis=self.basis, source=self.source)

    def to_dict(self) -> dict[str, int | str]:
        """The JSON form."""
        return {
            "name": self.name,
            "bytes": self.bytes,
            "low": self.low,
            "high": self.high,
            "basis": self.basis,
            "source": self.source,
        }


def exact(name: str, amount: int, source: str, basis: Basis = "rule") -> Line:
    """A line without a band."""
    return Line(name=name, bytes=amount, low=amount, high=amount, basis=basis, source=source)


def band(name: str, best: int, low: int, high: int, source: str, basis: Basis = "measured") -> Line:
    """A line whose truth lies from `low` to `high`; a best value outside is brought in."""
    return Line(name=name, bytes=min(max(best, low), high), low=low, high=high, basis=basis, source=source)


class Ledger(Struct, frozen=True, kw_only=True):
    """The lines of one process on one device.

    Attributes:
        total: what the driver says the device has.
        requested: the part of it that the engine allows itself.
        lines: what is taken from `requested` before the cache gets the rest.
        beside: what the process takes elsewhere: before its snapshot, after the cache is allocated, or inside memory that
            was released; an engine that runs out of memory later does so because of these.
        notes: what a reader must know (a release between two that were read, a rule that is not known here).
        told: what the engine was told to keep for the cache, whatever `requested` leaves; None where it takes the rest.
    """

    total: Line
    requested: Line
    lines: tuple[Line, ...]
    beside: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    told: Line | None = None

    @property
    def available(self) -> Line:
        """What is left for the cache, or was told: negative when the rest alone does not fit."""
        if self.told is not None:
            return self.told
        return total("available", (self.requested, *(line.negative() for line in self.lines)))

    @property
    def taken(self) -> Line:
        """The sum of `lines`."""
        return total("taken", self.lines)

    def line(self, name: str) -> Line | None:
        """The line of that name, wherever it stands."""
        everything = (self.total, self.requested, *self.lines, *self.beside)
        return next((line for line in everything if line.name == name), None)

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "total": self.total.to_dict(),
            "requested": self.requested.to_dict(),
            "lines": [line.to_dict() for line in self.lines],
            "beside": [line.to_dict() for line in self.beside],
            "available": self.available.to_dict(),
            "notes": list(self.notes),
        }


def total(name: str, lines: Iterable[Line]) -> Line:
    """The sum of `lines` under one name; its basis is that of its least sure part.

    >>> total("both", [exact("a", 3, "x"), band("b", 4, 2, 7, "y")])
    Line(name='both', bytes=7, basis='measured', source='a + b', low=5, high=10)
    """
    parts = tuple(lines)
    basis: Basis = max((line.basis for line in parts), key=BASES.index, default="rule")
    return Line(
        name=name,
        bytes=sum(line.bytes for line in parts),
        low=sum(line.low for line in parts),
        high=sum(line.high for line in parts),
        basis=basis,
        source=" + ".join(line.name for line in parts) or "nothing",
    )
