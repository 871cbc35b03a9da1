"""Decoders whose layers see a window or a chunk: which layers do is each family's own rule.

`layer_types` decides when a config has it; the rules below are what a class implies without it (older configs).
`Window` holds the config's own number; engines apply their own conventions (one less, one more) to it.
Source: `__post_init__` of each class in `configuration_*.py`, transformers 5.23; cache layers follow
`get_layer_types_and_kwargs` in `cache_utils.py` (a window and no layer types: all layers slide).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import (
    DERIVED,
    MHA,
    Row,
    count,
    decoder,
    ignored,
    is_null,
    read_heads,
    read_layer_types,
    read_window,
)
from kvplan.architectures.kit.shapes import Decoder
from kvplan.domain.model import MAX_LAYERS

Rule = Callable[[Config, int], list[bool]]  # which of `layers` slide


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


def all_slide(_: Config, layers: int) -> list[bool]:
    """A window, where there is one, holds in every layer."""
    return [True] * layers


def all_full(_: Config, layers: int) -> list[bool]:
    """Only `layer_types` makes layers slide."""
    return [False] * layers


def _beam(_: Config, layers: int) -> list[bool]:
    return [(i + 1) % 6 != 0 and i != layers - 1 for i in range(layers)]


def _flint(_: Config, layers: int) -> list[bool]:
    return [i >= 2 and i % 4 != 1 and i != layers - 1 for i in range(layers)]


def _muse(_: Config, layers: int) -> list[bool]:
    """Full on each fourth layer, counted backward from the last."""
    return [(layers - 1 - i) % 4 != 0 for i in range(layers)]


def _late(default: int) -> Rule:
    """Layers from `max_window_layers` on slide (Qwen2, Qwen3, dots.llm1)."""

    def rule(c: Config, layers: int) -> list[bool]:
        first = c.integer("max_window_layers", default=default, minimum=0)
        return [i >= first for i in range(layers)]

    return rule


def _qwen2_moe(c: Config, layers: int) -> list[bool]:
    last = c.integer("max_window_layers", default=28, minimum=0)
    return [i % 2 == 0 and i < last for i in range(layers)]


def _no_rope(c: Config, layers: int, *, slides: int) -> list[bool]:
    """By `no_rope_layers` (1: with RoPE): Llama 4's chunked layers have it, SmolLM3's sliding ones do not."""
    given = c.integers("no_rope_layers") or None
    if given is None:
        interval = c.integer("no_rope_layer_interval", default=4)
        given = [int((i + 1) % interval != 0) for i in range(layers)]
    if len(given) != layers:
        c.refuse("no_rope_layers", f"has {len(given)} entries for {layers} layers")
    return [flag == slides for flag in given]


def _smollm3(c: Config, layers: int) -> list[bool]:
    return _no_rope(c, layers, slides=0)


def _exaone(c: Config, layers: int) -> list[bool]:
    """`sliding_window_pattern` is a number, or letters that repeat: `LLLG`, L for local."""
    letters = c.data.get("sliding_window_pattern")
    if isinstance(letters, str):
        if not 1 <= len(letters) <= 64 or set(letters) - {"L", "G"}:
            c.refuse("sliding_window_pattern", "must be a number, or letters L and G such as `LLLG`")
        c.note("sliding_window_pattern", letters, "config")
        return [letters[i % len(letters)] == "L" for i in range(layers)]
    return every(4, "sliding_window_pattern")(c, layers)


def _cohere2_moe(c: Config, layers: int) -> list[bool]:
    """The first dense layers have a pattern of their own."""
    dense = min(c.integer("first_k_dense_replace", default=0, minimum=0), layers)
    head = every(1, "prefix_dense_sliding_window_pattern")(c, dense)
    return head + every(4, "sliding_window_pattern")(c, layers - dense)


class Slide(NamedTuple):
    """One class: its row, its rule, and whether the window needs `use_sliding_window: true`."""

    row: Row
    rule: Rule = all_slide
    gated: bool = False


_QWEN2_VL: Final = Slide(Row(80, 64, 8192, 8, window=4096, names=DERIVED), _late(80), gated=True)
_EXAONE: Final = Slide(Row(32, 32, 4096, 32, rejects="k", window=4096), _exaone)
_PHI3: Final = Slide(Row(32, 32, 3072))
ROWS: Final[dict[str, Slide]] = {
    "afmoe": Slide(Row(32, 16, 2048, head_dim=128, window=1024), every(4, "global_attn_every_n_layers")),
    "beam": Slide(Row(52, 48, 5120, 8, 128, rejects="kd", window=512), _beam),
    "cohere2": Slide(Row(40, 64, 8192, window=4096), every(4, "sliding_window_pattern")),
    "cohere2_moe": Slide(Row(40, 64, 8192, head_dim=128, rejects="d", window=4096), _cohere2_moe),
    "cohere_compass_text": Slide(Row(40, 64, 8192, window=4096), all_full),
    "cwm": Slide(Row(64, 48, 6144, 8, 128, rejects="kdr", window=8192), first_of(4)),
    "doge": Slide(Row(32, 8, 1024)),
    "dots1": Slide(Row(62, 32, 4608, 32, window=4096), _late(62)),
    "exaone4": _EXAONE,
    "exaone4_5_text": _EXAONE,
    "exaone_moe": _EXAONE,
    "flint": Slide(Row(49, 32, 2048, 4, 128, rejects="kd", window=513), _flint),
    "gemma2": Slide(Row(26, 8, 2304, 4, 256, rejects="kdr", window=4096), every(2)),
    "gemma3_text": Slide(Row(26, 8, 2304, 4, 256, rejects="kdr", window=4096), every(6, "sliding_window_pattern")),
    "gpt_oss": Slide(Row(36, 64, 2880, 8, 64, rejects="kd", window=128), every(2)),
    "granite_swa": Slide(Row(24, 20, 2560, 4, window=128), first_of(4)),
    "granitemoe_swa": Slide(Row(32, 32, 4096, window=128), first_of(4)),
    "kolibri1": Slide(Row(50, 48, 2560, 4, 128, rejects="kd", window=513), every(5)),
    "kyutai_speech_to_text": Slide(Row(48, 32, 2048, window=375, rejects="r")),
    "laguna": Slide(Row(40, 48, 2048, 8, 128, rejects="kd", window=512), all_full),
    "mellum": Slide(Row(28, 32, 2304, 4, 128, rejects="kd", window=1024), all_full),
    "mimo": Slide(Row(36, 32, 4096, 8), _late(36), gated=True),
    "ministral": Slide(Row(32, 32, 4096, 8, rejects="k", window=4096)),
    "ministral3": Slide(Row(34, 32, 4096, 8, 128, rejects="kd")),
    "mistral": Slide(Row(32, 32, 4096, 8, rejects="k", window=4096)),
    "mixtral": Slide(Row(32, 32, 4096, 8, rejects="k")),
    "moshi": Slide(Row(32, 32, 4096, window=3000, rejects="r")),
    "muse_glimmer_text": Slide(Row(52, 32, 6656, 2, 128, rejects="kdr", window=2048), _muse),
    "muse_spark_text": Slide(Row(62, 128, 8192, 16, 64, rejects="kdr", window=2048), _muse),
    "olmo3": Slide(Row(32, 32, 4096, window=4096), every(4)),
    "phi3": _PHI3,
    "phi3_v": _PHI3,
    "phi4": _PHI3,
    "phi4_multimodal": Slide(Row(32, 32, 3072, 8)),
    "phi4mm": Slide(Row(32, 32, 3072, 8)),
    "phimoe": Slide(Row(32, 32, 4096, 8, rejects="k")),
    "qwen2": Slide(Row(32, 32, 4096, 32, window=4096), _late(28), gated=True),
    "qwen2_5_omni_text": Slide(Row(28, 28, 3584, 4, window=32768, rejects="r"), _late(28), gated=True),
    "qwen2_5_vl_text": _QWEN2_VL,
    "qwen2_moe": Slide(Row(24, 16, 2048, 16, rejects="k", window=4096), _qwen2_moe, gated=True),
    "qwen2_vl_text": _QWEN2_VL,
    "qwen3": Slide(Row(32, 32, 4096, 32, 128, rejects="d", window=4096), _late(28), gated=True),
    "qwen3_moe": Slide(Row(24, 32, 2048, 4, rejects="k", window=4096), gated=True),
    "qwen3_omni_moe_text": Slide(Row(28, 28, 2048, 4, rejects="k")),
    "qwen3_vl_moe_text": Slide(Row(24, 16, 2048, 16, rejects="k")),
    "smollm3": Slide(Row(36, 16, 2048, 4), _smollm3, gated=True),
    "spark2_5": Slide(Row(32, 32, 4096, 8), all_full),
    "starcoder2": Slide(Row(30, 24, 3072, 2, rejects="k")),
    "vaultgemma": Slide(Row(26, 8, 2304, 4, 256, rejects="kdr", window=4096), every(2)),
    "voxtral_realtime_text": Slide(Row(32, 32, 4096, 8, rejects="k", window=4096)),
}
_LLAMA4: Final = Row(48, 40, 5120, 8, 128, rejects="kd")
_MODERNBERT: Final = Row(22, 12, 768, names=MHA)
_GPT_NEO: Final = Row(
    24, 16, 2048, names=MHA._replace(layers=("num_layers", "num_hidden_layers"), heads=("num_heads", "num_attention_heads"))
)


_PATTERN_KEYS: Final = (
    "sliding_window_pattern",
    "max_window_layers",
    "global_attn_every_n_layers",
    "no_rope_layers",
    "no_rope_layer_interval",
)


def read(c: Config, model_type: str) -> Decoder:
    """Layers of equal heads, some of which see a window or a chunk."""
    own = _OWN.get(model_type)
    if own is not None:
        return own(c)
    row, rule, gated = ROWS[model_type]
    heads = read_heads(c, row)
    window = read_window(c, row.window, gated=gated)
    if window and model_type == "gemma3_text" and c.flag("use_bidirectional_attention"):
        window = window // 2 + 1  # Gemma3TextConfig: both sides of the token share the window
    kinds = read_layer_types(c, heads.layers)
    if kinds is not None or not window:
        for key in _PATTERN_KEYS:
            ignored(c, key, "`layer_types` decides" if kinds else "there is no window")
    if kinds is None:
        sliding = rule(c, heads.layers) if window else [False] * heads.layers
        kinds = ["sliding_attention" if slides else "full_attention" for slides in sliding]
    if model_type == "laguna":
        _check_heads_per_layer(c, heads.layers, heads.kv)
    return decoder(c, heads, kinds, window, default_drafts=row.drafts, drafts_slide=model_type == "mellum")


def _check_heads_per_layer(c: Config, layers: int, kv_heads: int) -> None:
    """Laguna varies the query heads by layer; the KV heads, which are what is kept, must divide them all."""
    for i, heads in enumerate(c.integers("num_attention_heads_per_layer", length=layers, minimum=1) or []):
        if heads % kv_heads:
            c.refuse(f"num_attention_heads_per_layer[{i}]", f"{heads} is not divisible by the {kv_heads} KV heads")


def _read_llama4(c: Config) -> Decoder:
    """Layers with RoPE see a chunk of 8,192 tokens, the others everything."""
    heads = read_heads(c, _LLAMA4)
    chunk = None if is_null(c, "attention_chunk_size") else c.integer("attention_chunk_size", default=8192)
    kinds = read_layer_types(c, heads.layers)
    if kinds is not None:
        for key in ("no_rope_layers", "no_rope_layer_interval"):
            ignored(c, key, "`layer_types` decides")
    else:
        chunked = _no_rope(c, heads.layers, slides=1)
        kinds = ["chunked_attention" if local else "full_attention" for local in chunked]
    return decoder(c, heads, kinds, None, chunk=chunk)


def _read_modernbert(c: Config) -> Decoder:
    """`local_attention` counts both sides of a token, so a decoder sees half of it."""
    heads = read_heads(c, _MODERNBERT)
    local = c.integer("local_attention", default=128, minimum=2)
    window = read_window(c, local // 2)  # a config that was written back has both keys
    kinds = read_layer_types(c, heads.layers)
    if kinds is None:
        sliding = first_of(3, "global_attn_every_n_layers")(c, heads.layers)
        kinds = ["sliding_attention" if slides else "full_attention" for slides in sliding]
    return decoder(c, heads, kinds, window)


def _read_gpt_neo(c: Config) -> Decoder:
    """`attention_types` is a list of [pattern, repetitions]; local layers see `window_size` tokens.

    transformers keeps every token in local layers all the same (a mask only): that is the engine's business.
    """
    heads = read_heads(c, _GPT_NEO)
    kinds: list[str] = []
    for i, entry in enumerate(c.items("attention_types") or [[["global", "local"], heads.layers // 2]]):
        match entry:
            case [list(names), int(times)] if times <= heads.layers and not {*map(str, names)} - {"global", "local"}:
                kinds += list(names) * times
            case _:
                c.refuse(f"attention_types[{i}]", 'must be like [["global", "local"], 12]')
    if len(kinds) != heads.layers:
        c.refuse("attention_types", f"describes {len(kinds)} layers of {heads.layers}")
    words = ["sliding_attention" if kind == "local" else "full_attention" for kind in kinds]
    return decoder(c, heads, words, c.integer("window_size", default=256))


_OWN: Final[dict[str, Callable[[Config], Decoder]]] = {
    "gpt_neo": _read_gpt_neo,
    "llama4_text": _read_llama4,
    "modernbert-decoder": _read_modernbert,
}
