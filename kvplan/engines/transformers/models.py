"""The model as `transformers` keeps it: what single model types do differently from theory, before storage is counted.

Each function names the modeling code that it follows. Facts that changed between releases are rows of
`transformers_versions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

from msgspec.structs import replace

from kvplan.domain.model import MAX_LAYERS, Chunk, Cross, Full, Layer, Memory, Model, Recurrent, Shared, Softmax, State, Window
from kvplan.domain.origin import NO_SETTINGS, Settings
from kvplan.engines.transformers.releases import ALL_HEADS, CONV_EVERYWHERE, OWN_WINDOW, SHARED, SPLIT_CONV

Version = tuple[int, ...]
#: Model types that `generate()` gives no cache, or that keep none. Value: why.
NO_CACHE: Final[Mapping[str, str]] = {
    "openai-gpt": "the class has no cache: every step runs over the whole sequence again",
    "xlm": "`XLMModel.forward` makes a cache for one call and does not hand it back",
    "flaubert": "`FlaubertModel.forward` makes a cache for one call and does not hand it back",
}
#: Types whose static cache class does not exist (KeyError in `StaticCache.__init__`).
NO_STATIC: Final = frozenset({"deepseek_v4"})
#: Hybrids whose masks ask the cache for its length, which a cache of linear layers alone cannot tell.
NEEDS_ATTENTION: Final = frozenset({"bamba", "granitemoehybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"})
#: Types whose cross cache is built from the encoder's number of layers (`num_hidden_layers` is `num_layers` there).
COUNTS_ENCODER_LAYERS: Final = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers", "pop2piano", "udop"})
#: Types with a cache object of their own, whatever implementation is asked for.
OWN_CACHE: Final = frozenset({"minimax", "rwkv", "xlstm"})


def text_type(model: Model) -> str:
    """The model type of the text part."""
    return model.text_type


def settings(model: Model) -> Settings:
    """The text part's config, typed; of a model that was described by hand, nothing."""
    return model.origin.text if model.origin is not None else NO_SETTINGS


def positions_of_a_tile(model: Model) -> int:
    """Positions that the vision part makes of one tile of an image: its patches and the class token."""
    vision = model.origin.outer.section("vision_config") if model.origin is not None else NO_SETTINGS
    side = vision.whole("image_size", 448, least=1) // vision.whole("patch_size", 14, least=1)
    return side * side + 1


def as_kept(model: Model, version: Version) -> Model:
    """The layers as this release keeps them."""
    kind = text_type(model)
    change = _CHANGES.get(kind)
    layers = model.layers if change is None else change(model, version)
    if ALL_HEADS.at(kind, version):
        layers = _softmax(layers, lambda m: replace(m, kv_heads=model.attention_heads or m.kv_heads))
    return model if layers is model.layers else replace(model, layers=layers)


def _memories(layers: tuple[Layer, ...], change: Callable[[Memory], Memory]) -> tuple[Layer, ...]:
    return tuple(replace(layer, memories=tuple(change(m) for m in layer.memories)) for layer in layers)


def _softmax(layers: tuple[Layer, ...], change: Callable[[Softmax], Softmax]) -> tuple[Layer, ...]:
    return _memories(layers, lambda m: change(m) if isinstance(m, Softmax) else m)


def _falcon(model: Model, version: Version) -> tuple[Layer, ...]:
    """The new architecture broadcasts keys and values to every query head before the cache sees them.

    Source: `FalconAttention._split_heads` in `models/falcon/modeling_falcon.py`.
    """
    heads = model.attention_heads
    if not heads or not settings(model).flag("new_decoder_architecture"):
        return model.layers
    return _softmax(model.layers, lambda m: replace(m, kv_heads=heads))


def _masks_only(model: Model, version: Version) -> tuple[Layer, ...]:
    """GPT-Neo's local layers are a mask: the cache keeps every token (`GPTNeoSelfAttention`)."""
    return _softmax(model.layers, lambda m: replace(m, reach=Full()))


def _mpt(model: Model, version: Version) -> tuple[Layer, ...]:
    """`attn_config.kv_n_heads` is not read: every head has its own (`MptAttention`)."""
    heads = model.attention_heads
    return _softmax(model.layers, lambda m: replace(m, kv_heads=heads)) if heads else model.layers


