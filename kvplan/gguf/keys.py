"""Typed reads of a GGUF file's metadata; each failure names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvplan.errors import GgufError, shown


class Keys:
    """Typed reads of one file's metadata, under its architecture's prefix."""

    def __init__(self, keys: Mapping[str, Any], source: str) -> None:
        self.keys = keys
        self.source = source
        arch = keys.get("general.architecture")
        if not isinstance(arch, str) or not arch or len(arch) > 64:
            raise GgufError(f"{source}: `general.architecture` is missing", hint="is it a language model's GGUF file?")
        self.arch = arch

    def refuse(self, key: str, problem: str) -> GgufError:
        """The error about `key`, to be raised."""
        return GgufError(f"{self.source}: `{self.arch}.{key}` {problem}", hint="check the file's metadata")

    def integer(self, key: str, default: int | None = None, maximum: int = 2**40) -> int:
        """A whole number; without a default the key must be there.

        Raises:
            GgufError: missing, or anything else.
        """
        value = self.keys.get(f"{self.arch}.{key}")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # some writers store counts as f32
        if value is None and default is not None:
            return default
        if value is None:
            raise self.refuse(key, "is missing, which llama.cpp needs too")
        if hasattr(value, "length"):
            raise self.refuse(key, f"is an array of {value.length:,} entries, and its values are not at hand")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
            raise self.refuse(key, f"must be a whole number, got {shown(value)}")
        return value

    def has(self, key: str) -> bool:
        """Whether the file has the key."""
        return self.keys.get(f"{self.arch}.{key}") is not None

    def per_layer(
        self, key: str, layers: int, default: int | Sequence[int] | None = None, *, exact: bool = False
    ) -> tuple[int, ...]:
        """A scalar for all layers, or an array of one entry a layer: at least, or exactly, as the engine asks."""
        value = self.keys.get(f"{self.arch}.{key}")
        if isinstance(value, list | tuple):
            if len(value) < layers or (exact and len(value) != layers):
                raise self.refuse(key, f"has {len(value)} entries for {layers} layers")
            found = value[:layers]
            if any(isinstance(v, str | float) or not isinstance(v, int) or not 0 <= v < 2**31 for v in found):
                raise self.refuse(key, "must hold whole numbers")
            return tuple(int(v) for v in found)
        if value is None and isinstance(default, Sequence):
            return tuple(default)
        return (self.integer(key, default if isinstance(default, int) else None, 2**31),) * layers
