"""What an engine takes beyond what the model needs, told apart by cause."""

from msgspec import Struct


class Part(Struct, frozen=True, kw_only=True):
    """One cause: its name, what it is in words, and the bytes; negative where it saves some."""

    name: str
    cause: str
    bytes: int


class Beyond(Struct, frozen=True, kw_only=True):
    """From what a model needs at least (`ideal_bytes`, the theory's) to what an engine takes: the parts add up to the rest."""

    ideal_bytes: int
    parts: tuple[Part, ...]

    @property
    def total_bytes(self) -> int:
        """What the engine takes."""
        return self.ideal_bytes + sum(part.bytes for part in self.parts)