def _mimo(model: Model, version: Version) -> tuple[Layer, ...]:
    """Sliding layers have twice the KV heads and the full layers' head sizes, whatever the `swa_*` keys say.

    The config class adds one to `sliding_window_size`; before 5.20 the cache saw `sliding_window` alone, or its default.
    Source: `MiMoV2FlashAttention.__init__`, `MiMoV2FlashConfig.__post_init__`.
    """
    c = settings(model)
    heads, size = c.whole("num_key_value_heads", 4, least=1), c.whole("sliding_window_size", -1, least=-1)
    window = OWN_WINDOW.at(text_type(model), version)
    if window:
        window = c.whole("sliding_window", window, least=1)
    else:
        window = size + 1 if size >= 0 else c.whole("sliding_window", 129, least=1)
    dims = {"key_dim": c.whole("head_dim", 192, least=1), "value_dim": c.whole("v_head_dim", 128, least=1)}

    def kept(memory: Softmax) -> Softmax:
        slides = isinstance(memory.reach, Window)
        return replace(memory, kv_heads=2 * heads, reach=Window(window), **dims) if slides else memory

    return _softmax(model.layers, kept)


def _gemma3n(model: Model, version: Version) -> tuple[Layer, ...]:
    """Until 4.55 the layers that share stored keys and values as well."""
    return model.layers if SHARED.at(text_type(model), version) else _all_own(model, version)


def _all_own(model: Model, version: Version) -> tuple[Layer, ...]:
    """Every layer caches: Hunyuan's `use_cla` and `cla_share_factor` are read nowhere in the library."""

    def owned(layer: Layer) -> Layer:
        sources = [m.source for m in layer.memories if isinstance(m, Shared)]
        return replace(layer, memories=model.layers[sources[0]].memories) if sources else layer

    return tuple(owned(layer) for layer in model.layers)


def shares(model: Model) -> bool:
    """Whether some layer reads another's keys and values."""
    return any(isinstance(m, Shared) for layer in model.layers for m in layer.memories)


def without_windows_unless_shared(model: Model) -> Model:
    """Gemma 4 before 5.14: `layer_types[:-0]` is empty, so a model whose last zero layers share loses its windows."""
    return model if shares(model) else replace(model, layers=_softmax(model.layers, lambda m: replace(m, reach=Full())))


def surplus_layers(model: Model) -> int:
    """Layers of the cache object that no decoder layer uses; below 0, decoder layers without one."""
    if text_type(model) not in COUNTS_ENCODER_LAYERS:
        return 0
    c, decoder = settings(model), len(model.layers)
    return c.whole("num_layers", c.whole("num_hidden_layers", decoder, most=MAX_LAYERS), most=MAX_LAYERS) - decoder


def with_surplus_layers(model: Model) -> Model:
    """The cache object's layers, those included that no decoder layer uses."""
    first, count = len(model.layers), surplus_layers(model)
    if count <= 0:
        return model
    more = (Layer(index=first + i, memories=model.layers[-1].memories) for i in range(count))
    return replace(model, layers=(*model.layers, *more))


def plain_mlps(model: Model) -> int:
    """Layers that are an MLP and nothing else (Nemotron-H); expert layers are counted elsewhere."""
    c = settings(model)
    kinds = c.items("layers_block_type") or c.items("layer_types")
    if not kinds:
        return c.text("hybrid_override_pattern", most=MAX_LAYERS).count("-")
    return sum(kind == "mlp" for kind in kinds)


def _olmo_hybrid(model: Model, version: Version) -> tuple[Layer, ...]:
    """Until 5.14 three convolution states, of queries, keys and values."""
    if not SPLIT_CONV.at(text_type(model), version):
        return model.layers

    def split(memory: Memory) -> Memory:
        if not isinstance(memory, Recurrent):
            return memory
        conv, delta = memory.states
        heads, _, value_dim = delta.shape
        values = heads * value_dim
        keys = (conv.shape[0] - values) // 2
        parts = (("conv_states_q", keys), ("conv_states_k", keys), ("conv_states_v", values))
        return replace(memory, states=(*(State(name=n, shape=(size,), kernel=conv.kernel) for n, size in parts), delta))

    return _memories(model.layers, split)


