"""What most families share: head counts, head sizes and layer patterns, read with the family's own key names."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from kvplan.architectures.kit.config import Config
from kvplan.domain.model import MAX_LAYERS, Chunk, Full, Memory, Reach, Softmax, Window


class Decoder(Struct, frozen=True, kw_only=True):
    """What a family read: each layer's memories in order, the query heads, MTP layers, and remarks for people."""

    layers: Sequence[tuple[Memory, ...]]
    heads: int | None = None
    drafts: Sequence[tuple[Memory, ...]] = ()
    notes: tuple[str, ...] = ()


def layer_count(c: Config, *keys: str, default: Any = ...) -> int:
    """Number of decoder layers, bounded so that a hostile config cannot ask for a billion of them."""
    names = keys or ("num_hidden_layers",)
    number: int = (
        c.integer(*names, maximum=MAX_LAYERS) if default is ... else c.integer(*names, default=default, maximum=MAX_LAYERS)
    )
    return number


def divided(c: Config, key: str, total: int, parts: int, part_words: str) -> int:
    """`total / parts` where that is whole.

    Raises:
        ConfigError: it is not; the message names `key`.
    """
    if total % parts:
        c.refuse(key, f"{total} is not divisible by {parts} {part_words}")
    return total // parts


def query_heads(c: Config, *keys: str, default: Any = ...) -> int:
    """Number of query heads."""
    names = keys or ("num_attention_heads",)
    number: int = c.integer(*names, maximum=2**20) if default is ... else c.integer(*names, default=default, maximum=2**20)
    return number


def grouped_heads(c: Config, heads: int, *keys: str, default: int | None = None) -> int:
    """Number of KV heads: the key, else `default`, else one for each query head.

    Raises:
        ConfigError: it does not divide the query heads.
    """
    names = keys or ("num_key_value_heads",)
    kv_heads: int = c.integer(*names, default=default if default is not None else heads, maximum=2**20)
    if heads % kv_heads:
        c.refuse(names[0], f"{kv_heads} does not divide the {heads} query heads")
    return kv_heads


def head_size(
    c: Config,
    heads: int,
    *,
    keys: Sequence[str] = ("head_dim",),
    hidden: Sequence[str] = ("hidden_size",),
    hidden_default: int | None = None,
    default: int | None = None,
) -> int:
    """Elements per head: the key, else the family's constant, else hidden size / query heads.

    Raises:
        ConfigError: hidden size does not divide.
    """  # fmt: skip
    if keys:
        given: int | None = c.integer(*keys, default=default, maximum=2**20)
        if given is not None:
            return given
    width = (
        c.integer(*hidden, maximum=2**24) if hidden_default is None else c.integer(*hidden, default=hidden_default, maximum=2**24)
    )
    return divided(c, hidden[0], width, heads, "query heads")


FULL_NAMES = frozenset({"full_attention", "attention", "full", "global"})
SLIDING_NAMES = frozenset({"sliding_attention", "sliding", "local", "sliding_window"})
CHUNKED_NAMES = frozenset({"chunked_attention"})


def pattern(c: Config, layers: int, implied: Callable[[int], str], *keys: str, allowed: frozenset[str]) -> list[str]:
    """One layer type a layer: the list in the config, else what the family implies.

    Raises:
        ConfigError: a list of another length than the layers, or an unknown type.
    """
    names = keys or ("layer_types",)
    given = c.texts(*names, length=layers, allowed=allowed)
    return given if given is not None else [implied(i) for i in range(layers)]


def reach_of(c: Config, kind: str, *, window: int | None = None, chunk: int | None = None) -> Reach:
    """The reach that a layer type means.

    Raises:
        ConfigError: a sliding or chunked layer without its size.
    """
    if kind in SLIDING_NAMES:
        if window is None:
            c.refuse("sliding_window", f"is missing, but a layer is `{kind}`")
        return Window(window)
    if kind in CHUNKED_NAMES:
        if chunk is None:
            c.refuse("attention_chunk_size", f"is missing, but a layer is `{kind}`")
        return Chunk(chunk)
    return Full()


def attention(kv_heads: int, head_dim: int, reach: Reach | None = None) -> Softmax:
    """Keys and values of equal size."""
    return Softmax(kv_heads=kv_heads, key_dim=head_dim, value_dim=head_dim, reach=reach or Full())
