"""A GGUF file's keys as Ollama reads them: fewer than llama.cpp, and with defaults of its own.

Source: ollama 0.32.15 (fb3076099), `fs/ggml/ggml.go` (`KV`).
"""

from collections.abc import Mapping
from typing import Any, Final

from kvplan.limits import LAYERS

_SPECIAL: Final = ("tokenizer.", "general.")


class Metadata:
    """The keys of one file; numbers that are no 32-bit unsigned ones count as missing, as in Go's type switch."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self._keys = keys
        named = keys.get("general.architecture")
        self.architecture = named if isinstance(named, str) else "unknown"

    def has(self, name: str) -> bool:
        """Whether the architecture's key is there."""
        return f"{self.architecture}.{name}" in self._keys

    def number(self, name: str, default: int = 0) -> int:
        """One number of the architecture."""
        value = self._value(name)
        return value if _is_count(value) else default

    def numbers(self, name: str, default: int) -> tuple[int, ...]:
        """One number, or a list of them."""
        value = self._value(name)
        if _is_count(value):
            return (value,)
        if isinstance(value, list | tuple) and value and all(map(_is_count, value)):
            return tuple(value)
        return (default,)

    def _value(self, name: str) -> Any:
        return self._keys.get(name if name.startswith(_SPECIAL) else f"{self.architecture}.{name}")

    @property
    def layers(self) -> int:
        """Blocks of the model."""
        return min(self.number("block_count"), LAYERS)

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained for; 0 where the file does not say."""
        return self.number("context_length")

    @property
    def heads(self) -> tuple[int, ...]:
        """Query heads, one number or one a layer."""
        return self.numbers("attention.head_count", 1)

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """KV heads, likewise."""
        return self.numbers("attention.head_count_kv", 1)

    def by_layer(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """A number for every layer; layers beyond a list have one head."""
        rest = given[0] if len(given) == 1 else 1
        return tuple(given[i] if i < len(given) else rest for i in range(self.layers))

    @property
    def key_dim(self) -> int:
        """Elements of a key of one head."""
        return self.number("attention.key_length", self._head_dim)

    @property
    def value_dim(self) -> int:
        """Elements of a value of one head."""
        return self.number("attention.value_length", self._head_dim)

    @property
    def _head_dim(self) -> int:
        least = min(self.heads)
        return self.number("embedding_length") // least if least else 0

    def predicted_vram(self, file_bytes: int, tokens: int) -> int:
        """The server's guess at a model's memory (`PredictServerVRAM`): it decides batches and GPUs, and allocates nothing."""
        most = max(self.heads)
        width = self.number("embedding_length") // most if most else 0
        return file_bytes + 4 * self.layers * (min(self.kv_heads) or 1) * width * tokens


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32
