"""A config's keys as ExLlamaV3's classes read them, and the memories that most of them build from the same keys.

Source: exllamav3 1.6.5, `model/config.py`, `architecture/*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kvplan.domain.model import Full, Latent, Memory, Softmax, Window

Rows = list[tuple[Memory, ...]]


MAX_LAYERS: Final = 10_000


class Unreadable(Exception):
    """A key is missing or of another type: the engine's reading cannot be told."""


class Keys:
    """A config's keys as the engine reads them: null is absent, a whole float is an int."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number, or the class's default."""
        value = self._data.get(name)
        value = default if value is None else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**31:
            raise Unreadable(name)
        return value

    def items(self, name: str) -> list[Any] | None:
        """A list, or None."""
        value = self._data.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise Unreadable(name)
        return list(value)

    def text(self, name: str, default: str = "") -> str:
        """A text, or the default."""
        value = self._data.get(name)
        return value if isinstance(value, str) else default

    def section(self, name: str) -> Keys:
        """The keys of an object in the config."""
        value = self._data.get(name)
        if not isinstance(value, Mapping):
            raise Unreadable(name)
        return Keys(value)

    def layers(self) -> int:
        """How many layers the model has."""
        count = self.number("num_hidden_layers")
        if not 1 <= count <= MAX_LAYERS:
            raise Unreadable("num_hidden_layers")
        return count


def heads_of(c: Keys) -> tuple[int, int]:
    """Heads of keys and values, and their width: told, or the hidden width by the heads of queries."""
    heads = c.number("num_attention_heads")
    return c.number("num_key_value_heads", heads), c.number("head_dim", 0) or c.number("hidden_size") // heads


def softmax(kv_heads: int, dim: int, window: int = 0, value_dim: int | None = None) -> Softmax:
    """Keys and values of one layer; a window of 0 is none."""
    reach = Window(window) if window > 0 else Full()
    return Softmax(kv_heads=kv_heads, key_dim=dim, value_dim=dim if value_dim is None else value_dim, reach=reach)


def layer_kinds(c: Keys, count: int) -> list[str]:
    """The first `count` entries of `layer_types`.

    Raises:
        Unreadable: there are fewer.
    """
    kinds = c.items("layer_types")
    if kinds is None or len(kinds) < count:
        raise Unreadable("layer_types")
    return [str(kind) for kind in kinds[:count]]


def latent(c: Keys, rope: int | None = None) -> Latent:
    """MLA's latent and rotary key; `rope` where a class has a default for its width."""
    return Latent(
        rank=c.number("kv_lora_rank"),
        rope_dim=c.number("qk_rope_head_dim", rope),
        heads=c.number("num_attention_heads"),
        nope_dim=c.number("qk_nope_head_dim"),
        value_dim=c.number("v_head_dim"),
    )
