"""A number of bytes that is known within bounds."""

from msgspec import Struct


class Band(Struct, frozen=True, kw_only=True):
    """Bytes from `low` to `high`, `best` between them; equal where a closed form is exact."""

    low: int
    best: int
    high: int

    @property
    def exact(self) -> bool:
        """Whether it is a point."""
        return self.low == self.high
