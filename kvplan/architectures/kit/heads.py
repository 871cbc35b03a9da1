"""Table rows: a model type's key names and class defaults, and the readers that every table shares.

A config.json omits what equals the class default, so a row holds what the config class assumes. Three
things differ between classes and are part of the row: which keys exist at all (a class without a
key for KV heads keeps one for each query head), what an absent key means, and whether null is taken.
Source: `configuration_*.py` and `modeling_*.py` of transformers 5.23, probed class by class.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import CHUNKED_NAMES, FULL_NAMES, SLIDING_NAMES, Decoder, attention, divided
from kvplan.domain.model import MAX_LAYERS, Chunk, Cross, Full, Memory, Reach, Window


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


class Row(NamedTuple):
    """One class: how many layers, query heads and hidden elements it assumes, and the rest where it differs."""

    layers: int
    heads: int
    hidden: int
    kv_heads: int | None = None  # None: one for each query head
    head_dim: int | None = None  # elements; None: hidden size / query heads
    rejects: str = ""  # what the class refuses: null "k" KV heads, null "d" head size, a "r" remainder of hidden / heads
    names: Names = STANDARD
    window: int | None = None  # tokens; the class's own `sliding_window`
    drafts: int = 0  # MTP layers that the class assumes


class Heads(NamedTuple):
    """What one attention layer is made of."""

    layers: int
    query: int
    kv: int
    dim: int  # elements per head


def count(c: Config, keys: Sequence[str], default: int, maximum: int = 2**20) -> int:
    """A required number whose absence means the class default; null is not absence.

    Raises:
        ConfigError: null, or not a whole number in range.
    """
    present = [key for key in keys if key in c.data]
    if present and all(c.data[key] is None for key in present):
        c.refuse(present[0], f"is null, which this class does not take (its default is {default:,})")
    number: int = c.integer(*keys, default=default, maximum=maximum)
    return number


def is_null(c: Config, *keys: str) -> bool:
    """Whether the config spells out null under one of the keys and no number under the others."""
    return any(key in c.data for key in keys) and not any(c.has(key) for key in keys)


def optional(c: Config, keys: Sequence[str], default: int | None, *, rejected: bool) -> int | None:
    """A number, the class default when absent, None when null (which some classes refuse)."""
    if is_null(c, *keys):
        if rejected:
            c.refuse(keys[0], "is null, which this class does not take")
        return None
    found: int | None = c.integer(*keys, default=default, maximum=2**20)
    return found


def read_heads(c: Config, row: Row) -> Heads:
    """Layers and heads as the class would see them.

    Raises:
        ConfigError: a bad value, KV heads that do not divide the query heads, or a hidden size that they do not divide.
    """
    layers = count(c, row.names.layers, row.layers, MAX_LAYERS)
    query = count(c, row.names.heads, row.heads)
    return Heads(layers, query, read_kv_heads(c, row, query), read_head_dim(c, row, query))


def read_kv_heads(c: Config, row: Row, query: int) -> int:
    """KV heads: the key, the class constant, or one for each query head."""
    if not row.names.kv_heads:
        ignored(c, "num_key_value_heads", "this class keeps one KV head for each query head")
        return query
    found = optional(c, row.names.kv_heads, row.kv_heads, rejected="k" in row.rejects)
    kv_heads = query if found is None else found
    if query % kv_heads:
        c.refuse(row.names.kv_heads[0], f"{kv_heads} does not divide the {query} query heads")
    return kv_heads


def read_head_dim(c: Config, row: Row, query: int) -> int:
    """Elements per head: the key, the class constant, or hidden size / query heads."""
    if not row.names.head_dim:
        ignored(c, "head_dim", "this class divides the hidden size by the query heads")
    else:
        found = optional(c, row.names.head_dim, row.head_dim, rejected="d" in row.rejects)
        if found is not None:
            return found
    hidden = count(c, row.names.hidden, row.hidden, 2**24)
    if row.names.head_dim and "r" not in row.rejects and hidden >= query:
        return hidden // query  # rounded down, as these classes do
    return divided(c, row.names.hidden[0], hidden, query, "query heads")


def ignored(c: Config, key: str, why: str) -> None:
    """Look at a key that the class does not read, so that `explain` can say so."""
    if c.has(key):
        c.note(key, c.data[key], f"ignored: {why}")


def read_window(c: Config, default: int | None, *, gated: bool = False) -> int | None:
    """The sliding window in tokens, as the config writes it, or None when there is none in effect.

    `use_sliding_window: false` switches it off; `gated` classes need it to be true.
    """
    switch = c.flag("use_sliding_window") if gated or c.has("use_sliding_window") else True
    if not switch:
        ignored(c, "sliding_window", "`use_sliding_window` is false")
        return None
    if is_null(c, "sliding_window"):
        return None
    window: int | None = c.integer("sliding_window", default=default)
    return window


def read_layer_types(c: Config, layers: int) -> list[str] | None:
    """`layer_types`, in the words `full_attention`, `sliding_attention` and `chunked_attention`."""
    known = FULL_NAMES | SLIDING_NAMES | CHUNKED_NAMES
    given = c.texts("layer_types", length=layers, allowed=known)
    if given is None:
        return None
    return [_word(kind) for kind in given]


def _word(kind: str) -> str:
    if kind in SLIDING_NAMES:
        return "sliding_attention"
    return "chunked_attention" if kind in CHUNKED_NAMES else "full_attention"


def layer_reach(c: Config, kind: str, window: int | None, chunk: int | None = None) -> Reach:
    """What a layer type sees. A sliding layer needs a window unless `use_sliding_window` switched it off."""
    if kind == "sliding_attention":
        if window is None and c.data.get("use_sliding_window") is not False:
            c.refuse("sliding_window", "is missing, but `layer_types` names sliding layers")
        return Window(window) if window else Full()
    if kind == "chunked_attention":
        return Chunk(chunk) if chunk else Full()
    return Full()


def draft_layers(c: Config, memories: tuple[Memory, ...], default: int = 0) -> list[tuple[Memory, ...]]:
    """Multi-token-prediction layers: they keep what a layer of the model keeps, when an engine runs them."""
    number: int = (
        c.integer(
            "num_nextn_predict_layers", "num_mtp_layers", "_num_mtp_layers", default=default or None, minimum=0, maximum=1_000
        )
        or 0
    )
    return [memories] * number


def read_row(c: Config, row: Row) -> Decoder:
    """The same attention in every layer: full, or sliding where the config itself has a window or layer types."""
    heads = read_heads(c, row)
    window = read_window(c, row.window)
    given = read_layer_types(c, heads.layers)
    kinds = given or ["sliding_attention" if window else "full_attention"] * heads.layers
    return decoder(c, heads, kinds, window, default_drafts=row.drafts)


def decoder(
    c: Config,
    heads: Heads,
    kinds: Sequence[str],
    window: int | None,
    *,
    chunk: int | None = None,
    default_drafts: int = 0,
    drafts_slide: bool = False,
) -> Decoder:
    """Layers of equal heads, each with the reach of its kind; cross-attention when the config asks for it."""
    cross = c.flag("add_cross_attention")
    by_kind: dict[str, tuple[Memory, ...]] = {}
    for kind in dict.fromkeys(kinds):
        by_kind[kind] = self_and_cross(heads, layer_reach(c, kind, window, chunk), cross=cross)
    draft: tuple[Memory, ...] = (attention(heads.kv, heads.dim, Window(window) if window and drafts_slide else None),)
    return Decoder(
        layers=[by_kind[kind] for kind in kinds],
        heads=heads.query,
        drafts=draft_layers(c, draft, default_drafts),
    )


def self_and_cross(heads: Heads, reach: Reach, *, cross: bool, tokens: int | None = None) -> tuple[Memory, ...]:
    """One decoder layer: its own keys and values and, if `cross`, those of the encoder's output."""
    own = attention(heads.kv, heads.dim, reach)
    if not cross:
        return (own,)
    return (own, Cross(kv_heads=heads.kv, key_dim=heads.dim, value_dim=heads.dim, tokens=tokens, reach=reach))