def _lfm2(model: Model, version: Version) -> tuple[Layer, ...]:
    """Until 5.4 every layer had a convolution state, attention layers too."""
    states = [m for layer in model.layers for m in layer.memories if isinstance(m, Recurrent)]
    if not states or not CONV_EVERYWHERE.at(text_type(model), version):
        return model.layers
    return tuple(
        layer if any(isinstance(m, Recurrent) for m in layer.memories) else replace(layer, memories=(*layer.memories, states[0]))
        for layer in model.layers
    )


def _xlstm(model: Model, version: Version) -> tuple[Layer, ...]:
    """The cache has `num_hidden_layers` states (32 when absent), however many blocks there are (`xLSTMCache.__init__`)."""
    number = settings(model).whole("num_hidden_layers", 32, least=1, most=MAX_LAYERS)
    return tuple(Layer(index=i, memories=model.layers[0].memories) for i in range(number))


_CHANGES: Final[Mapping[str, Callable[[Model, Version], tuple[Layer, ...]]]] = {
    "hunyuan": _all_own,
    "hunyuan_v1_dense": _all_own,
    "hunyuan_v1_moe": _all_own,
    "hunyuan_vl_text": _all_own,
    "falcon": _falcon,
    "RefinedWeb": _falcon,
    "RefinedWebModel": _falcon,
    "gpt_neo": _masks_only,
    "mpt": _mpt,
    "mimo_v2_flash": _mimo,
    "gemma3n_text": _gemma3n,
    "olmo_hybrid": _olmo_hybrid,
    "lfm2": _lfm2,
    "lfm2_moe": _lfm2,
    "xlstm": _xlstm,
}


def widest_window(model: Model) -> int | None:
    """The model's window, wherever a layer or the config says it."""
    sizes = [
        m.reach.size
        for x in model.layers
        for m in x.memories
        if isinstance(m, Softmax | Cross) and isinstance(m.reach, Window | Chunk)
    ]
    return max(sizes) if sizes else settings(model).whole("sliding_window") or None


#: Types whose config class has `layer_types` in 4.53 to 4.55, when HybridCache goes by them.
_TYPED: Final = frozenset(
    {
        "cohere2", "dots1", "exaone4", "gemma2", "gemma3_text", "gemma3n_text", "gpt_oss", "llama4_text", "modernbert-decoder",
        "olmo3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "t5_gemma_module",
    }
)  # fmt: skip


def without_types(model: Model) -> Model:
    """HybridCache from 4.53 on lets no layer slide where the config class has no layer types (mistral, phi3 …)."""
    if text_type(model) in _TYPED:
        return model
    return replace(model, layers=_softmax(model.layers, lambda m: replace(m, reach=Full())))


def alternating(model: Model) -> Model:
    """HybridCache before 4.53 lets every layer slide but each n-th, by `sliding_window_pattern`, else each second."""
    kind, window = text_type(model), widest_window(model)
    if kind in {"gemma2", "gemma3_text", "cohere2"} or window is None:
        return model  # the same rule, or no window at all
    step = settings(model).whole("sliding_window_pattern", 2, least=1)
    reaches = tuple(Window(window) if (i + 1) % step else Full() for i in range(len(model.layers)))
    layers = tuple(
        replace(
            layer, memories=tuple(replace(m, reach=reaches[layer.index]) if isinstance(m, Softmax) else m for m in layer.memories)
        )
        for layer in model.layers
    )
    return replace(model, layers=layers)


def asked_cache(model: Model) -> str:
    """The cache that the model's config asks `generate()` for. Source: `generation/utils.py:_prepare_cache_for_generation`."""
    return settings(model).text("cache_implementation", "dynamic")


def own_window(model: Model) -> int:
    """Unlimited-OCR keeps a window of its own: models/unlimited_ocr/modeling_unlimited_ocr.py."""
    return settings(model).whole("sliding_window", 128, least=1)


def one_projection(model: Model) -> Literal["", "values", "both"]:
    """Whose first tensors are views of Falcon's one projection. Source: `FalconAttention._split_heads`."""
    c = settings(model)
    if c.flag("new_decoder_architecture") or c.flag("multi_query", True):
        return ""
    return "both" if c.flag("alibi") else "values"


def ignored_state_dtype(model: Model) -> bool:
    """Whether the config gives its states a dtype, which the library does not read."""
    return settings(model).text("mamba_ssm_cache_dtype", "float32") != "float32"
