"""Layer by layer: layer types, windows, reaches and prediction layers, and decoders of equal heads."""

from collections.abc import Sequence
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Heads, ignored, is_null
from kvplan.architectures.kit.reader import Decoder
from kvplan.domain.model import MAX_LAYERS, Chunk, Cross, Full, Memory, Reach, Softmax, Window

FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"
CHUNKED: Final = "chunked_attention"
LINEAR: Final = "linear_attention"
INDEXED: Final = "indexed_attention"
CONVOLUTION: Final = "conv"

#: A kind of layer -> its spellings in configs. Other kinds are spelled in one way.
SPELLINGS: Final = {
    FULL: frozenset({"full_attention", "attention", "full", "global"}),
    SLIDING: frozenset({"sliding_attention", "sliding", "local", "sliding_window"}),
    CHUNKED: frozenset({"chunked_attention"}),
    LINEAR: frozenset({"linear_attention", "mamba", "mamba2", "linear"}),
    INDEXED: frozenset({"indexed_attention", "deepseek_sparse_attention", "qwen_sparse_attention"}),
    CONVOLUTION: frozenset({"conv", "short_conv"}),
}
_KIND_OF: Final = {spelling: kind for kind, spellings in SPELLINGS.items() for spelling in spellings}

#: Where configs say how many multi-token-prediction layers a checkpoint carries.
DRAFT_KEYS: Final = ("num_nextn_predict_layers", "num_mtp_layers", "_num_mtp_layers")


def layer_types(c: Config, layers: int | None, *kinds: str, keys: tuple[str, ...] = ("layer_types",)) -> list[str] | None:
    """The kind of each of `layers` layers, in the words of this module; None when the config does not list them.

    Args:
        c: the config.
        layers: how many entries the list must have; None: any number.
        kinds: what a layer may be.
        keys: where the list may stand.

    Raises:
        ConfigError: a list of another length, or an entry that is none of `kinds`.
    """
    spellings = frozenset().union(*(SPELLINGS.get(kind, frozenset({kind})) for kind in kinds))
    given = c.texts(*keys, length=layers, allowed=spellings)
    return None if given is None else [_KIND_OF.get(spelling, spelling) for spelling in given]


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
    return c.integer("sliding_window", default=default)


def reach(c: Config, kind: str, window: int | None, chunk: int | None = None) -> Reach:
    """What a layer of a kind sees. A sliding layer needs a window unless `use_sliding_window` switched it off.

    Raises:
        ConfigError: a sliding layer without a window.
    """
    if kind == SLIDING:
        if window is None and c.data.get("use_sliding_window") is not False:
            c.refuse("sliding_window", "is missing, but `layer_types` names sliding layers")
        return Window(window) if window else Full()
    if kind == CHUNKED:
        return Chunk(chunk) if chunk else Full()
    return Full()


def draft_count(c: Config, *keys: str, default: int | None = 0) -> int:
    """How many multi-token-prediction layers the checkpoint carries; a `default` of None is zero that nobody assumed."""
    return c.integer(*(keys or DRAFT_KEYS), default=default, minimum=0, maximum=MAX_LAYERS) or 0


def attention(kv_heads: int, head_dim: int, reach: Reach | None = None) -> Softmax:
    """Keys and values of equal size."""
    return Softmax(kv_heads=kv_heads, key_dim=head_dim, value_dim=head_dim, reach=reach or Full())


def self_and_cross(heads: Heads, reach: Reach, *, cross: bool, tokens: int | None = None) -> tuple[Memory, ...]:
    """One decoder layer: its own keys and values and, if `cross`, those of the encoder's output."""
    own = attention(heads.kv, heads.dim, reach)
    if not cross:
        return (own,)
    return (own, Cross(kv_heads=heads.kv, key_dim=heads.dim, value_dim=heads.dim, tokens=tokens, reach=reach))


def decoder(
    c: Config,
    heads: Heads,
    kinds: Sequence[str],
    window: int | None = None,
    *,
    chunk: int | None = None,
    drafts: int = 0,
    drafts_slide: bool = False,
) -> Decoder:
    """Layers of equal heads, each with the reach of its kind; cross-attention when the config asks for it.

    Args:
        c: the config.
        heads: of every layer.
        kinds: one a layer.
        window: tokens that a sliding layer sees.
        chunk: tokens of a chunk that a chunked layer sees.
        drafts: prediction layers that the class assumes; they keep what a layer of the model keeps.
        drafts_slide: whether those see the window only.
    """
    cross = c.flag("add_cross_attention")
    by_kind = {kind: self_and_cross(heads, reach(c, kind, window, chunk), cross=cross) for kind in dict.fromkeys(kinds)}
    draft: tuple[Memory, ...] = (attention(heads.kv, heads.dim, Window(window) if window and drafts_slide else None),)
    return Decoder(
        layers=[by_kind[kind] for kind in kinds],
        heads=heads.query,
        drafts=[draft] * draft_count(c, default=drafts or None),
    )


def full(c: Config, heads: Heads) -> Decoder:
    """Layers of equal heads that see everything."""
    return decoder(c, heads, [FULL] * heads.layers)


#: What engines make of layers that read another layer's keys and values because the config says so.
CROSS_LAYER_NOTE: Final = (
    "no released engine honors CLA in its cache: transformers 5.23 and llama.cpp do not read the keys, "
    "vLLM 0.32 serves the class through its generic backend, SGLang 0.5.23 (`srt/models/hunyuan.py`) and mlx-lm 0.32.2 "
    "compute the sharing but keep a slot for every layer"
)
