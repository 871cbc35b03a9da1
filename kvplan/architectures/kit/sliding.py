"""Decoders some of whose layers see a window: which layers do is each class's own rule.

`layer_types` decides when a config has it; a `Rule` is what a class implies without it (older configs).
`Window` holds the config's own number; engines apply their own conventions (one less, one more) to it.
Source: `__post_init__` of each class in `configuration_*.py`, transformers 5.23; cache layers follow
`get_layer_types_and_kwargs` in `cache_utils.py` (a window and no layer types: all layers slide).
"""

from collections.abc import Callable
from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import Heads, Row, count, ignored, read_heads
from kvplan.architectures.kit.layers import CHUNKED, FULL, SLIDING, decoder, layer_types, read_window
from kvplan.architectures.kit.reader import Decoder, reader
from kvplan.domain.model import MAX_LAYERS

Rule = Callable[[Config, int], list[bool]]  # which of `layers` slide

_PATTERN_KEYS: Final = (
    "sliding_window_pattern",
    "max_window_layers",
    "global_attn_every_n_layers",
    "no_rope_layers",
    "no_rope_layer_interval",
)


def every(number: int, *keys: str) -> Rule:
    """Each `number`-th layer is full and the others slide; a key of older configs may change the number."""

    def rule(c: Config, layers: int) -> list[bool]:
        step = count(c, keys, number, MAX_LAYERS) if keys else number
        return [(i + 1) % step != 0 for i in range(layers)]

    return rule


def first_of(number: int, *keys: str) -> Rule:
    """The first of each `number` layers is full and the others slide."""

    def rule(c: Config, layers: int) -> list[bool]:
        step = count(c, keys, number, MAX_LAYERS) if keys else number
        return [i % step != 0 for i in range(layers)]

    return rule


def from_layer(default: int) -> Rule:
    """Layers from `max_window_layers` on slide (Qwen2, Qwen3, dots.llm1, MiMo)."""

    def rule(c: Config, layers: int) -> list[bool]:
        first = c.integer("max_window_layers", default=default, minimum=0)
        return [i >= first for i in range(layers)]

    return rule


def by_rope(flag: int) -> Rule:
    """Layers whose entry in `no_rope_layers` is `flag` are local: 1 has RoPE (Llama 4), 0 has none (SmolLM3)."""

    def rule(c: Config, layers: int) -> list[bool]:
        given = c.integers("no_rope_layers") or None
        if given is None:
            interval = c.integer("no_rope_layer_interval", default=4)
            given = [int((i + 1) % interval != 0) for i in range(layers)]
        if len(given) != layers:
            c.refuse("no_rope_layers", f"has {len(given)} entries for {layers} layers")
        return [entry == flag for entry in given]

    return rule


def all_slide(_: Config, layers: int) -> list[bool]:
    """A window, where there is one, holds in every layer."""
    return [True] * layers


def all_full(_: Config, layers: int) -> list[bool]:
    """Only `layer_types` makes layers slide."""
    return [False] * layers


@reader
def sliding(
    c: Config,
    row: Row,
    rule: Rule = all_slide,
    *,
    gated: bool = False,
    window: Callable[[Config, int], int] | None = None,
    check: Callable[[Config, Heads], None] | None = None,
    drafts_slide: bool = False,
) -> Decoder:
    """Layers of equal heads, some of which see a window.

    Args:
        c: the config.
        row: key names and class defaults.
        rule: which layers slide where `layer_types` is absent.
        gated: the window needs `use_sliding_window: true`.
        window: tokens that a layer sees, from those that the config writes.
        check: refuses heads that contradict other keys.
        drafts_slide: prediction layers see the window only.
    """
    heads = read_heads(c, row)
    size = read_window(c, row.window, gated=gated)
    if size and window is not None:
        size = window(c, size)
    kinds = layer_types(c, heads.layers, FULL, SLIDING, CHUNKED)
    if kinds is not None or not size:
        for key in _PATTERN_KEYS:
            ignored(c, key, "`layer_types` decides" if kinds else "there is no window")
    if kinds is None:
        slides = rule(c, heads.layers) if size else [False] * heads.layers
        kinds = [SLIDING if each else FULL for each in slides]
    if check is not None:
        check(c, heads)
    return decoder(c, heads, kinds, size, drafts=row.drafts, drafts_slide=drafts_slide)
