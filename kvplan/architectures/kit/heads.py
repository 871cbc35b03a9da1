"""Layers, heads and widths: a row holds one class's key names and defaults, and the functions read them.

A config.json omits what equals the class default, so a row holds what the config class assumes. Classes differ in
which keys exist at all (a class without a key for KV heads keeps one for each query head), in what an absent key
means, and in what they make of null; all of it is part of the row.
Source: `configuration_*.py` and `modeling_*.py` of transformers 5.23, probed class by class.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.domain.model import MAX_LAYERS

MAX_HEADS: Final = 2**20  # heads, or elements of one; no real model is near it
MAX_WIDTH: Final = 2**24  # elements of one dimension


class Names(NamedTuple):
    """The keys one class reads, preferred first. An empty tuple: the class has no such key."""

    layers: tuple[str, ...] = ("num_hidden_layers",)
    heads: tuple[str, ...] = ("num_attention_heads",)
    kv_heads: tuple[str, ...] = ("num_key_value_heads",)  # empty: one for each query head
    head_dim: tuple[str, ...] = ("head_dim",)  # empty: hidden size / query heads
    hidden: tuple[str, ...] = ("hidden_size",)


STANDARD: Final = Names()
DERIVED: Final = Names(head_dim=())  # the model code divides, whatever `head_dim` says
MHA: Final = Names(kv_heads=(), head_dim=())
GPT: Final = Names(("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads"), (), (), ("n_embd", "hidden_size"))

NullKey = Literal["kv_heads", "head_dim"]


class Row(NamedTuple):
    """One class: how many layers, query heads and hidden elements it assumes, and the rest where it differs."""

    layers: int | None = None  # None: the config must say
    heads: int | None = None  # None: the config must say
    hidden: int | None = None  # elements; None: the config must say, where it is asked
    kv_heads: int | None = None  # None: one for each query head
    head_dim: int | None = None  # elements; None: hidden size / query heads
    window: int | None = None  # tokens; the class's own `sliding_window`
    drafts: int = 0  # MTP layers that the class assumes
    names: Names = STANDARD
    refuses_null: tuple[NullKey, ...] = ()  # null there is an error; elsewhere it means what None means above
    refuses_remainder: bool = False  # of hidden size / query heads; else rounded down
    null_is_absence: bool = False  # null means the class default, everywhere


def lenient(
    layers: int | None = None,
    heads: int | None = None,
    hidden: int | None = None,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    **others: Any,
) -> Row:
    """A row in which null is an absent key, and the query heads divide the hidden size.

    >>> lenient(32, 16, 4096).null_is_absence
    True
    """
    return Row(layers, heads, hidden, kv_heads, head_dim, refuses_remainder=True, null_is_absence=True, **others)


class Heads(NamedTuple):
    """What one attention layer is made of."""

    layers: int
    query: int
    kv: int
    dim: int  # elements per head


# Single numbers.


def width(c: Config, *keys: str, default: int | None = None, minimum: int = 1, maximum: int = MAX_WIDTH) -> int:
    """A bounded number for which null is an absent key; required where `default` is None.

    Raises:
        ConfigError: missing without a default, or out of range.
    """
    if default is None:
        return c.integer(*keys, minimum=minimum, maximum=maximum)
    return c.integer(*keys, default=default, minimum=minimum, maximum=maximum)


def count(c: Config, keys: Sequence[str], default: int | None, maximum: int = MAX_HEADS) -> int:
    """A bounded number for which null is an error, not an absent key; required where `default` is None.

    Raises:
        ConfigError: null, missing without a default, or not a whole number in range.
    """
    present = [key for key in keys if key in c.data]
    if present and all(c.data[key] is None for key in present):
        shown = "" if default is None else f" (its default is {default:,})"
        c.refuse(present[0], f"is null, which this class does not take{shown}")
    return width(c, *keys, default=default, maximum=maximum)


def is_null(c: Config, *keys: str) -> bool:
    """Whether the config spells out null under one of the keys and no number under the others."""
    return any(key in c.data for key in keys) and not any(c.has(key) for key in keys)


def optional(c: Config, keys: Sequence[str], default: int | None, *, refuses_null: bool = False) -> int | None:
    """A number, the class default when absent, None when null (which some classes refuse)."""
    if is_null(c, *keys):
        if refuses_null:
            c.refuse(keys[0], "is null, which this class does not take")
        return None
    return c.integer(*keys, default=default, maximum=MAX_HEADS)


def ignored(c: Config, key: str, why: str) -> None:
    """Look at a key that the class does not read, so that `explain` can say so."""
    if c.has(key):
        c.note(key, c.data[key], f"ignored: {why}")


def divided(c: Config, key: str, total: int, parts: int, part_words: str) -> int:
    """`total / parts` where that is whole.

    Raises:
        ConfigError: it is not; the message names `key`.
    """
    if total % parts:
        c.refuse(key, f"{total} is not divisible by {parts} {part_words}")
    return total // parts


def dividing(c: Config, key: str, query: int, kv_heads: int) -> int:
    """The KV heads, which must divide the query heads.

    Raises:
        ConfigError: they do not; the message names `key`.
    """
    if query % kv_heads:
        c.refuse(key, f"{kv_heads} does not divide the {query} query heads")
    return kv_heads


# What a row says.


def read_heads(c: Config, row: Row) -> Heads:
    """Layers and heads as the class would see them.

    Raises:
        ConfigError: a bad value, KV heads that do not divide the query heads, or a hidden size that they do not divide.
    """
    layers, query = layer_count(c, row), query_heads(c, row)
    return Heads(layers, query, kv_heads(c, row, query), head_dim(c, row, query))


def layer_count(c: Config, row: Row) -> int:
    """Decoder layers, bounded so that a hostile config cannot ask for a billion of them."""
    return _number(c, row, row.names.layers, row.layers, MAX_LAYERS)


def query_heads(c: Config, row: Row) -> int:
    """Query heads."""
    return _number(c, row, row.names.heads, row.heads, MAX_HEADS)


def hidden_size(c: Config, row: Row) -> int:
    """Elements of the residual stream."""
    return _number(c, row, row.names.hidden, row.hidden, MAX_WIDTH)


def _number(c: Config, row: Row, keys: tuple[str, ...], default: int | None, maximum: int) -> int:
    if row.null_is_absence:
        return width(c, *keys, default=default, maximum=maximum)
    return count(c, keys, default, maximum)


def kv_heads(c: Config, row: Row, query: int) -> int:
    """KV heads: the key, the class constant, or one for each query head."""
    keys = row.names.kv_heads
    if not keys:
        ignored(c, "num_key_value_heads", "this class keeps one KV head for each query head")
        return query
    if row.null_is_absence:
        found: int | None = width(c, *keys, default=query if row.kv_heads is None else row.kv_heads, maximum=MAX_HEADS)
    else:
        found = optional(c, keys, row.kv_heads, refuses_null="kv_heads" in row.refuses_null)
    return dividing(c, keys[0], query, query if found is None else found)


def head_dim(c: Config, row: Row, query: int) -> int:
    """Elements per head: the key, the class constant, or hidden size / query heads."""
    keys = row.names.head_dim
    if not keys:
        ignored(c, "head_dim", "this class divides the hidden size by the query heads")
    else:
        if row.null_is_absence:
            found = c.integer(*keys, default=row.head_dim, maximum=MAX_HEADS)
        else:
            found = optional(c, keys, row.head_dim, refuses_null="head_dim" in row.refuses_null)
        if found is not None:
            return found
    hidden = hidden_size(c, row)
    if keys and not row.refuses_remainder and hidden >= query:
        return hidden // query  # rounded down, as these classes do
    return divided(c, row.names.hidden[0], hidden, query, "query heads")
